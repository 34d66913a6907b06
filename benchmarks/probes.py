# SPDX-License-Identifier: MIT
"""Measured peak rates of the hardware, from which lower bounds are computed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.material import Material
from benchmarks.rows import Probe
from poseren_ext import ops

_STREAM = 1 << 24  # float32 values per call on a CPU: short enough to be undisturbed at times
_FRAME = 1 << 18  # values of it per frame


def reading(material: Material) -> list[Probe]:
    """Several ways to read memory, in bytes; the fastest one counts.

    Which is the fastest depends on the machine, because the bandwidth of a core depends on the number of streams and on
    prefetching. A sum reads one stream per thread, a dot product two, the first stage of the head four with the next
    rows prefetched, hand_center one with the next rows prefetched.
    """
    weights = material.model.head.region_weight.detach().flatten()
    size = len(weights) if weights.is_cuda else min(_STREAM, len(weights))
    parts = weights[: len(weights) // size * size].view(-1, size)  # used in turn: together larger than the caches
    halves = parts[:, : size // 2 * 2].view(len(parts), 2, -1)
    frame, width = math.gcd(size, _FRAME), math.gcd(size, 1024)
    frames = parts.view(torch.int32).view(len(parts), -1, frame // width, width)
    head = material.head("float32")
    layers = (head.region_weight, head.finger_weight, head.pose_weight)
    features, pose = material.features[:1], material.initial[:1]
    return [
        Probe(lambda i: parts[i % len(parts)].sum(), parts[0].nbytes),
        Probe(lambda i: torch.dot(*halves[i % len(parts)]), halves[0].nbytes),
        Probe(lambda _: ops.cascade_refine(features, pose, head, stages=1), sum(layer.nbytes for layer in layers)),
        Probe(lambda i: ops.hand_center(frames[i % len(parts)], near=0, far=1), parts[0].nbytes),
    ]


def writing(places: Sequence[Tensor]) -> list[Probe]:
    """Several ways to write memory, in bytes; each call fills the next of the `places`."""
    return [
        Probe(lambda i: places[i % len(places)].fill_(1), places[0].nbytes),
        Probe(lambda i: places[i % len(places)].zero_(), places[0].nbytes),
    ]


def multiplying(device: str) -> list[Probe]:
    """A float32 matrix product, in multiply-adds."""
    matrix = torch.randn(1024, 1024, device=device)
    return [Probe(lambda _: matrix @ matrix, 1024**3)]


def multiplying_bytes() -> list[Probe]:
    """An int8 matrix product on the CPU, in multiply-adds."""
    matrix = torch.randint(-128, 128, (1024, 1024), dtype=torch.int8)
    return [Probe(lambda _: torch._int_mm(matrix, matrix), 1024**3)]
