from __future__ import annotations

import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hpvod.data import DataError, FlyingChairs, read_flow, write_flow

RNG = np.random.default_rng(0)
FLOW = RNG.normal(size=(4, 6, 2)).astype(np.float32)


def write_pairs(folder: Path, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, count + 1):
        for which in (1, 2):
            image = Image.new("RGB", (6, 4), (number, which, 0))
            image.save(folder / f"{number:05d}_img{which}.ppm")
        write_flow(folder / f"{number:05d}_flow.flo", FLOW + number)


def test_flow_files(tmp_path: Path) -> None:
    path = tmp_path / "a.flo"
    write_flow(path, FLOW)
    header = struct.pack("<fii", 202021.25, 6, 4)
    assert path.read_bytes() == header + FLOW.tobytes()
    flow = read_flow(path)
    assert flow.dtype == np.float32
    assert flow.flags.writeable
    np.testing.assert_array_equal(flow, FLOW)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a .flo file"),
        (b"PIEH\x01\x00", "is not a .flo file"),
        (struct.pack("<fii", 202021.5, 1, 1) + bytes(8), "is not a .flo file"),
        (struct.pack("<fii", 202021.25, 2, 1) + bytes(8), "do not fit its 2 x 1 pixels"),
        (struct.pack("<fii", 202021.25, 1, 1) + bytes(9), "do not fit its 1 x 1 pixels"),
        (struct.pack("<fii", 202021.25, -1, -1) + bytes(8), "do not fit"),
        (struct.pack("<fii", 202021.25, 0, 5), "do not fit"),
        (struct.pack("<fii", 202021.25, 1 << 30, 1 << 30), "do not fit"),
    ],
)
def test_wrong_flow_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "wrong.flo"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_flow(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_no_flow_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.flo: cannot be read"):
        read_flow(tmp_path / "gone.flo")


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 3), (0, 6, 2)])
def test_only_flow_is_written(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="flow must be of shape"):
        write_flow(tmp_path / "a.flo", np.zeros(shape, np.float32))


@pytest.mark.parametrize("folder", ["data", "."])
def test_pairs(tmp_path: Path, folder: str) -> None:
    write_pairs(tmp_path / folder, 3)
    chairs = pickle.loads(pickle.dumps(FlyingChairs(tmp_path, "all")))
    assert len(chairs) == 3
    first, second, flow = chairs[1]
    np.testing.assert_array_equal(first, np.full((4, 6, 3), (2, 1, 0)))
    np.testing.assert_array_equal(second, np.full((4, 6, 3), (2, 2, 0)))
    np.testing.assert_array_equal(flow, FLOW + 2)
    with pytest.raises(IndexError):
        chairs[3]


def test_splits(tmp_path: Path) -> None:
    write_pairs(tmp_path / "data", 3)
    (tmp_path / "FlyingChairs_train_val.txt").write_text("1\n2\n1\n")
    train, val = FlyingChairs(tmp_path, "train"), FlyingChairs(tmp_path, "val")
    assert [train[index][0][0, 0, 0] for index in range(len(train))] == [1, 3]
    assert [val[index][0][0, 0, 0] for index in range(len(val))] == [2]


@pytest.mark.parametrize("text", ["1\n2\n", "1\n2\n1\n1\n", "1\n2\n3\n", ""])
def test_wrong_list(tmp_path: Path, text: str) -> None:
    write_pairs(tmp_path / "data", 3)
    (tmp_path / "FlyingChairs_train_val.txt").write_text(text)
    with pytest.raises(DataError, match=r"FlyingChairs_train_val\.txt: must hold 1 or 2 for each"):
        FlyingChairs(tmp_path, "train")


def test_nothing_in_the_split(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no file \*_flow\.flo"):
        FlyingChairs(tmp_path, "all")
    write_pairs(tmp_path / "data", 1)
    with pytest.raises(DataError, match=r"FlyingChairs_train_val\.txt: cannot be read"):
        FlyingChairs(tmp_path, "val")
    (tmp_path / "FlyingChairs_train_val.txt").write_text("1\n")
    with pytest.raises(DataError, match="the split 'val' is empty"):
        FlyingChairs(tmp_path, "val")


def test_files_of_a_pair_that_do_not_fit(tmp_path: Path) -> None:
    write_pairs(tmp_path, 1)
    Image.new("RGB", (6, 5)).save(tmp_path / "00001_img2.ppm")
    with pytest.raises(DataError, match=r"00001_img2\.ppm: is of 6 x 5 pixels and not 6 x 4"):
        FlyingChairs(tmp_path, "all")[0]
    (tmp_path / "00001_img2.ppm").unlink()
    with pytest.raises(DataError, match=r"00001_img2\.ppm: .*no such file"):
        FlyingChairs(tmp_path, "all")[0]
