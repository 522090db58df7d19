"""Batch normalisation folded into the convolutions before it, for inference."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from hpvod.model import HPVODModel
from hpvod.networks.feature import ConvBN


def fold_batch_norm(model: HPVODModel) -> HPVODModel:
    """A copy of `model`, in evaluation mode, that has plain convolutions for every `ConvBN`.

    Module paths, and so the names that a `LayerUpdate` sees, stay the same. The copy computes the
    same function up to rounding; it is for running, not for training or saving.
    """
    folded = copy.deepcopy(model).eval()
    for parent in list(folded.modules()):
        for name, child in parent.named_children():
            if isinstance(child, ConvBN):
                setattr(parent, name, _fold(child))
    return folded


@torch.no_grad()
def folded_parameters(layer: ConvBN) -> tuple[Tensor, Tensor]:
    """Weight and bias of the one convolution that computes what `layer` does.

    Returns:
        [O, I, kh, kw] and [O], float32 (float64 for float64 parameters): folding does not round
        them to the layer's own dtype.
    """
    bn = layer.bn
    dtype = torch.promote_types(layer.conv.weight.dtype, torch.float32)
    scale = bn.weight.to(dtype) * (bn.running_var.to(dtype) + bn.eps).rsqrt()
    weight = layer.conv.weight.to(dtype) * scale[:, None, None, None]
    return weight, bn.bias.to(dtype) - bn.running_mean.to(dtype) * scale


def _fold(layer: ConvBN) -> nn.Conv2d:
    weight, bias = folded_parameters(layer)
    convolution, dtype = layer.conv, layer.conv.weight.dtype
    convolution.weight = nn.Parameter(weight.to(dtype))
    convolution.bias = nn.Parameter(bias.to(dtype))
    return convolution
