"""A function on the CPU as a recording of its operations: what a CUDA graph is on a GPU.

A replay writes every result where it was written at the recording. Of operations that PyTorch
can only compute in new memory, it copies them there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hpvod.packed_network import Convolution, PackedNetwork
from hpvod_ops import pack_conv2d

aten = torch.ops.aten
_MOST = 2  # recordings that are kept: key frames may read another map than the others


def replayed(function: Callable[..., Any], network: PackedNetwork) -> Callable[..., Any]:
    """The function, replayed where the network's backend allows it."""
    return Replay(function) if network.backend == "cpu" else function


class Replay:
    """A function of tensors that is recorded at its first call and replayed at the next ones.

    It must do the same work whatever the tensors hold: an operation that reads a value of one, or
    whose result's size depends on one, is refused; `tolist` and `numpy` are not seen. All that
    changes from call to call must be among its inputs. Its convolutions with constant weights are
    packed, as a copy. For inference on the CPU, with the cpu backend.

    Args:
        function: called with tensors. Those that lie elsewhere than the recorded ones make another
            recording; two are kept.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._recordings: dict[tuple[object, ...], _Recording] = {}

    def __call__(self, *inputs: Tensor) -> Any:
        """The function's results; they are overwritten by the next call with these tensors.

        Raises:
            RuntimeError: the function reads a value of a tensor.
        """
        key = tuple((x.data_ptr(), x.dtype, x.shape, x.stride()) for x in inputs)
        if (recording := self._recordings.get(key)) is not None:
            for step in recording.steps:
                step()
            return recording.results
        recorder = _Recorder(inputs)
        with recorder:
            results = self._function(*inputs)
        if len(self._recordings) == _MOST:
            del self._recordings[next(iter(self._recordings))]
        self._recordings[key] = _Recording(recorder.steps(), inputs, results)
        return results


_Step = Callable[[], object]


@dataclass(frozen=True)
class _Recording:
    steps: list[_Step]
    inputs: tuple[Tensor, ...]  # kept, so that no other tensor comes to lie there
    results: Any


class _Recorder(TorchDispatchMode):
    """Runs operations, and makes of each what writes the same results again."""

    def __init__(self, inputs: tuple[Tensor, ...]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._steps: list[tuple[_Step, set[int]]] = []  # and the memory that it writes
        self._changing = set(map(_memory, inputs))
        self._written: set[int] = set()
        self._held: list[Any] = []  # or memory would be two tensors' in turn

    def steps(self) -> list[_Step]:
        """What a replay does: not what computes constants, unless they are written to later."""
        again = self._changing | self._written
        return [step for step, writes in self._steps if writes & again]

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), _COMPOSITE):
            # Under inference mode, what is made of other operations arrives whole.
            with self:
                return func._op_dk(_COMPOSITE, *args, **kwargs)
        if _depends_on_values(func, args):
            raise RuntimeError(f"{func} reads what a tensor holds: that cannot be replayed")
        read = {_memory(each) for each in _tensors((args, kwargs))}
        if written := [_argument(func, args, kwargs, at) for at in _written_places(func)]:
            result = func(*args, **kwargs)
            self._written.update(map(_memory, written))
            self._add(
                functools.partial(func, *_with_constants(func, args), **kwargs), written, read
            )
            return result
        if func is aten.convolution.default and self._can_pack(*args):
            result, step = _packed_convolution(*args)
            step()
        else:
            result = func(*args, **kwargs)
            step = _writing(func, args, kwargs, result)
        self._held.append(result)
        made = [each for each in _tensors(result) if _memory(each) not in read]
        if made and func.overloadpacket not in _ALLOCATING:
            self._add(step, made, read)
        return result

    def _add(self, step: _Step, writes: list[Tensor], read: set[int]) -> None:
        memory = set(map(_memory, writes))
        self._steps.append((step, memory))
        if read & self._changing:
            self._changing |= memory

    def _can_pack(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: list[int],
        padding: list[int],
        dilation: list[int],
        transposed: bool,
        output_padding: list[int],
        groups: int,
    ) -> bool:
        constants = {_memory(each) for each in (weight, bias) if each is not None}
        return (
            not constants & self._changing
            and not transposed
            and groups == 1
            and all(len(set(of_sides)) == 1 for of_sides in (stride, padding, dilation))
            and x.is_contiguous(memory_format=torch.channels_last)
        )


_ALLOCATING = {aten.empty, aten.empty_like, aten.empty_strided, aten.new_empty}
_CLEARING = {aten.zeros, aten.zeros_like, aten.new_zeros}
_COPYING = {aten.clone, aten._to_copy}
_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd
_CPU = torch._C.DispatchKey.CPU


def _memory(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _tensors(tree: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))


def _depends_on_values(func: OpOverload, args: tuple[Any, ...]) -> bool:
    """Whether what is done, or how large the result is, depends on what a tensor holds."""
    if func is aten.index.Tensor:
        return any(each.dtype in (torch.bool, torch.uint8) for each in _tensors(args[1]))
    tags = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
    return bool(tags & set(func.tags))


def _written_places(func: OpOverload) -> Iterator[int]:
    """Which arguments the operation writes to."""
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            yield place


def _argument(func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any], place: int) -> Any:
    return args[place] if place < len(args) else kwargs[func._schema.arguments[place].name]


def _with_constants(func: OpOverload, args: tuple[Any, ...]) -> list[Any]:
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


def _writing(func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> _Step:
    """What computes the operation again, into the result that it had."""
    if func.overloadpacket in _COPYING:
        return functools.partial(result.copy_, args[0])
    if func.overloadpacket in _CLEARING:
        return functools.partial(result.zero_)
    for overload in (_of_tensors(func), func):
        if (into := _out_overload(overload)) is not None:
            again = _with_constants(into, args)
            if overload is not func and not isinstance(again[1], Tensor):
                continue
            targets = (result,) if isinstance(result, Tensor) else result
            names = [into._schema.arguments[place].name for place in _written_places(into)]
            outs = dict(zip(names, targets, strict=True))
            return functools.partial(into, *again, **kwargs, **outs)
    if (in_place := _in_place_overload(func)) is not None:
        return lambda: in_place(result.copy_(args[0]), *args[1:], **kwargs)

    def compute_and_copy() -> None:
        computed = func(*args, **kwargs)
        for target, source in zip(_tensors(result), _tensors(computed), strict=True):
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
            written = list(_written_places(overload))
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


def _packed_convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    *_: Any,
) -> tuple[Tensor, _Step]:
    """Memory for the convolution, and what writes it."""
    packed = pack_conv2d(weight, bias)
    convolution = Convolution(packed, stride[0], padding[0], dilation[0])
    out, everywhere = convolution.output_for(x)
    return out, functools.partial(convolution, out, x, everywhere, relu=False)
