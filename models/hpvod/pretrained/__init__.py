"""Models that come with the package: files of `hpvod.weights`, each beside this one."""

from __future__ import annotations

from pathlib import Path


def pretrained_models() -> dict[str, Path]:
    """The files by the names that `load_model` knows them by."""
    return {file.stem: file for file in sorted(Path(__file__).parent.glob("*.safetensors"))}
