from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from hpvod.commands.make_data import make_data as command
from hpvod.data.clip import DataError, read_image
from hpvod.data.flying_chairs import FlyingChairs
from hpvod.data.imagenet import ImageNetDET, ImageNetVID
from hpvod.synthetic import SYNTHETIC_CLASSES, make_clip
from hpvod.synthetic import make as making
from hpvod.synthetic import write as writing
from hpvod.synthetic.make import Order, make_data

ORDER = Order(train=2, val=2, frames=3, stills=2, size=(64, 80), pairs=11, seed=7)

app = typer.Typer()
app.command()(command)


def digests(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "new"
    made: list[int] = []
    make_data(root, ORDER, 1, made.append)
    assert sum(made) == 4 * 3 + 2 + 11 * 2
    return root


def test_the_same_from_two_processes(data: Path, tmp_path: Path) -> None:
    make_data(tmp_path, ORDER, 2)
    assert digests(tmp_path) == digests(data)


def test_the_folder_holds_nothing_else(data: Path) -> None:
    files = list(digests(data))
    assert len(files) == 2 * (4 * 3 + 2) + 11 * 3 + 1 + 3 + 1
    assert not [name for name in files if name.endswith(".unfinished")]


@pytest.mark.parametrize("split", ["train", "val"])
def test_imagenet_vid_reads_it_back(data: Path, split: str) -> None:
    dataset = ImageNetVID(data, split)
    assert tuple(dataset.classes) == SYNTHETIC_CLASSES
    assert [len(clip.frames) for clip in dataset.clips] == [3, 3]
    seeds = np.random.SeedSequence(7).spawn(3)[0 if split == "train" else 1].spawn(2)
    for clip, seed in zip(dataset.clips, seeds, strict=True):
        made = make_clip(seed, 3, (64, 80))
        for frame, picture, wanted in zip(clip.frames, made.frames, made.annotations, strict=True):
            read = dataset.annotation(frame)
            assert read.size == (64, 80)
            for name in ("boxes", "labels", "tracks", "occluded"):
                np.testing.assert_array_equal(getattr(read, name), getattr(wanted, name))
            error = abs(read_image(frame.image).astype(int) - picture.astype(int))
            assert error.mean() < 12  # JPEG's, of noisy colours


def test_imagenet_det_reads_the_stills_back(data: Path) -> None:
    dataset = ImageNetDET(data, "train")
    assert [clip.name for clip in dataset.clips] == ["train/still_000000", "train/still_000001"]
    for clip, seed in zip(
        dataset.clips, np.random.SeedSequence(7).spawn(4)[3].spawn(2), strict=True
    ):
        made = make_clip(seed, 1, (64, 80))
        (frame,) = clip.frames
        read = dataset.annotation(frame)
        np.testing.assert_array_equal(read.boxes, made.annotations[0].boxes)
        np.testing.assert_array_equal(read.labels, made.annotations[0].labels)
        error = abs(read_image(frame.image).astype(int) - made.frames[0].astype(int))
        assert error.mean() < 12


def test_lists_are_written_as_imagenet_writes_them(data: Path) -> None:
    lists = data / "ImageSets" / "VID"
    assert (lists / "train.txt").read_text() == "train_00000 1\ntrain_00001 1\n"
    assert (lists / "val.txt").read_text().splitlines()[2:4] == [
        "val_00000/000002 3",
        "val_00001/000000 4",
    ]


def test_flying_chairs_reads_it_back(data: Path) -> None:
    chairs = FlyingChairs(data / "FlyingChairs", "all")
    assert len(chairs) == 11
    assert len(FlyingChairs(data / "FlyingChairs", "val")) == 1
    first, second, flow = chairs[0]
    pair = making.make_pair(np.random.SeedSequence(7).spawn(3)[2].spawn(11)[0], (64, 80))
    np.testing.assert_array_equal(first, pair.first)
    np.testing.assert_array_equal(second, pair.second)
    np.testing.assert_array_equal(flow, pair.flow)


def test_more_training_clips_change_no_validation_clip(data: Path, tmp_path: Path) -> None:
    make_data(
        tmp_path, Order(train=0, val=1, frames=3, stills=0, size=(64, 80), pairs=0, seed=7), 1
    )
    image = Path("Data/VID/val/val_00000/000001.JPEG")
    assert (tmp_path / image).read_bytes() == (data / image).read_bytes()
    assert not (tmp_path / "FlyingChairs").exists()


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(DataError, match=f"^{tmp_path}: is not empty; give a new folder$"):
        make_data(tmp_path, ORDER, 1)
    assert list(digests(tmp_path)) == ["mine"]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(DataError, match=r"file.*: cannot be written \("):
        make_data(file / "new", ORDER, 1)


def test_a_full_disk_leaves_whole_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = 3

    def write_bytes(path: Path, content: bytes) -> int:
        nonlocal room
        room -= 1
        with path.open("wb") as file:
            file.write(content if room >= 0 else content[:10])
        if room < 0:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return len(content)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    clip = make_clip(0, 3, (64, 80))
    with pytest.raises(OSError, match="No space left"):
        writing.write_clip(tmp_path, "train", "train_00000", clip)
    assert [Path(name).name for name in digests(tmp_path)] == [
        "000000.xml",
        "000000.JPEG",
        "000001.JPEG",
    ]


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", "somewhere/train.txt")


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stderr


SMALL = ("--train", 1, "--val", 1, "--frames", 1, "--size", "64x80", "--processes", 1)


def test_command(tmp_path: Path) -> None:
    code, stderr = run(tmp_path / "new", *SMALL, "--flow", 1)
    assert code == 0
    assert stderr == f"{tmp_path / 'new'}: 1 + 1 clips of 1 frames, 0 stills, 1 pairs\n"
    assert len(ImageNetVID(tmp_path / "new", "val").clips) == 1


def test_command_where_the_system_tells_no_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    asked: list[int] = []

    def made(root: Path, order: Order, processes: int, done: object) -> None:
        asked.append(processes)

    monkeypatch.setattr(making, "make_data", made)
    assert run(tmp_path, *SMALL[:-2])[0] == 0
    assert asked == [1]


def test_command_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "write_lists", full_disk)
    code, stderr = run(tmp_path / "new", *SMALL)
    assert code == 1
    assert stderr == (
        "hpvod: error: somewhere/train.txt: cannot be written (No space left on device)\n"
    )


