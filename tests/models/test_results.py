from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from hpvod.frame_result import FrameResult
from hpvod.results import ResultsError, ResultsWriter, to_json

NAMES = ("dog", "red_panda")


def result(index: int = 0, count: int = 2, time: float | None = 0.04) -> FrameResult:
    return FrameResult(
        index=index,
        time=time,
        is_key=index == 0,
        updated=1 / 3,
        boxes=torch.tensor([[1.0, 2.123456, 30.5, 40.0], [0.0, 0.0, 5.0, 5.0]])[:count],
        labels=torch.tensor([1, 0])[:count],
        scores=torch.tensor([0.9, 0.25])[:count],
        mask=None,
    )


def test_one_frame_as_json() -> None:
    assert json.loads(to_json(result(), NAMES)) == {
        "frame": 0,
        "time": 0.04,
        "key": True,
        "updated": 0.333333,
        "boxes": [[1.0, 2.12, 30.5, 40.0], [0.0, 0.0, 5.0, 5.0]],
        "labels": ["red_panda", "dog"],
        "scores": [0.9, 0.25],
    }


def test_a_frame_without_detections_or_time() -> None:
    line = json.loads(to_json(result(7, count=0, time=None), NAMES))
    assert (line["boxes"], line["labels"], line["scores"]) == ([], [], [])
    assert (line["time"], line["frame"], line["key"]) == (None, 7, False)


def test_what_json_cannot_say_is_refused() -> None:
    broken = result()
    broken.boxes[0, 0] = math.nan
    with pytest.raises(ValueError, match="JSON"):
        to_json(broken, NAMES)


def test_every_line_is_on_disk_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("an older file, longer than a line\n" * 100)
    with ResultsWriter(path, NAMES) as writer:
        for index in range(3):
            writer.write(result(index))
            lines = path.read_text(encoding="utf-8").splitlines()
            assert [json.loads(line)["frame"] for line in lines] == list(range(index + 1))
    assert path.read_text(encoding="utf-8").endswith("}\n")


def test_a_missing_folder(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "a.jsonl"
    with pytest.raises(ResultsError) as caught:
        ResultsWriter(path, NAMES)
    assert str(caught.value) == f"{path}: cannot be written (No such file or directory)"


def test_a_full_disk() -> None:
    with (
        pytest.raises(ResultsError, match=r"/dev/full: cannot be written \(No space left"),
        ResultsWriter(Path("/dev/full"), NAMES) as writer,
    ):
        writer.write(result())


def test_a_disk_that_fills_up_leaves_whole_lines(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    line = len(to_json(result(), NAMES)) + 1
    path = tmp_path / "a.jsonl"
    _, hard = limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with ResultsWriter(path, NAMES) as writer:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 * line + line // 2, hard))
        try:
            writer.write(result())
            writer.write(result())
            with pytest.raises(ResultsError, match=r"a\.jsonl: cannot be written \(File too large"):
                writer.write(result())
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text(encoding="utf-8") == (to_json(result(), NAMES) + "\n") * 2
