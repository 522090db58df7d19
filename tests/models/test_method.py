from __future__ import annotations

import dataclasses

import pytest

from hpvod.method import PRESETS, Method

TABLE_1 = {  # key, interval of a fixed schedule, do_aggr, do_spatial
    "per_frame": ("every", 1, False, False),
    "dff": ("every", 10, False, False),
    "fgfa": ("every", 1, True, False),
    "c1": ("every", 10, True, False),
    "c2": ("every", 10, True, True),
    "c3": ("adaptive", None, True, True),
}


def test_presets_are_table_1():
    assert list(PRESETS) == list(TABLE_1)
    for name, (key, interval, do_aggr, do_spatial) in TABLE_1.items():
        method = PRESETS[name]
        assert method.name == name
        assert (method.key, method.do_aggr, method.do_spatial) == (key, do_aggr, do_spatial)
        assert interval in (None, method.interval)
        assert method.tau == 0
        assert method.gamma == 0.2
        assert method.window == (9 if name == "fgfa" else 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"key": "sometimes"}, "key: expected one of .*'sometimes'"),
        ({"interval": 0}, "interval: expected at least 1 frame, got 0"),
        ({"gamma": 1.5}, r"gamma: expected a share from 0 to 1, got 1\.5"),
        ({"gamma": float("nan")}, "gamma: expected a share"),
        ({"window": -1}, "window: expected 0 or more frames, got -1"),
        ({"window": 3}, r"window: dense aggregation \(window=3\) needs key='every', interval=1"),
    ],
)
def test_arguments_out_of_range(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(PRESETS["c3"], **changes)


@pytest.mark.parametrize(
    "changes",
    [{"interval": 2}, {"key": "adaptive"}, {"do_aggr": False}, {"do_spatial": True}],
    ids=str,
)
def test_dense_windows_need_aggregated_key_frames_only(changes):
    with pytest.raises(ValueError, match="window: dense aggregation"):
        dataclasses.replace(PRESETS["fgfa"], **changes)


def test_a_method_of_ones_own():
    method = Method("mine", key="every", do_aggr=False, do_spatial=True, interval=3)
    assert dataclasses.replace(method, interval=5).interval == 5
