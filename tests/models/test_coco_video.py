from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpvod.data import CocoVideo, DataError

CONTENT: dict[str, Any] = {
    "videos": [{"id": 1, "name": "first"}, {"id": 2, "name": "empty"}, {"id": 3, "name": "last"}],
    "images": [
        {"id": 11, "file_name": "a/1.jpg", "width": 40, "height": 20, "video_id": 1, "frame_id": 1},
        {"id": 10, "file_name": "a/0.jpg", "width": 40, "height": 20, "video_id": 1, "frame_id": 0},
        {"id": 12, "file_name": "b/0.jpg", "width": 30, "height": 60, "video_id": 3, "frame_id": 7},
    ],
    "annotations": [
        {"image_id": 10, "category_id": 9, "bbox": [1, 2, 10.5, 8], "instance_id": 4},
        {"image_id": 10, "category_id": 2, "bbox": [0, 0, 40, 20], "track_id": 5, "occluded": 1},
        {"image_id": 12, "category_id": 9, "bbox": [-0.5, 0, 31, 60.5]},
        {"image_id": 12, "category_id": 9, "bbox": [5, 5, 0.5, 0.5]},
        {"image_id": 12, "category_id": 9, "bbox": [5, 5, 9, 9], "iscrowd": 1},
    ],
    "categories": [{"id": 9, "name": "boat"}, {"id": 2, "name": "ant"}],
}


def read(folder: Path, content: object) -> CocoVideo:
    path = folder / "videos.json"
    path.write_text(json.dumps(content))
    return CocoVideo(path, folder / "images")


def test_clips(tmp_path: Path) -> None:
    dataset = pickle.loads(pickle.dumps(read(tmp_path, CONTENT)))
    assert dataset.classes == ("ant", "boat")
    assert [clip.name for clip in dataset.clips] == ["first", "last"]
    first, second = dataset.clips[0].frames
    assert first.image == tmp_path / "images" / "a" / "0.jpg"
    assert second.image == tmp_path / "images" / "a" / "1.jpg"

    annotation = dataset.annotation(first)
    assert annotation.size == (20, 40)
    np.testing.assert_array_equal(annotation.boxes, [(1, 2, 10.5, 9), (0, 0, 39, 19)])
    np.testing.assert_array_equal(annotation.labels, [1, 0])
    np.testing.assert_array_equal(annotation.tracks, [4, 5])
    np.testing.assert_array_equal(annotation.occluded, [False, True])
    assert dataset.annotation(second).boxes.shape == (0, 4)


def test_boxes_end_at_the_image(tmp_path: Path) -> None:
    dataset = read(tmp_path, CONTENT)
    annotation = dataset.annotation(dataset.clips[1].frames[0])
    np.testing.assert_array_equal(annotation.boxes, [(0, 0, 29, 59), (5, 5, 5, 5)])
    np.testing.assert_array_equal(annotation.tracks, [-1, -1])
    assert annotation.boxes.dtype == np.float32


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        (("videos",), "'videos'"),
        (("images",), "'images'"),
        (("annotations",), "'annotations'"),
        (("categories",), "'categories'"),
        (("videos", 0, "name"), "videos[0]: 'name'"),
        (("videos", 2, "id"), "videos[2]: 'id'"),
        (("images", 1, "id"), "images[1]: 'id'"),
        (("images", 1, "file_name"), "images[1]: 'file_name'"),
        (("images", 1, "height"), "images[1]: 'height'"),
        (("images", 1, "video_id"), "images[1]: 'video_id'"),
        (("images", 1, "frame_id"), "images[1]: 'frame_id'"),
        (("annotations", 0, "image_id"), "annotations[0]: 'image_id'"),
        (("annotations", 0, "category_id"), "annotations[0]: 'category_id'"),
        (("annotations", 0, "bbox"), "annotations[0]: 'bbox'"),
        (("categories", 1, "name"), "categories[1]: 'name'"),
    ],
)
def test_missing_and_wrong_keys(tmp_path: Path, keys: tuple[str | int, ...], name: str) -> None:
    content = copy.deepcopy(CONTENT)
    item: Any = content
    for key in keys[:-1]:
        item = item[key]
    item[keys[-1]] = None
    with pytest.raises(DataError) as caught:
        read(tmp_path, content)
    message = f"{tmp_path / 'videos.json'}: {name} must be of type "
    assert str(caught.value).startswith(message)
    del item[keys[-1]]
    with pytest.raises(DataError) as caught:
        read(tmp_path, content)
    assert str(caught.value) == f"{tmp_path / 'videos.json'}: {name} is missing"


@pytest.mark.parametrize(
    ("group", "index", "change", "message"),
    [
        ("annotations", 0, {"bbox": [1, 2, 3]}, "must hold four numbers"),
        ("annotations", 0, {"bbox": [1, 2, 3, "4"]}, "must hold four numbers"),
        ("annotations", 0, {"bbox": [1, 2, 0, 4]}, "is empty or outside the image of 40 x 20"),
        ("annotations", 0, {"bbox": [1, 2, 3, -4]}, "is empty or outside"),
        ("annotations", 0, {"bbox": [-2, 2, 10, 8]}, "is empty or outside"),
        ("annotations", 0, {"bbox": [1, -2, 10, 8]}, "is empty or outside"),
        ("annotations", 0, {"bbox": [32, 2, 10, 8]}, "is empty or outside"),
        ("annotations", 0, {"bbox": [1, 14, 10, 8]}, "is empty or outside"),
        ("annotations", 0, {"bbox": [40.2, 2, 0.5, 8]}, "is empty or outside"),
        ("annotations", 0, {"bbox": [1, float("nan"), 10, 8]}, "is empty or outside"),
        ("annotations", 0, {"image_id": 99}, "'image_id' is 99, which is the id of nothing"),
        ("annotations", 0, {"category_id": 99}, "'category_id' is 99"),
        ("annotations", 0, {"instance_id": 1 << 64}, "'instance_id' must fit 63 bits"),
        ("images", 0, {"video_id": 99}, "'video_id' is 99"),
        ("images", 0, {"frame_id": 0}, "the video 'first' repeats a frame_id"),
        ("images", 0, {"id": 10}, "the images repeat an id"),
        ("images", 0, {"width": 0}, "an image of 0 x 20 pixels"),
        ("categories", 0, {"name": "ant"}, "the categories must have names that differ"),
        ("categories", 0, {"id": 2}, "the categories repeat an id"),
    ],
)
def test_wrong_values(
    tmp_path: Path, group: str, index: int, change: dict[str, object], message: str
) -> None:
    content = copy.deepcopy(CONTENT)
    content[group][index].update(change)
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path, content)
    assert str(caught.value).startswith(f"{tmp_path / 'videos.json'}: ")


def test_nothing_in_the_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no images"):
        read(tmp_path, CONTENT | {"images": [], "annotations": []})
    with pytest.raises(DataError, match="the categories must have names"):
        read(tmp_path, CONTENT | {"categories": []})
    with pytest.raises(DataError, match="must hold a JSON object"):
        read(tmp_path, [CONTENT])
    with pytest.raises(DataError, match=r"images\[0\] must be an object"):
        read(tmp_path, CONTENT | {"images": [1]})


def test_unreadable_files(tmp_path: Path) -> None:
    path = tmp_path / "videos.json"
    with pytest.raises(DataError, match=r"videos\.json: no such file"):
        CocoVideo(path, tmp_path)
    for content in (b"", b"{", b"\xff\xff", b"[" * 100_000):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"videos\.json: is damaged or not JSON"):
            CocoVideo(path, tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        CocoVideo(tmp_path, tmp_path)
