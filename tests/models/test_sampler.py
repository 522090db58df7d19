from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

from hpvod.data import Clip, Frame
from hpvod.training.sampler import PairSampler


def data_of(clips, frames):
    return SimpleNamespace(
        clips=[
            Clip(f"{c}", tuple(Frame(Path(f"{c}/{f}"), None) for f in range(frames)))
            for c in range(clips)
        ]
    )


VIDEO, STILLS = data_of(3, 30), data_of(5, 1)


def number(frame):
    return int(frame.image.name)


def test_a_draw_depends_on_nothing_but_seed_position_and_attempt():
    one, other = PairSampler(VIDEO, STILLS, 7), PairSampler(VIDEO, STILLS, 7)
    forwards = [one.draw(i) for i in range(50)]
    backwards = [other.draw(i) for i in reversed(range(50))]
    assert forwards == backwards[::-1]
    assert forwards != [PairSampler(VIDEO, STILLS, 8).draw(i) for i in range(50)]
    assert one.draw(0) != one.draw(0, attempt=1)


def test_every_second_pair_is_a_still_image():
    draws = [PairSampler(VIDEO, STILLS, 0).draw(i) for i in range(40)]
    assert [draw.source for draw in draws] == ["video", "still"] * 20
    assert all(draw.key is draw.current for draw in draws[1::2])
    assert {PairSampler(VIDEO, None, 0).draw(i).source for i in range(40)} == {"video"}


def test_offsets_are_within_nine_and_clamped_to_the_clip():
    draws = [PairSampler(VIDEO, None, 0).draw(i) for i in range(3000)]
    inner = [d for d in draws if 9 <= number(d.current) <= 20]
    offsets = Counter(number(d.key) - number(d.current) for d in inner)
    assert set(offsets) == set(range(-9, 10))
    assert min(offsets.values()) > len(inner) / 19 / 2
    assert all(d.current.image.parent == d.key.image.parent for d in draws)


def test_masks_and_flips_are_drawn_evenly():
    draws = [PairSampler(VIDEO, None, 0).draw(i) for i in range(3000)]
    masks = Counter(d.mask for d in draws)
    assert all(900 < masks[mask] < 1100 for mask in ("predicted", "zeros", "ones"))
    assert 1400 < sum(d.flip for d in draws) < 1600
