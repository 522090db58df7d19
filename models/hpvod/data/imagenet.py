"""ImageNet VID and DET in their layout on disk, and data sets of one's own laid out like them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from hpvod.config import VID_CLASSES
from hpvod.data.class_list import read_classes
from hpvod.data.clip import Annotation, Clip, DataError, Frame
from hpvod.data.imagenet_list import read_list, split_frame
from hpvod.data.imagenet_xml import read_small, read_xml

_IDS = (
    "n02691156 n02419796 n02131653 n02834778 n01503061 n02924116 n02958343 n02402425 n02084071 "
    "n02121808 n02503517 n02118333 n02510455 n02342885 n02374451 n02129165 n01674464 n02484322 "
    "n03790512 n02324045 n02509815 n02411705 n01726692 n02355227 n02129604 n04468005 n01662784 "
    "n04530566 n02062744 n02391049"
)
WORDNET_IDS = dict(zip(_IDS.split(), VID_CLASSES, strict=True))
"""Names of ImageNet VID's classes by the WordNet ids that stand for them in its files."""

_SUFFIX = ".JPEG"
_NAME = re.compile(rb"<name>\s*([^<]*?)\s*</name>")


class _ImageNet:
    """What VID and DET share: the classes, and annotations read when they are asked for.

    Attributes:
        root: Folder with Data, Annotations and ImageSets.
        classes: Names of the classes.
        clips: All clips of the split.
    """

    clips: list[Clip]

    def __init__(self, root: Path, classes: Sequence[str] | None) -> None:
        self.root = root
        self.classes = _classes_of(root) if classes is None else tuple(classes)
        self._labels = {name: label for label, name in enumerate(self.classes)}
        for wordnet_id, name in WORDNET_IDS.items():
            if name in self._labels:
                self._labels[wordnet_id] = self._labels[name]
        self._ignore_others = classes is not None

    def annotation(self, frame: Frame) -> Annotation:
        """The objects in a frame of one of the clips.

        Raises:
            DataError: The file cannot be read or is wrong, as of `read_xml`.
        """
        assert isinstance(frame.annotation, Path)
        return read_xml(frame.annotation, self._labels, ignore_others=self._ignore_others)

    def _folders(self, kind: str, name: str) -> tuple[Path, Path]:
        return self.root / "Data" / kind / name, self.root / "Annotations" / kind / name


class ImageNetVID(_ImageNet):
    """The snippets of a split: Data/VID, Annotations/VID and ImageSets/VID/<split>.txt.

    Objects are named in the annotations by a WordNet id of the 30 classes or by the class's name.
    A list names frames, which make up clips, or whole snippets. FGFA's lists name some frames of a
    snippet, and are taken for the whole of it: the frames around them are needed as well.

    Args:
        root: Folder with Data, Annotations and ImageSets.
        split: "train" or "val", or what the list is called ("VID_train_15frames").
        classes: Names of the classes, all others being ignored; by default the names in
            <root>/classes.txt, or else VID's 30, and any other name is an error.

    Raises:
        DataError: The list of the split or that of the classes is missing, wrong or empty, or a
            snippet has no images.
    """

    def __init__(self, root: Path, split: str, classes: Sequence[str] | None = None) -> None:
        super().__init__(root, classes)
        lists = root / "ImageSets" / "VID"
        numbers: dict[str, set[str]] = {}
        snippets: set[str] = set()
        for name, _ in read_list(lists, split):
            if clip_and_number := split_frame(name):
                clip, number = clip_and_number
                numbers.setdefault(clip, set()).add(number)
            else:
                snippets.add(name)
                numbers.setdefault(name, set())
        if not numbers:
            raise DataError(f"{lists / split}.txt: the split is empty")
        self.clips = [
            self._clip(clip, None if clip in snippets else frames)
            for clip, frames in numbers.items()
        ]

    def _clip(self, name: str, numbers: set[str] | None) -> Clip:
        images, annotations = self._folders("VID", name)
        if numbers is None:
            numbers = {image.stem for image in images.glob(f"*{_SUFFIX}")}
            if not numbers:
                raise DataError(f"{images}: has no images *{_SUFFIX}")
        frames = (
            Frame(images / f"{number}{_SUFFIX}", annotations / f"{number}.xml")
            for number in sorted(numbers)
        )
        return Clip(name, tuple(frames))


class ImageNetDET(_ImageNet):
    """The still images of a split with one of the classes, each a clip of one frame.

    Objects of other classes are ignored. Which images have one of the classes is in their
    annotations only, which is why all are searched at first (but not parsed); an image whose
    annotation cannot be read stays, so that `annotation` names the file.

    Args:
        root: Folder with Data/DET, Annotations/DET and ImageSets/DET/<split>.txt.
        split: "train" or "val", or what the list is called ("DET_train_30classes").
        classes: As of `ImageNetVID`.

    Raises:
        DataError: As of `ImageNetVID`; or no image has one of the classes.
    """

    def __init__(self, root: Path, split: str, classes: Sequence[str] | None = None) -> None:
        super().__init__(root, classes)
        self._ignore_others = True
        lists = root / "ImageSets" / "DET"
        # A class's own list marks with -1 the images that are without it.
        names = dict.fromkeys(name for name, number in read_list(lists, split) if number != -1)
        self.clips = [clip for name in names if self._has_object(clip := self._still(name))]
        if not self.clips:
            raise DataError(f"{lists / split}.txt: no image of the split has one of the classes")

    def _still(self, name: str) -> Clip:
        image, annotation = self._folders("DET", name)
        frame = Frame(
            image.with_name(f"{image.name}{_SUFFIX}"),
            annotation.with_name(f"{annotation.name}.xml"),
        )
        return Clip(name, (frame,))

    def _has_object(self, clip: Clip) -> bool:
        (frame,) = clip.frames
        assert isinstance(frame.annotation, Path)
        try:
            content = read_small(frame.annotation)
        except DataError:
            return True
        return any(name.decode(errors="replace") in self._labels for name in _NAME.findall(content))


def _classes_of(root: Path) -> tuple[str, ...]:
    path = root / "classes.txt"
    return read_classes(path) if path.exists() else VID_CLASSES
