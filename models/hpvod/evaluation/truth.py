"""The annotations of a whole data set as columns."""

from __future__ import annotations

import numpy as np

from hpvod.data.clip import BoolArray, DataError, Dataset, FloatArray, IntArray
from hpvod.data.skipped import Skipped
from hpvod.evaluation.columns import Truth
from hpvod.evaluation.motion import motion_iou


def read_truth(dataset: Dataset, skipped: Skipped) -> tuple[Truth, BoolArray]:
    """All boxes of a data set, and which of its frames can be evaluated.

    Args:
        dataset: Its frames are numbered through all clips, in order.
        skipped: Is told of the frames whose annotation cannot be used.

    Returns:
        The boxes, and bool [frames], which frames' annotations were read.
    """
    sizes = [len(clip.frames) for clip in dataset.clips]
    usable = np.ones(sum(sizes), np.bool_)
    counts = np.zeros(len(usable), np.int64)
    boxes: list[FloatArray] = [np.zeros((0, 4), np.float32)]
    labels: list[IntArray] = [np.zeros(0, np.int64)]
    tracks: list[IntArray] = [np.zeros(0, np.int64)]
    for number, frame in enumerate(frame for clip in dataset.clips for frame in clip.frames):
        try:
            annotation = dataset.annotation(frame)
        except DataError as error:
            skipped.add(error)
            usable[number] = False
            continue
        counts[number] = len(annotation.labels)
        boxes.append(annotation.boxes)
        labels.append(annotation.labels)
        tracks.append(annotation.tracks)
    frames = np.repeat(np.arange(len(usable)), counts)
    clips = np.repeat(np.arange(len(sizes)), sizes)[frames]
    all_boxes = np.concatenate(boxes)
    all_tracks = np.concatenate(tracks)
    truth = Truth(
        frames=frames.astype(np.int32),
        labels=np.concatenate(labels).astype(np.int16),
        boxes=all_boxes,
        motion=motion_iou(clips, all_tracks, frames, all_boxes),
    )
    return truth, usable
