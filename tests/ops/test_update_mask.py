"""update_mask through its public function: U, and its straight-through gradient."""

from __future__ import annotations

import math

import pytest
import torch
from ops.listed_cases import DTYPES
from torch import Tensor

from hpvod_ops import update_mask

# Around tau - 1, tau and tau + 1 for both thresholds, and what is no number.
VALUES = (-2.0, -1.5, -1.0, -0.5, -0.0, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, math.inf, -math.inf)


def around(dtype: torch.dtype) -> Tensor:
    """VALUES, NaN, and each value's neighbours."""
    values = torch.tensor(VALUES, dtype=dtype)
    up, down = (values.nextafter(values.new_tensor(end)) for end in (math.inf, -math.inf))
    return torch.cat((values, up, down, values.new_tensor([math.nan])))


@pytest.mark.parametrize("tau", [0.0, 0.5])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_is_one_up_to_tau(tau: float, dtype: torch.dtype, backend_device: torch.device) -> None:
    q = around(dtype)
    u = update_mask(q.to(backend_device), tau)
    assert u.dtype == dtype
    assert u.tolist() == [float(value <= tau) for value in q.tolist()]


@pytest.mark.parametrize("tau", [0.0, 0.5])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gradient_goes_straight_through(
    tau: float, dtype: torch.dtype, backend_device: torch.device
) -> None:
    """-1 where |Q - tau| <= 1, both ends included, and 0 elsewhere, whatever comes from above."""
    q = around(dtype).to(backend_device).requires_grad_()
    near = (q.detach() - tau).abs() <= 1
    grad_output = torch.arange(1.0, 1.0 + len(q), device=backend_device).to(dtype)
    grad_output = torch.where(near, grad_output, math.nan)
    (gradient,) = torch.autograd.grad(update_mask(q, tau), q, grad_output)
    assert gradient.dtype == dtype
    assert torch.equal(gradient, torch.where(near, -grad_output, 0))
    assert near[VALUES.index(1.0 + tau)]
    assert near[VALUES.index(-1.0 + tau)]


def test_tau_is_compared_in_the_dtype_of_q(backend_device: torch.device) -> None:
    """0.1 lies below float32's 0.1."""
    q = torch.tensor([0.1], device=backend_device)
    assert float(q) > 0.1
    assert float(update_mask(q, 0.1)) == 1.0


@pytest.mark.parametrize("shape", [(), (0,), (2, 1, 0, 3), (2, 1, 4, 5)])
def test_keeps_the_shape(shape: tuple[int, ...], backend_device: torch.device) -> None:
    q = torch.randn(shape, device=backend_device)
    assert update_mask(q).shape == shape
    if q.dim() > 1:
        assert torch.equal(update_mask(q.mT), update_mask(q).mT)


def test_trains_what_is_below_it(backend_device: torch.device) -> None:
    """Blending with U: dL/dQ = -(recomputed - propagated) * dL/dblend near tau."""
    q = torch.tensor([[-3.0, -0.5, 0.5, 3.0]], device=backend_device, requires_grad=True)
    recomputed, propagated = torch.randn(2, 4, device=backend_device)
    u = update_mask(q)
    (u * recomputed + (1 - u) * propagated).sum().backward()
    near = torch.tensor([False, True, True, False], device=backend_device)
    assert torch.equal(q.grad[0], torch.where(near, -recomputed + propagated, 0.0))


def test_compiles_in_one_graph(backend_device: torch.device) -> None:
    q = torch.randn(2, 1, 5, 7, device=backend_device, requires_grad=True)

    def blend(q: Tensor) -> Tensor:
        return update_mask(q * 2, 0.25) * 3

    compiled = torch.compile(blend, fullgraph=True)
    assert torch.equal(compiled(q), blend(q))
    gradients = [torch.autograd.grad(f(q).sum(), q)[0] for f in (compiled, blend)]
    assert torch.equal(*gradients)


class Mask(torch.nn.Module):
    def forward(self, q: Tensor) -> Tensor:
        return update_mask(q, 0.25)


def test_exports_with_dynamic_shapes(backend_device: torch.device) -> None:
    sizes = {2: torch.export.Dim("height", max=64), 3: torch.export.Dim("width", max=64)}
    example = torch.randn(1, 1, 5, 7, device=backend_device)
    program = torch.export.export(Mask(), (example,), dynamic_shapes=(sizes,))
    q = torch.randn(1, 1, 9, 4, device=backend_device)
    assert torch.equal(program.module()(q), update_mask(q, 0.25))


def test_bad_argument_is_named() -> None:
    with pytest.raises(TypeError, match=r"q must be float32, .*, not torch.int32"):
        update_mask(torch.zeros(2, 1, 3, 4, dtype=torch.int32))
