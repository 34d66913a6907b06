# SPDX-License-Identifier: MIT
"""pose_roi_pool: what guided joints see of the feature map, and the way back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor

from benchmarks.equality import assert_equal
from benchmarks.material import Material
from benchmarks.peers.compiled import compiled
from benchmarks.peers.network import gather_regions, index_regions, torchvision_regions
from benchmarks.probes import reading, writing
from benchmarks.rows import Call, CannotRun, Contest, Milliseconds, Probe, Target
from poseren_ext import ops, reference
from poseren_ext._utils.cuda_graph import replayed

Pooling: TypeAlias = Callable[[Tensor, Tensor], Tensor]

FASTEST = ("PyTorch indexing", "PyTorch indexing, channels_last", "PyTorch gather", "torch.compile", "torchvision")
COPY = {1: "a copy of the regions", 2: "a copy of the regions, there and back"}
"""What moves as many bytes."""
ALONE = "reading and filling alone"
"""What pooling reads and fills, with torch's own loops and recorded as pooling is."""


def contests(material: Material) -> Iterator[Contest]:
    """Forward, then forward and backward."""
    yield _contest(material, backward=False)
    yield _contest(material, backward=True)


def _contest(material: Material, *, backward: bool) -> Contest:
    settings, config = material.settings, material.model.head.config
    batch = settings.op_batches[1]
    work = [
        (features.clone().requires_grad_(backward), pose)
        for features, pose in zip(
            material.repeated(material.features, batch), material.repeated(material.initial, batch), strict=True
        )
    ]
    shape = (len(work[0][1]), config.num_regions, config.channels, config.cells, config.cells)
    grad = torch.randn(shape, device=settings.device)

    def indexing(features: Tensor, pose: Tensor) -> Tensor:
        return index_regions(features, pose, config)

    poolings: dict[str, Pooling | CannotRun] = {
        "PyTorch indexing": indexing,
        "PyTorch gather": lambda features, pose: gather_regions(features, pose, config),
        "torch.compile": compiled(indexing, work[0], settings, freeze=False, grad=backward, tune=False),
        "torchvision": torchvision_regions(config),
    }
    last = [(f.detach().contiguous(memory_format=torch.channels_last).requires_grad_(backward), p) for f, p in work]
    peers: dict[str, Call | CannotRun] = {
        name: pooling if isinstance(pooling, CannotRun) else _call(pooling, work, grad if backward else None)
        for name, pooling in poolings.items()
    }
    peers["PyTorch indexing, channels_last"] = _call(indexing, last, grad if backward else None)
    copies = 2 if backward else 1
    # In turn, as the inputs, so that they come from memory and go there.
    results = [torch.randn(shape, device=settings.device) for _ in range(2 * len(work))]

    def copy(i: int) -> None:
        for turn in range(copies):
            results[2 * (i + turn) % len(results)].copy_(results[(2 * (i + turn) + 1) % len(results)])

    limits: dict[str, Call] = {COPY[copies]: copy}
    if backward:
        alone: Any = _ReadAndFill.apply
        limits[ALONE] = _call(lambda features, _: cast(Tensor, alone(features, shape)), work, grad)

    def native(features: Tensor, pose: Tensor) -> Tensor:
        return ops.pose_roi_pool(features, pose, config.joints)

    ours = replayed(lambda i: _run(native, work[i % len(work)], grad if backward else None), len(work), settings.device)

    def expected(features: Tensor, pose: Tensor) -> Tensor:
        return reference.pose_roi_pool(features, pose, config.joints)

    def check() -> None:
        wanted = _run(expected, work[0], grad if backward else None)
        for name, call in {"ours": ours, **peers}.items():
            if not isinstance(call, CannotRun):
                assert_equal(name, call(0), wanted, most=1e-4 if backward else 0)

    def floor(costs: Milliseconds) -> Milliseconds:
        features, regions = work[0][0].nbytes, results[0].nbytes
        there = costs["read"] * features + costs["write"] * regions
        return {"float32": there + (costs["read"] * regions + costs["write"] * features if backward else 0)}

    probes = {"read": reading(material), "write": writing(results)}
    if settings.device == "cpu":
        # A cache may hold the features, and the place of the results: each lies where the last one did.
        probes["read"].append(Probe(lambda i: work[i % len(work)][0].sum(), work[0][0].nbytes))
        probes["write"] = writing([native(*work[0]).detach()])
    if backward:
        target = Target(5, FASTEST, limit=ALONE)
    else:
        target = Target(5, FASTEST) if settings.device == "cuda" else Target(4, FASTEST, or_within=(1.3, COPY[1]))
    return Contest(
        name="pose_roi_pool forward+backward" if backward else "pose_roi_pool forward",
        device=settings.device,
        batch=len(work[0][1]),
        ours={"float32": ours},
        peers=peers,
        limits=limits,
        check=check,
        params={
            "regions": config.num_regions,
            "channels": config.channels,
            "floor": "features and regions once each way, read and written",
        },
        targets={"float32": [target]},
        probes=probes,
        floor=floor,
        grad=backward,
    )


class _ReadAndFill(torch.autograd.Function):
    """Reads the features and fills the regions, then reads the regions' gradient and fills the features', once each."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, shape: tuple[int, ...]) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(features)
        features.sum()
        return features.new_empty(shape).fill_(1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (features,) = ctx.saved_tensors
        grad.sum()
        return torch.empty_like(features).fill_(1), None


def _call(pooling: Pooling, work: list[tuple[Tensor, Tensor]], grad: Tensor | None) -> Call:
    return lambda i: _run(pooling, work[i % len(work)], grad)


def _run(pooling: Pooling, work: tuple[Tensor, Tensor], grad: Tensor | None) -> Any:
    """The regions; with their gradient given, the features' gradient."""
    if grad is None:
        return pooling(*work)
    return torch.autograd.grad(pooling(*work), work[0], grad)[0]
