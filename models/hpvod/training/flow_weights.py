"""The pre-trained flow network in a file: all of it but the heads that the detector teaches."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from hpvod.networks.flow import FlowNetwork
from hpvod.training.checkpoint import write_atomically
from hpvod.weights import WeightsError

_FORMAT = "hpvod-flow"
_OWN = ("quality.", "scale.")


def save_flow_weights(network: FlowNetwork, path: Path) -> None:
    """Writes the network; raises TrainingError where that fails."""
    tensors = {
        name: value.detach().cpu().contiguous()
        for name, value in network.state_dict().items()
        if not name.startswith(_OWN)
    }
    write_atomically(path, save(tensors, {"format": _FORMAT}))


def load_flow_weights(network: FlowNetwork, path: Path) -> None:
    """Fills the network, all but its heads for Q and the scale.

    Raises:
        WeightsError: the file is missing, damaged, or of a network of other widths.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: cannot be read ({error})") from error
    if metadata.get("format") != _FORMAT:
        raise WeightsError(f"{path}: is no file of pretrain-flow's")
    own = {name: value for name, value in network.state_dict().items() if name.startswith(_OWN)}
    try:
        network.load_state_dict(tensors | own)
    except RuntimeError as error:
        raise WeightsError(f"{path}: the flow network is of another architecture") from error
