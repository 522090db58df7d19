"""ImageNet VID's and DET's layout on disk, and Flying Chairs'; every file is whole."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from hpvod.data.clip import Annotation
from hpvod.data.flying_chairs import write_flow
from hpvod.synthetic.classes import SYNTHETIC_CLASSES
from hpvod.synthetic.clip import SyntheticClip, SyntheticPair
from hpvod.whole_file import whole_file

_JPEG_QUALITY = 92


def write_clip(root: Path, split: str, name: str, clip: SyntheticClip) -> None:
    """Writes a clip's Data/VID/<split>/<name>/*.JPEG and Annotations/VID/<split>/<name>/*.xml.

    Args:
        root: of the data set.
        split: "train" or "val".
        name: of the clip.
        clip: its frames and annotations.

    Raises:
        OSError: a file cannot be written; all those that exist are whole.
    """
    images = root / "Data" / "VID" / split / name
    annotations = root / "Annotations" / "VID" / split / name
    images.mkdir(parents=True)
    annotations.mkdir(parents=True)
    for index, (frame, annotation) in enumerate(zip(clip.frames, clip.annotations, strict=True)):
        write_file(images / f"{index:06d}.JPEG", _to_jpeg(frame))
        write_file(annotations / f"{index:06d}.xml", _to_xml(annotation, name, f"{index:06d}"))


def write_still(root: Path, name: str, still: SyntheticClip) -> None:
    """Writes Data/DET/train/<name>.JPEG and Annotations/DET/train/<name>.xml.

    Args:
        root: of the data set.
        name: of the image.
        still: a clip of one frame.

    Raises:
        OSError: as of `write_clip`.
    """
    image = root / "Data" / "DET" / "train" / f"{name}.JPEG"
    annotation = root / "Annotations" / "DET" / "train" / f"{name}.xml"
    for path in (image, annotation):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_file(image, _to_jpeg(still.frames[0]))
    write_file(annotation, _to_xml(still.annotations[0], "train", name))


def write_lists(root: Path, frames: int, clips: dict[str, list[str]], stills: list[str]) -> None:
    """Writes ImageSets and classes.txt, without which there is no data set.

    As in ImageNet's own, a line of VID's train.txt names a clip, one of its val.txt a frame.

    Args:
        root: of the data set.
        frames: of each clip.
        clips: names of each split's clips.
        stills: names of the still images.

    Raises:
        OSError: as of `write_clip`.
    """
    folder = root / "ImageSets" / "VID"
    folder.mkdir(parents=True)
    write_file(folder / "train.txt", _lines(f"{clip} 1" for clip in clips["train"]))
    images = [f"{clip}/{index:06d}" for clip in clips["val"] for index in range(frames)]
    numbered = (f"{image} {number}" for number, image in enumerate(images, start=1))
    write_file(folder / "val.txt", _lines(numbered))
    if stills:
        folder = root / "ImageSets" / "DET"
        folder.mkdir()
        numbered = (f"{still} {number}" for number, still in enumerate(stills, start=1))
        write_file(folder / "train.txt", _lines(numbered))
    write_file(root / "classes.txt", _lines(SYNTHETIC_CLASSES))


def write_pair(root: Path, number: int, pair: SyntheticPair) -> None:
    """Writes data/<number>_img1.ppm, _img2.ppm and _flow.flo.

    Args:
        root: of the Flying Chairs; its folder data exists.
        number: of the pair, from 1.
        pair: two frames and their flow.

    Raises:
        OSError: as of `write_clip`.
    """
    stem = root / "data" / f"{number:05d}"
    for index, frame in enumerate((pair.first, pair.second), start=1):
        image = io.BytesIO()
        Image.fromarray(frame).save(image, "PPM")
        write_file(stem.with_name(f"{stem.name}_img{index}.ppm"), image.getvalue())
    with whole_file(stem.with_name(f"{stem.name}_flow.flo"), flush=False) as path:
        write_flow(path, pair.flow)


def write_file(path: Path, content: bytes) -> None:
    """Writes the whole file or none.

    Raises:
        OSError: it cannot be written.
    """
    with whole_file(path, flush=False) as unfinished:
        unfinished.write_bytes(content)


def _to_jpeg(frame: np.ndarray) -> bytes:
    image = io.BytesIO()
    Image.fromarray(frame).save(image, "JPEG", quality=_JPEG_QUALITY)
    return image.getvalue()


def _to_xml(annotation: Annotation, folder: str, filename: str) -> bytes:
    root = ElementTree.Element("annotation")
    _add(root, "folder", folder)
    _add(root, "filename", filename)
    _add(ElementTree.SubElement(root, "source"), "database", "hpvod make-data")
    size = ElementTree.SubElement(root, "size")
    _add(size, "width", annotation.size[1])
    _add(size, "height", annotation.size[0])
    for box, label, track, occluded in zip(
        annotation.boxes.astype(int).tolist(),
        annotation.labels.tolist(),
        annotation.tracks.tolist(),
        annotation.occluded.tolist(),
        strict=True,
    ):
        item = ElementTree.SubElement(root, "object")
        _add(item, "trackid", track)
        _add(item, "name", SYNTHETIC_CLASSES[label])
        corners = ElementTree.SubElement(item, "bndbox")
        for corner, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True):
            _add(corners, corner, value)
        _add(item, "occluded", int(occluded))
        _add(item, "generated", 0)
    ElementTree.indent(root)
    return ElementTree.tostring(root) + b"\n"


def _lines(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _add(parent: ElementTree.Element, name: str, value: str | int) -> None:
    ElementTree.SubElement(parent, name).text = str(value)
