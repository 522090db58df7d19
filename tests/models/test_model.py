from __future__ import annotations

import pytest
import torch

from hpvod.config import ModelConfig
from hpvod.model import HPVODModel, build_model

from .random_data import random_image


def test_seed_decides(tiny_model: HPVODModel) -> None:
    config = tiny_model.config
    state = tiny_model.state_dict()
    again, other = build_model(config).state_dict(), build_model(config, seed=1).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in state.items())
    assert not torch.equal(state["flow.quality.weight"], other["flow.quality.weight"])


def test_global_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    build_model(ModelConfig.preset("tiny"))
    assert torch.equal(torch.get_rng_state(), before)


def test_tiny_is_tiny(tiny_model: HPVODModel) -> None:
    assert sum(value.numel() for value in tiny_model.state_dict().values()) < 2_000_000
    assert not tiny_model.training


@pytest.mark.parametrize("preset", ["tiny", "resnet101"])
def test_random_weights_give_varied_detections(preset: str) -> None:
    model = build_model(ModelConfig.preset(preset))
    size = (96, 144)
    image, key = random_image(*size, seed=0), random_image(*size, seed=1)
    with torch.inference_mode():
        feature, other = model.features(image), model.features(key)
        flow = model.flow(image, key)
        embedding = model.embedding(feature)
        found, found_other = (model.detection(each, size).of_image(0) for each in (feature, other))

    # Scale: neither vanished nor exploded through the depth; and no map is constant.
    assert 0.05 < feature.std() < 5
    assert feature.std((2, 3)).mean() > 0.2 * feature.std()
    assert 0.01 < flow.flow.abs().mean() < 10
    assert 0 < flow.quality.std() < 1
    assert 0.05 < embedding.std() < 10

    assert found.boxes.isfinite().all() and found.scores.isfinite().all()
    assert len(found.boxes) > 20
    assert len(found.labels.unique()) > 3
    assert found.scores.std() > 0.1 * found.scores.mean()
    assert len(found.boxes.unique(dim=0)) > 10
    assert found.scores[:5].tolist() != found_other.scores[:5].tolist()


@pytest.mark.parametrize("network", ["features", "flow", "embedding", "rpn"])
def test_networks_are_one_graph_to_torch_compile(tiny_model: HPVODModel, network: str) -> None:
    image, key = random_image(64, 96, seed=0), random_image(64, 96, seed=1)
    with torch.no_grad():
        feature = tiny_model.features(image)
        function, arguments = {
            "features": (tiny_model.features, (image,)),
            "flow": (tiny_model.flow, (image, key)),
            "embedding": (tiny_model.embedding, (feature,)),
            "rpn": (tiny_model.detection.rpn, (feature[:, :64],)),
        }[network]
        compiled = torch.compile(function, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(*arguments), function(*arguments), rtol=0, atol=0)
