# SPDX-License-Identifier: MIT
"""Benchmark of pose_roi_pool, forward and backward."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor

from benchmarks.baselines.compiled import compiled
from benchmarks.baselines.network import gather_regions, index_regions, torchvision_regions
from benchmarks.equality import assert_equal
from benchmarks.material import Material
from benchmarks.probes import reading, writing
from benchmarks.rows import Call, CannotRun, Comparison, Milliseconds, Probe, Target
from poseren_ext import ops, reference
from poseren_ext._utils.cuda_graph import replayed

Pooling: TypeAlias = Callable[[Tensor, Tensor], Tensor]

FASTEST = ("PyTorch indexing", "PyTorch indexing, channels_last", "PyTorch gather", "torch.compile", "torchvision")
COPY = {1: "a copy of the regions", 2: "a copy of the regions, both ways"}
"""Moves as many bytes."""
ALONE = "reads and writes alone"
"""Reads and writes the same bytes with torch's own loops, as an autograd function."""


def comparisons(material: Material) -> Iterator[Comparison]:
    """Two comparisons: forward, and forward with backward."""
    yield _comparison(material, backward=False)
    yield _comparison(material, backward=True)


def _comparison(material: Material, *, backward: bool) -> Comparison:
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
    baselines: dict[str, Call | CannotRun] = {
        name: pooling if isinstance(pooling, CannotRun) else _call(pooling, work, grad if backward else None)
        for name, pooling in poolings.items()
    }
    baselines["PyTorch indexing, channels_last"] = _call(indexing, last, grad if backward else None)
    copies = 2 if backward else 1
    # Used in turn, as the inputs are, so that they are read from and written to memory.
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
        for name, call in {"ours": ours, **baselines}.items():
            if not isinstance(call, CannotRun):
                assert_equal(name, call(0), wanted, most=1e-4 if backward else 0)

    def lower_bound(costs: Milliseconds) -> Milliseconds:
        features, regions = work[0][0].nbytes, results[0].nbytes
        there = costs["read"] * features + costs["write"] * regions
        return {"float32": there + (costs["read"] * regions + costs["write"] * features if backward else 0)}

    probes = {"read": reading(material), "write": writing(results)}
    if settings.device == "cpu":
        # The caches may hold the features, and the results, which are allocated at the same place each time.
        probes["read"].append(Probe(lambda i: work[i % len(work)][0].sum(), work[0][0].nbytes))
        probes["write"] = writing([native(*work[0]).detach()])
    if backward:
        target = Target(5, FASTEST, limit=ALONE)
    else:
        target = Target(5, FASTEST) if settings.device == "cuda" else Target(4, FASTEST, or_within=(1.3, COPY[1]))
    return Comparison(
        name="pose_roi_pool forward+backward" if backward else "pose_roi_pool forward",
        device=settings.device,
        batch=len(work[0][1]),
        ours={"float32": ours},
        baselines=baselines,
        limits=limits,
        check=check,
        params={
            "regions": config.num_regions,
            "channels": config.channels,
            "lower_bound": "features and regions once each way, read and written",
        },
        targets={"float32": [target]},
        probes=probes,
        lower_bound=lower_bound,
        grad=backward,
    )


class _ReadAndFill(torch.autograd.Function):
    """Reads the features and fills the regions; backward reads the regions' gradient and fills that of the features."""

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
    """The regions; if `grad` is given, the gradient of the features."""
    if grad is None:
        return pooling(*work)
    return torch.autograd.grad(pooling(*work), work[0], grad)[0]
