"""What several commands are told in the same words: the method, the model and the device."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hpvod.config import ModelConfig
from hpvod.method import PRESETS, Method

if TYPE_CHECKING:
    from hpvod.model import HPVODModel

Interval = Annotated[int | None, typer.Option(help="Frames between key frames (dff, c1, c2).")]
Tau = Annotated[
    float | None,
    typer.Option(help="Recompute where the predicted consistency is at most this (c2, c3)."),
]
Gamma = Annotated[
    float | None,
    typer.Option(help="Share to recompute above which a frame becomes a key frame (c3)."),
]
ShortSide = Annotated[
    int | None, typer.Option(min=32, help="Pixels that a frame's shorter side is resized to.")
]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda or cuda:N.", show_default="cuda if there is one")
]


class RefusedError(ValueError):
    """The command cannot be carried out as it was given."""


def choose_method(name: str, **knobs: float | None) -> Method:
    """The row of Table 1 called `name`, with other knobs where they are given.

    Args:
        name: of `PRESETS`.
        knobs: interval, tau and gamma of `Method`; None where the option was not given.

    Raises:
        RefusedError: there is no such method, it does not read a knob that is given, or the knob
            is out of its range.
    """
    if name not in PRESETS:
        raise RefusedError(f"--method: unknown method {name!r}; choose from {', '.join(PRESETS)}")
    given = {knob: value for knob, value in knobs.items() if value is not None}
    for knob in given:
        if knob not in _read_by(PRESETS[name]):
            readers = ", ".join(other for other in PRESETS if knob in _read_by(PRESETS[other]))
            raise RefusedError(f"--{knob} means nothing to {name}; it is for {readers}")
    try:
        return dataclasses.replace(PRESETS[name], **given)  # type: ignore[arg-type]
    except ValueError as error:
        raise RefusedError(f"--{error}") from error


def _read_by(method: Method) -> set[str]:
    """The method's knobs; an interval of 1 makes per_frame and fgfa what they are."""
    knobs = set()
    if method.key == "adaptive":
        knobs.add("gamma")
    elif method.interval > 1:
        knobs.add("interval")
    if method.do_spatial or method.key == "adaptive":
        knobs.add("tau")
    return knobs


def check_model_choice(weights: Path | None, random_weights: bool, model: str | None) -> None:
    """Raises RefusedError unless there is one model: of a file, or an untrained preset."""
    if weights is None and not random_weights:
        raise RefusedError(
            "no weights: give --weights FILE, or --random-weights to run an untrained model"
        )
    if weights is not None and random_weights:
        raise RefusedError("--weights and --random-weights exclude each other")
    if model is not None and not random_weights:
        raise RefusedError("--model is for --random-weights; a weights file says what it holds")


def load_network(
    weights: Path | None, preset: str | None, device: str | None, short_side: int | None
) -> HPVODModel:
    """The model, on its device, in the form that runs fastest.

    Args:
        weights: a file of `save_weights`; None for random weights.
        preset: of `ModelConfig`, for random weights; "resnet101" where None.
        device: as `choose_device` takes it.
        short_side: pixels that a frame's shorter side is resized to, in place of the model's own;
            the bound on the longer side changes with it.

    Raises:
        RefusedError: the device, the file or the preset cannot be used.
    """
    import torch

    from hpvod.device import DeviceError, choose_device
    from hpvod.folding import fold_batch_norm
    from hpvod.model import build_model
    from hpvod.weights import WeightsError, load_model

    try:
        where = choose_device(device)
        if weights is not None:
            model = load_model(weights)
        else:
            model = build_model(ModelConfig.preset(preset or "resnet101"))
    except (DeviceError, WeightsError) as error:
        raise RefusedError(str(error)) from error
    except ValueError as error:
        raise RefusedError(f"--model: {error}") from error
    if short_side is not None:
        long_side = round(model.config.long_side * short_side / model.config.short_side)
        model.config = dataclasses.replace(model.config, short_side=short_side, long_side=long_side)
    return fold_batch_norm(model).to(where).to(memory_format=torch.channels_last)
