# SPDX-License-Identifier: MIT
"""A training step as one CUDA graph: its thousand small kernels start without Python between them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_EAGER_CALLS = 3
"""Before the graph: libraries choose their algorithms, the optimizer makes its state."""


class GraphedStep:
    """A step that runs as it is a few times, is captured then, and from then on replayed on new inputs.

    Args:
        step: takes tensors of the same shapes at each call (or None), and returns a tensor. It must leave the host out:
            no sync, no number read from the device, gradients set to None at its start.
    """

    def __init__(self, step: Callable[..., Tensor]) -> None:
        self._step = step
        self._calls = 0
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: list[Tensor | None] = []

    def __call__(self, *inputs: Tensor | None) -> Tensor:
        """The step's result. From the first replay on it is the same memory at every call."""
        if self._calls < _EAGER_CALLS:
            self._calls += 1
            return self._aside(inputs)
        if self._graph is None:
            self._capture(inputs)
            assert self._graph is not None
        for own, given in zip(self._inputs, inputs, strict=True):
            if own is not None:
                assert given is not None
                own.copy_(given)
        self._graph.replay()
        return self._result

    def _aside(self, inputs: tuple[Tensor | None, ...]) -> Tensor:
        # On a stream of its own, as a capture runs: autograd remembers streams.
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            result = self._step(*inputs)
        torch.cuda.current_stream().wait_stream(self._stream)
        return result

    def _capture(self, inputs: tuple[Tensor | None, ...]) -> None:
        self._inputs = [None if given is None else given.clone() for given in inputs]
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream):
            self._result = self._step(*self._inputs)
        self._graph = graph
