"""A frame of the loop allocates no tensors on the CPU but those of its result."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from hpvod.detector import VideoDetector
from hpvod.method import PRESETS
from hpvod.model import build_model

from .allocations import allocations
from .moving import CONFIG, moving_frames

SIZE = (80, 116)  # of frames that are not resized
CHANGED = dataclasses.replace(CONFIG, short_side=SIZE[0], long_side=SIZE[1])


def tensor_sizes(results):
    """The bytes of what results hold."""
    tensors = [each for r in results for each in (r.boxes, r.labels, r.scores, r.mask)]
    return sorted(each.nbytes for each in tensors if each is not None and each.nbytes)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("name", ["dff", "c1", "c2", "c3"])
@pytest.mark.parametrize("scale_head", [False, True])
def test_only_results_are_allocated(name, batch, scale_head):
    model = build_model(dataclasses.replace(CHANGED, flow_scale_head=scale_head), seed=1)
    method = PRESETS[name]
    if method.key == "every":
        method = dataclasses.replace(method, interval=3)
    frames = moving_frames(12, *SIZE, cuts=(7,))
    with torch.inference_mode():
        quality = model.flow(*(torch.rand(2, 1, 3, *SIZE) * 255)).quality
    method = dataclasses.replace(method, tau=quality.quantile(0.3).item(), gamma=0.5)
    detector = VideoDetector(model, method, batch=batch)
    keys, shares = [], []

    def step(frame):
        results.extend(detector.step_all([frame] * batch))

    for number, frame in enumerate(frames):
        results = []
        found = allocations(lambda frame=frame: step(frame))
        keys.append(results[0].is_key)
        shares.append(results[0].updated)
        if number >= 5:
            assert sorted(found) == tensor_sizes(results)
    if method.do_spatial:
        assert any(0 < share < 1 for share in shares[5:])
    if method.key == "every":
        assert {True, False} == set(keys[5:])
    assert len(results[0].boxes) > 0
