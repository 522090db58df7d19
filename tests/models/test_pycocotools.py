"""Average precision against pycocotools at IoU 0.5, where COCO's protocol and VID's coincide.

That is for boxes of 30 x 30 or more, and at recalls of k / G for the G boxes of a class, at which
COCO's precision is told to be read.
"""

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from hpvod.evaluation.average_precision import average_precisions
from hpvod.evaluation.columns import Detections, Truth

CLASSES, BOXES, FRAMES = 3, 40, 25


def xywh(box):
    x1, y1, x2, y2 = map(float, box)
    return [x1, y1, x2 - x1 + 1, y2 - y1 + 1]


def by_coco(detections, truth):
    ground = COCO()
    ground.dataset = {
        "images": [{"id": number} for number in range(1, FRAMES + 1)],
        "categories": [{"id": label} for label in range(1, CLASSES + 1)],
        "annotations": [
            {
                "id": number + 1,
                "image_id": int(truth.frames[number]) + 1,
                "category_id": int(truth.labels[number]) + 1,
                "bbox": xywh(box),
                "area": 1e4,
                "iscrowd": 0,
            }
            for number, box in enumerate(truth.boxes)
        ],
    }
    ground.createIndex()
    found = ground.loadRes(
        [
            {
                "image_id": int(detections.frames[number]) + 1,
                "category_id": int(detections.labels[number]) + 1,
                "bbox": xywh(box),
                "score": float(detections.scores[number]),
            }
            for number, box in enumerate(detections.boxes)
        ]
    )
    coco = COCOeval(ground, found, "bbox")
    coco.params.iouThrs = np.array([0.5])
    coco.params.recThrs = np.arange(1, BOXES + 1) / BOXES
    coco.params.maxDets = [300]
    coco.params.areaRng, coco.params.areaRngLbl = [[0, 1e10]], ["all"]
    coco.evaluate()
    coco.accumulate()
    return coco.eval["precision"][0, :, :, 0, 0].mean(0)


@pytest.mark.parametrize("seed", range(5))
def test_the_same_average_precisions(seed):
    random = np.random.default_rng(seed)
    count = CLASSES * BOXES
    corners = random.uniform(0, 200, (count, 2))
    boxes = np.concatenate((corners, corners + random.uniform(30, 120, (count, 2))), 1)
    truth = Truth(
        frames=random.integers(0, FRAMES, count).astype(np.int32),
        labels=np.repeat(np.arange(CLASSES), BOXES).astype(np.int16),
        boxes=boxes.astype(np.float32),
        motion=np.zeros(count, np.float32),
    )
    # Three detections around each box, some of them good, some of another class.
    near = np.repeat(boxes, 3, 0) + random.normal(0, 10, (3 * count, 4))
    near[:, 2:] = np.maximum(near[:, 2:], near[:, :2])
    labels = np.where(
        random.random(3 * count) < 0.8, np.repeat(truth.labels, 3), random.integers(0, CLASSES)
    )
    detections = Detections(
        frames=np.repeat(truth.frames, 3),
        labels=labels.astype(np.int16),
        scores=random.permutation(3 * count).astype(np.float32) / (3 * count),
        boxes=near.astype(np.float32),
    )
    with contextlib.redirect_stdout(io.StringIO()):
        expected = by_coco(detections, truth)
    every = {"all": np.ones(count, bool)}
    found = average_precisions(detections, truth, every, CLASSES)["all"]
    assert found == pytest.approx(expected, abs=1e-9)
    assert found.min() > 0.1 and found.max() < 0.9
