from __future__ import annotations

import re

import numpy as np
import pytest

from bench import evaluation


def test_what_is_drawn_is_found_for_the_most_part() -> None:
    truth, detections = evaluation.draw(400, 20)
    assert len(detections.frames) == 400 * 20 and len(truth.frames) == 620
    assert np.array_equal(np.bincount(detections.frames), np.full(400, 20))
    assert (detections.boxes[:, :2] < detections.boxes[:, 2:]).all()
    results = evaluation.evaluate(truth, detections, 400)
    assert results.boxes["all"] == 620 and len(results.boxes) == 4
    assert 0.3 < results.mean["all"] < 0.9


def test_the_figures_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    evaluation.main(["--frames", "50", "--boxes", "5"])
    printed = capsys.readouterr().out
    assert re.match(
        r"50 frames, 250 detections, 78 boxes: \d+\.\d s, at most \d+\.\d\d GiB, mAP all \d",
        printed,
    )
