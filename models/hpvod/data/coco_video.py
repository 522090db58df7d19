"""COCO's JSON with videos: data sets of one's own classes, as annotation tools export them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from hpvod.data.clip import Annotation, Clip, DataError, Frame

_T = TypeVar("_T")
_ROUNDING = 1.0  # Pixels that a box may extend over the image's edge.


class CocoVideo:
    """The clips of one JSON file.

    It holds "videos" (id, name), "images" (id, file_name, width, height, video_id, frame_id),
    "categories" (id, name) and "annotations" (image_id, category_id, bbox as x, y, width, height;
    instance_id or track_id and occluded where known). Regions of "iscrowd" are no objects and are
    left out. Labels follow the order of the categories' ids.

    Args:
        json_path: The file.
        images: Folder that the images' file_name starts from.

    Attributes:
        classes: Names of the categories.
        clips: The videos that have images, in the order of the file.

    Raises:
        DataError: The file cannot be read, a key is missing or of the wrong type, an id is unknown
            or repeated, a box is outside its image, or there are no categories or no images.
    """

    def __init__(self, json_path: Path, images: Path) -> None:
        content = _read(json_path)
        categories = sorted(content.all("categories"), key=lambda item: item.get("id", int))
        self.classes = tuple(item.get("name", str) for item in categories)
        if not self.classes or len(set(self.classes)) != len(self.classes):
            raise DataError(f"{json_path}: the categories must have names that differ")
        labels = {item.get("id", int): label for label, item in enumerate(categories)}

        items = content.all("images")
        open_images = {
            item.get("id", int): _Image(images / item.get("file_name", str), item.size())
            for item in items
        }
        for item in content.all("annotations"):
            image = item.look_up("image_id", open_images)
            label = item.look_up("category_id", labels)
            if not item.flag("iscrowd"):
                image.add(item, label)

        videos = {item.get("id", int): item.get("name", str) for item in content.all("videos")}
        frames: dict[int, list[tuple[int, Frame]]] = {video: [] for video in videos}
        for item in items:
            video = item.look_up("video_id", frames)
            image = open_images[item.get("id", int)]
            video.append((item.get("frame_id", int), Frame(image.path, image.annotation())))
        self.clips: list[Clip] = []
        for video_id, numbered in frames.items():
            numbered.sort(key=lambda pair: pair[0])
            if len({number for number, _ in numbered}) != len(numbered):
                raise DataError(f"{json_path}: the video {videos[video_id]!r} repeats a frame_id")
            if numbered:
                clip = Clip(videos[video_id], tuple(frame for _, frame in numbered))
                self.clips.append(clip)
        if not self.clips:
            raise DataError(f"{json_path}: holds no images")

    def annotation(self, frame: Frame) -> Annotation:
        """The objects in a frame of one of the clips."""
        assert isinstance(frame.annotation, Annotation)
        return frame.annotation


@dataclass
class _Image:
    path: Path
    size: tuple[int, int]
    boxes: list[tuple[float, ...]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    tracks: list[int] = field(default_factory=list)
    occluded: list[bool] = field(default_factory=list)

    def add(self, item: _Item, label: int) -> None:
        self.boxes.append(item.box(self.size))
        self.labels.append(label)
        self.tracks.append(item.track())
        self.occluded.append(item.flag("occluded"))

    def annotation(self) -> Annotation:
        return Annotation(
            size=self.size,
            boxes=np.array(self.boxes, np.float32).reshape(-1, 4),
            labels=np.array(self.labels, np.int64),
            tracks=np.array(self.tracks, np.int64),
            occluded=np.array(self.occluded, np.bool_),
        )


@dataclass(frozen=True)
class _Item:
    """An object of the JSON file, and what to call it in a message."""

    name: str
    values: dict[str, Any]

    def get(self, key: str, kind: type[_T]) -> _T:
        value = self.values.get(key)
        if not isinstance(value, kind) or isinstance(value, bool):
            problem = f"{key!r} must be of type {kind.__name__}" if key in self.values else None
            raise DataError(f"{self.name}: {problem or f'{key!r} is missing'}")
        return value

    def all(self, key: str) -> list[_Item]:
        items = self.get(key, list)
        for index, item in enumerate(items):
            if not isinstance(item, dict):
                raise DataError(f"{self.name}: {key}[{index}] must be an object")
        named = [_Item(f"{self.name}: {key}[{index}]", item) for index, item in enumerate(items)]
        if key != "annotations" and len({item.get("id", int) for item in named}) != len(named):
            raise DataError(f"{self.name}: the {key} repeat an id")
        return named

    def look_up(self, key: str, table: dict[int, _T]) -> _T:
        value = self.get(key, int)
        if value not in table:
            raise DataError(f"{self.name}: {key!r} is {value}, which is the id of nothing")
        return table[value]

    def flag(self, key: str) -> bool:
        return bool(self.values.get(key, False))

    def track(self) -> int:
        for key in ("instance_id", "track_id"):
            if key in self.values:
                track = self.get(key, int)
                if not 0 <= track < 1 << 63:
                    raise DataError(f"{self.name}: {key!r} must fit 63 bits, not {track}")
                return track
        return -1

    def size(self) -> tuple[int, int]:
        height, width = self.get("height", int), self.get("width", int)
        if height < 1 or width < 1:
            raise DataError(f"{self.name}: an image of {width} x {height} pixels")
        return height, width

    def box(self, size: tuple[int, int]) -> tuple[float, ...]:
        """x1, y1, x2, y2: COCO's edges between pixels turned into the outermost pixels."""
        height, width = size
        values = self.get("bbox", list)
        if len(values) != 4 or not all(type(value) in (int, float) for value in values):
            raise DataError(f"{self.name}: 'bbox' must hold four numbers, not {values}")
        x, y, w, h = values
        # Written so that NaN is refused.
        inside_x = -_ROUNDING <= x < width and x + w <= width + _ROUNDING
        inside_y = -_ROUNDING <= y < height and y + h <= height + _ROUNDING
        if not (inside_x and inside_y and w > 0 and h > 0):
            raise DataError(
                f"{self.name}: the box {values} is empty or outside the image of "
                f"{width} x {height} pixels"
            )
        x1, y1 = max(x, 0), max(y, 0)
        return x1, y1, max(min(x + w, width) - 1, x1), max(min(y + h, height) - 1, y1)


def _read(path: Path) -> _Item:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is damaged or not JSON ({error})") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: must hold a JSON object")
    return _Item(str(path), content)
