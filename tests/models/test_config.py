from __future__ import annotations

import dataclasses
import json

import pytest

from hpvod.config import ModelConfig


def test_default_is_the_papers_model() -> None:
    config = ModelConfig()
    assert config == ModelConfig.preset("resnet101")
    assert len(config.classes) == 30
    assert list(config.classes) == sorted(config.classes)
    assert (config.depths, config.feature_channels, config.stride_in) == (
        (3, 4, 23, 3),
        1024,
        "1x1",
    )
    assert (config.proposals_before_nms, config.proposals) == (6000, 300)
    assert config.rpn_box_std == (0.1, 0.1, 0.4, 0.4)
    assert config.box_std == (0.1, 0.1, 0.2, 0.2)


@pytest.mark.parametrize("name", ["resnet101", "tiny"])
def test_json_round_trip(name: str) -> None:
    config = ModelConfig.preset(name)
    assert ModelConfig.from_json(config.to_json()) == config
    assert hash(ModelConfig.from_json(config.to_json())) == hash(config)


def test_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'huge'.*resnet101, tiny"):
        ModelConfig.preset("huge")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("classes", ()),
        ("classes", ("dog", "dog")),
        ("classes", ("dog", 3)),
        ("depths", (3, 4, 23)),
        ("depths", [3, 4, 23, 3]),
        ("depths", (3, 0, 23, 3)),
        ("width", "64"),
        ("width", 64.0),
        ("stride_in", "2x2"),
        ("feature_channels", 1023),
        ("embedding_channels", (512,)),
        ("flow_width", 0.0),
        ("flow_matching", 1),
        ("flow_scale_head", 1),
        ("box_std", (0.1, 0.1, -0.2, 0.2)),
        ("nms", -0.3),
        ("pixel_mean", (1.0, 2.0)),
    ],
)
def test_bad_value_is_named(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        dataclasses.replace(ModelConfig(), **{name: value})


def test_whole_numbers_and_zero_are_allowed_where_they_make_sense() -> None:
    config = ModelConfig(flow_width=2, score_threshold=0.0, pixel_mean=(0.0, 0.0, 0.0))
    assert ModelConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize("change", [{"colour": 1}, {"width": None}])
def test_json_with_other_names_is_refused(change: dict[str, int | None]) -> None:
    values = json.loads(ModelConfig().to_json()) | change
    values = {name: value for name, value in values.items() if value is not None}
    with pytest.raises(ValueError, match=next(iter(change))):
        ModelConfig.from_json(json.dumps(values))


@pytest.mark.parametrize("text", ["[]", "3", "not json"])
def test_what_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        ModelConfig.from_json(text)
