"""A training run of the detector, from its arguments to the model's file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from hpvod.data import ImageNetDET, ImageNetVID, Skipped, read_classes
from hpvod.training.detector_task import DetectorTask
from hpvod.training.initial_model import Start, initial_model
from hpvod.training.start import Options, started
from hpvod.training.trainer import Trainer
from hpvod.weights import save_weights

_WARM_UP = 500


def train_detector(
    options: Options,
    start: Start,
    *,
    data: Path,
    det: Path | None,
    classes: Path | None,
    area_weight: float,
    flow_rate: float,
) -> Skipped:
    """Trains and writes OUT/model.safetensors; goes on from OUT's checkpoint, if there is one.

    Args:
        options: of the run.
        start: what it starts from.
        data: folder of the videos.
        det: folder of the still images, or None.
        classes: a list of names, or None for the data set's own.
        area_weight: lambda of Eq. 12.
        flow_rate: as of `DetectorTask`.

    Returns:
        The files that could not be used.

    Raises:
        TrainingError: the run cannot start or go on.
        DeviceError: there is no such device.
        DataError: the data set cannot be used.
        WeightsError: a file of weights cannot be used, or the checkpoint not written.
        KeyboardInterrupt: the run was stopped; its checkpoint is written.
    """
    own = {
        "data": data,
        "det": det,
        "classes": classes,
        "area_weight": area_weight,
        "flow_rate": flow_rate,
    }
    arguments = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in (own | dataclasses.asdict(start)).items()
    }
    warm_up = min(_WARM_UP, options.iterations // 10) if start.from_scratch else 0
    with started(options, arguments, warm_up) as run:
        video = ImageNetVID(data, "train", None if classes is None else read_classes(classes))
        stills = ImageNetDET(det, "train", video.classes) if det else None
        model = initial_model(start, video, stills, options.seed).to(run.device)
        task = DetectorTask(
            model,
            video,
            stills,
            area_weight=area_weight,
            flow_rate=flow_rate,
            seed=options.seed,
            from_scratch=start.from_scratch,
        )
        trainer = Trainer(task, run)
        trainer.train()
        if run.rank == 0:
            save_weights(model, options.out / "model.safetensors")
    return trainer.skipped
