"""Batch normalisation folded into the convolutions before it, for inference."""

from __future__ import annotations

import copy

import torch
from torch import nn

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
def _fold(layer: ConvBN) -> nn.Conv2d:
    convolution, bn = layer.conv, layer.bn
    scale = bn.weight * (bn.running_var + bn.eps).rsqrt()
    convolution.weight = nn.Parameter(convolution.weight * scale[:, None, None, None])
    convolution.bias = nn.Parameter(bn.bias - bn.running_mean * scale)
    return convolution
