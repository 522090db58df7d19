from __future__ import annotations

import pytest

from bench.orderings import claims_table, markdown, methods_table
from bench.tradeoff_plan import orderings
from bench.tradeoff_results import Point, Tradeoff
from bench.tradeoff_settings import Place, Setting, Sweeps

# mAP of all, slow, medium and fast boxes, and multiply-adds, of two models.
AP = {
    "per_frame": [(0.60, 0.70, 0.60, 0.50), (0.62, 0.70, 0.62, 0.54)],
    "dff": [(0.59, 0.69, 0.59, 0.49), (0.59, 0.69, 0.59, 0.49)],
    "fgfa": [(0.64, 0.73, 0.63, 0.56), (0.64, 0.71, 0.63, 0.58)],
    "c1": [(0.60, 0.70, 0.60, 0.50), (0.59, 0.70, 0.60, 0.47)],
    "c2": [(0.61, 0.70, 0.60, 0.53), (0.61, 0.70, 0.60, 0.53)],
    "c3": [(0.62, 0.70, 0.60, 0.56), (0.62, 0.70, 0.60, None)],
    "oracle": [(0.70, 0.70, 0.60, 0.80), (0.70, 0.70, 0.60, 0.80)],
}
GMAC = {"per_frame": 2.0, "c3": 0.4}


@pytest.fixture
def tradeoff() -> Tradeoff:
    return Tradeoff(
        ["a", "b"],
        {},
        ["val"],
        Sweeps(),
        [
            Point(
                Place(Setting.of(method), weights, "val"),
                dict(zip(("all", "slow", "medium", "fast"), ap[number], strict=True)),
                ms=10.0 + number,
                gmac=GMAC.get(method, 1.0),
                key_share=0.1,
                updated=0.2,
                frames=40,
                where={},
            )
            for method, ap in AP.items()
            for number, weights in enumerate("ab")
        ],
    )


def test_claims(tradeoff: Tradeoff) -> None:
    head, *lines = claims_table(tradeoff)
    assert head == ["claim", "came out", "in", "on the mean"]
    found = {line[0]: line[1:] for line in lines}
    assert found == {
        # 4 and 2; one of them is not above 2.
        "fgfa above per_frame by 2 mAP": ["3.0 ± 1.4", "1 of 2", "yes"],
        # 6 against 3, 4 against 1.
        "fgfa's gain is largest for fast motion": ["3.0 ± 0.0", "2 of 2", "yes"],
        # -1 and -3
        "dff within 2 mAP of per_frame": ["-2.0 ± 1.4", "1 of 2", "no"],
        # 1 and 0
        "c1 above dff": ["0.5 ± 0.7", "1 of 2", "yes"],
        "c2 above c1": ["1.5 ± 0.7", "2 of 2", "yes"],
        # 2 and 0
        "c3 above per_frame by 1 mAP": ["1.0 ± 1.4", "1 of 2", "no"],
        "c3 faster than per_frame by 4 times, by operations": ["5.0 ± 0.0", "2 of 2", "yes"],
        "oracle above c3": ["8.0 ± 0.0", "2 of 2", "yes"],
    }


def test_methods(tradeoff: Tradeoff) -> None:
    head, *lines = methods_table(tradeoff)
    assert [line[0] for line in lines] == list(AP)
    per_frame, c3 = (dict(zip(head, lines[number], strict=True)) for number in (0, 5))
    assert per_frame["mAP"] == "61.0 ± 1.4"
    assert per_frame["ms a frame"] == "10.5 ± 0.7"
    assert c3["fast"] == "56.0"  # of the one model of which it is known
    assert c3["of per_frame's"] == "20 ± 0 %"


def test_only_models_with_every_method_count(tradeoff: Tradeoff) -> None:
    missing = Place(Setting.of("c2"), "b", "val")
    tradeoff.points = [point for point in tradeoff.points if point.place != missing]
    assert tradeoff.missing(orderings(tradeoff)["c2"]) == [missing]
    line = dict(zip(*methods_table(tradeoff)[:2], strict=True))
    assert line["mAP"] == "60.0"


def test_markdown() -> None:
    assert markdown([["a", "b"], ["1", "2"]]) == "| a | b |\n| --- | ---: |\n| 1 | 2 |\n"


def test_a_claim_on_a_group_without_boxes(tradeoff: Tradeoff) -> None:
    for point in tradeoff.points:
        if point.place.weights == "b":
            point.ap["slow"] = None
    lines = {line[0]: line[1:] for line in claims_table(tradeoff)}
    assert lines["fgfa's gain is largest for fast motion"] == ["3.0", "1 of 1", "yes"]
    for point in tradeoff.points:
        point.ap["fast"] = None
    lines = {line[0]: line[1:] for line in claims_table(tradeoff)}
    assert lines["fgfa's gain is largest for fast motion"] == ["-", "0 of 0", "-"]
