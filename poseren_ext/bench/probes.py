# SPDX-License-Identifier: MIT
"""What the hardware does at its best: what floors are made of."""

from __future__ import annotations

import torch

from poseren_ext import ops
from poseren_ext.bench.material import Material
from poseren_ext.bench.rows import Probe


def reading(material: Material) -> list[Probe]:
    """Ways to read memory, in bytes.

    No single one is the fastest on every machine: a core alone does not draw all that memory gives, and how near it
    comes depends on how many places it reads from at once and on what it asks for ahead. A sum reads one stream a
    thread, a product of two halves two, the head's first stage four with the next rows fetched.
    """
    weights = material.model.head.region_weight.detach()
    first, second = weights.flatten()[: weights.numel() // 2 * 2].chunk(2)
    head = material.head("float32")
    layers = (head.region_weight, head.finger_weight, head.pose_weight)
    features, pose = material.features[:1], material.initial[:1]
    return [
        Probe(lambda _: weights.sum(), weights.nbytes),
        Probe(lambda _: torch.dot(first, second), first.nbytes + second.nbytes),
        Probe(lambda _: ops.cascade_refine(features, pose, head, stages=1), sum(layer.nbytes for layer in layers)),
    ]


def multiplying(device: str) -> list[Probe]:
    """A product of float32 matrices, in multiply-adds."""
    matrix = torch.randn(1024, 1024, device=device)
    return [Probe(lambda _: matrix @ matrix, 1024**3)]
