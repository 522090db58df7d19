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


def task_of(
    weights: Path, video: ImageNetVID, area_weight: float = 0.1, flow_rate: float = 1.0
) -> DetectorTask:
    return DetectorTask(
        load_model(weights),
        video,
        None,
        area_weight=area_weight,
        flow_rate=flow_rate,
        seed=0,
        from_scratch=True,
    )


def run_of(out: Path, iterations: int, batch: int = 1) -> Run:
    return Run(
        out=out,
        arguments={},
        iterations=iterations,
        batch=batch,
        learning_rate=2e-3,
        device=torch.device("cpu"),
    )


def trained(made: tuple[Path, Path], out: Path, area_weight: float) -> tuple[list[float], float]:
    """L_det of each iteration, and the mean of U afterwards."""
    data, weights = made
    video = ImageNetVID(data, "train")
    task = task_of(weights, video, area_weight=area_weight)
    # So that all is recomputed at first, whatever the random weights make of Q.
    torch.nn.init.constant_(task.module.flow.quality.bias, -0.1)
    losses = task.losses
    history = []

    def kept(sample, device):
        values = losses(sample, device)
        history.append(values[1:5].sum().item())
        return values

    task.losses = kept
    Trainer(task, run_of(out, iterations=30)).train()
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
    for area_weight in (0.0, 0.2, 0.5):
        losses, area = trained(made, tmp_path / str(area_weight), area_weight)
        assert sum(losses[-10:]) < 0.7 * sum(losses[:10])
        areas.append(area)
    most, some, least = areas
    assert most > some + 0.1 > some > least + 0.1


def test_the_pretrained_flow_learns_at_its_share_of_the_rate(
    made: tuple[Path, Path], tmp_path: Path
) -> None:
    """The first step is the rate times the same gradient, with what decays."""
    data, weights = made
    steps = {}
    for flow_rate in (1.0, 0.5, 0.0):
        task = task_of(weights, ImageNetVID(data, "train"), flow_rate=flow_rate)
        before = {name: value.clone() for name, value in task.module.named_parameters()}
        Trainer(task, run_of(tmp_path / str(flow_rate), iterations=1, batch=PAIRS)).train()
        after = dict(task.module.named_parameters())
        steps[flow_rate] = {name: after[name].detach() - before[name] for name in before}
    flow = [name for name in steps[1.0] if name.startswith("flow.") and "quality" not in name]
    for name, step in steps[1.0].items():
        for flow_rate in (0.5, 0.0):
            share = flow_rate if name in flow else 1.0
            torch.testing.assert_close(steps[flow_rate][name], share * step, rtol=1e-3, atol=1e-7)
    for name in ("flow.flow.weight", "flow.quality.bias"):  # ten times the tolerance
        assert steps[1.0][name].abs().max() > 1e-6