def test_command_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "write_lists", interrupt)
    code, stderr = run(tmp_path / "new", *SMALL)
    assert code == 130
    assert stderr == f"hpvod: interrupted; {tmp_path / 'new'} is unfinished, its files are whole\n"


# A shell starts what runs in its background with Ctrl-C ignored.
PROGRAM = """
import signal, typer
from hpvod.commands.make_data import make_data
signal.signal(signal.SIGINT, signal.default_int_handler)
typer.run(make_data)
"""


def test_ctrl_c_leaves_whole_files(tmp_path: Path) -> None:
    out = tmp_path / "new"
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, out, "--frames", "2", "--size", "64x80"],
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list(out.rglob("*.xml")) and program.poll() is None:
        time.sleep(0.01)
    os.killpg(program.pid, signal.SIGINT)  # as a terminal does: to every process
    _, stderr = program.communicate()
    assert program.returncode == 130
    assert stderr == f"hpvod: interrupted; {out} is unfinished, its files are whole\n"
    images, annotations = list(out.rglob("*.JPEG")), list(out.rglob("*.xml"))
    assert len(images) == len(annotations) == len(digests(out)) / 2
    assert {read_image(image).shape for image in images} == {(64, 80, 3)}
    assert not (out / "ImageSets").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--size", "64"), "--size: must be HEIGHTxWIDTH, each 64 or more, not '64'"),
        (("--size", "63x80"), "--size: must be HEIGHTxWIDTH, each 64 or more, not '63x80'"),
        (("--train", 0, "--val", 0), "nothing to make: give --train, --val, --stills or --flow"),
    ],
)
def test_command_refuses(tmp_path: Path, arguments: tuple[object, ...], message: str) -> None:
    assert run(tmp_path / "new", *arguments) == (1, f"hpvod: error: {message}\n")
    assert not (tmp_path / "new").exists()
