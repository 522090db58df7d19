"""An operation of PyTorch once more, its result written where it was."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._pytree import tree_leaves

from hpvod.packed_network import Convolution
from hpvod_ops import pack_conv2d

Step = Callable[[], object]

aten = torch.ops.aten
_ALLOCATING = {aten.empty, aten.empty_like, aten.empty_strided, aten.new_empty}
_CLEARING = {aten.zeros, aten.zeros_like, aten.new_zeros}
_COPYING = {aten.clone, aten._to_copy}
_CPU = torch._C.DispatchKey.CPU


def depends_on_values(func: OpOverload, args: tuple[Any, ...]) -> bool:
    """Whether what is done, or how large the result is, depends on what a tensor holds."""
    if func is aten.index.Tensor:
        indices = [each for each in args[1] if each is not None]
        return any(each.dtype in (torch.bool, torch.uint8) for each in indices)
    tags = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
    return bool(tags & set(func.tags))


def written_places(func: OpOverload) -> Iterator[int]:
    """Which arguments the operation writes to."""
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            yield place


def with_constants(func: OpOverload, args: tuple[Any, ...]) -> list[Any]:
    """The arguments, with tensors in place of numbers of which a call would make tensors."""
    beside = next((arg for arg in args if isinstance(arg, Tensor)), None)
    return [
        _constant(arg, beside)
        if beside is not None and isinstance(arg, int | float) and str(argument.type) == "Tensor"
        else arg
        for arg, argument in zip(args, func._schema.arguments, strict=False)
    ]


def _constant(number: float, beside: Tensor) -> Tensor | float:
    """The number as a tensor, where the operation then computes the same."""
    constant = torch.tensor(number, dtype=torch.result_type(beside, number))
    # Beside 16 bits, PyTorch computes with more of the number's digits.
    exact = constant.dtype not in (torch.float16, torch.bfloat16) or constant.item() == number
    return constant if exact else number


def run_again(
    func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, Step | None]:
    """The result of an operation that writes to no argument, and what computes it again in place.

    None in place of the second where the result is memory without values.
    """
    result = func(*args, **kwargs)
    if func.overloadpacket in _ALLOCATING:
        return result, None
    return result, _writing(func, args, kwargs, result)


def _writing(func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Step:
    if func.overloadpacket in _COPYING:
        return functools.partial(result.copy_, args[0])
    if func.overloadpacket in _CLEARING:
        return functools.partial(result.zero_)
    for overload in (_of_tensors(func), func):
        if (into := _out_overload(overload)) is not None:
            again = with_constants(into, args)
            if overload is not func and not isinstance(again[1], Tensor):
                continue
            targets = (result,) if isinstance(result, Tensor) else result
            names = [into._schema.arguments[place].name for place in written_places(into)]
            outs = dict(zip(names, targets, strict=True))
            return functools.partial(into, *again, **kwargs, **outs)
    if (in_place := _in_place_overload(func)) is not None:
        return lambda: in_place(result.copy_(args[0]), *args[1:], **kwargs)

    def compute_and_copy() -> None:
        computed = func(*args, **kwargs)
        for target, source in zip(tree_leaves(result), tree_leaves(computed), strict=True):
            target.copy_(source)

    return compute_and_copy


def _of_tensors(func: OpOverload) -> OpOverload:
    """The overload for a tensor in place of a number, of which a call would make one."""
    tensor: OpOverload = getattr(func.overloadpacket, "Tensor", func)
    return tensor if func._overloadname == "Scalar" else func


@functools.cache
def _out_overload(func: OpOverload) -> OpOverload | None:
    """The overload that takes the same arguments, and tensors to write the results to."""
    wanted = [(argument.name, str(argument.type)) for argument in func._schema.arguments]
    packets = [func.overloadpacket, _packet(func, "_out")]
    for packet in filter(None, packets):
        for name in packet.overloads():
            overload: OpOverload = getattr(packet, name)
            written = list(written_places(overload))
            read = [
                (argument.name, str(argument.type))
                for place, argument in enumerate(overload._schema.arguments)
                if place not in written
            ]
            # Without a kernel of its own, it would call the function and copy.
            if written and read == wanted and overload.has_kernel_for_dispatch_key(_CPU):
                return overload
    return None


def _packet(func: OpOverload, suffix: str) -> Any:
    """The operations of the name with a suffix, if there are any."""
    namespace, _, name = func._schema.name.partition("::")
    return getattr(getattr(torch.ops, namespace), name + suffix, None)


@functools.cache
def _in_place_overload(func: OpOverload) -> OpOverload | None:
    overload: OpOverload | None = getattr(_packet(func, "_"), func._overloadname, None)
    return overload


def packed_convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
) -> tuple[Tensor, Step] | None:
    """The result of aten.convolution and what computes it again, its weights packed as a copy.

    None where `Convolution` is not for it.
    """
    same_both_ways = all(len(set(of_sides)) == 1 for of_sides in (stride, padding, dilation))
    last = x.is_contiguous(memory_format=torch.channels_last)
    if transposed or groups != 1 or not same_both_ways or not last:
        return None
    convolution = Convolution(pack_conv2d(weight, bias), stride[0], padding[0], dilation[0])
    out, everywhere = convolution.output_for(x)
    step = functools.partial(convolution, out, x, everywhere, relu=False)
    step()
    return out, step
