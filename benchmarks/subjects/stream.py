# SPDX-License-Identifier: MIT
"""Benchmark of the whole estimator on a GPU: one frame per call for latency, many for throughput."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import torch
from torch import Tensor

from benchmarks.baselines.compiled import call_or_reason, compiled
from benchmarks.baselines.image import center_torch, crop_torch
from benchmarks.baselines.network import PlainEstimator
from benchmarks.equality import assert_equal
from benchmarks.material import CAMERA, DTYPES, FAR, NEAR, Material
from benchmarks.rows import Call, CannotRun, Comparison, Target
from benchmarks.subjects.crop import CUBE
from benchmarks.subjects.refine import STAGES
from poseren_ext.inference.captured_estimator import CapturedEstimator
from poseren_ext.inference.estimator import Estimator
from poseren_ext.models.files import Precision

BATCHES = (1, 256)
TARGETS = {1: [Target(most_ms=0.25), Target(10, ("PyTorch",))], 256: [Target(most_ms=256 / 150)]}
"""0.25 ms per frame; 150,000 frames per second."""
_MEAN, _MOST = 0.5, 60.0
"""Mean and largest difference from the baselines in pixels and mm; tf32 convolutions may move a joint's window."""

Pipeline: TypeAlias = Callable[[Tensor], Tensor]


def comparisons(material: Material) -> Iterator[Comparison]:
    """One comparison for each batch size; the frames are on the GPU."""
    for batch in BATCHES:
        yield _comparison(material, min(batch, material.settings.frames))


def _comparison(material: Material, batch: int) -> Comparison:
    settings = material.settings
    sets = [frames.clone() for frames in material.repeated(material.frames, batch)[:64]]
    plain = PlainEstimator(material.model, STAGES).eval()
    plain.use_channels_last()
    pipeline = _pipeline(plain)
    work = [(frames,) for frames in sets]
    baselines: dict[str, Call | CannotRun] = {
        "PyTorch": call_or_reason(pipeline, work),
        "torch.compile": call_or_reason(compiled(pipeline, work[0], settings, freeze=False, tune=False), work),
    }
    ours = {dtype: _ours(material, dtype, sets) for dtype in DTYPES}

    def check() -> None:
        wanted = pipeline(sets[0])
        for name, call in {**ours, **baselines}.items():
            if not isinstance(call, CannotRun):
                result = call(0)
                assert_equal(name, result if isinstance(result, Tensor) else result.uvd, wanted, most=_MOST, mean=_MEAN)

    return Comparison(
        name="refine frames on a GPU",
        device=settings.device,
        batch=batch,
        ours=ours,
        baselines=baselines,
        check=check,
        params={"height": 480, "width": 640, "stages": STAGES, "trajectory": material.trajectories.source},
        targets={"bfloat16": TARGETS.get(batch, [])},
    )


def _ours(material: Material, dtype: Precision | str, sets: list[Tensor]) -> Call:
    estimator = Estimator(material.model, camera=CAMERA, stages=STAGES, precision=dtype)  # type: ignore[arg-type]
    captured = CapturedEstimator(estimator, tuple(sets[0].shape), near=NEAR, far=FAR, iterations=0)
    return lambda i: captured(sets[i % len(sets)])


def _pipeline(network: Callable[[Tensor], Any]) -> Pipeline:
    """Joints uvd [B, J, 3] of frames on the GPU with plain PyTorch."""

    def run(frames: Tensor) -> Tensor:
        center = center_torch(frames, NEAR, FAR).float()
        crop = crop_torch(frames, center, CAMERA, holes=True)
        pose: Tensor = network(crop.contiguous(memory_format=torch.channels_last))[-1]
        z = center[:, 2:]
        scale = torch.cat([CUBE * CAMERA.fx / z, CUBE * CAMERA.fy / z, torch.full_like(z, CUBE)], 1)
        return pose * scale[:, None] + center[:, None]

    return run
