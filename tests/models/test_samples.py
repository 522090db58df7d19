from __future__ import annotations

import dataclasses
import os
import signal

import numpy as np
import pytest
import torch
from PIL import Image

from hpvod.config import ModelConfig
from hpvod.data import Annotation, Clip, DataError, Frame
from hpvod.training.errors import TrainingError
from hpvod.training.sampler import PairSampler
from hpvod.training.samples import PairReader, batches

CONFIG = dataclasses.replace(ModelConfig.preset("tiny"), short_side=64, long_side=112)
HEIGHT, WIDTH = 40, 50  # 64 x 80 as the networks take it
BOX = (5, 10, 24, 29)
DARK, LIGHT = 40, 200


def annotation(size=(HEIGHT, WIDTH), boxes=(BOX,)):
    count = len(boxes)
    return Annotation(
        size,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.arange(count, dtype=np.int64),
        np.full(count, -1, np.int64),
        np.zeros(count, np.bool_),
    )


def draw_frame(path, box=BOX, size=(HEIGHT, WIDTH)):
    """A light box on dark ground."""
    pixels = np.full((*size, 3), DARK, np.uint8)
    x1, y1, x2, y2 = box
    pixels[y1 : y2 + 1, x1 : x2 + 1] = LIGHT
    Image.fromarray(pixels).save(path)
    return path


class Data:
    """One clip; the box is at another place in each frame."""

    classes = ("cat", "dog")

    def __init__(self, folder, count=4, **changes):
        boxes = [(5 + i, 10, 24 + i, 29) for i in range(count)]
        paths = [draw_frame(folder / f"{i}.png", box) for i, box in enumerate(boxes)]
        self.annotations = {
            path: annotation(**{"boxes": (box,)} | changes)
            for path, box in zip(paths, boxes, strict=True)
        }
        frames = tuple(Frame(path, None) for path in paths)
        self.clips = [Clip("clip", frames)]

    def annotation(self, frame):
        return self.annotations[frame.image]


def light_box(image):
    """x1, y1, x2, y2 of what is lighter than half."""
    mean = torch.tensor(CONFIG.pixel_mean)[:, None, None]
    lit = ((image + mean).mean(0) > (DARK + LIGHT) / 2).nonzero()
    (y1, x1), (y2, x2) = lit.amin(0).tolist(), lit.amax(0).tolist()
    return torch.tensor([x1, y1, x2, y2], dtype=torch.float32)


def test_boxes_are_scaled_and_mirrored_with_the_image(tmp_path):
    data = Data(tmp_path)
    read, sampler = PairReader(data, None, 0, CONFIG), PairSampler(data, None, 0)
    seen = set()
    for position in range(20):
        sample, draw = read(position, 0), sampler.draw(position)
        pair = sample.pair
        assert pair.current.shape == pair.key.shape == (3, 64, 80)
        assert pair.targets.labels.tolist() == [0]
        # A pixel of the frame is 1.6 of the image.
        (box,) = pair.targets.boxes
        assert (box - light_box(pair.current)).abs().max() <= 1.6
        expected = torch.from_numpy(data.annotation(draw.current).boxes)
        if draw.flip:
            x1, y1, x2, y2 = expected.unbind(1)
            expected = torch.stack((WIDTH - 1 - x2, y1, WIDTH - 1 - x1, y2), dim=1)
        torch.testing.assert_close(pair.targets.boxes, 1.6 * expected)
        assert pair.still == (draw.key is draw.current)
        assert torch.equal(pair.key, pair.current) == pair.still
        assert (sample.mask, sample.seed) == (draw.mask, draw.seed)
        seen.add((draw.flip, pair.still))
    assert len(seen) == 4


def test_a_frame_without_objects(tmp_path):
    sample = PairReader(Data(tmp_path, boxes=()), None, 0, CONFIG)(0, 0)
    assert sample.pair.targets.boxes.shape == (0, 4)
    assert sample.pair.targets.labels.dtype == torch.int64


