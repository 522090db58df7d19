from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

import hpvod_ops
from hpvod.synthetic import SYNTHETIC_CLASSES, make_clip, make_pair
from hpvod.synthetic.classes import draw_sprite
from hpvod.synthetic.clip import SyntheticClip
from hpvod.synthetic.draw import draw_scene
from hpvod.synthetic.motion import Course, Events
from hpvod.synthetic.scene import Scene

SIZE = (120, 160)


def scene(seed: int, frames: int = 12, size: tuple[int, int] = SIZE) -> Scene:
    return draw_scene(np.random.default_rng(seed), frames, *size)


def undegraded(drawn: Scene) -> Scene:
    return dataclasses.replace(drawn, shutter=0.0, exposure=Events(), defocus=Events(), noise=0.0)


@pytest.fixture(scope="module")
def clip() -> SyntheticClip:
    return make_clip(3, frames=10, size=SIZE)


def test_a_clip_has_what_it_promises(clip: SyntheticClip) -> None:
    assert clip.frames.shape == (10, *SIZE, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.owners.shape == (10, *SIZE)
    assert len(clip.annotations) == 10
    first = clip.annotations[0]
    assert first.size == SIZE
    assert [first.boxes.dtype, first.labels.dtype, first.tracks.dtype, first.occluded.dtype] == [
        np.float32,
        np.int64,
        np.int64,
        bool,
    ]


def test_a_seed_decides_everything(clip: SyntheticClip) -> None:
    again, other = make_clip(3, frames=10, size=SIZE), make_clip(4, frames=10, size=SIZE)
    np.testing.assert_array_equal(clip.frames, again.frames)
    np.testing.assert_array_equal(clip.owners, again.owners)
    assert (clip.frames != other.frames).mean() > 0.5


def test_a_seed_sequence_is_not_used_up() -> None:
    sequence = np.random.SeedSequence(5).spawn(2)[1]
    one, two = make_pair(sequence, SIZE), make_pair(sequence, SIZE)
    np.testing.assert_array_equal(one.first, two.first)
    np.testing.assert_array_equal(one.flow, two.flow)
    assert sequence.n_children_spawned == 0


@pytest.mark.parametrize("seed", range(4))
def test_boxes_are_the_extents_of_masks_within_the_image(seed: int) -> None:
    clip = make_clip(seed, frames=4, size=SIZE)
    height, width = SIZE
    for annotation, owners in zip(clip.annotations, clip.owners, strict=True):
        assert len(annotation.boxes) == len(set(annotation.tracks.tolist()))
        for box, label, track in zip(
            annotation.boxes, annotation.labels, annotation.tracks, strict=True
        ):
            rows, columns = np.nonzero(owners == track + 1)
            assert box.tolist() == [columns.min(), rows.min(), columns.max(), rows.max()]
            assert 0 <= box[0] <= box[2] <= width - 1
            assert 0 <= box[1] <= box[3] <= height - 1
            assert label == clip.scene.objects[track].label < len(SYNTHETIC_CLASSES)


def placed(front: tuple[float, float], back: tuple[float, float]) -> Scene:
    """Two still squares of side 40, one before the other."""
    drawn = scene(0)
    square = SYNTHETIC_CLASSES.index("striped_square")
    sprite = next(
        item.sprite
        for item in (o for seed in range(99) for o in scene(seed).objects)
        if item.label == square
    )
    objects = []
    for x, y in (back, front):
        course = Course((x, y), (0.0, 0.0), (-1000.0, -1000.0), (1000.0, 1000.0))
        motion = dataclasses.replace(
            drawn.objects[0].motion,
            course=course,
            side=40.0,
            swing=0.0,
            angle=0.0,
            spin=0.0,
            pose=Events(),
        )
        objects.append(dataclasses.replace(drawn.objects[0], sprite=sprite, motion=motion))
    return dataclasses.replace(drawn, objects=tuple(objects))


@pytest.mark.parametrize(
    ("shift", "tracks", "occluded"),
    [
        (60, [0, 1], [False, False]),
        (36, [0, 1], [False, False]),  # by a twentieth
        (20, [0, 1], [True, False]),  # by half
        (6, [1], [False]),  # a sixth is left to see
    ],
)
def test_occlusion(shift: int, tracks: list[int], occluded: list[bool]) -> None:
    annotation = placed(front=(50 + shift, 60), back=(50, 60)).annotation(0)
    assert annotation.tracks.tolist() == tracks
    assert annotation.occluded.tolist() == occluded


@pytest.mark.parametrize(("x", "tracks"), [(-5, [0, 1]), (-14, [1])])
def test_an_object_mostly_outside_the_image_has_no_box(x: int, tracks: list[int]) -> None:
    annotation = placed(front=(100, 60), back=(x, 60)).annotation(0)
    assert annotation.tracks.tolist() == tracks
    assert not annotation.occluded.any()  # an edge is no occluder


def warped(image: np.ndarray, flow: np.ndarray) -> np.ndarray:
    def batch(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).float().permute(2, 0, 1)[None].contiguous()

    return hpvod_ops.warp(batch(image), batch(flow))[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("seed", range(6))
def test_flow_takes_image_2_back_to_image_1(seed: int) -> None:
    sharp = undegraded(scene(seed, size=(160, 200)))
    start, end = 2, 5
    first, second = sharp.image(start).astype(np.float32), sharp.image(end)
    flow = sharp.flow(start, end)
    # Where the same thing is seen at both moments, as are all the pixels between which the warp
    # interpolates: an edge belongs to two things.
    visible = np.ones(flow.shape[:2], bool)
    owners, owners_end = sharp.owners(start), sharp.owners(end)
    for track in range(len(sharp.objects) + 1):
        mask = (owners_end == track).astype(np.float32)[..., None]
        visible &= (owners != track) | (warped(mask, flow)[..., 0] == 1)
    assert visible.mean() > 0.3

    def error(shift: tuple[float, float]) -> np.ndarray:
        there = warped(second, flow + np.array(shift, np.float32))
        return np.asarray(abs(there - first).mean(axis=2)[visible])

    exact = error((0, 0))
    assert np.median(exact) < 1.5
    assert exact.mean() < 3
    for shift in ((0.7, 0), (-0.7, 0), (0, 0.7), (0, -0.7)):
        assert error(shift).mean() > 1.5 * exact.mean()


def test_flow_of_known_motions() -> None:
    still = placed(front=(100, 60), back=(50, 60))
    objects = list(still.objects)
    motion = objects[1].motion
    course = dataclasses.replace(motion.course, velocity=(3.0, -2.0))
    objects[1] = dataclasses.replace(objects[1], motion=dataclasses.replace(motion, course=course))
    moving = dataclasses.replace(still, objects=tuple(objects))
    flow = moving.flow(0, 2)
    np.testing.assert_allclose(flow[60, 100], [6, -4], atol=1e-4)
    np.testing.assert_allclose(flow[45, 85], [6, -4], atol=1e-4)
    np.testing.assert_allclose(flow[60, 50], [0, 0], atol=1e-4)
    assert flow.dtype == np.float32


def test_blur_and_defocus_come_and_go() -> None:
    """Detail is lost near an event, and only there."""
    drawn = undegraded(scene(1))
    event = Events((6.0,), (3.0,), (0.02,))

    def detail(image: np.ndarray) -> float:
        return float(abs(np.diff(image.astype(np.float32), axis=1)).mean())

    defocused = dataclasses.replace(drawn, defocus=event)
    assert detail(defocused.image(6)) < 0.8 * detail(drawn.image(6))
    np.testing.assert_array_equal(defocused.image(0), drawn.image(0))


def test_motion_blur_is_the_mean_along_the_motion() -> None:
    still = undegraded(placed(front=(100, 60), back=(50, 60)))

    def with_front(start: float, velocity: float) -> Scene:
        back, front = still.objects
        course = front.motion.course
        course = dataclasses.replace(
            course, start=(course.start[0], course.start[1] + start), velocity=(0.0, velocity)
        )
        front = dataclasses.replace(front, motion=dataclasses.replace(front.motion, course=course))
        return dataclasses.replace(still, objects=(back, front))

    inside = slice(54, 67), slice(86, 115)  # where the square is all the time, not the background
    blurred = dataclasses.replace(with_front(0, 24.0), shutter=1.0).image(0)[inside]
    # 24 pixels in 12 exposures.
    exposures = [with_front(2 * k - 11, 0.0).image(0)[inside].astype(float) for k in range(12)]
    np.testing.assert_allclose(blurred, np.mean(exposures, axis=0), atol=1)
    assert abs(blurred - with_front(0, 0.0).image(0)[inside].astype(float)).mean() > 2


def test_events_peak_and_end() -> None:
    events = Events((4.0, 6.0), (2.0, 4.0), (1.0, 0.5))
    assert events(4) == 1.0
    assert events(6) == 0.5
    assert events(10) == pytest.approx(0, abs=1e-12)
    assert Events()(3) == 0


def test_a_course_turns_at_the_sides() -> None:
    course = Course((8.0, 5.0), (1.0, 0.0), (0.0, 0.0), (10.0, 10.0))
    assert [course(t).tolist() for t in (0, 2, 4, 12, 14)] == [
        [8, 5],
        [10, 5],
        [8, 5],
        [0, 5],
        [2, 5],
    ]


def test_slow_medium_and_fast_objects_each_have_a_fifth_of_the_boxes() -> None:
    """FGFA's groups: by the mean IoU of an object's box with its own within 10 frames."""
    ious = []
    for seed in range(60):
        drawn = scene(seed, frames=21, size=(96, 128))
        frames = [drawn.annotation(time) for time in range(21)]
        for track in frames[10].tracks:
            boxes = np.concatenate([frame.boxes[frame.tracks == track] for frame in frames])
            own = frames[10].boxes[frames[10].tracks == track]
            corners = [torch.from_numpy(each) + torch.tensor([0, 0, 1, 1]) for each in (own, boxes)]
            ious.append(float(box_iou(*corners).mean()))
    groups = np.digitize(ious, (0.7, 0.9))
    shares = np.bincount(groups, minlength=3) / len(groups)
    assert shares.min() > 0.2


@pytest.mark.parametrize("name", SYNTHETIC_CLASSES)
def test_a_sprite_fills_its_square_and_has_two_colours(name: str) -> None:
    rgba = np.frombuffer(draw_sprite(name, 128, np.random.default_rng(0)).tobytes(), np.uint8)
    rgba = rgba.reshape(128, 128, 4)
    rows, columns = np.nonzero(rgba[..., 3] >= 128)
    assert np.ptp(rows) > 0.8 * 128 / 1.1
    assert np.ptp(columns) > 0.8 * 128 / 1.1
    assert not rgba[[0, -1]].any()
    assert (rgba[..., :3] <= rgba[..., 3:]).all()
    light = rgba[rgba[..., 3] == 255][:, :3].mean(axis=1)
    assert 0.2 < (light > light.mean()).mean() < 0.8


def test_a_camera_never_sees_beyond_the_background() -> None:
    for seed in range(20):
        drawn = scene(seed)
        bare = dataclasses.replace(undegraded(drawn), objects=())
        width, height = drawn.background.size
        for time in range(0, 100, 10):
            corners = np.array([[0, 0, 1], [159, 0, 1], [0, 119, 1], [159, 119, 1]]).T
            x, y, _ = np.linalg.inv(bare.camera(time)) @ corners
            assert 0 <= x.min() <= x.max() <= width - 1
            assert 0 <= y.min() <= y.max() <= height - 1


def test_a_pair_has_flow() -> None:
    pair = make_pair(0, SIZE)
    assert pair.first.shape == pair.second.shape == (*SIZE, 3)
    assert pair.flow.shape == (*SIZE, 2)
    assert np.isfinite(pair.flow).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frames": 0}, "frames must be 1 or more, not 0"),
        ({"size": (63, 80)}, r"size: each side must be 64 or more, not \(63, 80\)"),
    ],
)
def test_errors(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_clip(0, **arguments)  # type: ignore[arg-type]
