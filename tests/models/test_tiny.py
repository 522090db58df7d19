"""The model that comes with the package."""

from __future__ import annotations

import csv
from pathlib import Path

import hpvod.pretrained
from hpvod import PRESETS, load_model
from hpvod.data import Skipped
from hpvod.data.imagenet import ImageNetVID
from hpvod.evaluation.run import detect_clips
from hpvod.evaluation.table import results_of
from hpvod.evaluation.truth import read_truth
from hpvod.synthetic import SYNTHETIC_CLASSES
from hpvod.synthetic.make import Order, make_data

FOLDER = Path(hpvod.pretrained.__file__).parent


def test_it_is_small_and_has_its_log() -> None:
    assert (FOLDER / "tiny.safetensors").stat().st_size <= 8e6
    with (FOLDER / "tiny.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert list(dict.fromkeys(line["stage"] for line in lines)) == [
        "flow",
        "images",
        "clips",
        "updates",
    ]
    flow = [float(line["end_point_error"]) for line in lines if line["stage"] == "flow"]
    assert sum(flow[-10:]) < 0.8 * sum(flow[:10])


def test_it_detects_what_it_was_trained_to(tmp_path: Path) -> None:
    make_data(tmp_path / "data", Order(0, 4, 12, 0, (288, 384), 0, seed=9), processes=1)
    dataset, model = ImageNetVID(tmp_path / "data", "val"), load_model("tiny")
    assert model.config.classes == SYNTHETIC_CLASSES
    truth, usable = read_truth(dataset, Skipped())
    found = {}
    for name in ("per_frame", "c1", "c2"):
        detections, statistics = detect_clips(
            model, PRESETS[name], dataset, range(4), Skipped(), lambda _: None
        )
        found[name] = results_of(detections, truth, usable, dataset.classes).mean["all"]
        if name == "c2":
            assert 2 / 12 < statistics.updated < 0.7  # key frames, and what Q asks for
    assert found["per_frame"] > 0.25  # on four clips; of random weights it is 0
    assert found["c2"] > found["c1"] > 0.05
