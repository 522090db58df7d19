"""Models in safetensors files, and ImageNet's ResNet-101 in torchvision's format.

A file holds the model's state dict; its metadata say "format": "hpvod" and hold the configuration.
"""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from hpvod.config import ModelConfig
from hpvod.model import HPVODModel
from hpvod.networks.feature import FeatureNetwork
from hpvod.pretrained import pretrained_models
from hpvod.tensor_file import (
    WeightsError,
    check_is_file,
    check_tensors,
    first_bytes,
    read_tensors,
    write_tensors,
)

__all__ = ["WeightsError", "load_model", "load_torchvision_resnet", "save_weights"]

_FORMAT = "hpvod"
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_TORCHVISION_NAMES = (
    (r"^layer(\d)\.", lambda match: f"res{int(match[1]) + 1}."),
    (r"\bconv(\d)\.weight$", r"conv\1.conv.weight"),
    (r"\bbn(\d)\.", r"conv\1.bn."),
    (r"\bdownsample\.0\.", "downsample.conv."),
    (r"\bdownsample\.1\.", "downsample.bn."),
)


def save_weights(model: HPVODModel, path: str | os.PathLike[str]) -> None:
    """Write the model with its configuration; an older file is replaced by a whole one.

    Raises:
        WeightsError: The model's tensors are not those of its configuration, as after
            `fold_batch_norm`, or the file cannot be written.
    """
    path = Path(path)
    tensors = model.state_dict()
    check_tensors(path, tensors, _expected(model.config))
    write_tensors(path, tensors, {"format": _FORMAT, "config": model.config.to_json()})


def load_model(path: str | os.PathLike[str]) -> HPVODModel:
    """The model that `save_weights` wrote: on the CPU, float32, in evaluation mode.

    Nothing in the file is ever executed.

    Args:
        path: A file or, where there is none of that name, a model of `pretrained_models`: "tiny".

    Raises:
        WeightsError: The file is missing, is no whole safetensors file, or holds another model.
    """
    path = Path(path)
    if not path.exists():
        path = pretrained_models().get(str(path), path)
    tensors, metadata = read_tensors(path)
    if metadata.get("format") != _FORMAT or "config" not in metadata:
        raise WeightsError(f"{path}: holds no hpvod model (its metadata have no configuration)")
    try:
        config = ModelConfig.from_json(metadata["config"])
    except ValueError as error:
        raise WeightsError(f"{path}: {error}") from error
    with torch.device("meta"):
        model = HPVODModel(config)
    check_tensors(path, tensors, model.state_dict())
    model.load_state_dict(tensors, assign=True)
    return model.float().eval()


def load_torchvision_resnet(
    features: FeatureNetwork,
    path: str | os.PathLike[str],
    pixel_mean: tuple[float, float, float] = ModelConfig.pixel_mean,
) -> None:
    """Fill a feature network, all but `feat_conv`, with an ImageNet classifier of torchvision's.

    torchvision's ResNets take (x / 255 - mean) / std, the feature network x - `pixel_mean`. The
    factor goes into conv1's weights and the constant into its normalisation. So all is the same but
    a border of 3 pixels, where the zero padding stands for a shade that differs by under 1 of 255.

    Args:
        features: Has torchvision's placement of strides, `stride_in` "3x3".
        path: A state dict, as .safetensors or as torch.save writes it (read without executing
            anything in it). The classifier `fc` is ignored.
        pixel_mean: R, G, B in 0..255 that the input will have been reduced by.

    Raises:
        WeightsError: The network strides elsewhere, or the file is missing, damaged or of another
            architecture.
    """
    path = Path(path)
    if features.stride_in != "3x3":
        raise WeightsError(
            f"{path}: torchvision's ResNets stride in the 3x3 convolution, but the model's "
            f"stride_in is {features.stride_in!r}"
        )
    is_pickle = path.suffix != ".safetensors"
    state = _read_pickle(path) if is_pickle else read_tensors(path)[0]
    tensors = {}
    for name, value in state.items():
        if not name.startswith("fc.") and not name.endswith(".num_batches_tracked"):
            for pattern, replacement in _TORCHVISION_NAMES:
                name = re.sub(pattern, replacement, name)
            tensors[name] = value.float()

    expected = features.state_dict()
    own = {name: expected.pop(name) for name in ("feat_conv.weight", "feat_conv.bias")}
    check_tensors(path, tensors, expected)

    weight = tensors["conv1.conv.weight"]
    std = 255 * weight.new_tensor(_IMAGENET_STD)
    constant = (weight.new_tensor(pixel_mean) - 255 * weight.new_tensor(_IMAGENET_MEAN)) / std
    mean = tensors["conv1.bn.running_mean"] - (weight.sum((2, 3)) @ constant)
    tensors["conv1.bn.running_mean"] = mean
    tensors["conv1.conv.weight"] = weight / std[:, None, None]
    features.load_state_dict(tensors | own)


def _expected(config: ModelConfig) -> Mapping[str, Tensor]:
    """Names and shapes of a model's tensors, without their memory."""
    with torch.device("meta"):
        return HPVODModel(config).state_dict()


def _read_pickle(path: Path) -> dict[str, Tensor]:
    check_is_file(path)
    # torch.save writes zip archives, and wrote bare pickles before version 1.6.
    if not first_bytes(path, 2).startswith((b"PK", b"\x80")):
        raise WeightsError(f"{path}: is not a file of torch.save's")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(f"{path}: holds more than tensors, or is damaged") from error
    except Exception as error:  # Whatever unpickling damaged bytes comes to.
        raise WeightsError(f"{path}: is truncated or damaged") from error
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise WeightsError(f"{path}: holds no state dict")
    return state
