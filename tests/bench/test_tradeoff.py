from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bench import tradeoff
from bench.tradeoff_results import Area, Tradeoff
from bench.tradeoff_settings import Setting
from hpvod.config import ModelConfig
from hpvod.data import DataError
from hpvod.model import build_model
from hpvod.synthetic.classes import SYNTHETIC_CLASSES
from hpvod.synthetic.make import Order, make_data
from hpvod.weights import save_weights

SMALL = ["--intervals", "1", "2", "--partial-intervals", "2", "--windows", "1", "9"]
SMALL += ["--gammas", "0.2", "--taus", "0.5", "--keys", "2", "--device", "cpu"]
CLIPS, FRAMES = 2, 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two data sets, first and second, and two models, a and b."""
    root = tmp_path_factory.mktemp("tradeoff")
    for seed, name in enumerate(("first", "second")):
        make_data(root / name, Order(0, CLIPS, FRAMES, 0, (64, 80), 0, seed), 1)
    config = ModelConfig.preset("tiny")
    values = {"classes": SYNTHETIC_CLASSES, "short_side": 64, "long_side": 80}
    config = ModelConfig.from_json(json.dumps({**json.loads(config.to_json()), **values}))
    for seed, name in enumerate("ab"):
        model = build_model(config, seed)
        save_weights(model, root / f"{name}.safetensors")
    return root


def command(folder: Path, out: Path, *more: str) -> list[str]:
    models = [str(folder / f"{name}.safetensors") for name in "ab"]
    return [
        *(str(folder / name) for name in ("first", "second")),
        *("--weights", *models),
        *("--weights-lambda", f"0.5={models[1]}", f"0.1={models[0]}"),
        *("--out", str(out)),
        *SMALL,
        *more,
    ]


@pytest.fixture(scope="module")
def done(folder: Path) -> Path:
    out = folder / "out"
    assert tradeoff.main(command(folder, out)) == 0
    return out


def test_everything_is_measured_once(done: Path) -> None:
    found = Tradeoff.load(done / "points.json")
    assert len({point.place for point in found.points}) == len(found.points)
    (main, other), data = found.seeds, found.data
    assert data == ["first val", "second val"]
    assert found.lambdas == {main: 0.1, other: 0.5}
    by_setting = {
        str(point.place.setting): point
        for point in found.points
        if (point.place.weights, point.place.data) == (main, "first val")
    }
    for point in found.points:
        assert point.frames == CLIPS * FRAMES
        assert point.ms > 0 and point.gmac > 0
        assert 0 < point.key_share <= point.updated <= 1
        assert point.where["device"] == "cpu"
    per_frame = by_setting["per_frame"]
    same = by_setting["dff interval=1"]
    assert (same.ap, same.gmac) == (per_frame.ap, per_frame.gmac)
    assert by_setting["fgfa window=9"].gmac > by_setting["fgfa window=1"].gmac > per_frame.gmac
    for name in ("c1 interval=2", "dff interval=2", "non_recursive interval=2 keys=2"):
        assert by_setting[name].key_share == by_setting[name].updated == 2 / 3
        assert by_setting[name].gmac < per_frame.gmac
    assert by_setting["c2 interval=2 tau=0.5"].updated >= by_setting["c2 interval=2 tau=0"].updated
    assert by_setting["c1 interval=2"].ap == by_setting["non_recursive interval=2 keys=2"].ap
    assert found.area is not None
    assert len(found.area.shares) == len(found.area.keys) == FRAMES - 1
    # A share is a float32: 4 of 20 positions are a little more than 0.2.
    assert [share > 0.2 + 1e-6 for share in found.area.shares] == found.area.keys


def test_figures_and_tables(done: Path) -> None:
    for number in range(2, 8):
        assert (done / f"figure{number}.png").read_bytes().startswith(b"\x89PNG")
    table = (done / "orderings.md").read_text(encoding="utf-8")
    for method in ("per_frame", "dff", "fgfa", "c1", "c2", "c3", "oracle"):
        assert f"| {method} | " in table
    assert "of 4 |" in table


def test_only_what_is_missing_is_measured(
    folder: Path, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Tradeoff.load(done / "points.json")
    lost = [found.points.pop(0), found.points.pop()]
    found.save(tmp_path / "points.json")
    measured = []
    measure = tradeoff.measure

    def spy(place, *arguments):
        measured.append(place)
        return measure(place, *arguments)

    monkeypatch.setattr(tradeoff, "measure", spy)
    monkeypatch.setattr(tradeoff, "measure_area", lambda *_: pytest.fail("is there"))
    assert tradeoff.main(command(folder, tmp_path)) == 0
    assert set(measured) == {point.place for point in lost}
    again = Tradeoff.load(tmp_path / "points.json")
    assert {point.place for point in again.points} == {
        point.place for point in (*found.points, *lost)
    }


def test_points_are_saved_as_they_come(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = tradeoff.measure

    def interrupted(place, *arguments):
        if place.setting == Setting.of("c1"):
            raise KeyboardInterrupt
        return measure(place, *arguments)

    monkeypatch.setattr(tradeoff, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tradeoff.main(command(folder, tmp_path, "--only", "orderings"))
    found = Tradeoff.load(tmp_path / "points.json")
    assert {point.place.setting.method for point in found.points} == {"per_frame", "dff", "fgfa"}
    assert len(found.points) == 3 * 2  # of the first model


def test_points_of_other_models_go(folder: Path, done: Path, tmp_path: Path) -> None:
    found = Tradeoff.load(done / "points.json")
    found.save(tmp_path / "points.json")
    options = [str(folder / "first"), "--weights", str(folder / "b.safetensors")]
    options += ["--out", str(tmp_path), "--only", "orderings", *SMALL]
    assert tradeoff.main(options) == 0
    kept = Tradeoff.load(tmp_path / "points.json")
    assert kept.seeds == [found.seeds[1]]
    assert kept.points == [
        point
        for point in found.points
        if (point.place.weights, point.place.data) == (found.seeds[1], "first val")
    ]


def test_figure_2_alone_and_of_no_other_model(folder: Path, tmp_path: Path) -> None:
    def area(model: str, *only: str) -> Area | None:
        options = [str(folder / "first"), "--weights", str(folder / f"{model}.safetensors")]
        options += ["--out", str(tmp_path), *SMALL, "--only", *only]
        assert tradeoff.main(options) == 0
        return Tradeoff.load(tmp_path / "points.json").area

    first = area("a", "2")
    assert (tmp_path / "figure2.png").exists() and first is not None
    assert area("a", "orderings") == first
    assert area("b", "orderings") is None


def test_data_that_are_none_lose_no_point(folder: Path, done: Path, tmp_path: Path) -> None:
    (tmp_path / "points.json").write_bytes((done / "points.json").read_bytes())
    with pytest.raises(DataError, match="frist"):
        tradeoff.main(
            [
                str(folder / "frist"),
                "--weights",
                str(folder / "a.safetensors"),
                "--out",
                str(tmp_path),
            ]
        )
    assert (tmp_path / "points.json").read_bytes() == (done / "points.json").read_bytes()


def test_frames_of_another_size_are_skipped_by_all(folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "odd"
    shutil.copytree(folder / "first", data)
    make_data(tmp_path / "other", Order(0, CLIPS, FRAMES, 0, (96, 80), 0, 0), 1)
    last = sorted((data / "Data/VID/val").rglob("*.JPEG"))[-1].relative_to(data)
    annotation = Path(str(last).replace("Data", "Annotations")).with_suffix(".xml")
    for part in (last, annotation):
        shutil.copyfile(tmp_path / "other" / part, data / part)
    options = [str(data), "--weights", str(folder / "a.safetensors"), "--out", str(tmp_path)]
    assert tradeoff.main([*options, *SMALL, "--only", "orderings", "4"]) == 0
    found = Tradeoff.load(tmp_path / "points.json").points
    assert {point.frames for point in found} == {CLIPS * FRAMES - 1}


def test_draw_only_draws(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = done / "figure3.png"
    picture.unlink()
    assert tradeoff.main(["--draw", "--out", str(done)]) == 0
    assert picture.exists()
    assert "missing" not in capsys.readouterr().out


def test_draw_tells_what_is_missing(
    done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = Tradeoff.load(done / "points.json")
    found.points = [p for p in found.points if p.place.setting.method != "oracle"]
    found.area = None
    found.save(tmp_path / "points.json")
    assert tradeoff.main(["--draw", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "orderings: 4 points are missing" in printed
    assert "Figure 2: 1 points are missing" in printed
    assert "Figure 7: 3 points are missing" in printed
    assert {path.name for path in tmp_path.glob("*.png")} == {
        f"figure{number}.png" for number in (3, 4, 5, 6)
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["first", "--weights"], "expected at least one argument"),
        (["--weights", "a.safetensors"], "DATA and --weights are needed"),
        (["first", "--weights", "x", "--only", "8"], "invalid choice: '8'"),
        (["first", "--weights", "x", "--weights-lambda", "x"], "invalid _lambda value"),
    ],
)
def test_options(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        tradeoff.main(options)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--only", "2", "--clip", "2"], "--clip: first val has the clips 0 to 1, not 2"),
        (["--only", "2", "--split", "test"], "test.txt"),
        (["--only", "2", "--device", "tpu"], "tpu"),
    ],
)
def test_what_cannot_be_run(folder: Path, tmp_path: Path, more: list[str], message: str) -> None:
    with pytest.raises((ValueError, RuntimeError), match=message):
        tradeoff.main(command(folder, tmp_path, *more))


def test_data_sets_of_one_name(folder: Path, tmp_path: Path) -> None:
    first = str(folder / "first val")
    options = [first, first, "--weights", str(folder / "a.safetensors"), "--out", str(tmp_path)]
    with pytest.raises(ValueError, match="DATA: two data sets have the same name"):
        tradeoff.main(options)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"points": [{"place": 1}]}'])
def test_no_file_of_points(text: str, tmp_path: Path) -> None:
    path = tmp_path / "points.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"points.json: is not a file of tradeoff.py"):
        Tradeoff.load(path)
