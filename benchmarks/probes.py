# SPDX-License-Identifier: MIT
"""What the hardware does at its best: what floors are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.material import Material
from benchmarks.rows import Probe
from poseren_ext import ops

_STREAM = 1 << 24  # float32 read a call on a CPU: short enough to fall into an undisturbed moment
_FRAME = 1 << 18  # of which a frame


def reading(material: Material) -> list[Probe]:
    """Ways to read memory, in bytes.

    No single one is the fastest on every machine: how near a core comes to what memory gives depends on how many places
    it reads from at once and on what it asks for ahead. A sum reads one stream a thread, a product two, the head's
    first stage four with the next rows fetched, hand_center one with the next rows fetched.
    """
    weights = material.model.head.region_weight.detach().flatten()
    size = len(weights) if weights.is_cuda else min(_STREAM, len(weights))
    parts = weights[: len(weights) // size * size].view(-1, size)  # in turn: no cache holds all of them
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
    """Ways to write memory, in bytes: one of the places a call, in turn."""
    return [
        Probe(lambda i: places[i % len(places)].fill_(1), places[0].nbytes),
        Probe(lambda i: places[i % len(places)].zero_(), places[0].nbytes),
    ]


def multiplying(device: str) -> list[Probe]:
    """A product of float32 matrices, in multiply-adds."""
    matrix = torch.randn(1024, 1024, device=device)
    return [Probe(lambda _: matrix @ matrix, 1024**3)]


def multiplying_bytes() -> list[Probe]:
    """A product of int8 matrices, in multiply-adds; CPU."""
    matrix = torch.randint(-128, 128, (1024, 1024), dtype=torch.int8)
    return [Probe(lambda _: torch._int_mm(matrix, matrix), 1024**3)]
