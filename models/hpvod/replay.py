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

from hpvod.packed_network import PackedNetwork
from hpvod.run_again import (
    Step,
    depends_on_values,
    packed_convolution,
    run_again,
    with_constants,
    written_places,
)

_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd
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


@dataclass(frozen=True)
class _Recording:
    steps: list[Step]
    inputs: tuple[Tensor, ...]  # kept, so that no other tensor comes to lie there
    results: Any


class _Recorder(TorchDispatchMode):
    """Runs operations, and makes of each what writes the same results again."""

    def __init__(self, inputs: tuple[Tensor, ...]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._steps: list[tuple[Step, set[int]]] = []  # and the memory that it writes
        self._changing = set(map(_memory, inputs))
        self._written: set[int] = set()
        self._held: list[Any] = []  # or memory would be two tensors' in turn

    def steps(self) -> list[Step]:
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
        if depends_on_values(func, args):
            raise RuntimeError(f"{func} reads what a tensor holds: that cannot be replayed")
        read = {_memory(each) for each in _tensors((args, kwargs))}
        if written := [_argument(func, args, kwargs, at) for at in written_places(func)]:
            result = func(*args, **kwargs)
            self._written.update(map(_memory, written))
            self._add(functools.partial(func, *with_constants(func, args), **kwargs), written, read)
            return result
        result, step = self._packed(func, args) or run_again(func, args, kwargs)
        self._held.append(result)
        made = [each for each in _tensors(result) if _memory(each) not in read]
        if made and step is not None:
            self._add(step, made, read)
        return result

    def _packed(self, func: OpOverload, args: tuple[Any, ...]) -> tuple[Tensor, Step] | None:
        """A convolution with constant weights, packed; None of anything else."""
        if func is not torch.ops.aten.convolution.default:
            return None
        if {_memory(each) for each in _tensors(args[1:3])} & self._changing:
            return None
        return packed_convolution(*args)

    def _add(self, step: Step, writes: list[Tensor], read: set[int]) -> None:
        memory = set(map(_memory, writes))
        self._steps.append((step, memory))
        if read & self._changing:
            self._changing |= memory


def _memory(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _tensors(tree: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))


def _argument(func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any], place: int) -> Any:
    return args[place] if place < len(args) else kwargs[func._schema.arguments[place].name]
