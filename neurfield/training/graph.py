# SPDX-License-Identifier: Apache-2.0
"""What keeps a GPU busy: steps captured in a CUDA graph, and numbers that are read late."""

import contextlib
import gc
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from neurfield import ops

_EAGER_CALLS = 3  # torch wants some before a capture, on a stream of their own: libraries allocate in their first calls
_LATE = 2  # steps that the host is ahead


class Graphed:
    """`fn` of CUDA tensors to a CUDA tensor, captured once for each set of shapes and replayed.

    `fn` must not wait for the device, and whatever else it reads or changes must stay where it is in memory. The first
    calls run as they are, since they count. The result lives until the next call.
    """

    def __init__(self, fn: Callable[..., Tensor]) -> None:
        self._fn, self._n_eager, self._stream = fn, 0, torch.cuda.Stream()
        self._graphs: dict[tuple[torch.Size, ...], _Captured] = {}

    def __call__(self, *inputs: Tensor) -> Tensor:
        if self._n_eager < _EAGER_CALLS:
            self._n_eager += 1
            return self._beside(inputs)
        shapes = tuple(tensor.shape for tensor in inputs)
        if shapes not in self._graphs:
            self._graphs[shapes] = _Captured(self._fn, inputs)
        return self._graphs[shapes].replay(inputs)

    def _beside(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """`fn(*inputs)` on the other stream, in the order of the current one."""
        here = torch.cuda.current_stream()
        self._stream.wait_stream(here)
        with torch.cuda.stream(self._stream):
            output = self._fn(*inputs)
        here.wait_stream(self._stream)
        output.record_stream(here)
        return output


def learner(fn: Callable[..., Tensor], parameters: Sequence[Tensor], is_graph: bool) -> Callable[..., Tensor]:
    """`fn`, which changes `parameters` and, alike, the float16 copies of them that there are; as a graph if asked."""
    run = Graphed(fn) if is_graph else fn

    def call(*inputs: Any) -> Tensor:
        for parameter in parameters:  # a graph cannot see that a roll-back, say, has changed a table
            ops.renew_half_copy(parameter)
        output = run(*inputs)
        for parameter in parameters:  # nor does torch see what a graph has changed, a table and its copy alike
            torch.autograd.graph.increment_version(parameter)
            ops.mark_half_copy_current(parameter)
        return output

    return call


class _Captured:
    """A graph, and the tensors that it reads and writes."""

    def __init__(self, fn: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> None:
        self._inputs = [tensor.clone() for tensor in inputs]
        self._graph = torch.cuda.CUDAGraph()
        # Other threads, a viewer's, may go on; but a graph or memory that is freed on the way would end the capture, so
        # garbage is collected before.
        with _without_garbage(), torch.cuda.graph(self._graph, capture_error_mode="thread_local"):  # runs nothing
            self._output = fn(*self._inputs)

    def replay(self, inputs: tuple[Tensor, ...]) -> Tensor:
        torch._foreach_copy_(self._inputs, list(inputs))
        self._graph.replay()
        return self._output


@contextlib.contextmanager
def _without_garbage() -> Iterator[None]:
    """Cycles are collected before, and none inside."""
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class Delayed:
    """Exchanges the numbers of a step for those of the step two before, which the device has most likely done.

    The first steps get those of the first one. On the CPU it is late by as much.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[Tensor, torch.cuda.Event | None]] = deque()

    def exchange(self, numbers: Tensor) -> list[float]:
        copy = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=numbers.is_cuda)
        copy.copy_(numbers, non_blocking=True)
        event = None
        if numbers.is_cuda:
            event = torch.cuda.Event()
            event.record()
        for _ in range(1 if self._waiting else _LATE + 1):
            self._waiting.append((copy, event))
        copy, event = self._waiting.popleft()
        if event is not None:
            event.synchronize()
        return copy.tolist()
