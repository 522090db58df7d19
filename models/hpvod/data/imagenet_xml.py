"""ImageNet's annotations: an XML file an image, read without trusting it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn
from xml.etree import ElementTree

import numpy as np

from hpvod.data.clip import Annotation, DataError

_MAX_BYTES = 4 << 20  # ImageNet's largest files hold some tens of kilobytes.
_LIMIT = 1 << 31
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def read_xml(path: Path, labels: Mapping[str, int], *, ignore_others: bool) -> Annotation:
    """The objects in an annotation file.

    Corners that lie on the far edge of the image, as many of ImageNet's do (it counts from 0 in
    most files and from 1 in some), are moved onto its last row or column of pixels.

    Args:
        path: The file.
        labels: What each name that an object may have in the file stands for.
        ignore_others: Whether objects of other names are passed over.

    Raises:
        DataError: The file cannot be read, a value is missing or wrong, a box lies outside the
            image, or an object has another name.
    """
    root = _parse(path)
    width, height = (_integer(path, root, f"size/{name}") for name in ("width", "height"))
    if width < 1 or height < 1:
        raise DataError(f"{path}: an image of {width} x {height} pixels")
    boxes: list[list[float]] = []
    found: list[int] = []
    tracks: list[int] = []
    occluded: list[bool] = []
    for item in root.iterfind("object"):
        name = (item.findtext("name") or "").strip()
        if name not in labels:
            if ignore_others and name:
                continue
            raise DataError(
                f"{path}: an object called {name!r}, which is none of the data set's classes; "
                "name other classes than ImageNet VID's 30 in classes.txt, one a line"
            )
        found.append(labels[name])
        boxes.append(_box(path, item, width, height))
        tracks.append(_integer(path, item, "trackid", missing=-1))
        occluded.append(_integer(path, item, "occluded", missing=0) != 0)
    return Annotation(
        size=(height, width),
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        labels=np.array(found, np.int64),
        tracks=np.array(tracks, np.int64),
        occluded=np.array(occluded, np.bool_),
    )


def read_small(path: Path) -> bytes:
    """The content of a file that cannot be large if it is what it should be.

    Raises:
        DataError: It cannot be read, or is larger than any annotation.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if len(content) > _MAX_BYTES:
        raise DataError(f"{path}: is larger than {_MAX_BYTES >> 20} MiB, too large an annotation")
    return content


class _NoDoctype(ElementTree.TreeBuilder):
    def doctype(self, name: str, pubid: str | None, system: str | None) -> NoReturn:
        # Entities are defined in it, and entities of entities would fill the memory.
        raise ElementTree.ParseError("it has a DOCTYPE")


def _parse(path: Path) -> ElementTree.Element:
    content = read_small(path)
    try:
        parser = ElementTree.XMLParser(target=_NoDoctype())
        return ElementTree.fromstring(content, parser)
    # An encoding that is unknown, or not what the bytes are, raises the latter two.
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise DataError(f"{path}: is damaged or not XML ({error})") from error


def _box(path: Path, item: ElementTree.Element, width: int, height: int) -> list[float]:
    x1, y1, x2, y2 = (_number(path, item, f"bndbox/{corner}") for corner in _CORNERS)
    if not (0 <= x1 <= x2 <= width and 0 <= y1 <= y2 <= height and x1 < width and y1 < height):
        raise DataError(
            f"{path}: the box ({x1:g}, {y1:g}, {x2:g}, {y2:g}) is empty or outside the image "
            f"of {width} x {height} pixels"
        )
    return [x1, y1, min(x2, width - 1), min(y2, height - 1)]


def _integer(
    path: Path, element: ElementTree.Element, name: str, missing: int | None = None
) -> int:
    value = _number(path, element, name, missing)
    if value != int(value):
        raise DataError(f"{path}: {name} must be a whole number, not {value:g}")
    return int(value)


def _number(
    path: Path, element: ElementTree.Element, name: str, missing: int | None = None
) -> float:
    text = element.findtext(name)
    if text is None:
        if missing is None:
            raise DataError(f"{path}: an {element.tag} has no {name}")
        return missing
    try:
        value = float(text)
    except ValueError as error:
        raise DataError(f"{path}: {name} must be a number, not {text.strip()!r}") from error
    if not abs(value) < _LIMIT:
        raise DataError(f"{path}: {name} must be under {_LIMIT}, not {text.strip()}")
    return value
