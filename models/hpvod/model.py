"""The whole model: the four networks of Section 3.5 under one configuration."""

from __future__ import annotations

import math

import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from hpvod.config import ModelConfig
from hpvod.networks.detection import DetectionNetwork
from hpvod.networks.embedding import EmbedNetwork
from hpvod.networks.feature import Bottleneck, FeatureNetwork
from hpvod.networks.flow import INITIAL_SHARPNESS, FlowNetwork


class HPVODModel(nn.Module):
    """N_feat, N_flow, the embedding network and N_det; Algorithm 1 says in which order they run."""

    def __init__(self, config: ModelConfig) -> None:
        """Build the networks with PyTorch's default initialisation; see `build_model`."""
        super().__init__()
        self.config = config
        self.features = FeatureNetwork(
            config.depths, config.width, config.feature_channels, config.stride_in
        )
        self.flow = FlowNetwork(
            config.flow_width,
            config.feature_channels if config.flow_scale_head else None,
            matching=config.flow_matching,
        )
        self.embedding = EmbedNetwork(config.feature_channels, *config.embedding_channels)
        self.detection = DetectionNetwork(config)


def build_model(config: ModelConfig, seed: int = 0) -> HPVODModel:
    """A model in evaluation mode with random weights, the same for the same seed.

    Activations keep their scale through any depth, so an untrained model computes finite and varied
    features, flow and boxes. The global random state is neither read nor changed.
    """
    with torch.device("meta"):
        model = HPVODModel(config)
    memory = {name: torch.empty(value.shape) for name, value in model.state_dict().items()}
    model.load_state_dict(memory, assign=True)
    _initialise(model, torch.Generator().manual_seed(seed))
    return model.eval()


@torch.no_grad()
def _initialise(model: HPVODModel, generator: torch.Generator) -> None:
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            taps = module.in_channels * module.kernel_size[0] * module.kernel_size[1]
            if isinstance(module, nn.ConvTranspose2d):
                taps //= module.stride[0] * module.stride[1]
            module.weight.normal_(0, (2 / taps) ** 0.5, generator=generator)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, FrozenBatchNorm2d):
            for ones, zeros in (
                (module.weight, module.bias),
                (module.running_var, module.running_mean),
            ):
                ones.fill_(1)
                zeros.zero_()

    # What the convolution above makes of pixels with a standard deviation of 60.
    model.features.conv1.bn.running_var.fill_(2 * 60**2)
    for block in model.features.modules():
        if isinstance(block, Bottleneck):
            # Residual sums then grow by 4 % a block and not to the double.
            block.conv3.bn.weight.fill_(0.2)

    # A RoI's score is the mean over bins, each with weights of its own.
    for head in (model.detection.rfcn.cls, model.detection.rfcn.box):
        head.weight.mul_(model.config.groups)
    model.flow.quality.weight.normal_(0, 0.01, generator=generator)
    if model.flow.descriptor is not None:
        model.flow.log_sharpness.fill_(math.log(INITIAL_SHARPNESS))
    if model.flow.scale is not None:
        model.flow.scale.weight.zero_()
        model.flow.scale.get_parameter("bias").fill_(1)
