"""simt.h itself: that it runs what CUDA C++ says, and reports what is wrong or beyond it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from simt import simt_build
from simt.simt_build import SimtError

REFUSED = simt_build.HERE / "kernels" / "refused"
UNSET = -12345  # what an output holds that no thread has written

Run = Callable[..., np.ndarray]


@pytest.fixture
def run(planted: ModuleType) -> Run:
    """`run(name, input, output shape, block, ...)` gives the output."""

    def run(name, values, shape, block, *, grid=(1, 1, 1), shared=0, dtype=None, start=UNSET):
        output = np.full(shape, start, dtype or values.dtype)
        planted.run(name, values, output, grid, block, shared)
        return output

    return run


@pytest.fixture(params=["forward", "reversed", "1", "2"])
def order(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HPVOD_SIMT_ORDER", request.param)
    return request.param


def random_ints(count: int, low: int = -1000, high: int = 1000) -> np.ndarray:
    return np.random.default_rng(count).integers(low, high, count, dtype=np.int32)


# Grids, blocks and built-in types.


@pytest.mark.parametrize(
    ("grid", "block"),
    [
        ((5, 1, 1), (7, 1, 1)),
        ((2, 3, 1), (4, 5, 1)),
        ((2, 3, 4), (3, 4, 5)),
        ((1, 1, 1), (32, 32, 1)),
    ],
)
def test_every_thread_knows_its_place(run: Run, order: str, grid, block) -> None:
    threads, blocks = int(np.prod(block)), int(np.prod(grid))
    output = run("coordinates", random_ints(1), (blocks * threads, 6), block, grid=grid)
    # np.indices counts the last axis fastest, so along z, y, x.
    places = np.indices((*grid[::-1], *block[::-1])).reshape(6, -1)
    np.testing.assert_array_equal(output, places[[5, 4, 3, 2, 1, 0]].T)


def test_threads_that_return_early(run: Run, order: str) -> None:
    output = run("early_return", np.array([70], np.int32), 128, (64, 1, 1), grid=(2, 1, 1))
    expected = np.full(128, UNSET)
    expected[:32], expected[32:64], expected[64:70] = 32, 32 + 3200, 6 + 6400
    np.testing.assert_array_equal(output, expected)


def test_vector_types(run: Run) -> None:
    values = np.random.default_rng(0).standard_normal((64, 4)).astype(np.float32)
    output = run("vectors", values, (64, 4), (64, 1, 1))
    np.testing.assert_array_equal(output[:, 0], values[:, :2].min(1))
    np.testing.assert_array_equal(output[:, 1], values[:, 2:].max(1))
    np.testing.assert_array_equal(output[:, 2:], np.tile([2 + 4 + 32, 4 + 8], (64, 1)))


def test_conversions_saturate_and_a_nan_loses(run: Run) -> None:
    values = np.array([1.5, 2.5, -1.5, 1e30, -1e30, np.inf, -np.inf, np.nan], np.float32)
    output = run("conversions", values, (8, 5), (8, 1, 1), dtype=np.int32)
    least, most = -(2**31), 2**31 - 1
    np.testing.assert_array_equal(output[:, 0], [1, 2, -2, most, least, most, least, 0])
    np.testing.assert_array_equal(output[:, 1], [2, 2, -2, most, least, most, least, 0])
    np.testing.assert_array_equal(output[:, 2], [1, 2, -1, most, least, most, least, 0])
    np.testing.assert_array_equal(output[:, 3].view(np.float32), np.fmin(values, 1))
    np.testing.assert_array_equal(output[:, 4].view(np.float32), np.fmax(values, 1))


def test_bits(run: Run) -> None:
    values = np.array([0, 1, 0x80000000, 0xFFFFFFFF, 0x00F0F000], np.uint32)
    output = run("bits", values, (5, 6), (5, 1, 1), dtype=np.int32)
    for value, row in zip(values.tolist(), output.tolist(), strict=True):
        first = (value & -value).bit_length()
        assert row[:3] == [value.bit_count(), first, 32 - value.bit_length()]
        wide = 20 if value else 0
        assert row[3:] == [value.bit_count(), first + wide, 64 - value.bit_length() - wide]


# Shared memory and barriers.


@pytest.mark.parametrize("dtype", ["float", "double"])
def test_static_and_dynamic_shared_memory(run: Run, order: str, dtype: str) -> None:
    numpy_dtype = np.float32 if dtype == "float" else np.float64
    tiles = np.random.default_rng(1).integers(-9, 9, (3, 32, 32)).astype(numpy_dtype)
    output = run(
        f"transpose_{dtype}",
        tiles,
        tiles.shape,
        (32, 32, 1),
        grid=(3, 1, 1),
        shared=32 * tiles.itemsize,
    )
    expected = tiles.transpose(0, 2, 1) + tiles.sum(1)[:, :, None]
    np.testing.assert_array_equal(output, expected)


def test_each_instantiation_has_its_own_shared_variable(run: Run, order: str) -> None:
    values = random_ints(64)
    output = run("instantiations", values, 64, (64, 1, 1))
    np.testing.assert_array_equal(output, 11 * values[::-1])


def test_shared_memory_is_poisoned_for_every_block(run: Run) -> None:
    output = run("poison", np.zeros(1, np.float32), (5, 2), (1, 1, 1), grid=(5, 1, 1), shared=4)
    assert np.isnan(output).all()


def test_shared_memory_is_aligned_as_declared(run: Run) -> None:
    np.testing.assert_array_equal(run("alignment", random_ints(1), 3, (1, 1, 1)), 0)


@pytest.mark.parametrize("values", [[0] * 40, [1] * 40, [5, 0, -1, 2] * 10])
def test_barriers_that_reduce(run: Run, order: str, values: list[int]) -> None:
    output = run("reductions", np.array(values, np.int32), (40, 3), (40, 1, 1))
    count = np.count_nonzero(values)
    np.testing.assert_array_equal(output, np.tile([count, count == 40, count > 0], (40, 1)))


@pytest.mark.parametrize("threads", [1, 64, 1024])
def test_many_barriers(run: Run, order: str, threads: int) -> None:
    values = random_ints(4 * threads)
    output = run("tree_sum", values, 4, (threads, 1, 1), grid=(4, 1, 1), shared=4 * threads)
    np.testing.assert_array_equal(output, values.reshape(4, threads).sum(1))


def test_a_missing_barrier_shows_when_threads_run_in_another_order(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = random_ints(64)
    expected = np.concatenate([values[:1], values[:-1]])
    np.testing.assert_array_equal(run("missing_barrier", values, 64, (64, 1, 1)), expected)
    monkeypatch.setenv("HPVOD_SIMT_ORDER", "reversed")
    reversed_output = run("missing_barrier", values, 64, (64, 1, 1))
    np.testing.assert_array_equal(reversed_output[1:], -1)  # the poison
    monkeypatch.setenv("HPVOD_SIMT_ORDER", "3")
    shuffled_output = run("missing_barrier", values, 64, (64, 1, 1))
    assert 0 < np.count_nonzero(shuffled_output == -1) < 64


# Warps.


@pytest.mark.parametrize("dtype", ["int", "float", "double", "int64"])
def test_shuffles(run: Run, order: str, dtype: str) -> None:
    numpy_dtype = {"int": np.int32, "float": np.float32, "double": np.float64, "int64": np.int64}
    values = np.random.default_rng(2).integers(-(10**9), 10**9, 32).astype(numpy_dtype[dtype])
    output = run(f"shuffles_{dtype}", values, (32, 6, 4), (32, 1, 1))
    for lane in range(32):
        for row, width in enumerate([1, 2, 4, 8, 16, 32]):
            first = lane // width * width
            last = first + width - 1
            source = [
                first + 5 % width,
                lane - 3 if lane - 3 >= first else lane,
                lane + 3 if lane + 3 <= last else lane,
                lane ^ 6 if lane ^ 6 <= last else lane,
            ]
            np.testing.assert_array_equal(output[lane, row], values[source])


@pytest.mark.parametrize("zeros", [0.0, 0.5, 1.0])
def test_votes_of_diverged_lanes(run: Run, order: str, zeros: float) -> None:
    values = (np.random.default_rng(3).random(32) >= zeros).astype(np.int32) * 7
    output = run("votes", values, (32, 4), (32, 1, 1))
    for lane in range(32):
        group = range(lane % 2, 32, 2)
        ballot = sum(1 << i for i in group if values[i])
        assert output[lane, :1].view(np.uint32) == ballot
        assert output[lane, 1] == any(values[i] for i in group)
        assert output[lane, 2] == all(values[i] for i in group)
        assert output[lane, 3] == -1


@pytest.mark.parametrize("threads", [1, 31, 32, 33, 100, 1024])
def test_sum_over_a_block_with_a_partial_warp(run: Run, order: str, threads: int) -> None:
    values = random_ints(3 * threads).astype(np.float32)  # their sums are exact
    output = run("warp_sum", values, 3, (threads, 1, 1), grid=(3, 1, 1))
    np.testing.assert_array_equal(output, values.reshape(3, threads).sum(1))


def test_a_lane_that_does_not_exist_has_no_value(run: Run) -> None:
    values = np.arange(40, dtype=np.float32)
    output = run("missing_lane", values, 40, (40, 1, 1))
    expected = np.arange(1, 41, dtype=np.float32)
    expected[31], expected[39] = 31, np.nan
    np.testing.assert_array_equal(output, expected)


def test_syncwarp_orders_shared_memory(run: Run, order: str) -> None:
    values = random_ints(64)
    output = run("warp_exchange", values, 64, (64, 1, 1))
    np.testing.assert_array_equal(output, values.reshape(2, 32)[:, ::-1].ravel())


# Atomics.


@pytest.mark.parametrize("dtype", ["int", "unsigned", "unsigned64"])
def test_integer_atomics(run: Run, order: str, dtype: str) -> None:
    kind = {"int": np.int32, "unsigned": np.uint32, "unsigned64": np.uint64}[dtype]
    limits = np.iinfo(kind)
    values = np.random.default_rng(4).integers(limits.min, limits.max, 96, dtype=kind)
    output = np.array([0, limits.max, limits.min, -1 if limits.min else limits.max] + [0] * 6, kind)
    output = run(f"atomics_{dtype}", values, 10, (48, 1, 1), grid=(2, 1, 1), start=output)
    expected = [
        values.sum(dtype=kind),
        values.min(),
        values.max(),
        np.bitwise_and.reduce(values),
        np.bitwise_or.reduce(values),
        *(0, 7, 0, 9, 9),
    ]
    np.testing.assert_array_equal(output, np.array(expected, kind))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_atomic_sums(run: Run, dtype: type) -> None:
    values = random_ints(1000).astype(dtype)  # their sums are exact
    name = "atomic_sum_float" if dtype == np.float32 else "atomic_sum_double"
    output = run(name, values, 1, (100, 1, 1), grid=(10, 1, 1), start=0)
    assert output[0] == values.sum()


def test_the_last_block_sees_what_all_have_written(run: Run, order: str) -> None:
    values = random_ints(50)
    output = run("last_block", values, 52, (33, 1, 1), grid=(50, 1, 1), start=0)
    assert output[51] == values.sum()


# Faults that the scheduler sees.


# The lines are those that faults.cu marks by name.
FAULTS = {
    "barrier_after_return": [
        "divergent barrier in kernel",
        "barrier_after_return(int const*, int*), block (1,0,0)",
        "at __syncthreads at faults.cu:{early}: 32 threads, (0,0,0)-(31,0,0)",
        "returned: 32 threads, (32,0,0)-(63,0,0)",
    ],
    "two_barriers": [
        "divergent barrier in kernel",
        "two_barriers(int const*, int*), block (0,0,0)",
        "at __syncthreads at faults.cu:{first}: 2 threads, (3,0,0), (5,0,0)",
        "at __syncthreads at faults.cu:{second}: 62 threads, "
        "(0,0,0)-(2,0,0), (4,0,0), (6,0,0)-(63,0,0)",
    ],
    "shuffle_after_return": [
        "divergent warp in kernel",
        "shuffle_after_return(int const*, int*), block (0,0,0)",
        "returned: 36 threads, (0,0,0)-(31,0,0), (40,0,0)-(43,0,0)",
        "in __shfl_xor_sync at faults.cu:{shuffle} with mask 0xffffffff: 28 threads, "
        "(32,0,0)-(39,0,0), (44,0,0)-(63,0,0)",
    ],
    "ballot_against_barrier": [
        "divergent barrier in kernel",
        "ballot_against_barrier(int const*, int*), block (0,0,0)",
        "in __ballot_sync at faults.cu:{ballot} with mask 0xffffffff: 16 threads, (0,0,0)-(15,0,0)",
        "at __syncthreads at faults.cu:{after}: 48 threads, (16,0,0)-(63,0,0)",
    ],
    "mask_without_caller": [
        "__any_sync at faults.cu:{any}: the mask 0x0000ffff does not name lane 16, which calls it",
        "mask_without_caller(int const*, int*), block (0,0,0), thread (16,0,0)",
    ],
    "shuffle_width": ["__shfl_sync at faults.cu:{width}: width 12; kernel", "thread (0,0,0)"],
    "nested_launch": [
        "launches a kernel (dynamic parallelism); kernel",
        "nested_launch(int const*",
    ],
    "too_much_shared": ["more than 49152 bytes of shared memory; kernel", "too_much_shared(float"],
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_reported(run: Run, name: str) -> None:
    with pytest.raises(RuntimeError) as error:
        run(name, random_ints(64), 64, (64, 1, 1), grid=(2, 1, 1))
    source = (simt_build.HERE / "kernels" / "faults.cu").read_text(encoding="utf-8").splitlines()
    lines = {line.split("// line ")[-1]: number for number, line in enumerate(source, 1)}
    for words in FAULTS[name]:
        assert words.format_map(lines) in str(error.value)
    # The report has no effect on what runs next.
    np.testing.assert_array_equal(run("alignment", random_ints(1), 3, (1, 1, 1)), 0)


@pytest.mark.parametrize(
    ("grid", "block", "shared", "reason"),
    [
        ((0, 1, 1), (1, 1, 1), 0, "at least 1 thread"),
        ((1, 70000, 1), (1, 1, 1), 0, "at most 2^31-1 x 65535 x 65535 blocks"),
        ((1, 1, 1), (32, 33, 1), 0, "at most 1024 threads"),
        ((1, 1, 1), (1, 1, 65), 0, "64 along z"),
        ((1, 1, 1), (1, 1, 1), 50000, "at most 48 KiB of shared memory"),
    ],
)
def test_launch_beyond_a_limit_of_cuda(run: Run, grid, block, shared, reason: str) -> None:
    with pytest.raises(RuntimeError) as error:
        run("coordinates", random_ints(1), 1, block, grid=grid, shared=shared)
    assert "simt: invalid launch" in str(error.value)
    assert reason in str(error.value)
    assert "coordinates" in str(error.value)


def test_a_write_outside_a_buffer_is_found_without_sanitizer(run: Run) -> None:
    with pytest.raises(RuntimeError, match="wrote outside a buffer"):
        run("write_before_global", random_ints(64), 64, (64, 1, 1))


# Faults that the sanitizers see. They end the process, so each has its own.


SANITIZED = {
    "read_past_global": ["use-after-poison", "READ of size 4", "thread (63,0,0)"],
    "write_before_global": ["use-after-poison", "WRITE of size 4", "thread (0,0,0)"],
    "static_overflow": ["heap-buffer-overflow", "WRITE of size 4", "thread (31,0,0)"],
    "dynamic_overflow": ["heap-buffer-overflow", "WRITE of size 4", "thread (63,0,0)"],
    "misaligned": ["misaligned address", "which requires 16 byte alignment"],
    "huge_float_to_int": ["is outside the range of representable values"],
}


@pytest.mark.parametrize("name", SANITIZED)
def test_fault_is_reported_by_a_sanitizer(sanitized_planted: Path, name: str) -> None:
    dtype = "float32" if "float" in name else "int32"
    done = simt_build.run_sanitized(
        sanitized_planted,
        "import numpy, planted\n"
        f"values = numpy.zeros(64, {dtype!r})\n"
        "output = numpy.zeros(64, 'int32')\n"
        f"planted.run({name!r}, values, output, (1, 1, 1), (64, 1, 1), 256)\n",
    )
    assert done.returncode != 0
    for words in [*SANITIZED[name], "faults.cu", name]:
        assert words in done.stderr


def test_correct_kernels_pass_the_sanitizers(sanitized_planted: Path) -> None:
    """Among them all that switches between fibers."""
    done = simt_build.run_sanitized(
        sanitized_planted,
        "import numpy, planted\n"
        "values = numpy.ones(1024, 'int32')\n"
        "total = numpy.zeros(1, 'int32')\n"
        "planted.run('tree_sum', values, total, (1, 1, 1), (1024, 1, 1), 4096)\n"
        "values = numpy.ones(100, 'float32')\n"
        "warps = numpy.zeros(1, 'float32')\n"
        "planted.run('warp_sum', values, warps, (1, 1, 1), (100, 1, 1), 0)\n"
        "print(total[0], warps[0])\n",
    )
    assert (done.returncode, done.stdout) == (0, "1024 100.0\n"), done.stderr


# What cannot run is refused by name.


@pytest.mark.parametrize(
    ("source", "place", "reason"),
    [
        ("inline_ptx", "inline_ptx.cu:3", "simt cannot run inline PTX"),
        ("cooperative_groups", "cooperative_groups.cu:1", "simt cannot run cooperative groups"),
        ("texture", "texture.cu:3", "simt cannot run textures"),
        ("dynamic_parallelism", "dynamic_parallelism.cu:5", "simt cannot run <<<>>>"),
        ("cluster", "cluster.cu:3", "simt cannot run thread-block clusters"),
        ("shared_pair", "shared_pair.cu:4", "one variable each"),
    ],
)
def test_refused_source(tmp_path: Path, source: str, place: str, reason: str) -> None:
    with pytest.raises(SimtError) as error:
        simt_build.compile_source(REFUSED / f"{source}.cu", tmp_path)
    assert place in str(error.value)
    assert reason in str(error.value)
    assert not list(tmp_path.iterdir())
