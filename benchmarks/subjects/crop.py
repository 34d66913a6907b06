# SPDX-License-Identifier: MIT
"""Benchmark of depth_crop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from torch import Tensor

from benchmarks.baselines import image
from benchmarks.baselines.compiled import call_or_reason, compiled
from benchmarks.equality import assert_equal
from benchmarks.material import CAMERA, FAR, NEAR, Material
from benchmarks.probes import reading
from benchmarks.rows import Call, CannotRun, Comparison, Milliseconds, Target
from poseren_ext import ops
from poseren_ext._utils.cuda_graph import replayed
from poseren_ext.reference import depth_crop

CUBE, SIZE = 150.0, 96


def comparisons(material: Material) -> Iterator[Comparison]:
    """One comparison: all frames of a batch in one call; all implementations interpolate holes like other values."""
    settings = material.settings
    # Each frame twice, so that the crops (a sixth of the pixels) are larger than the caches.
    sets = material.repeated(material.frames.repeat(2, 1, 1), settings.op_batches[0])
    centers = material.repeated(material.centers.repeat(2, 1), settings.op_batches[0])
    work = list(zip(sets, centers, strict=True))

    def ours(i: int) -> Any:
        return ops.depth_crop(*work[i % len(work)], CAMERA, invalid=None)

    def torch_crop(frames: Any, center: Any) -> Any:
        return image.crop_torch(frames, center, CAMERA)

    kornia = image.crop_kornia(CAMERA)
    baselines: dict[str, Call | CannotRun] = {
        "PyTorch": lambda i: torch_crop(*work[i % len(work)]),
        "torch.compile": call_or_reason(compiled(torch_crop, work[0], settings, freeze=False, tune=False), work),
        "kornia": kornia if isinstance(kornia, CannotRun) else call_or_reason(kornia, work),
    }
    limits: dict[str, Call] = {}
    if settings.device == "cpu":
        baselines |= _opencv(material, work)
        limits = {"hand_center over the same pixels": _read(sets, centers)}

    def check() -> None:
        wanted = depth_crop(sets[0][:4], centers[0][:4], CAMERA, invalid=None).cpu()
        for name, call in {"ours": ours, **baselines}.items():
            if not isinstance(call, CannotRun):
                got = call(0)
                got = np.stack(got)[:, None] if isinstance(got, list) else got.cpu()
                # OpenCV rounds positions to 1/32 pixel: tolerance 1/32 of the largest step, from a hand to a hole.
                coarse = name.startswith("OpenCV")
                assert_equal(name, got[:4], wanted, most=1 / 8 if coarse else 2e-3, mean=5e-3 if coarse else 1e-5)

    needed = needed_bytes(centers[0].cpu())

    def lower_bound(costs: Milliseconds) -> Milliseconds:
        return {"float32": costs["read"] * needed}

    yield Comparison(
        name="depth_crop",
        device=settings.device,
        batch=len(centers[0]),
        ours={"float32": replayed(ours, len(work), settings.device)},
        baselines=baselines,
        limits=limits,
        check=check,
        params={"height": sets[0].shape[1], "width": sets[0].shape[2], "frames": "uint16", "size": SIZE},
        targets={"float32": [Target(10, ("OpenCV",)) if settings.device == "cpu" else Target(5, tuple(baselines))]},
        probes={"read": reading(material)},
        lower_bound=lower_bound,
    )


def needed_bytes(centers: Tensor) -> float:
    """Bytes read and written for crops around centers [B, 3] inside their frames.

    Where frame rows are denser than crop rows, only two of them are read for each crop row.
    """
    columns, rows = (2 * CUBE * focal / centers[:, 2] for focal in (CAMERA.fx, CAMERA.fy))
    return float((columns * rows.clamp(max=2 * SIZE) * 2).sum()) + len(centers) * SIZE**2 * 4


def rectangles(frames: Tensor, centers: Tensor) -> Tensor:
    """View [B, h, w] of frames [B, H, W] with as many pixels as crops around centers [B, 3] read, at their place."""
    u, v = centers[:, :2].mean(0).tolist()
    columns, rows = (float((2 * CUBE * focal / centers[:, 2]).mean()) for focal in (CAMERA.fx, CAMERA.fy))
    rows = min(rows, 2 * SIZE)
    left, top = round(u - columns / 2), round(v - rows / 2)
    return frames[:, max(0, top) : top + round(rows), max(0, left) : left + round(columns)]


def _read(sets: list[Tensor], centers: list[Tensor]) -> Call:
    """hand_center over as many pixels as the crops read."""
    parts = [rectangles(*pair) for pair in zip(sets, centers, strict=True)]
    return lambda i: ops.hand_center(parts[i % len(parts)], near=NEAR, far=FAR)


def _opencv(material: Material, work: list[tuple[Any, Any]]) -> dict[str, Call]:
    arrays = [list(zip(frames.numpy(), center.numpy(), strict=True)) for frames, center in work]
    pool = ThreadPoolExecutor(material.settings.threads)

    def one_by_one(crop: Callable[..., Any]) -> Call:
        return lambda i: [crop(frame, center, CAMERA) for frame, center in arrays[i % len(arrays)]]

    return {
        "OpenCV": one_by_one(image.crop_opencv),
        "OpenCV, region only": one_by_one(image.crop_opencv_region),
        "OpenCV, region only, one thread per frame": lambda i: list(
            pool.map(lambda pair: image.crop_opencv_region(pair[0], pair[1], CAMERA), arrays[i % len(arrays)])
        ),
    }
