from __future__ import annotations

import os
from pathlib import Path

import pytest

from hpvod.whole_file import whole_file


@pytest.mark.parametrize("flush", [True, False])
def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path: Path, flush: bool) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with whole_file(path, flush=flush) as unfinished:
        unfinished.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_exception_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), whole_file(path) as unfinished:
        unfinished.write_text("ne")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with whole_file(path) as unfinished:
        unfinished.write_text("old")
        left = unfinished
    left.write_text("a part of something longer")
    with whole_file(path) as unfinished:
        unfinished.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_is_on_the_disk_before_it_has_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, existed = tmp_path / "a.txt", []
    monkeypatch.setattr(os, "fsync", lambda _: existed.append(path.exists()))
    with whole_file(path) as unfinished:
        unfinished.write_text("new")
    assert existed == [False, True]


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "none" / "a.txt") as unfinished:
        unfinished.write_text("new")
