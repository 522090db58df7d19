"""Video object detection by Algorithm 1 of "Towards High Performance Video Object Detection".

from hpvod import PRESETS, VideoDetector, load_model

detector = VideoDetector(load_model("weights.safetensors"), PRESETS["c3"])
for result in detector.run(frames):
print(result.index, result.is_key, result.boxes, result.labels, result.scores)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpvod.config import ModelConfig
    from hpvod.detector import VideoDetector
    from hpvod.frame_result import FrameResult
    from hpvod.method import PRESETS, Method
    from hpvod.model import HPVODModel, build_model
    from hpvod.weights import load_model, save_weights

_HOME = {
    "FrameResult": "frame_result",
    "HPVODModel": "model",
    "Method": "method",
    "ModelConfig": "config",
    "PRESETS": "method",
    "VideoDetector": "detector",
    "build_model": "model",
    "load_model": "weights",
    "save_weights": "weights",
}

__all__ = [
    "PRESETS",
    "FrameResult",
    "HPVODModel",
    "Method",
    "ModelConfig",
    "VideoDetector",
    "build_model",
    "load_model",
    "save_weights",
]


def __getattr__(name: str) -> Any:
    # On first use: `hpvod --help` need not wait for torch.
    if name not in _HOME:
        raise AttributeError(f"module 'hpvod' has no attribute {name!r}")
    return getattr(importlib.import_module(f"hpvod.{_HOME[name]}"), name)
