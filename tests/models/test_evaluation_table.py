"""The figures of an evaluation."""

import json

import numpy as np
from rich.console import Console

from hpvod.evaluation.columns import Detections, Truth
from hpvod.evaluation.table import results_of

BOX, FAR = [0, 0, 49, 49], [100, 100, 149, 149]
TRUTH = Truth(
    frames=np.array([0, 1, 2], np.int32),
    labels=np.array([0, 0, 1], np.int16),
    boxes=np.array([BOX, BOX, BOX], np.float32),
    motion=np.array([0.95, 0.5, 0.5], np.float32),
)
# The cat of frame 0 is found, that of frame 1 missed; frame 2 has a sure cat that is none.
DETECTIONS = Detections(
    frames=np.array([0, 2], np.int32),
    labels=np.array([0, 0], np.int16),
    scores=np.array([0.5, 0.9], np.float32),
    boxes=np.array([BOX, FAR], np.float32),
)
CLASSES = ("cat", "dog", "eel")


def test_all_frames():
    results = results_of(DETECTIONS, TRUTH, np.ones(3, bool), CLASSES)
    assert results.frames == 3
    assert results.boxes == {"all": 3, "slow": 1, "medium": 0, "fast": 2}
    values = {group: ap.tolist() for group, ap in results.average_precision.items()}
    assert values["all"][:2] == [0.25, 0]
    # The false cat is in a frame where only a fast box is, so it is no miss of the slow ones.
    assert values["slow"][0] == 1
    assert values["fast"][:2] == [0, 0]
    assert np.isnan(values["medium"]).all() and np.isnan(values["all"][2])
    assert results.mean["all"] == 0.125 and np.isnan(results.mean["medium"])


def test_frames_that_cannot_be_used():
    usable = np.array([True, True, False])
    results = results_of(DETECTIONS, TRUTH, usable, CLASSES)
    assert results.frames == 2
    assert results.boxes == {"all": 2, "slow": 1, "medium": 0, "fast": 1}
    assert results.average_precision["all"][0] == 0.5
    assert np.isnan(results.average_precision["all"][1])


def test_json_and_table():
    results = results_of(DETECTIONS, TRUTH, np.ones(3, bool), CLASSES)
    content = json.loads(json.dumps(results.to_json(), allow_nan=False))
    assert content["frames"] == 3
    assert content["boxes"] == results.boxes
    assert content["mean_ap"] == {"all": 0.125, "slow": 1, "medium": None, "fast": 0}
    assert content["ap"]["all"] == {"cat": 0.25, "dog": 0, "eel": None}
    console = Console(width=80)
    with console.capture() as capture:
        console.print(results.to_table())
    rows = [line.split() for line in capture.get().replace("│", " ").splitlines()]
    assert ["cat", "25.0", "100.0", "-", "0.0"] in rows
    assert ["mean", "12.5", "100.0", "-", "0.0"] in rows
    assert ["boxes", "3", "1", "0", "2"] in rows
