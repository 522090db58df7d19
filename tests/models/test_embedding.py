from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F

from hpvod.model import HPVODModel

from .layer_updates import Blend, Recorder, poison


def test_equals_plain_functions(tiny_model: HPVODModel) -> None:
    network = copy.deepcopy(tiny_model.embedding).double()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, 0, 0.1, generator=torch.Generator().manual_seed(0))
    feature = torch.randn(2, 128, 5, 7, dtype=torch.float64)
    x = F.relu(
        torch.einsum("oi,nihw->nohw", network.conv1.weight[:, :, 0, 0], feature)
        + network.conv1.bias[:, None, None]
    )
    x = F.relu(F.conv2d(x, network.conv2.weight, network.conv2.bias, padding=1))
    expected = torch.einsum("oi,nihw->nohw", network.conv3.weight[:, :, 0, 0], x)
    expected += network.conv3.bias[:, None, None]
    torch.testing.assert_close(network(feature), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("skipped", [None, "embed.conv1", "embed"])
def test_inactive_pixels_are_read_at_the_updated_layers_alone(
    tiny_model: HPVODModel, skipped: str | None
) -> None:
    network = copy.deepcopy(tiny_model.embedding)
    key, current = torch.randn(2, 1, 128, 9, 11, generator=torch.Generator().manual_seed(0))
    mask = torch.rand(9, 11, generator=torch.Generator().manual_seed(1)) < 0.3
    recorder = Recorder()
    with torch.no_grad():
        assert torch.equal(network(key, recorder), network(key))
        assert recorder.strides == {"embed.conv1": 16, "embed": 16}
        expected = network(current, Blend(mask, recorder.layers))
        poison(network, ["conv1", "conv2", "conv3"], mask)
        update = Blend(mask, recorder.layers, skip=() if skipped is None else (skipped,))
        found = network(current.where(mask, torch.nan), update)
    if skipped is None:
        assert torch.equal(found, expected)
    else:
        assert found.isnan().any()
