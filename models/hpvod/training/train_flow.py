"""A training run of the flow network, from its arguments to the file for the detector's run."""

from __future__ import annotations

from pathlib import Path

from hpvod.data import FlyingChairs, Skipped
from hpvod.model import build_model
from hpvod.training.errors import TrainingError
from hpvod.training.flow_pretraining import FlowTask
from hpvod.training.flow_weights import save_flow_weights
from hpvod.training.start import Options, model_preset, started
from hpvod.training.trainer import Trainer


def train_flow(options: Options, data: Path, split: str, model: str) -> Skipped:
    """Trains and writes OUT/flow.safetensors; goes on from OUT's checkpoint, if there is one.

    Args:
        options: of the run.
        data: folder of Flying Chairs.
        split: "train", "val" or "all".
        model: name of the preset whose flow network it is.

    Returns:
        The files that could not be used.

    Raises:
        TrainingError: the run cannot start or go on.
        DeviceError: there is no such device.
        DataError: the data set cannot be used.
        WeightsError: the checkpoint cannot be read or written.
        KeyboardInterrupt: the run was stopped; its checkpoint is written.
    """
    if split not in ("train", "val", "all"):
        raise TrainingError(f"--split: must be train, val or all, not {split!r}")
    with started(options, {"data": str(data), "model": model, "split": split}) as run:
        chairs = FlyingChairs(data, split)  # type: ignore[arg-type]
        network = build_model(model_preset(model), options.seed).flow.to(run.device)
        trainer = Trainer(FlowTask(network, chairs, options.seed), run)
        trainer.train()
        if run.rank == 0:
            save_flow_weights(network, options.out / "flow.safetensors")
    return trainer.skipped
