"""What of a model is trained, and what is frozen."""

from __future__ import annotations

from torch import nn

from hpvod.model import HPVODModel

_PRETRAINED = ("features.conv1.", "features.res2.")
# DFF's scale map is 1 where its weights are 0.
_ALWAYS = ("flow.scale.bias",)


def trainable_parameters(model: HPVODModel, *, from_scratch: bool) -> list[nn.Parameter]:
    """The parameters that are trained; all others are set to need no gradient.

    Frozen are the first convolution and res2, which ImageNet has taught. Batch normalisation has
    no parameters, unless `train_batch_norm_` has made some.

    Args:
        model: the networks.
        from_scratch: whether the first convolution and res2 are trained as well.
    """
    frozen = _ALWAYS if from_scratch else (*_PRETRAINED, *_ALWAYS)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(frozen))
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
