from __future__ import annotations

import pytest
import torch

from bench import batched_nms, contest
from bench.contest import WrongResultError

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contest, "_SECONDS", 0)
    monkeypatch.setattr(contest, "copy_bandwidth", lambda device, moved, sets: 1e6)
    monkeypatch.setattr(batched_nms, "_COUNT", 20)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(("classes", "share"), [(1, 1.0), (30, 0.05)])
def test_rows(classes: int, share: float, batch: int) -> None:
    case = batched_nms.Case(60, classes, 0.3, share, batch, torch.float32)
    (row,) = contest.measure(batched_nms.contest(case, CPU, ["cpu"]))
    assert row.shape == (batch, 60 * classes, 4)
    assert set(row.peers) == {"torchvision"}
    assert row.more["error"] == 0


def test_wrong_boxes_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*arguments, **valid):
        indices, counts = right(*arguments, **valid)
        return indices.flip(1), counts

    right = batched_nms.batched_nms
    case = batched_nms.Case(60, 1, 0.3, 1.0, 1, torch.float32)
    measured = batched_nms.contest(case, CPU, ["cpu"])
    monkeypatch.setattr(batched_nms, "batched_nms", wrong)
    with pytest.raises(WrongResultError, match="batched_nms by cpu"):
        contest.measure(measured)


def test_a_gpu_gets_eight_images_as_well() -> None:
    assert [case.batch for case in batched_nms.cases(torch.device("cuda"))] == [1, 1, 8, 8]
    assert [case.batch for case in batched_nms.cases(CPU)] == [1, 1]
