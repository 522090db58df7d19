"""A training run of the detector, from its arguments to the model's file."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch

from hpvod.config import ModelConfig
from hpvod.data import Dataset, ImageNetDET, ImageNetVID
from hpvod.device import choose_device
from hpvod.model import HPVODModel, build_model
from hpvod.processes import process_group
from hpvod.training.calibrate import calibrate_batch_norm_, train_batch_norm_
from hpvod.training.detector_task import DetectorTask
from hpvod.training.errors import TrainingError
from hpvod.training.flow_weights import load_flow_weights
from hpvod.training.samples import PairReader
from hpvod.training.trainer import Run, Trainer
from hpvod.weights import load_model, load_torchvision_resnet, save_weights

_WARM_UP = 500
_CALIBRATION_IMAGES = 8


@dataclass(frozen=True)
class Order:
    """The arguments of `hpvod train`, as its help explains them."""

    data: Path
    out: Path
    det: Path | None
    model: str
    weights: Path | None
    resnet: Path | None
    flow: Path | None
    classes: Path | None
    iterations: int
    batch: int
    learning_rate: float
    area_weight: float
    seed: int
    workers: int
    device: str | None
    amp: str | None
    from_scratch: bool
    checkpoint_every: int


# They may change when a run goes on: nothing of the result depends on them.
_FREE = ("out", "workers", "device", "checkpoint_every")


def train_detector(order: Order) -> None:
    """Trains and writes OUT/model.safetensors; goes on from OUT's checkpoint, if there is one.

    Raises:
        TrainingError: the run cannot start or go on.
        DeviceError: there is no such device.
        DataError: the data set cannot be used.
        WeightsError: a file of weights cannot be used.
        KeyboardInterrupt: the run was stopped; its checkpoint is written.
    """
    device = choose_device(order.device)
    check_amp(order.amp, device)
    video = ImageNetVID(order.data, "train", _read_classes(order.classes))
    stills = ImageNetDET(order.det, "train", video.classes) if order.det else None
    model = _start(order, video, stills).to(device)
    task = DetectorTask(
        model,
        video,
        stills,
        area_weight=order.area_weight,
        seed=order.seed,
        from_scratch=order.from_scratch,
    )
    make_folder(order.out)
    with process_group("nccl" if device.type == "cuda" else "gloo") as (rank, world):
        arguments = {
            name: str(value) if isinstance(value, Path) else value
            for name, value in dataclasses.asdict(order).items()
            if name not in _FREE
        }
        run = Run(
            out=order.out,
            arguments=arguments | {"processes": world},
            iterations=order.iterations,
            batch=order.batch,
            learning_rate=order.learning_rate,
            device=device,
            warm_up=min(_WARM_UP, order.iterations // 10) if order.from_scratch else 0,
            workers=order.workers,
            amp=order.amp,
            checkpoint_every=order.checkpoint_every,
            rank=rank,
            world=world,
        )
        Trainer(task, run).train()
        if rank == 0:
            save_weights(model, order.out / "model.safetensors")


def check_amp(amp: str | None, device: torch.device) -> None:
    """Raises TrainingError where the device has no such mixed precision."""
    if amp not in (None, "bf16", "fp16"):
        raise TrainingError(f"--amp: must be bf16 or fp16, not {amp!r}")
    if amp == "fp16" and device.type != "cuda":
        raise TrainingError("--amp fp16: needs a GPU; choose bf16")


def make_folder(out: Path) -> None:
    """Makes the folder of a run; raises TrainingError where that fails."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"{out}: cannot be made ({error.strerror})") from error


def _read_classes(path: Path | None) -> list[str] | None:
    if path is None:
        return None
    try:
        names = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"{path}: cannot be read") from error
    return [name.strip() for name in names if name.strip()]


def _start(order: Order, video: Dataset, stills: Dataset | None) -> HPVODModel:
    """The model that the run starts from."""
    if order.weights is not None:
        if order.resnet is not None:
            raise TrainingError("--weights and --resnet exclude each other")
        model = load_model(order.weights)
        if model.config.classes != video.classes:
            raise TrainingError(f"{order.weights}: has other classes than {order.data}")
    else:
        if order.resnet is None and not order.from_scratch:
            raise TrainingError("nothing to start from: give --weights, --resnet or --from-scratch")
        try:
            config = ModelConfig.preset(order.model)
        except ValueError as error:
            raise TrainingError(f"--model: {error}") from error
        config = dataclasses.replace(config, classes=video.classes)
        if order.resnet is not None:
            config = dataclasses.replace(config, stride_in="3x3")
        model = build_model(config, order.seed)
        if order.resnet is not None:
            load_torchvision_resnet(model.features, order.resnet, config.pixel_mean)
    if order.flow is not None:
        load_flow_weights(model.flow, order.flow)
    if order.from_scratch:
        if order.weights is None:
            reader = PairReader(video, stills, order.seed, model.config)
            images = [reader(i, 0).pair.current for i in range(_CALIBRATION_IMAGES)]
            height = min(image.shape[1] for image in images)
            width = min(image.shape[2] for image in images)
            crops = torch.stack([image[:, :height, :width] for image in images])
            calibrate_batch_norm_(model.features, crops)
        train_batch_norm_(model.features)
    return model
