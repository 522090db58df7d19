"""On synthetic frames the loss falls, and lambda decides how much is recomputed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hpvod.data import ImageNetVID
from hpvod.training.detector_task import DetectorTask
from hpvod.training.pair import PairLoss
from hpvod.training.samples import batches
from hpvod.training.trainer import Run, Trainer
from hpvod.weights import load_model

from .small_training import make_small_data

PAIRS = 8


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_small_data(tmp_path_factory.mktemp("made"))


def trained(made: tuple[Path, Path], out: Path, area_weight: float) -> tuple[list[float], float]:
    """L_det of each iteration, and the mean of U afterwards."""
    data, weights = made
    video = ImageNetVID(data, "train")
    task = DetectorTask(
        load_model(weights), video, None, area_weight=area_weight, seed=0, from_scratch=True
    )
    losses = task.losses
    history = []

    def kept(sample, device):
        values = losses(sample, device)
        history.append(values[1:5].sum().item())
        return values

    task.losses = kept
    run = Run(
        out=out,
        arguments={},
        iterations=30,
        batch=1,
        learning_rate=2e-3,
        device=torch.device("cpu"),
    )
    Trainer(task, run).train()
    loss = PairLoss(task.module, area_weight=0)
    [reads] = batches(task.read, [list(range(PAIRS))], workers=0)
    pairs = [read.sample.pair for read in reads if not read.sample.pair.still]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        areas = [loss(pair, "predicted", generator).area.item() for pair in pairs]
    return history, sum(areas) / len(areas)


def test_the_loss_falls_and_the_updated_area_with_lambda(
    made: tuple[Path, Path], tmp_path: Path
) -> None:
    areas = []
    for area_weight in (0.0, 0.05, 0.5):
        losses, area = trained(made, tmp_path / str(area_weight), area_weight)
        assert sum(losses[-10:]) < 0.7 * sum(losses[:10])
        areas.append(area)
    most, some, least = areas
    assert most > some + 0.1 > some > least + 0.1
