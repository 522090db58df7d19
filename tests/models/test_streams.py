"""Several streams in one batch: each gets what it gets alone."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from hpvod.detector import VideoDetector
from hpvod.method import PRESETS
from hpvod.model import build_model
from hpvod.transfer import ToHost

from .moving import CONFIG, SIZES, moving_frames, unchanged

SIZE = SIZES[1]  # 80 x 116 in the network
SAME_IN_THE_NETWORK = (150, 218)


@pytest.fixture(scope="module")
def model():
    """In float64: no rounding can swap detections."""
    return build_model(CONFIG, seed=1).double()


def clips(count):
    """Of different lengths and cuts, and of two sizes that the network sees as one."""
    return [
        moving_frames(
            4 + 3 * (i % 3), *(SAME_IN_THE_NETWORK if i % 4 == 1 else SIZE), cuts=(2 + i,), seed=i
        )
        for i in range(count)
    ]


def alone(model, method, frames):
    return list(VideoDetector(model, method, consistency=unchanged(25)).run(frames))


def detector_of(model, method, batch):
    return VideoDetector(model, method, batch=batch, consistency=unchanged(25))


def assert_same(results, others):
    assert len(results) == len(others) > 0
    for a, b in zip(results, others, strict=True):
        assert (a.index, a.time, a.is_key, a.updated) == (b.index, b.time, b.is_key, b.updated)
        assert (a.mask is None) == (b.mask is None)
        assert a.mask is None or torch.equal(a.mask, b.mask)
        assert len(a.boxes) == len(b.boxes) > 10
        # Two units in the last place of a float32: of a score, of a coordinate near 218.
        torch.testing.assert_close(a.scores, b.scores, rtol=2.4e-7, atol=0)
        torch.testing.assert_close(a.boxes, b.boxes, rtol=0, atol=6.2e-5)
        assert torch.equal(a.labels, b.labels)


def collected(runs, count):
    results = [[] for _ in range(count)]
    for number, result in runs:
        results[number].append(result)
    return results


@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize("name", PRESETS)
def test_a_batch_of_streams_gives_what_each_gives_alone(model, name, batch):
    method = PRESETS[name]
    if method.window:
        method = dataclasses.replace(method, window=2)
    if method.interval > 1:
        method = dataclasses.replace(method, interval=4)
    videos = clips(7)
    results = collected(detector_of(model, method, batch).run_all(videos), len(videos))
    keys = set()
    for found, frames in zip(results, videos, strict=True):
        assert_same(found, alone(model, method, frames))
        keys.add(tuple(result.is_key for result in found))
    if name == "c3":
        assert len(keys) > 3  # key frames of their own


def test_streams_that_rest(model):
    """Key frames come at different moments, and a stream that rests stays as it was."""
    method = dataclasses.replace(PRESETS["c2"], interval=3)
    videos = clips(3)
    detector = detector_of(model, method, 3)
    results = [[], [], []]
    places = [0, 0, 0]
    for step in range(40):
        frames = []
        for stream, video in enumerate(videos):
            goes = (step + stream) % (stream + 1) == 0 and places[stream] < len(video)
            frames.append(video[places[stream]] if goes else None)
            places[stream] += goes
        found = detector.step_all(frames, times=[step / 10] * 3)
        for stream, result in enumerate(found):
            assert (result is None) == (frames[stream] is None)
            if result is not None:
                assert result.time == step / 10
                results[stream].append(dataclasses.replace(result, time=None))
    for found, frames in zip(results, videos, strict=True):
        assert_same(found, alone(model, method, frames))


def test_a_stream_may_begin_anew(model):
    detector = detector_of(model, PRESETS["c3"], 2)
    first, second, third = clips(3)
    for frames in zip(first[:4], second[:4], strict=True):
        detector.step_all(frames)
    detector.reset(0)
    found = [detector.step_all(frames) for frames in zip(third[:3], second[4:7], strict=True)]
    assert_same([pair[0] for pair in found], alone(model, PRESETS["c3"], third[:3]))
    assert_same([pair[1] for pair in found], alone(model, PRESETS["c3"], second)[4:7])


def failing(frames, error):
    yield from frames
    raise error


@pytest.mark.parametrize("name", ["c3", "fgfa"])
def test_a_video_that_fails_concerns_no_other(model, name):
    method = PRESETS[name]
    if method.window:
        method = dataclasses.replace(method, window=2)
    videos = clips(4)
    broken = [
        failing(videos[0][:3], OSError("cable")),
        videos[1],
        [videos[2][0], "no frame"],
        moving_frames(2, 80, 112),  # another size in the network
        videos[3],
    ]
    errors = {}
    detector = detector_of(model, method, 2)
    results = collected(detector.run_all(broken, on_error=errors.__setitem__), len(broken))
    assert_same(results[0], alone(model, method, videos[0][:3]))
    assert_same(results[1], alone(model, method, videos[1]))
    assert_same(results[2], alone(model, method, videos[2][:1]))
    assert results[3] == []
    assert_same(results[4], alone(model, method, videos[3]))
    assert set(errors) == {0, 2, 3}
    assert str(errors[0]) == "cable"
    assert str(errors[2]).startswith("frame: expected uint8 RGB")
    assert str(errors[3]) == (
        "frame 0: is 80x112 (height x width) in the network's input, but the other streams are "
        "80x116"
    )


@pytest.mark.parametrize("name", ["c3", "fgfa", "per_frame"])
def test_results_may_be_collected_a_turn_later(model, name, monkeypatch):
    """As on a GPU: the same results in the same order, and all that came before an error."""

    def torn():
        return failing(clips(2)[1][:3], OSError("torn"))

    def run():
        failed, results = [], []
        detector = detector_of(model, PRESETS[name], 2)
        for number, result in detector.run_all(
            [clips(1)[0], torn(), clips(3)[2]], on_error=lambda *error: failed.append(error[0])
        ):
            results.append((number, result.index, len(result.boxes), result.scores.tolist()))
        with pytest.raises(OSError, match="torn"):
            for number, result in detector.run_all([torn()]):
                results.append((number, result.index, len(result.boxes), result.scores.tolist()))
        assert failed == [1]
        return results

    class Copied(ToHost):
        def __init__(self, tensors):
            super().__init__([each.clone() for each in tensors])

    at_once = run()
    monkeypatch.setattr("hpvod.detector._turns_ahead", lambda device: 1)
    monkeypatch.setattr("hpvod.detector.ToHost", Copied)
    assert sorted(run()) == sorted(at_once)
    assert len(at_once) == 4 + 3 + 10 + (0 if name == "fgfa" else 3)


def test_without_a_handler_an_error_is_raised(model):
    with pytest.raises(OSError, match="cable"):
        list(detector_of(model, PRESETS["c3"], 2).run_all([failing([], OSError("cable"))]))


def test_a_handler_may_end_it_all(model):
    def stop(number, error):
        raise error

    runs = detector_of(model, PRESETS["c3"], 2).run_all([["no frame"]], on_error=stop)
    with pytest.raises(ValueError, match="expected uint8 RGB"):
        list(runs)


def test_no_videos_and_empty_videos(model):
    detector = detector_of(model, PRESETS["c3"], 2)
    assert list(detector.run_all([])) == []
    (frames,) = clips(1)
    results = collected(detector.run_all([[], frames, [], []]), 4)
    assert [len(found) for found in results] == [0, len(frames), 0, 0]


def test_nothing_happens_where_all_rest(model):
    detector = detector_of(model, PRESETS["c3"], 2)
    assert detector.step_all([None, None]) == [None, None]
    assert detector._loop is None


def test_sizes_must_agree_within_a_batch(model):
    detector = detector_of(model, PRESETS["c3"], 2)
    small, large = moving_frames(1, 80, 112)[0], moving_frames(1, *SIZE)[0]
    message = r"frame 0: is 80x116 .* but the other streams are 80x112"
    with pytest.raises(ValueError, match=message):
        detector.step_all([small, large])
    # Nothing has begun: another size may.
    assert all(result.index == 0 for result in detector.step_all([large, large]))


@pytest.mark.parametrize(("frames", "times"), [([None], None), ([None, None], [0.0])])
def test_as_many_frames_as_streams(model, frames, times):
    message = r"frames: expected one \(or None\) for each of 2 streams, got"
    with pytest.raises(ValueError, match=message):
        detector_of(model, PRESETS["c3"], 2).step_all(frames, times)


@pytest.mark.parametrize("batch", [0, -1])
def test_no_streams(model, batch):
    with pytest.raises(ValueError, match=f"batch: expected at least 1 stream, got {batch}"):
        VideoDetector(model, PRESETS["c3"], batch=batch)
