from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from rich.console import Console

from bench import (
    contest,
    masked_conv,
    masked_conv2d,
    masked_max_pool2d,
    report,
    sparse_network,
    update_plan,
    updates,
    warp_pixels,
)
from bench.contest import WrongResultError
from bench.masked_conv2d import Case, Layer
from bench.operations import operation_counter
from hpvod_ops import PixelList, PixelSet, pack_conv2d, use_backend
from hpvod_ops import masked_conv2d_ as convolve_

CPU = torch.device("cpu")
SIZE = (96, 140)  # 6 x 9 positions
LAYERS = (
    Layer("3x3", 3, 5, 7, (11, 17), 2),
    Layer("1x1", 1, 6, 4, (6, 9), 1, residual=True),
    Layer("dilated", 3, 3, 5, (6, 9), 1, dilation=2),
)
TIMES = {"dense channels_last": 8.0, "dense contiguous": 10.0, "cpu": 2.0, "reference": 16.0}


@pytest.fixture(scope="module", autouse=True)
def _small_and_never_timed() -> Iterator[None]:
    """Results are checked as ever, but every time is made up, and nothing is compiled."""
    caches = (
        updates.updates,
        masked_conv2d._inputs,
        sparse_network._model,
        sparse_network._network,
    )

    def forget() -> None:
        for cache in (*caches, update_plan.network_sets):
            cache.cache_clear()

    forget()
    with pytest.MonkeyPatch.context() as patch:
        for module in (updates, sparse_network, update_plan):
            patch.setattr(module, "SIZE", SIZE)
        patch.setattr(sparse_network, "_MODEL", "tiny")
        patch.setattr(masked_max_pool2d, "_SIZE", (48, 70))
        patch.setattr(masked_max_pool2d, "_PIXELS", PixelSet("active", 4, 24, 35))
        patch.setattr(masked_conv2d, "LAYERS", LAYERS)
        patch.setattr(masked_conv, "LAYERS", LAYERS)
        patch.setattr(contest, "BACKENDS", ("cpu", "reference"))  # no Triton interpreter
        patch.setattr(torch, "compile", lambda function, dynamic: function)
        patch.setattr(contest, "copy_bandwidth", lambda device, moved, sets: 1e3)
        patch.setattr(contest, "matrix_rate", lambda device, dtype: 1e3)
        patch.setattr(
            contest,
            "median_times",
            lambda runs, *_, **__: {name: TIMES.get(name, 40) for name in runs},
        )
        yield
    forget()


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
@pytest.mark.parametrize("density", [0.2, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_of_a_layer(layer: Layer, density: float, dtype: torch.dtype) -> None:
    case = Case(layer, density, 2, dtype)
    rows = contest.measure(masked_conv2d.contest(case, CPU, ["cpu", "reference"]))
    assert [row.backend for row in rows] == ["cpu", "reference"]
    for row in rows:
        assert row.shape == (2, layer.inputs, *layer.size)
        assert row.more["layer"] == layer.name
        assert set(row.peers) == {"dense", "torch.compile", "gathered"}
        assert row.peers["dense"] == 8 and row.more["peer_variants"]["dense"] == "channels_last"
        assert row.more["updated"] == pytest.approx(round(density * 54) / 54)
        assert row.more["efficiency"] == 8 / row.ms * row.more["density"]
    # The last column and row of positions have one pixel of the 3x3 layer each, not two.
    assert rows[0].more["density"] == pytest.approx(density, abs=0.02)


def test_equal_rate_counts_what_lies_inside_the_map() -> None:
    layer = Layer("layer", 3, 1, 1, (5, 7), 1, dilation=2)
    ones = torch.ones(1, 1, *layer.size)
    products = F.conv2d(ones, torch.ones(1, 1, 3, 3), padding=2, dilation=2)
    for density in (0.2, 1.0):
        pixels = masked_conv2d._Pixels(Case(layer, density, 1, torch.float32), CPU)
        expected = products.sum() / products[pixels.mask].sum() * pixels.density
        assert pixels.equal_rate() == pytest.approx(float(expected))


def test_floor_is_of_what_the_mask_leaves() -> None:
    layer = LAYERS[2]
    pixels = masked_conv2d._Pixels(Case(layer, 0.3, 1, torch.float32), CPU)
    active = {tuple(place) for place in pixels.mask[0, 0].nonzero().tolist()}
    assert len(active) == 16
    taps = [
        (y + i, x + j)
        for y, x in active
        for i in (-2, 0, 2)
        for j in (-2, 0, 2)
        if 0 <= y + i < 6 and 0 <= x + j < 9
    ]
    assert pixels.operations() == 2 * len(taps) * 3 * 5
    elements = 9 * 3 * 5 + len(set(taps)) * 3 + 16 * 5
    assert pixels.bytes_moved(torch.float32) == 4 * elements + 4 * 16
    (row,) = contest.measure(
        masked_conv2d.contest(Case(layer, 0.3, 1, torch.float32), CPU, ["cpu"])
    )
    assert row.floor_ms == max(pixels.operations(), pixels.bytes_moved(torch.float32)) / 1e3


@pytest.mark.parametrize("place", ["listed", "elsewhere"])
def test_wrong_convolution_is_not_timed(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(out, x, weight, pixels, **settings):
        convolve_(out, x, weight, pixels, **settings)
        listed = torch.zeros(out[:, 0].numel(), dtype=torch.bool)
        listed[pixels.indices[: int(pixels.count)]] = True
        index = int((listed if place == "listed" else ~listed).nonzero()[-1])
        out.permute(0, 2, 3, 1).view(-1, out.shape[1])[index, 0] += 1e-4
        return out

    monkeypatch.setattr(masked_conv2d, "masked_conv2d_", wrong)
    case = Case(LAYERS[0], 0.2, 1, torch.float32)
    with pytest.raises(WrongResultError, match="masked_conv2d by cpu, float32"):
        contest.measure(masked_conv2d.contest(case, CPU, ["cpu"]))


def test_peer_that_convolves_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "index_copy_", lambda out, *_: out)
    case = Case(LAYERS[0], 0.2, 1, torch.float32)
    with pytest.raises(WrongResultError, match="the peer gathered is off by"):
        contest.measure(masked_conv2d.contest(case, CPU, ["cpu"]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(
    "pixels",
    [PixelSet("halo", 4, 24, 35), PixelSet("halo", 1, 6, 9, 2), PixelSet("inactive", 1, 6, 9)],
)
def test_rows_of_warp_pixels(pixels: PixelSet, dtype: torch.dtype) -> None:
    case = warp_pixels.Case("layer", 6, pixels, 2, dtype)
    (row,) = contest.measure(warp_pixels.contest(case, CPU, ["cpu"]))
    assert set(row.peers) == {"grid_sample", "embedding_bag"}
    assert row.more["layer"] == "layer" and "efficiency" not in row.more
    if pixels.kind == "inactive":
        assert row.more["density"] == pytest.approx(1 - 5 / 54)


@pytest.mark.parametrize("density", [0.1, 1.0])
def test_rows_of_masked_max_pool2d(density: float) -> None:
    case = masked_max_pool2d.Case(density, 1, torch.float32)
    (row,) = contest.measure(masked_max_pool2d.contest(case, CPU, ["cpu"]))
    assert row.more["error"] == 0
    assert row.more["efficiency"] == 8 / 2 * row.more["density"]


def test_rows_of_update_plan() -> None:
    case = update_plan.Case(0.1, 2, torch.float32)
    (row,) = contest.measure(update_plan.contest(case, CPU, ["cpu"]))
    assert row.shape == (2, 1, 6, 9) and row.peers == {"eager": 40}
    assert row.more["density"] == pytest.approx(5 / 54)
    kinds = {(each.kind, each.ratio, each.dilation) for each in update_plan.network_sets()}
    assert {("active", 4, 1), ("halo", 1, 6), ("inactive", 1, 1), ("reached", 8, 1)} <= kinds


def test_wrong_plan_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(q, tau, gamma, **where):
        plan = right(q, tau, gamma, **where)
        plan.pixels[:2] = plan.pixels[:2].flip(0)
        return plan

    right = update_plan.update_plan
    measured = update_plan.contest(update_plan.Case(0.1, 1, torch.float32), CPU, ["cpu"])
    monkeypatch.setattr(update_plan, "update_plan", wrong)
    with pytest.raises(WrongResultError, match="update_plan by cpu"):
        contest.measure(measured)


@pytest.mark.parametrize("density", [0.1, 1.0])
def test_rows_of_the_network(density: float) -> None:
    case = sparse_network.Case(density, 1, torch.float32)
    measured = sparse_network.contest(case, CPU, ["cpu"])
    (row,) = contest.measure(measured)
    assert row.shape == (1, 3, *SIZE) and row.more["layer"] == "network"
    assert row.more["error"] < 1e-5
    assert row.peers == {"dense": 8} and row.more["efficiency"] == 4 * row.more["density"]
    with operation_counter() as counter:
        measured.peers["dense"]["channels_last"](0)
    share = measured.operations / counter.get_total_flops()
    assert share == pytest.approx(row.more["density"], abs=0 if density == 1 else 0.05)


def test_wrong_network_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = sparse_network.contest(sparse_network.Case(0.1, 1, torch.float32), CPU, ["cpu"])
    right = measured.backends["cpu"]

    def wrong(index: int):
        feature, embedding = right(index)
        return feature, embedding * (1 + 2e-4)

    measured = dataclasses.replace(measured, backends={"cpu": wrong})
    with pytest.raises(WrongResultError, match=r"sparse_network by cpu.* allowed 0.0001"):
        contest.measure(measured)


def test_operations_at_listed_pixels_are_counted() -> None:
    x, out = (torch.zeros(1, c, 4, 5).contiguous(memory_format=torch.channels_last) for c in (3, 7))
    pixels = PixelList(torch.arange(20, dtype=torch.int32), torch.tensor([6], dtype=torch.int32))
    with use_backend("cpu"), operation_counter() as counter:
        convolve_(out, x, pack_conv2d(torch.zeros(7, 3, 3, 3)), pixels, padding=1)
    assert counter.get_total_flops() == 2 * 6 * 7 * 3 * 9


def test_table_json_and_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "cpu_density.json"
    arguments = ["--device", "cpu", "--layers", "1x1", "--densities", "0.2", "1"]
    assert masked_conv.main([*arguments, "--json", str(target)]) == 0
    printed = capsys.readouterr().out
    assert "1x1" in printed and "3x3" not in printed and "sparse_network" in printed
    rows = json.loads(target.read_text(encoding="utf-8"))
    ops = ["update_plan"] * 2 + ["sparse_network"] * 2 + ["masked_conv2d"] * 2
    assert [row["op"] for row in rows] == ops
    assert [round(row["density"], 1) for row in rows] == [0.2, 1, 0.2, 1, 0.2, 1]
    with Image.open(target.with_suffix(".png")) as picture:
        assert picture.width > 1500
        assert picture.getchannel("A").getpixel((0, 0)) == 0  # a card with round corners


def test_what_was_measured_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    target = tmp_path / "cpu_density.json"
    monkeypatch.setattr(sparse_network, "contest", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        masked_conv.main(["--device", "cpu", "--densities", "1", "--json", str(target)])
    (row,) = json.loads(target.read_text(encoding="utf-8"))
    assert row["op"] == "update_plan"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--densities", "0"], "--densities: a share above 0, up to 1, is needed, not 0"),
        (["--densities", "10"], "--densities: a share above 0, up to 1, is needed, not 10"),
        (["--batches", "0"], "--batches: at least 1, not 0"),
        (["--layers", "5x5"], "--layers"),
    ],
)
def test_bad_options(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        masked_conv.main(arguments)
    assert exit_info.value.code == 2
    assert message in capsys.readouterr().err


def test_a_gpu_gets_more_dtypes_and_batches() -> None:
    options = masked_conv._parse(["--device", "cuda", "--no-network", "--densities", "0.1"])
    cases = [case for _, case in masked_conv._cases(options)]
    assert len(cases) == len(LAYERS) * 3 * 2
    assert {case.batch for case in cases} == {1, 8}
    assert {case.dtype for case in cases} == {torch.float32, torch.bfloat16, torch.float16}


def test_table_of_listed_pixels() -> None:
    case = Case(LAYERS[1], 0.5, 1, torch.float32)
    rows = contest.measure(masked_conv2d.contest(case, CPU, ["cpu"]))
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(report.sparse_table(rows))
    (line,) = (line for line in console.export_text().splitlines() if "1x1" in line)
    cells = [cell.strip() for cell in line.split("│")[1:-1]]
    assert cells[5:8] == ["50.0 %", "2.000", "2.000"]  # half of the pixels, 4 x as fast
    assert cells[9] == "4 x"
