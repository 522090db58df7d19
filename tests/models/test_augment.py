from __future__ import annotations

import torch

from hpvod.training.augment import flipped
from hpvod.training.pair import Pair, Targets


def test_boxes_stay_on_their_objects():
    key, current = torch.zeros(3, 20, 30), torch.zeros(3, 20, 30)
    current[:, 4:9, 0:7] = 1
    key[:, 2, 5] = 1
    pair = Pair(key, current, Targets(torch.tensor([[0.0, 4, 6, 8]]), torch.tensor([2])), False)
    other = flipped(pair, 29)
    x1, y1, x2, y2 = other.targets.boxes[0].int().tolist()
    assert (x1, y1, x2, y2) == (23, 4, 29, 8)
    assert other.current[:, y1 : y2 + 1, x1 : x2 + 1].all()
    assert other.current.sum() == current.sum()
    assert other.key[:, 2, 24].all() and other.key.sum() == 3
    assert other.targets.labels.tolist() == [2] and not other.still
    again = flipped(other, 29)
    assert torch.equal(again.current, current) and torch.equal(again.key, key)
    assert torch.equal(again.targets.boxes, pair.targets.boxes)


def test_no_boxes():
    image = torch.rand(3, 4, 6)
    targets = Targets(torch.empty(0, 4), torch.empty(0, dtype=torch.int64))
    other = flipped(Pair(image, image, targets, True), 5)
    assert other.targets.boxes.shape == (0, 4) and other.still
