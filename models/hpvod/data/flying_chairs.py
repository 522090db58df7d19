"""Flying Chairs: pairs of images with the optical flow between them, and its .flo files."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Literal

import numpy as np

from hpvod.data.clip import DataError, FloatArray, ImageArray, read_image

_HEADER = struct.Struct("<4sii")
_MAGIC = b"PIEH"  # The float 202021.25 in little-endian order.
_LIST = "FlyingChairs_train_val.txt"
_SPLITS = {"train": "1", "val": "2"}


class FlyingChairs:
    """Pairs of <number>_img1.ppm, _img2.ppm and _flow.flo in `root` or its folder data.

    Args:
        root: Folder of the data set.
        split: "all", or "train" or "val" as FlyingChairs_train_val.txt divides the pairs: a line a
            pair in order of their numbers, 1 for training and 2 for validation.

    Raises:
        DataError: There are no pairs in the split, or the list is missing or wrong.
    """

    def __init__(self, root: Path, split: Literal["train", "val", "all"]) -> None:
        folder = root / "data" if (root / "data").is_dir() else root
        self._flows = sorted(folder.glob("*_flow.flo"))
        if not self._flows:
            raise DataError(f"{folder}: has no file *_flow.flo")
        if split != "all":
            kinds = _read_list(root / _LIST, len(self._flows))
            wanted = _SPLITS[split]
            self._flows = [
                flow for flow, kind in zip(self._flows, kinds, strict=True) if kind == wanted
            ]
            if not self._flows:
                raise DataError(f"{root / _LIST}: the split {split!r} is empty")

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self._flows)

    def __getitem__(self, index: int) -> tuple[ImageArray, ImageArray, FloatArray]:
        """A pair and its flow.

        Returns:
            image1 and image2, uint8 [H, W, 3] RGB, and the flow, float32 [H, W, 2]: how far right
            and down in pixels what image1 shows at a pixel has moved in image2.

        Raises:
            DataError: One of the three files cannot be read, or they differ in size.
        """
        path = self._flows[index]
        flow = read_flow(path)
        number = path.name.removesuffix("_flow.flo")
        first, second = (path.with_name(f"{number}_img{which}.ppm") for which in (1, 2))
        image1, image2 = read_image(first), read_image(second)
        for image, name in ((image1, first), (image2, second)):
            if image.shape[:2] != flow.shape[:2]:
                sizes = f"{_size(image)} pixels and not {_size(flow)}"
                raise DataError(f"{name}: is of {sizes} as {path.name}")
        return image1, image2, flow


def read_flow(path: Path) -> FloatArray:
    """The flow in a .flo file: float32 [H, W, 2], dx and dy in pixels.

    Raises:
        DataError: The file cannot be read, is no .flo file or has not the size that it states.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if len(content) < _HEADER.size or not content.startswith(_MAGIC):
        raise DataError(f"{path}: is not a .flo file (it does not start with {_MAGIC.decode()})")
    _, width, height = _HEADER.unpack_from(content)
    expected = _HEADER.size + 8 * width * height
    if width < 1 or height < 1 or len(content) != expected:
        raise DataError(
            f"{path}: holds {len(content)} bytes, which do not fit its {width} x {height} pixels"
        )
    flow = np.frombuffer(content, "<f4", offset=_HEADER.size).reshape(height, width, 2)
    return flow.astype(np.float32)


def write_flow(path: Path, flow: FloatArray) -> None:
    """Write a flow, float32 [H, W, 2], as a .flo file.

    Raises:
        ValueError: `flow` is of another shape.
        OSError: The file cannot be written.
    """
    if flow.ndim != 3 or flow.shape[2] != 2 or not flow.size:
        raise ValueError(f"flow must be of shape [H, W, 2], not {list(flow.shape)}")
    height, width, _ = flow.shape
    path.write_bytes(_HEADER.pack(_MAGIC, width, height) + flow.astype("<f4").tobytes())


def _read_list(path: Path, pairs: int) -> list[str]:
    try:
        kinds = path.read_text().split()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read, and without it there is no split") from error
    if len(kinds) != pairs or not set(kinds) <= set(_SPLITS.values()):
        raise DataError(f"{path}: must hold 1 or 2 for each of the {pairs} pairs, one a line")
    return kinds


def _size(array: ImageArray | FloatArray) -> str:
    return f"{array.shape[1]} x {array.shape[0]}"
