# SPDX-License-Identifier: MIT
"""Benchmark of cascade_refine."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from benchmarks.baselines.compiled import call_or_reason, compiled
from benchmarks.baselines.exported import INT8, ONNX_RUNTIME, exported_networks
from benchmarks.baselines.network import PlainCascade
from benchmarks.equality import assert_equal
from benchmarks.material import DTYPES, Material
from benchmarks.probes import multiplying, multiplying_bytes, reading
from benchmarks.rows import Call, CannotRun, Comparison, Milliseconds, Probe, Target
from benchmarks.settings import Settings
from benchmarks.trajectory import moved_shares
from poseren_ext import ops, reference
from poseren_ext._utils.cuda_graph import replayed
from poseren_ext.models import HeadConfig
from poseren_ext.ops import PackedHead, _native
from poseren_ext.reference.cascade_refine import moved_windows

STAGES = 3
FULL_PRECISION = ("PyTorch", "torch.compile", ONNX_RUNTIME)
TARGETS = {
    1: {
        "float32": [Target(2, FULL_PRECISION)],
        "bfloat16": [Target(4, FULL_PRECISION)],
        "int8": [Target(7, FULL_PRECISION), Target(2, (INT8,))],
    },
    64: {"float32": [Target(2, FULL_PRECISION)]},
}
BFLOAT16 = ", bfloat16"
GPU_TARGETS = {1: {"bfloat16": [Target(2, (f"PyTorch{BFLOAT16}", f"torch.compile{BFLOAT16}"))]}}
_TOLERANCE = {"float32": 1e-4, "bfloat16": 2e-3, "int8": 2e-3}
_CHECKED = 4  # samples


@dataclass(frozen=True)
class Work:
    """Minimum work of a call: weights read, and multiply-adds."""

    weights: float
    products: float

    def milliseconds(self, read: float, product: float, size: int) -> float:
        """Lower bound in ms: `read` and `product` in ms per byte and per multiply-add, weights of `size` bytes."""
        return max(self.weights * size * read, self.products * product)


def comparisons(material: Material) -> Iterator[Comparison]:
    """One comparison for each batch size."""
    for batch in material.settings.refine_batches:
        yield _comparison(material, batch)


def _comparison(material: Material, batch: int) -> Comparison:
    settings, config = material.settings, material.model.head.config
    features, initial = material.repeated(material.features, batch), material.repeated(material.initial, batch)
    work = list(zip(features, initial, strict=True))
    plain = PlainCascade(material.model.head, STAGES).eval()
    exported = exported_networks(plain, work[0], settings)
    arrays = [tuple(tensor.cpu().numpy() for tensor in pair) for pair in work]
    baselines: dict[str, Call | CannotRun] = {
        "PyTorch": call_or_reason(plain, work),
        "torch.compile": call_or_reason(compiled(plain, work[0], settings), work),
        **{name: call_or_reason(function, arrays) for name, function in exported.items()},
    }
    baselines |= _bfloat16(plain, work, settings)
    poses = {dtype: cascade_poses(material, dtype, work) for dtype in DTYPES}
    moved = {dtype: moved_windows(stack, config).cpu() for dtype, stack in poses.items()}
    return Comparison(
        name="cascade_refine",
        device=settings.device,
        batch=batch,
        ours={d: replayed(_ours(work, material.head(d)), len(work), settings.device) for d in DTYPES},
        baselines=baselines,
        check=lambda: _check(material, work[0], baselines),
        params={
            "stages": STAGES,
            "widths": list(config.widths),
            "trajectory": material.trajectories.source,
            "mean_shift_mm": {d: _shift(poses[d], poses["float32"], material.model.config.cube) for d in DTYPES},
        },
        cold=True,
        targets=(TARGETS if settings.device == "cpu" else GPU_TARGETS).get(batch, {}),
        probes=probes(material),
        lower_bound=lambda costs: lower_bounds(material, moved, batch, costs),
        moved={dtype: moved_shares(stack, config) for dtype, stack in poses.items()},
    )


def _bfloat16(
    plain: PlainCascade, work: list[tuple[Tensor, Tensor]], settings: Settings
) -> dict[str, Call | CannotRun]:
    """PyTorch with weights and features in bfloat16."""
    half = copy.deepcopy(plain).bfloat16()
    pairs = [(features.bfloat16(), pose) for features, pose in work]
    return {
        f"PyTorch{BFLOAT16}": call_or_reason(half, pairs),
        f"torch.compile{BFLOAT16}": call_or_reason(compiled(half, pairs[0], settings), pairs),
    }


def _ours(work: list[tuple[Tensor, Tensor]], head: PackedHead) -> Call:
    return lambda i: ops.cascade_refine(*work[i % len(work)], head, stages=STAGES)[0]


def cascade_poses(material: Material, dtype: str, work: list[tuple[Tensor, Tensor]], stages: int = STAGES) -> Tensor:
    """Poses of all stages [T+1, N, J, 3] for all input sets."""
    head = material.head(dtype)
    return torch.cat([ops.cascade_refine(*pair, head, stages=stages)[0] for pair in work], 1)


def probes(material: Material) -> dict[str, list[Probe]]:
    """Probes of the machine: reading, float32 products, and int8 products on CPUs where int8 heads use them."""
    device = material.settings.device
    found = {"read": reading(material), "product": multiplying(device)}
    if device == "cpu" and _native.build_info()["cpu_isa"] == "avx512vnni":
        found["byte product"] = multiplying_bytes()
    return found


def lower_bounds(material: Material, moved: dict[str, Tensor], batch: int, costs: Milliseconds) -> Milliseconds:
    """Lower bound for each weight type, from moved bool [T, N, M] of all input sets: the median over the sets.

    With int8 weights each input is two bytes, hence two products.
    """
    result = {}
    for dtype, windows in moved.items():
        size = material.head(dtype).region_weight.element_size()
        bytes_multiplied = dtype == "int8" and "byte product" in costs
        product = 2 * costs["byte product"] if bytes_multiplied else costs["product"]
        works = [needed_work(part, material.model.head.config) for part in torch.split(windows, batch, 1)]
        result[dtype] = median(work.milliseconds(costs["read"], product, size) for work in works)
    return result


def needed_work(moved: Tensor, config: HeadConfig) -> Work:
    """Minimum work of a batch whose windows move as in `moved` bool [T, B, M]: each stage reads needed weights once.

    The layer of a finger is a sum over its regions; the terms of regions that have not moved are known.
    """
    first, second = config.widths
    members = torch.stack([moved[..., list(finger)] for finger in config.tree], -2).flatten(-2)  # [T, B, F*K]
    layers = (
        (moved, first * config.channels * config.cells**2),
        (members, second * first),
        (moved.any(-1, keepdim=True), 3 * config.num_joints * len(config.tree) * second),
    )
    read = sum(int(needed.any(1).sum()) * weights for needed, weights in layers)
    return Work(read, sum(int(needed.sum()) * weights for needed, weights in layers))


def _shift(poses: Tensor, exact: Tensor, cube: float) -> float:
    """Mean distance of the final joints, mm."""
    return float((poses[-1] - exact[-1]).norm(dim=-1).mean()) * cube


def _check(material: Material, work: tuple[Tensor, Tensor], baselines: dict[str, Call | CannotRun]) -> None:
    """Check each of our stages against the reference with the same pose and weights, and the baselines against ours."""
    features, initial = (tensor[:_CHECKED] for tensor in work)
    for dtype in DTYPES:
        head = material.head(dtype)
        poses = ops.cascade_refine(features, initial, head, stages=STAGES)[0]
        exact = widened(head)
        for stage in range(STAGES):
            wanted = reference.cascade_refine(features, poses[stage], exact, stages=1)[0][1]  # type: ignore[arg-type]
            assert_equal(f"ours, {dtype}, stage {stage + 1}", poses[stage + 1], wanted, most=_TOLERANCE[dtype])
    check_cascades(baselines, ops.cascade_refine(*work, material.head("float32"), stages=STAGES)[0])


def check_cascades(baselines: dict[str, Call | CannotRun], wanted: Tensor) -> None:
    """Check the poses of all stages of the baselines against ours; narrow weights have a wider tolerance.

    Raises:
        AssertionError: A difference exceeds the tolerance.
    """
    for name, call in baselines.items():
        if not isinstance(call, CannotRun):
            coarse = name == INT8 or name.endswith(BFLOAT16)
            assert_equal(name, call(0), wanted.cpu(), most=1 if coarse else 5e-3, mean=0.05 if coarse else 1e-4)


def widened(head: PackedHead) -> Any:
    """The weights of a packed head as float32, for the reference."""
    layers: dict[str, Any] = {"config": head.config}
    for layer in ("region", "finger", "pose"):
        scale = getattr(head, f"{layer}_scale")
        weight = getattr(head, f"{layer}_weight").float()
        layers[f"{layer}_weight"] = weight if scale is None else weight * scale[..., None]
        layers[f"{layer}_bias"] = getattr(head, f"{layer}_bias")
    return SimpleNamespace(**layers)
