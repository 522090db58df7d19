from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hpvod.data import Annotation, Clip, DataError, Frame, read_image
from hpvod.data.skipped import Skipped, SkippedWarning


@pytest.mark.parametrize("name", ["image.png", "image.ppm"])
def test_read_image(tmp_path: Path, name: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / name)
    image = read_image(tmp_path / name)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, pixels)
    image[0] = 0  # Writable, as torch.from_numpy asks for.


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "1"])
def test_other_colours_become_rgb(tmp_path: Path, mode: str) -> None:
    Image.new("RGB", (7, 5), "white").convert(mode).save(tmp_path / "image.tiff")
    np.testing.assert_array_equal(read_image(tmp_path / "image.tiff"), np.full((5, 7, 3), 255))


@pytest.mark.parametrize("suffix", [".JPEG", ".png", ".ppm"])
@pytest.mark.parametrize("kept", [0.0, 0.05, 0.5, 0.95])
def test_truncated_image(tmp_path: Path, suffix: str, kept: float) -> None:
    path = tmp_path / f"image{suffix}"
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(DataError, match="cannot be read as an image") as caught:
        read_image(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_no_image(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.JPEG: .*no such file"):
        read_image(tmp_path / "gone.JPEG")
    with pytest.raises(DataError, match="cannot be read as an image"):
        read_image(tmp_path)
    (tmp_path / "text.JPEG").write_text("no image")
    with pytest.raises(DataError, match=r"text\.JPEG"):
        read_image(tmp_path / "text.JPEG")


def test_an_image_as_large_as_a_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (20, 20)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)
    with pytest.raises(DataError, match=r"large\.png"):
        read_image(tmp_path / "large.png")


def test_frames_travel_to_workers() -> None:
    clip = Clip("a", (Frame(Path("a.JPEG"), Path("a.xml")), Frame(Path("b.JPEG"), None)))
    assert pickle.loads(pickle.dumps(clip)) == clip
    annotation = Annotation(
        (5, 7), np.zeros((1, 4), np.float32), np.zeros(1, int), np.zeros(1, int), np.ones(1, bool)
    )
    copy = pickle.loads(pickle.dumps(Frame(Path("a.JPEG"), annotation))).annotation
    assert copy.size == (5, 7)
    np.testing.assert_array_equal(copy.occluded, [True])


def test_skipped_files_are_counted_once() -> None:
    skipped = Skipped()
    with pytest.warns(SkippedWarning) as caught:
        skipped.add(DataError("a.xml: is damaged"))
        skipped.add(DataError("b.JPEG: no such file"))
    assert [str(item.message) for item in caught] == [
        "skipped a.xml: is damaged",
        "skipped b.JPEG: no such file",
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        skipped.add(DataError("a.xml: is damaged"))
    assert len(skipped) == 2
    assert skipped.messages == ["a.xml: is damaged", "b.JPEG: no such file"]
