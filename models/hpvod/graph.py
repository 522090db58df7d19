"""A frame on a GPU as one CUDA graph: the host launches it whole, and waits for nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_WARM_UP = 2  # calls that run as they are: kernels are compiled, libraries choose theirs


class Graph:
    """A function of tensors whose calls are replayed once they have been captured.

    Calls of one kind must do the same work on tensors of the same shapes, and must not wait for
    the GPU. What the function changes in place, a replay changes too.

    Args:
        function: called with a kind and tensors.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._calls: dict[object, int] = {}
        self._captured: dict[object, tuple[torch.cuda.CUDAGraph, tuple[Tensor | None, ...], Any]]
        self._captured = {}

    def __call__(self, kind: object, *inputs: Tensor | None) -> Any:
        """The function's results; those of a replay are overwritten by the next of its kind."""
        calls = self._calls.get(kind, 0)
        self._calls[kind] = calls + 1
        if calls < _WARM_UP:
            return self._function(kind, *inputs)
        if kind not in self._captured:
            self._captured[kind] = self._capture(kind, inputs)
        graph, held, results = self._captured[kind]
        for target, source in zip(held, inputs, strict=True):
            if target is not None and source is not None:
                target.copy_(source)
        graph.replay()
        return results

    def _capture(
        self, kind: object, inputs: tuple[Tensor | None, ...]
    ) -> tuple[torch.cuda.CUDAGraph, tuple[Tensor | None, ...], Any]:
        held = tuple(None if each is None else each.clone() for each in inputs)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):  # nothing runs
            results = self._function(kind, *held)
        return graph, held, results
