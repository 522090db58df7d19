"""The pre-trained flow network in a file: all of it but the heads that the detector teaches."""

from __future__ import annotations

from pathlib import Path

from hpvod.networks.flow import FlowNetwork
from hpvod.tensor_file import WeightsError, check_tensors, read_tensors, write_tensors

_FORMAT = "hpvod-flow"
_OWN = ("quality.", "scale.")


def save_flow_weights(network: FlowNetwork, path: Path) -> None:
    """Writes the network; raises WeightsError where that fails."""
    tensors = network.state_dict().items()
    taught = {name: value for name, value in tensors if not name.startswith(_OWN)}
    write_tensors(path, taught, {"format": _FORMAT})


def load_flow_weights(network: FlowNetwork, path: Path) -> None:
    """Fills the network, all but its heads for Q and the scale.

    Raises:
        WeightsError: the file is missing, damaged, or of a network of other widths.
    """
    tensors, metadata = read_tensors(path)
    if metadata.get("format") != _FORMAT:
        raise WeightsError(f"{path}: is no file of pretrain-flow's")
    expected = network.state_dict()
    own = {name: expected.pop(name) for name in list(expected) if name.startswith(_OWN)}
    check_tensors(path, tensors, expected)
    network.load_state_dict(tensors | own)
