# SPDX-License-Identifier: MIT
"""Calls as CUDA graphs: on a GPU an op is timed without the Python before it, as streams and training steps run it."""

from __future__ import annotations

from typing import Any

import torch

from poseren_ext.bench.rows import Call


def replayed(call: Call, sets: int, device: str) -> Call:
    """The call on each of its input sets as a CUDA graph, captured at its first turn; on the CPU the call itself.

    Args:
        call: works on tensors that stay where they are.
        sets: how many input sets it goes through.
        device: "cpu" or "cuda".
    """
    if device != "cuda":
        return call
    graphs: dict[int, tuple[torch.cuda.CUDAGraph, Any]] = {}

    def replay(number: int) -> Any:
        own = number % sets
        if own not in graphs:
            graphs[own] = _captured(call, own)
        graph, result = graphs[own]
        graph.replay()
        return result

    return replay


def _captured(call: Call, number: int) -> tuple[torch.cuda.CUDAGraph, Any]:
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        call(number)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=side):
        result = call(number)
    return graph, result
