"""update_plan through its public function, in the backend of each device."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from ops.update_plan_cases import KINDS, contents, literal_plan, random_inputs
from torch import Tensor

from hpvod_ops import PixelSet, UpdatePlan, update_mask, update_plan

CASES = 108
SETS = (
    PixelSet("active", 4, 19, 27),
    PixelSet("halo", 4, 19, 27),
    PixelSet("halo", 1, 5, 7, dilation=6),
    PixelSet("reached", 8, 40, 56),
    PixelSet("inactive", 2, 10, 13),
)


@pytest.mark.parametrize("index", range(CASES))
def test_is_what_the_definition_says(index: int, backend_device: torch.device) -> None:
    inputs = random_inputs(index, backend_device)
    plan = update_plan(inputs.q, inputs.tau, inputs.gamma, sets=inputs.sets, key=inputs.key)
    assert contents(plan) == literal_plan(inputs)


def test_refills_its_buffers(backend_device: torch.device) -> None:
    """Nothing of the frame before stays, fuller lists included."""
    plan = UpdatePlan.empty(2, 5, 7, SETS, backend_device)
    lists = dict(plan.lists)
    for level in (-3.0, 0.0, 3.0, -0.5, math.inf):
        q = torch.randn(2, 1, 5, 7, device=backend_device) + level
        assert update_plan(q, 0.0, 0.4, out=plan) is plan
        assert contents(plan) == contents(update_plan(q, 0.0, 0.4, sets=SETS))
    assert plan.lists == lists


def test_a_new_plan_lists_nothing(backend_device: torch.device) -> None:
    plan = UpdatePlan.empty(2, 5, 7, SETS, backend_device)
    assert plan.counts.tolist() == [0] * len(SETS)
    assert [tuple(each.indices.shape) for each in plan.lists.values()] == [
        (2 * each.height * each.width,) for each in SETS
    ]


@pytest.mark.parametrize(
    ("changed", "gamma", "is_key"),
    [(29, 0.29, False), (30, 0.29, True), (7, 0.07, False), (100, 1.0, False), (0, 0.0, False)],
)
def test_a_share_that_equals_gamma_is_no_key_frame(
    changed: int, gamma: float, is_key: bool, backend_device: torch.device
) -> None:
    """Eq. 9 as it is written, on numbers whose product with gamma rounds to either side."""
    q = (torch.arange(100) >= changed).float().view(1, 1, 10, 10).to(backend_device)
    plan = update_plan(q, 0.0, gamma, sets=())
    assert plan.changed.tolist() == [changed]
    assert plan.is_key.tolist() == [is_key]
    assert int(plan.mask.sum()) == (100 if is_key else changed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("tau", [0.1, 0.3, -0.7])
def test_u_is_that_of_update_mask(
    tau: float, dtype: torch.dtype, backend_device: torch.device
) -> None:
    """Tau is no number of the dtype: both compare with the one next to it."""
    number = torch.tensor(tau, dtype=dtype)
    values = [number.nextafter(number.new_tensor(end)) for end in (-math.inf, math.inf)]
    q = torch.stack([values[0], number, values[1]]).view(1, 1, 1, 3).to(backend_device)
    plan = update_plan(q, tau, 1.0, sets=())
    assert plan.mask.flatten().tolist() == [True, True, False]
    assert torch.equal(plan.mask, update_mask(q, tau).bool())


def test_strides_of_q_and_key_do_not_matter(backend_device: torch.device) -> None:
    q = torch.randn(2, 1, 7, 5, device=backend_device).mT
    key = torch.tensor([True, True, False], device=backend_device)[::2]
    plan = update_plan(q, 0.0, 0.4, sets=SETS, key=key)
    assert contents(plan) == contents(
        update_plan(q.contiguous(), 0.0, 0.4, sets=SETS, key=key.contiguous())
    )


@pytest.mark.parametrize("shape", [(0, 1, 4, 5), (2, 1, 0, 5), (2, 1, 4, 0)])
def test_empty(shape: tuple[int, ...], backend_device: torch.device) -> None:
    sets = [PixelSet(kind, 2, 2 * shape[2], 2 * shape[3]) for kind in KINDS]
    plan = update_plan(torch.randn(shape, device=backend_device), 0.0, 0.0, sets=sets)
    assert plan.counts.tolist() == [0] * 4
    assert plan.changed.tolist() == [0] * shape[0]
    assert plan.is_key.tolist() == [False] * shape[0]


def test_lists_keep_to_their_places(kernel_device: torch.device) -> None:
    """With room between them, which nothing writes to."""
    plan = UpdatePlan.empty(2, 5, 7, SETS, kernel_device)
    gap, layout = 5, list(plan.layout)
    for number in range(len(SETS)):
        layout[6 * number + 5] += gap * (number + 1)
    pixels = torch.full((plan.pixels.numel() + gap * (len(SETS) + 1),), -7, dtype=torch.int32)
    plan = dataclasses.replace(plan, pixels=pixels.to(kernel_device), layout=tuple(layout))
    between = torch.ones(len(pixels), dtype=torch.bool)
    for each, offset in zip(SETS, layout[5::6], strict=True):
        between[offset : offset + 2 * each.height * each.width] = False
    for level in (-9.0, 0.0, 9.0):
        q = torch.randn(2, 1, 5, 7, device=kernel_device) + level
        update_plan(q, 0.0, 0.9, out=plan)
        assert (plan.pixels.cpu()[between] == -7).all()
        expected = contents(update_plan(q, 0.0, 0.9, sets=SETS))["lists"]
        for number, (each, offset) in enumerate(zip(SETS, layout[5::6], strict=True)):
            count = int(plan.counts[number])
            assert plan.pixels[offset : offset + count].tolist() == expected[each]


def test_result_does_not_depend_on_the_threads() -> None:
    inputs = random_inputs(7, torch.device("cpu"))
    threads, plans = torch.get_num_threads(), []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        plans.append(contents(update_plan(inputs.q, inputs.tau, 0.9, sets=inputs.sets)))
    torch.set_num_threads(threads)
    assert plans[0] == plans[1] == plans[2]


@pytest.mark.parametrize("with_key", [False, True])
def test_opcheck(with_key: bool, overload: str, kernel_device: torch.device) -> None:
    plan = UpdatePlan.empty(2, 5, 7, SETS, kernel_device)
    for buffer in (plan.mask, plan.is_key, plan.changed, plan.pixels):
        buffer.zero_()
    q = torch.randn(2, 1, 5, 7, device=kernel_device)
    key = torch.tensor([True, False], device=kernel_device) if with_key else None
    buffers = (plan.mask, plan.is_key, plan.changed, plan.pixels, plan.counts)
    torch.library.opcheck(
        getattr(torch.ops.hpvod.update_plan, overload), (q, 0.0, 0.4, key, plan.layout, *buffers)
    )


@pytest.mark.gpu
@pytest.mark.parametrize("kernel_backend", ["cuda", "triton"], indirect=True)
def test_runs_in_a_cuda_graph(kernel_device: torch.device) -> None:
    """Nothing waits for the device, and a replay takes all sizes from it."""
    q = torch.randn(2, 1, 5, 7, device=kernel_device)
    plan = update_plan(q, 0.0, 0.4, sets=SETS)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        update_plan(q, 0.0, 0.4, out=plan)
    for level in (-3.0, 0.5, 3.0):
        q.copy_(torch.randn(2, 1, 5, 7) + level)
        graph.replay()
        assert contents(plan) == contents(update_plan(q, 0.0, 0.4, sets=SETS))


Q = torch.zeros(2, 1, 4, 5)
PLAN = UpdatePlan.empty(2, 4, 5, (), "cpu")
KEY = torch.zeros(2, dtype=torch.bool)
ACTIVE = PixelSet("active", 2, 8, 10)


@pytest.mark.parametrize(
    ("q", "arguments", "error", "message"),
    [
        (Q[0], {"sets": ()}, ValueError, r"q must be \[N, 1, h, w\], not \[1, 4, 5\]"),
        (Q.expand(2, 3, 4, 5), {"sets": ()}, ValueError, r"q must be \[N, 1, h, w\], not \[2, 3"),
        (Q.int(), {"sets": ()}, RuntimeError, "torch.int32 is not supported"),
        (Q, {}, TypeError, "needs sets, to list, or out"),
        (Q, {"sets": (), "out": PLAN}, TypeError, "takes sets, to list, or out, .* not both"),
        (Q[:1], {"out": PLAN}, ValueError, r"out is a plan for a q of \[2, 1, 4, 5\], not \[1"),
        (Q, {"out": UpdatePlan.empty(2, 4, 5, (), "meta")}, ValueError, "out is on meta, but q is"),
        (Q, {"sets": (), "key": KEY.int()}, TypeError, "key must be torch.bool, not torch.int32"),
        (Q, {"sets": (), "key": KEY[:1]}, ValueError, r"key must be \[2\], .*, not \[1\]"),
        (Q, {"sets": (), "key": KEY.to("meta")}, ValueError, "key is on meta, but q is on cpu"),
        (Q, {"sets": [ACTIVE, ACTIVE]}, ValueError, "sets: PixelSet.* is there twice"),
        (Q, {"sets": [ACTIVE] * 17}, ValueError, "sets: at most 16, not 17"),
        (Q, {"sets": [ACTIVE._replace(kind="x")]}, ValueError, "sets: .* is of no kind"),
        (Q, {"sets": [ACTIVE._replace(ratio=0)]}, ValueError, "sets: .* needs a ratio"),
        (Q, {"sets": [ACTIVE._replace(dilation=0)]}, ValueError, "sets: .* dilation above 0"),
        (Q, {"sets": [ACTIVE._replace(height=-1)]}, ValueError, "sets: .* no size below 0"),
        (Q[:, :, :0], {"sets": [ACTIVE]}, ValueError, r"sets: .* has pixels, but Q is \[0, 5\]"),
    ],
)
def test_bad_argument_is_named(
    q: Tensor, arguments: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        update_plan(q, 0.0, 0.2, **arguments)


def test_is_for_inference_only() -> None:
    q = torch.zeros(2, 1, 4, 5, requires_grad=True)
    with pytest.raises(RuntimeError, match="update_plan is for inference only, but q requires"):
        update_plan(q, 0.0, 0.2, sets=())
    with torch.no_grad():
        update_plan(q, 0.0, 0.2, sets=())


@pytest.mark.parametrize(
    ("index", "value", "message"),
    [
        (0, Q[0], "q must be"),
        (0, Q.int(), "q must be"),
        (3, KEY.int(), "key must be bool"),
        (4, (0, 1, 1, 4, 5), "sets must be six integers each"),
        (4, (0, 1, 1, 4, 5, 0) * 17, "sets must be six integers each, and at most 16 sets"),
        (4, (4, 1, 1, 4, 5, 0), "set 0 is not"),
        (4, (0, 0, 1, 4, 5, 0), "set 0 is not"),
        (4, (0, 1, 1, 4, 5, 1), "set 0 is not .* with room for all its pixels"),
        (4, (0, 1, 1, 4, 5, -1), "set 0 is not"),
        (5, PLAN.mask[:1], "mask must be bool, of q's shape"),
        (5, PLAN.mask.int(), "mask must be bool, of q's shape"),
        (6, KEY.int(), "is_key must be bool"),
        (7, torch.zeros(1, dtype=torch.int32), "changed must be int32"),
        (8, torch.zeros(40, dtype=torch.int64), "pixels must be int32"),
        (9, torch.zeros(2, dtype=torch.int32), "counts must be int32"),
    ],
)
def test_the_schema_itself_is_safe(index: int, value: object, message: str) -> None:
    """torch.ops.hpvod.update_plan can be called without the public function's checks."""
    pixels = torch.zeros(40, dtype=torch.int32)
    arguments = [Q, 0.0, 0.2, KEY, (0, 1, 1, 4, 5, 0), PLAN.mask, PLAN.is_key, PLAN.changed]
    arguments += [pixels, torch.zeros(1, dtype=torch.int32)]
    torch.ops.hpvod.update_plan(*arguments)
    arguments[index] = value
    with pytest.raises(RuntimeError, match=message):
        torch.ops.hpvod.update_plan(*arguments)
