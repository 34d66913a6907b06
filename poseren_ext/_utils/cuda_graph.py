# SPDX-License-Identifier: MIT
"""CUDA graphs: a call is captured once, then replayed without Python between its kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

_EAGER_CALLS = 3
"""Calls before the capture: libraries choose their algorithms, an optimizer creates its state."""


class CapturedCall(Generic[T]):
    """A call without arguments, captured as one CUDA graph.

    Args:
        call: works on tensors that stay where they are, without any synchronisation with the host.
        warm_up: how often it runs on a side stream before the capture.
        stream: the stream to capture on; a new one by default.
    """

    def __init__(self, call: Callable[[], T], *, warm_up: int = 1, stream: torch.cuda.Stream | None = None) -> None:
        stream = stream or torch.cuda.Stream()  # type: ignore[no-untyped-call]
        for _ in range(warm_up):
            run_on(stream, call)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, stream=stream):
            self.result = call()

    def replay(self) -> T:
        """Run the graph again. The result is in the same memory at every call."""
        self._graph.replay()
        return self.result


class GraphedStep:
    """A step that runs eagerly a few times, is then captured, and from then on is replayed on new inputs.

    Args:
        step: takes tensors of the same shapes at each call (or None), and returns a tensor. It must not synchronise
            with the host, and must set gradients to None at its start.
    """

    def __init__(self, step: Callable[..., Tensor]) -> None:
        self._step = step
        self._calls = 0
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._captured: CapturedCall[Tensor] | None = None
        self._inputs: list[Tensor | None] = []

    def __call__(self, *inputs: Tensor | None) -> Tensor:
        """The step's result. From the first replay on it is in the same memory at every call."""
        if self._calls < _EAGER_CALLS:
            self._calls += 1
            return run_on(self._stream, lambda: self._step(*inputs))
        if self._captured is None:
            self._inputs = [None if given is None else given.clone() for given in inputs]
            self._captured = CapturedCall(lambda: self._step(*self._inputs), warm_up=0, stream=self._stream)
        for own, given in zip(self._inputs, inputs, strict=True):
            if own is not None:
                assert given is not None
                own.copy_(given)
        return self._captured.replay()


def run_on(stream: torch.cuda.Stream, call: Callable[[], T]) -> T:
    """A call's result, computed on a side stream as a capture is: autograd remembers streams."""
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        result = call()
    torch.cuda.current_stream().wait_stream(stream)
    return result


def replayed(call: Callable[[int], Any], sets: int, device: str) -> Callable[[int], Any]:
    """A numbered call as one CUDA graph per input set, captured at its first use; on the CPU the call itself.

    Args:
        call: takes a number, works on the input set ``number % sets``.
        sets: the number of input sets.
        device: "cpu" or "cuda".
    """
    if device != "cuda":
        return call
    graphs: dict[int, CapturedCall[Any]] = {}

    def replay(number: int) -> Any:
        own = number % sets
        if own not in graphs:
            graphs[own] = CapturedCall(lambda: call(own))
        return graphs[own].replay()

    return replay
