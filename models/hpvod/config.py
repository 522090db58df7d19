"""What a model is made of: everything needed to rebuild it around a file of weights."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal

VID_CLASSES = (
    "airplane",
    "antelope",
    "bear",
    "bicycle",
    "bird",
    "bus",
    "car",
    "cattle",
    "dog",
    "domestic_cat",
    "elephant",
    "fox",
    "giant_panda",
    "hamster",
    "horse",
    "lion",
    "lizard",
    "monkey",
    "motorcycle",
    "rabbit",
    "red_panda",
    "sheep",
    "snake",
    "squirrel",
    "tiger",
    "train",
    "turtle",
    "watercraft",
    "whale",
    "zebra",
)
"""The 30 classes of ImageNet VID in the order of its devkit."""


@dataclass(frozen=True)
class ModelConfig:
    """Architecture, input and post-processing of a model; the defaults are the paper's ResNet-101.

    Attributes:
        classes: Names of the object classes, without the background.
        depths: Bottleneck blocks in res2, res3, res4 and res5.
        width: Channels of the stem; res2 has 4 times as many at its output, res5 32 times.
        stride_in: The convolution of a bottleneck that strides, "1x1" (Caffe) or "3x3"
            (torchvision).
        feature_channels: Channels of the feature maps; the first half feeds the RPN, the second
            the R-FCN head.
        embedding_channels: Channels inside and at the output of the embedding network.
        flow_width: Multiplier of FlowNet's channel counts.
        flow_matching: Whether the flow network matches the images' features, on a quarter of the
            side; if not, it is FlowNetS.
        flow_scale_head: Whether the flow network has DFF's scale map.
        groups: Side of the grid of position-sensitive bins.
        anchor_scales: Anchor sides in multiples of the feature stride.
        anchor_ratios: Anchor heights over widths.
        rpn_box_std: What RPN's box outputs are multiplied with before decoding.
        box_std: The same for the R-FCN head's.
        proposals_before_nms: Best-scoring anchors that enter the proposals' NMS.
        proposals: Proposals kept an image.
        proposal_nms: IoU above which a proposal is suppressed.
        score_threshold: Scores at or below it are no detections.
        nms: IoU above which a detection of the same class is suppressed.
        max_detections: Detections kept an image.
        short_side: Length in pixels that a frame's shorter side is resized to.
        long_side: Bound in pixels on the longer side, which takes precedence.
        pixel_mean: R, G, B in 0..255, subtracted from the frame.
    """

    classes: tuple[str, ...] = VID_CLASSES
    depths: tuple[int, int, int, int] = (3, 4, 23, 3)
    width: int = 64
    stride_in: Literal["1x1", "3x3"] = "1x1"
    feature_channels: int = 1024
    embedding_channels: tuple[int, int] = (512, 2048)
    flow_width: float = 1.0
    flow_matching: bool = False
    flow_scale_head: bool = False
    groups: int = 7
    anchor_scales: tuple[float, ...] = (8.0, 16.0, 32.0)
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    rpn_box_std: tuple[float, float, float, float] = (0.1, 0.1, 0.4, 0.4)
    box_std: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2)
    proposals_before_nms: int = 6000
    proposals: int = 300
    proposal_nms: float = 0.7
    score_threshold: float = 1e-3
    nms: float = 0.3
    max_detections: int = 300
    short_side: int = 600
    long_side: int = 1000
    pixel_mean: tuple[float, float, float] = (123.15, 115.90, 103.06)

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: A value is out of its range; the message names the attribute.
        """
        for field in dataclasses.fields(self):
            value, default = getattr(self, field.name), field.default
            if isinstance(default, tuple):
                length = None if field.name in _ANY_LENGTH else len(default)
                _check_tuple(field.name, value, type(default[0]), length)
            else:
                _check_value(field.name, value, type(default))
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes must not repeat a name")
        if self.stride_in not in ("1x1", "3x3"):
            raise ValueError(f"stride_in must be '1x1' or '3x3', not {self.stride_in!r}")
        if self.feature_channels % 2:
            raise ValueError(f"feature_channels must be even, not {self.feature_channels}")

    @classmethod
    def preset(cls, name: str) -> ModelConfig:
        """The configuration called `name`: "resnet101" (the paper's) or "tiny" (CPUs and tests).

        Raises:
            ValueError: There is no such preset.
        """
        if name not in _PRESETS:
            raise ValueError(f"no model preset {name!r}: choose one of {', '.join(_PRESETS)}")
        return _PRESETS[name]

    def to_json(self) -> str:
        """One line of JSON that `from_json` reads back to an equal configuration."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ModelConfig:
        """The configuration that `to_json` wrote.

        Raises:
            ValueError: Not JSON, unknown or missing attributes, or values out of range.
        """
        values = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError("a model configuration must be a JSON object")
        names = {field.name for field in dataclasses.fields(cls)}
        if odd := ", ".join(sorted(names ^ values.keys())):
            raise ValueError(f"missing from or unknown in the model configuration: {odd}")
        arguments: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
        return cls(**arguments)


_ANY_LENGTH = ("classes", "anchor_scales", "anchor_ratios")
_MAY_BE_ZERO = ("score_threshold", "pixel_mean")


def _check_tuple(name: str, value: object, kind: type, length: int | None) -> None:
    if not isinstance(value, tuple) or not value or len(value) != (length or len(value)):
        count = length or "one or more"
        raise ValueError(f"{name} must be a tuple of {count} values, not {value!r}")
    for item in value:
        _check_value(name, item, kind)


def _check_value(name: str, value: Any, kind: type) -> None:
    accepted = (float, int) if kind is float else (kind,)
    if type(value) not in accepted:
        raise ValueError(f"{name} must be of type {kind.__name__}, not {value!r}")
    if kind in (int, float) and (value < 0 or (value == 0 and name not in _MAY_BE_ZERO)):
        raise ValueError(f"{name} must be positive, not {value!r}")


_PRESETS = {
    "resnet101": ModelConfig(),
    "tiny": ModelConfig(
        depths=(1, 1, 2, 1),
        width=16,
        feature_channels=128,
        embedding_channels=(64, 128),
        flow_width=0.125,
        flow_matching=True,
        groups=3,
        anchor_scales=(4.0, 8.0, 16.0),
        proposals_before_nms=1000,
        proposals=100,
        max_detections=100,
        short_side=256,
        long_side=448,
    ),
}
