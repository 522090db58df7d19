"""The tiny detector on frames of 64 x 80 pixels: an iteration takes a tenth of a second."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from hpvod.config import ModelConfig
from hpvod.model import build_model
from hpvod.synthetic import SYNTHETIC_CLASSES
from hpvod.synthetic.make import Order, make_data
from hpvod.training.initial_model import Start
from hpvod.training.start import Options
from hpvod.training.train_detector import train_detector
from hpvod.weights import save_weights

CONFIG = dataclasses.replace(
    ModelConfig.preset("tiny"),
    classes=SYNTHETIC_CLASSES,
    anchor_scales=(1.0, 2.0, 3.0),
    short_side=64,
    long_side=112,
)


def make_small_data(folder: Path) -> tuple[Path, Path]:
    """Makes a data set and a file of random weights."""
    data, weights = folder / "data", folder / "weights.safetensors"
    order = Order(train=3, val=1, frames=6, stills=3, size=(64, 80), pairs=10, seed=1)
    make_data(data, order, processes=1)
    save_weights(build_model(CONFIG), weights)
    return data, weights


def options_of(out: Path, **changes: object) -> Options:
    options = Options(
        out=out,
        iterations=2,
        batch=1,
        learning_rate=1e-3,
        seed=0,
        workers=0,
        device="cpu",
        amp=None,
        checkpoint_every=1,
    )
    return dataclasses.replace(options, **changes)


def train_small(out: Path, data: Path, weights: Path, **changes: object) -> None:
    """A run on videos and still images in turn, from random weights."""
    start = Start(model=None, weights=weights, resnet=None, flow=None, from_scratch=True)
    options = options_of(out, **changes)
    train_detector(
        options, start, data=data, det=data, classes=None, area_weight=0.1, flow_rate=1.0
    )
