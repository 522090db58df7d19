"""How long the evaluation of ImageNet VID takes: `python bench/evaluation.py`.

Draws annotations and detections as numerous as those of VID's validation set and evaluates them, in
all motion groups, without a model or an image.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path

import numpy as np
import torch

# Last, so that the hpvod that is installed is measured and not the sources beside this file.
sys.path.append(str(Path(__file__).parents[1]))

from bench import machine
from hpvod.data.clip import FloatArray
from hpvod.evaluation.columns import Detections, Truth
from hpvod.evaluation.table import Results, results_of

_FRAMES = 176_126  # of VID's validation set
_CLASSES = 30
_TRUE_BOXES = 1.55  # a frame, on the average
_SIZE = (1280, 720)


def main(arguments: list[str] | None = None) -> None:
    """Prints how long the evaluation took, and the most memory that the process had."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--frames", type=int, default=_FRAMES, help=f"({_FRAMES})")
    parser.add_argument("--boxes", type=int, default=300, help="detections a frame (300)")
    options = parser.parse_args(arguments)
    truth, detections = draw(options.frames, options.boxes)
    start = time.perf_counter()
    results = evaluate(truth, detections, options.frames)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    where = machine.device_name(torch.device("cpu"))
    means = ", ".join(f"{group} {100 * ap:.1f}" for group, ap in results.mean.items())
    print(
        f"{options.frames} frames, {len(detections.frames)} detections, {len(truth.frames)} boxes: "
        f"{seconds:.1f} s, at most {peak:.2f} GiB, mAP {means} ({where})"
    )


def draw(frames: int, boxes: int, seed: int = 0) -> tuple[Truth, Detections]:
    """Annotations, and of each frame `boxes` detections.

    The first of these are about where the annotated boxes are, with higher scores, and mostly of
    their class.
    """
    generator = np.random.default_rng(seed)
    true_frames = np.sort(generator.integers(0, frames, round(_TRUE_BOXES * frames)))
    true_boxes = _boxes(generator, len(true_frames))
    truth = Truth(
        frames=true_frames.astype(np.int32),
        labels=generator.integers(0, _CLASSES, len(true_frames)).astype(np.int16),
        boxes=true_boxes,
        motion=generator.random(len(true_frames), np.float32),
    )
    count = frames * boxes
    detections = Detections(
        frames=np.repeat(np.arange(frames, dtype=np.int32), boxes),
        labels=generator.integers(0, _CLASSES, count, np.int16),
        scores=generator.random(count, np.float32) ** 8,
        boxes=_boxes(generator, count),
    )
    # Each annotated box has the next free row of its frame.
    place = np.arange(len(true_frames)) - np.searchsorted(true_frames, true_frames)
    listed = place < boxes
    rows = true_frames[listed] * boxes + place[listed]
    size = true_boxes[listed, 2:] - true_boxes[listed, :2]
    moves = generator.normal(0, 0.05, (len(rows), 4)).astype(np.float32)
    detections.boxes[rows] = true_boxes[listed] + moves * np.concatenate((size, size), axis=1)
    right = generator.random(len(rows)) < 0.9
    detections.labels[rows[right]] = truth.labels[listed][right]
    detections.scores[rows] = 0.5 + 0.5 * generator.random(len(rows), np.float32)
    return truth, detections


def evaluate(truth: Truth, detections: Detections, frames: int) -> Results:
    """The results of all frames."""
    classes = [f"class {number}" for number in range(_CLASSES)]
    return results_of(detections, truth, np.ones(frames, np.bool_), classes)


def _boxes(generator: np.random.Generator, count: int) -> FloatArray:
    size = np.array(_SIZE, np.float32)
    boxes = np.empty((count, 4), np.float32)
    sides = generator.random((count, 2), np.float32) ** 2 * (size - 10) + 8
    boxes[:, :2] = generator.random((count, 2), np.float32) * (size - sides)
    boxes[:, 2:] = boxes[:, :2] + sides
    return boxes


if __name__ == "__main__":
    main()