def test_stills_are_their_own_key_frames(tmp_path):
    (tmp_path / "stills").mkdir()
    stills = Data(tmp_path / "stills", count=1)
    sample = PairReader(Data(tmp_path), stills, 0, CONFIG)(1, 0)
    assert sample.pair.still
    assert torch.equal(sample.pair.key, sample.pair.current)


def test_the_annotation_is_of_an_image_of_another_size(tmp_path):
    read = PairReader(Data(tmp_path, size=(HEIGHT, WIDTH + 1)), None, 0, CONFIG)
    message = rf"\d\.png: is of {WIDTH} x {HEIGHT} pixels and not {WIDTH + 1} x {HEIGHT} as its"
    with pytest.raises(DataError, match=message):
        read(0, 0)


def position_of_a_pair(data):
    return next(
        i for i in range(50) if (d := PairSampler(data, None, 0).draw(i)).key is not d.current
    )


def test_frames_of_a_clip_of_different_sizes(tmp_path):
    data = Data(tmp_path)
    position = position_of_a_pair(data)
    draw = PairSampler(data, None, 0).draw(position)
    draw_frame(draw.key.image, size=(HEIGHT, WIDTH + 10))
    message = rf"{draw.key.image}: is not of the size of {draw.current.image.name}$"
    with pytest.raises(DataError, match=message):
        PairReader(data, None, 0, CONFIG)(position, 0)


def test_an_image_that_cannot_be_read_is_named(tmp_path):
    data = Data(tmp_path)
    position = position_of_a_pair(data)
    key = PairSampler(data, None, 0).draw(position).key.image
    key.write_bytes(key.read_bytes()[:60])
    with pytest.raises(DataError, match=rf"^{key}: cannot be read as an image"):
        PairReader(data, None, 0, CONFIG)(position, 0)


def test_a_frame_that_is_too_thin_is_named(tmp_path):
    data = Data(tmp_path, size=(4, 90))
    for frame in data.clips[0].frames:
        Image.new("RGB", (90, 4)).save(frame.image)
    with pytest.raises(DataError, match=r"\d\.png: .*resizes to"):
        PairReader(data, None, 0, CONFIG)(0, 0)


def bad_at(position, attempt):
    if position == 3 and attempt < 2:
        raise DataError(f"{position}.png: damaged {attempt}")
    return 10 * position + attempt


@pytest.mark.parametrize("workers", [0, 1])
def test_what_cannot_be_used_is_replaced(workers):
    reads = list(batches(bad_at, [[0, 1], [2, 3]], workers))
    assert [[read.sample for read in batch] for batch in reads] == [[0, 10], [20, 32]]
    skipped = [read.skipped for batch in reads for read in batch]
    assert skipped == [(), (), (), ("3.png: damaged 0", "3.png: damaged 1")]


def all_bad(position, attempt):
    raise DataError(f"{position}.png: damaged")


@pytest.mark.parametrize("workers", [0, 1])
def test_nothing_can_be_used(workers):
    """One line from a worker as well, whose errors come with a traceback otherwise."""
    with pytest.raises(TrainingError) as caught:
        list(batches(all_bad, [[0]], workers))
    assert str(caught.value) == "20 samples in turn cannot be used; the last: 0.png: damaged"


def signalled(position, attempt):
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(os.getpid(), number)
    return position


def test_workers_outlive_the_signals_that_stop_a_run():
    """They reach a whole group of processes; the one that trains has to save first."""
    assert [read.sample for (read,) in batches(signalled, [[0], [1]], 1)] == [0, 1]


def test_no_iterations_are_left():
    assert list(batches(bad_at, [], 0)) == []


def test_the_reader_can_go_to_a_worker(tmp_path):
    reader = PairReader(Data(tmp_path), None, 0, CONFIG)
    [[read]] = batches(reader, [[5]], 1)
    assert torch.equal(read.sample.pair.current, reader(5, 0).pair.current)
