"""The model that a training run starts from."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch

from hpvod.data import Dataset
from hpvod.model import HPVODModel, build_model
from hpvod.training.calibrate import calibrate_batch_norm_, train_batch_norm_
from hpvod.training.errors import TrainingError
from hpvod.training.flow_weights import load_flow_weights
from hpvod.training.samples import PairReader, batches
from hpvod.training.start import model_preset
from hpvod.weights import load_model, load_torchvision_resnet

_CALIBRATION_IMAGES = 8


@dataclass(frozen=True)
class Start:
    """Options of `hpvod train` that say where it starts, as its help explains them."""

    model: str | None
    weights: Path | None
    resnet: Path | None
    flow: Path | None
    from_scratch: bool


def initial_model(start: Start, video: Dataset, stills: Dataset | None, seed: int) -> HPVODModel:
    """The model, on the CPU; from scratch, its batch normalisation has parameters to train.

    Args:
        start: what it is filled with.
        video: clips of video, whose classes it detects.
        stills: still images, or None.
        seed: of what nothing fills.

    Raises:
        TrainingError: options exclude each other, or the files are of other classes.
        WeightsError: a file of weights cannot be used.
    """
    model = _pretrained(start, video, seed)
    if start.flow is not None:
        load_flow_weights(model.flow, start.flow)
    if start.from_scratch:
        if start.weights is None:
            _calibrate(model, video, stills, seed)
        train_batch_norm_(model.features)
    return model


def _pretrained(start: Start, video: Dataset, seed: int) -> HPVODModel:
    if start.resnet is not None:
        for option, given in (("weights", start.weights), ("from-scratch", start.from_scratch)):
            if given:
                raise TrainingError(f"--{option} and --resnet exclude each other")
    if start.weights is not None:
        if start.model is not None:
            raise TrainingError("--model means nothing to --weights, whose file says it")
        model = load_model(start.weights)
        if model.config.classes != video.classes:
            raise TrainingError(f"{start.weights}: has other classes than the data set")
        return model
    if start.resnet is None and not start.from_scratch:
        raise TrainingError("nothing to start from: give --weights, --resnet or --from-scratch")
    config = dataclasses.replace(model_preset(start.model or "resnet101"), classes=video.classes)
    if start.resnet is None:
        return build_model(config, seed)
    model = build_model(dataclasses.replace(config, stride_in="3x3"), seed)
    load_torchvision_resnet(model.features, start.resnet, config.pixel_mean)
    return model


def _calibrate(model: HPVODModel, video: Dataset, stills: Dataset | None, seed: int) -> None:
    """Measures batch normalisation on the first images of the run."""
    read = PairReader(video, stills, seed, model.config)
    [samples] = batches(read, [list(range(_CALIBRATION_IMAGES))], workers=0)
    images = [sample.sample.pair.current for sample in samples]
    height = min(image.shape[1] for image in images)
    width = min(image.shape[2] for image in images)
    calibrate_batch_norm_(
        model.features, torch.stack([image[:, :height, :width] for image in images])
    )
