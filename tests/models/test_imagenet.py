from __future__ import annotations

import pickle
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from hpvod.config import VID_CLASSES
from hpvod.data import WORDNET_IDS, DataError, Frame, ImageNetDET, ImageNetVID

DOG, CAR = "n02084071", "n02958343"
BOX = (1, 2, 30, 15)


def item(name: str, box: tuple[float, ...] = BOX, extra: str = "") -> str:
    corners = "".join(
        f"<{corner}>{value}</{corner}>"
        for corner, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    return f"<object>{extra}<name>{name}</name><bndbox>{corners}</bndbox></object>"


def xml(*items: str) -> str:
    size = "<size><width>40</width><height>20</height></size>"
    return f"<annotation><folder>a</folder>{size}{''.join(items)}</annotation>"


def write_list(root: Path, text: str, name: str = "val", kind: str = "VID") -> None:
    path = root / "ImageSets" / kind / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def write_xml(root: Path, name: str, text: str, kind: str = "VID") -> Path:
    path = root / "Annotations" / kind / f"{name}.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def write_images(root: Path, clip: str, numbers: Iterable[int]) -> None:
    folder = root / "Data" / "VID" / clip
    folder.mkdir(parents=True)
    for number in numbers:
        (folder / f"{number:06d}.JPEG").touch()


def one_frame(root: Path, text: str) -> tuple[ImageNetVID, Frame]:
    write_list(root, "val/a/000000 1\n")
    write_xml(root, "val/a/000000", text)
    dataset = ImageNetVID(root, "val")
    return dataset, dataset.clips[0].frames[0]


def names(dataset: ImageNetVID) -> dict[str, list[str]]:
    return {clip.name: [frame.image.stem for frame in clip.frames] for clip in dataset.clips}


def test_wordnet_ids() -> None:
    assert tuple(WORDNET_IDS.values()) == VID_CLASSES
    assert WORDNET_IDS[DOG] == "dog"
    assert WORDNET_IDS["n02391049"] == "zebra"


def test_frames_of_the_validation_list(tmp_path: Path) -> None:
    write_list(tmp_path, "val/b/000001 2\nval/b/000000 1\n\na/000000 3\nval/b/000010 4\n")
    dataset = pickle.loads(pickle.dumps(ImageNetVID(tmp_path, "val")))
    assert names(dataset) == {"val/b": ["000000", "000001", "000010"], "val/a": ["000000"]}
    frame = dataset.clips[1].frames[0]
    assert frame.image == tmp_path / "Data" / "VID" / "val" / "a" / "000000.JPEG"
    assert frame.annotation == tmp_path / "Annotations" / "VID" / "val" / "a" / "000000.xml"
    assert dataset.classes == VID_CLASSES


def test_snippets_of_several_training_lists(tmp_path: Path) -> None:
    write_list(tmp_path, "set_1/a 1\ntrain/set_1/b 1\n", "train_1")
    write_list(tmp_path, "set_1/b 1\nset_1/000007\n", "train_2")
    for clip in ("set_1/a", "set_1/b", "set_1/000007"):
        write_images(tmp_path, f"train/{clip}", range(2))
    # A name of six digits below a folder is a frame's, as in the validation list.
    assert names(ImageNetVID(tmp_path, "train")) == {
        "train/set_1/a": ["000000", "000001"],
        "train/set_1/b": ["000000", "000001"],
        "train/set_1": ["000007"],
    }
    write_list(tmp_path, "set_1/a 1\n", "train")
    assert list(names(ImageNetVID(tmp_path, "train"))) == ["train/set_1/a"]


def test_a_snippet_called_like_a_frame(tmp_path: Path) -> None:
    write_list(tmp_path, "000003 1\n")
    write_images(tmp_path, "val/000003", [4])
    assert names(ImageNetVID(tmp_path, "val")) == {"val/000003": ["000004"]}


def test_list_of_fgfa(tmp_path: Path) -> None:
    write_list(tmp_path, "train/s/a 1 1 5\ntrain/s/a 1 3 5\n", "VID_train_15frames")
    write_images(tmp_path, "train/s/a", range(5))
    dataset = ImageNetVID(tmp_path, "VID_train_15frames")
    assert names(dataset) == {"train/s/a": [f"{number:06d}" for number in range(5)]}


@pytest.mark.parametrize(
    "line", ["a/000000 x", "a/000000 1 2", "a 1 2 3 4", "a b", "../a 1", "/a 1", "a//b 1", "a\0b"]
)
def test_a_line_that_fits_nothing(tmp_path: Path, line: str) -> None:
    write_list(tmp_path, f"val/a/000000 1\n{line}\n")
    with pytest.raises(DataError, match="names no frame or snippet") as caught:
        ImageNetVID(tmp_path, "val")
    path = tmp_path / "ImageSets" / "VID" / "val.txt"
    assert str(caught.value).startswith(f"{path}:2: ")


def test_missing_and_empty_splits(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"VID/val\.txt: no such file"):
        ImageNetVID(tmp_path, "val")
    write_list(tmp_path, "\n")
    with pytest.raises(DataError, match=r"VID/val\.txt: the split is empty"):
        ImageNetVID(tmp_path, "val")
    write_list(tmp_path, "a 1\n")
    with pytest.raises(DataError, match=r"Data/VID/val/a: has no images"):
        ImageNetVID(tmp_path, "val")
    (tmp_path / "ImageSets" / "VID" / "val.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(DataError, match=r"VID/val\.txt: cannot be read"):
        ImageNetVID(tmp_path, "val")


def test_objects(tmp_path: Path) -> None:
    known = "<trackid>3</trackid><occluded>1</occluded><generated>0</generated>"
    text = xml(item(DOG, extra=known), item("zebra", (0, 0, 39, 19)), item("zebra", (5, 5, 40, 20)))
    dataset, frame = one_frame(tmp_path, text)
    annotation = dataset.annotation(frame)
    assert annotation.size == (20, 40)
    np.testing.assert_array_equal(annotation.boxes, [BOX, (0, 0, 39, 19), (5, 5, 39, 19)])
    np.testing.assert_array_equal(annotation.labels, [VID_CLASSES.index("dog"), 29, 29])
    np.testing.assert_array_equal(annotation.tracks, [3, -1, -1])
    np.testing.assert_array_equal(annotation.occluded, [True, False, False])
    kinds = [annotation.boxes.dtype, annotation.labels.dtype, annotation.tracks.dtype]
    assert kinds == [np.float32, np.int64, np.int64]


def test_no_objects(tmp_path: Path) -> None:
    dataset, frame = one_frame(tmp_path, xml())
    annotation = dataset.annotation(frame)
    assert annotation.boxes.shape == (0, 4)
    assert annotation.labels.shape == annotation.tracks.shape == annotation.occluded.shape == (0,)


def test_classes_file(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("square\n\ndog\n")
    dataset, frame = one_frame(tmp_path, xml(item("square"), item(DOG), item("dog")))
    assert dataset.classes == ("square", "dog")
    np.testing.assert_array_equal(dataset.annotation(frame).labels, [0, 1, 1])
    write_xml(tmp_path, "val/a/000000", xml(item(CAR)))
    with pytest.raises(DataError, match=f"an object called '{CAR}'"):
        dataset.annotation(frame)


@pytest.mark.parametrize(("text", "problem"), [("\n", "names no class"), ("a\na\n", "repeats")])
def test_wrong_classes_file(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(DataError, match=rf"classes\.txt: {problem}"):
        ImageNetVID(tmp_path, "val")


def test_unknown_names(tmp_path: Path) -> None:
    dataset, frame = one_frame(tmp_path, xml(item("square"), item(DOG)))
    with pytest.raises(DataError, match=r"000000\.xml: an object called 'square'.*classes\.txt"):
        dataset.annotation(frame)
    chosen = ImageNetVID(tmp_path, "val", ["car", "dog"])
    np.testing.assert_array_equal(chosen.annotation(frame).labels, [1])


@pytest.mark.parametrize(
    "box",
    [
        (-1, 2, 30, 15),
        (1, -1, 30, 15),
        (1, 2, 41, 15),
        (1, 2, 30, 21),
        (30, 2, 1, 15),
        (1, 15, 30, 2),
        (40, 2, 40, 15),
        (1, 20, 30, 20),
    ],
)
def test_a_box_outside_the_image(tmp_path: Path, box: tuple[int, ...]) -> None:
    dataset, frame = one_frame(tmp_path, xml(item(DOG, box)))
    with pytest.raises(DataError, match=r"is empty or outside the image of 40 x 20") as caught:
        dataset.annotation(frame)
    assert str(caught.value).startswith(f"{frame.annotation}: the box ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is damaged or not XML"),
        (xml(item(DOG))[:-20], "is damaged or not XML"),
        ("<annotation/>", "an annotation has no size/width"),
        (xml().replace("40", "0"), "an image of 0 x 20 pixels"),
        (xml().replace("40", "4.5"), "size/width must be a whole number"),
        (xml().replace("40", "wide"), "size/width must be a number, not 'wide'"),
        (xml().replace("40", "1e400"), "size/width must be under"),
        (xml("<object/>"), "an object called ''"),
        (xml(f"<object><name>{DOG}</name></object>"), "an object has no bndbox/xmin"),
        (xml(item(DOG, (1, 2, float("nan"), 15))), "bndbox/xmax must be under"),
        (xml(item(DOG, extra="<trackid>x</trackid>")), "trackid must be a number"),
        ("<?xml version='1.0' encoding='odd'?>" + xml(), "is damaged or not XML"),
    ],
)
def test_wrong_annotations(tmp_path: Path, text: str, message: str) -> None:
    dataset, frame = one_frame(tmp_path, text)
    with pytest.raises(DataError, match=message) as caught:
        dataset.annotation(frame)
    assert str(caught.value).startswith(f"{frame.annotation}: ")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_no_entities(tmp_path: Path, encoding: str) -> None:
    dataset, frame = one_frame(tmp_path, "")
    text = f'<!DOCTYPE a [<!ENTITY dog "{DOG}">]>' + xml(item("&dog;"))
    assert isinstance(frame.annotation, Path)
    frame.annotation.write_text(text, encoding)
    with pytest.raises(DataError, match="it has a DOCTYPE"):
        dataset.annotation(frame)


def test_missing_and_huge_annotations(tmp_path: Path) -> None:
    dataset, frame = one_frame(tmp_path, xml() + " " * (4 << 20))
    with pytest.raises(DataError, match="is larger than 4 MiB"):
        dataset.annotation(frame)
    assert isinstance(frame.annotation, Path)
    frame.annotation.unlink()
    with pytest.raises(DataError, match=r"000000\.xml: no such file"):
        dataset.annotation(frame)


def test_still_images(tmp_path: Path) -> None:
    lines = "f/dog 1\nf/other 1\ntrain/f/both 1\nf/without -1\nf/gone 1\nf/dog 1\n"
    write_list(tmp_path, lines, "train", "DET")
    write_xml(tmp_path, "train/f/dog", xml(item(f" {DOG}\n")), "DET")
    write_xml(tmp_path, "train/f/other", xml(item("n00000000")), "DET")
    write_xml(tmp_path, "train/f/both", xml(item("n00000000"), item(CAR)), "DET")
    write_xml(tmp_path, "train/f/without", xml(item(DOG)), "DET")
    dataset = pickle.loads(pickle.dumps(ImageNetDET(tmp_path, "train")))
    names = ["train/f/dog", "train/f/both", "train/f/gone"]
    assert [clip.name for clip in dataset.clips] == names
    (frame,) = dataset.clips[1].frames
    assert frame.image == tmp_path / "Data" / "DET" / "train" / "f" / "both.JPEG"
    np.testing.assert_array_equal(dataset.annotation(frame).labels, [VID_CLASSES.index("car")])
    with pytest.raises(DataError, match=r"gone\.xml: no such file"):
        dataset.annotation(dataset.clips[2].frames[0])


def test_no_still_images_of_the_classes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"DET/train\.txt: no such file"):
        ImageNetDET(tmp_path, "train")
    write_list(tmp_path, "dog 1\n", "train", "DET")
    write_xml(tmp_path, "train/dog", xml(item(DOG)), "DET")
    assert len(ImageNetDET(tmp_path, "train", ["dog"]).clips) == 1
    with pytest.raises(DataError, match="no image of the split has one of the classes"):
        ImageNetDET(tmp_path, "train", ["car"])
