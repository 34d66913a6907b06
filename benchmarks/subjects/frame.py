# SPDX-License-Identifier: MIT
"""Benchmark of the whole estimator on the CPU: centre, crop, both networks and three stages, one frame per call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.baselines.compiled import compiled
from benchmarks.baselines.exported import BFLOAT16, INT8, exported_networks
from benchmarks.baselines.image import center_opencv, crop_opencv_region
from benchmarks.baselines.network import PlainEstimator
from benchmarks.equality import assert_equal
from benchmarks.material import CAMERA, DTYPES, FAR, NEAR, Material
from benchmarks.memory import frame_memory
from benchmarks.rows import Call, CannotRun, Comparison, Milliseconds, Target
from benchmarks.subjects.crop import CUBE
from benchmarks.subjects.refine import STAGES, cascade_poses, lower_bounds, probes, widened
from benchmarks.trajectory import moved_shares
from poseren_ext import ops, reference
from poseren_ext.inference.estimator import Estimator
from poseren_ext.models import PackedPoseREN
from poseren_ext.models.files import Precision
from poseren_ext.reference.cascade_refine import moved_windows

EAGER = ("PyTorch", "PyTorch, channels_last")
MOST_MS = 20.0
"""50 frames per second."""
MEMORY = 1.2
"""Allowed peak memory, in multiples of the weights."""
_NEAR, _COARSE = 0.5, 60.0
"""Tolerance of a joint in pixels and mm, and with narrow weights."""
_FRAMES = 64  # used one after the other
_BACKBONE = 110e6  # multiply-adds of six 3x3 and two 1x1 convolutions


def comparisons(material: Material) -> Iterator[Comparison]:
    """Two comparisons: the centre of mass between two depths, as for the datasets; then hand detection."""
    estimators = {dtype: _estimator(material, dtype) for dtype in DTYPES}
    yield _from_thresholds(material, estimators)
    yield _searched(material, estimators)


def _estimator(material: Material, dtype: Precision | str) -> Estimator:
    return Estimator(material.model, camera=CAMERA, stages=STAGES, precision=dtype)  # type: ignore[arg-type]


def _from_thresholds(material: Material, estimators: dict[str, Estimator]) -> Comparison:
    settings = material.settings
    frames = list(material.frames[:_FRAMES])
    baselines = _baselines(material, frames)
    work = [
        (features[None], pose[None])
        for features, pose in zip(material.features[:_FRAMES], material.initial[:_FRAMES], strict=True)
    ]
    poses = {dtype: cascade_poses(material, dtype, work) for dtype in DTYPES}
    moved = {dtype: moved_windows(stack, material.model.head.config).cpu() for dtype, stack in poses.items()}
    memory = {dtype: frame_memory(material, dtype) for dtype in DTYPES} if settings.memory else {}

    def check() -> None:
        crop, center = material.crops[:1], material.centers[:1]
        for dtype, estimator in estimators.items():
            got = _ours(estimator, frames)(0).uvd
            assert_equal(f"ours, {dtype},", got, _expected(material, estimator.model, crop, center)[0], most=_NEAR)
        frame = frames[0].cpu().numpy()
        middle = center_opencv(frame, NEAR, FAR)
        crop = torch.from_numpy(crop_opencv_region(frame, middle, CAMERA, holes=True))[None, None].to(crop)
        wanted = _expected(material, estimators["float32"].model, crop, torch.from_numpy(middle)[None].to(center))[0]
        for name, call in baselines.items():
            if not isinstance(call, CannotRun):
                assert_equal(name, call(0), wanted.cpu(), most=_COARSE if name in (INT8, BFLOAT16) else _NEAR)

    def lower_bound(costs: Milliseconds) -> Milliseconds:
        convolutions = 2 * _BACKBONE * costs["product"]
        return {
            dtype: ms + convolutions + estimators[dtype].model.init_head.nbytes * costs["read"]
            for dtype, ms in lower_bounds(material, moved, 1, costs).items()
        }

    goals = [Target(most_ms=MOST_MS)]
    return Comparison(
        name="refine a frame",
        device=settings.device,
        batch=1,
        ours={dtype: _ours(estimator, frames) for dtype, estimator in estimators.items()},
        baselines=baselines,
        check=check,
        params={
            "height": 480,
            "width": 640,
            "stages": STAGES,
            "trajectory": material.trajectories.source,
            "memory": memory,
        },
        cold=True,
        targets={"int8": [Target(6, EAGER), *goals], "bfloat16": goals},
        probes=probes(material),
        lower_bound=lower_bound,
        moved={dtype: moved_shares(stack, material.model.head.config) for dtype, stack in poses.items()},
        verdicts={
            dtype: [
                {
                    "wanted": f"peak memory at most {MEMORY}x the weights",
                    "reached": used["peak"] / used["weights"],
                    "met": used["peak"] <= MEMORY * used["weights"],
                }
            ]
            for dtype, used in memory.items()
        },
    )


def _expected(material: Material, model: PackedPoseREN, crop: Tensor, center: Tensor) -> Tensor:
    """Joints uvd [B, J, 3] of crops by the reference, with the weights of the packed model."""
    features = material.model.init.backbone(crop)
    nothing = torch.zeros_like(material.initial[: len(crop)])
    pose = reference.cascade_refine(features, nothing, widened(model.init_head), stages=1)[0][-1]
    poses = reference.cascade_refine(material.model.backbone(crop), pose, widened(model.head), stages=STAGES)[0]
    return reference.denormalize_pose(poses[-1], center, CAMERA, cube=CUBE)


def _searched(material: Material, estimators: dict[str, Estimator]) -> Comparison:
    frames = list(material.frames[:_FRAMES])

    def check() -> None:
        assert bool(torch.isfinite(torch.as_tensor(estimators["float32"](frames[0]).joints)).all())

    return Comparison(
        name="refine a frame, with hand detection",
        device=material.settings.device,
        batch=1,
        ours={dtype: _searching(estimator, frames) for dtype, estimator in estimators.items()},
        check=check,
        params={"height": 480, "width": 640, "stages": STAGES},
        cold=True,
        targets={"int8": [Target(most_ms=MOST_MS)]},
    )


def _ours(estimator: Estimator, frames: list[Tensor]) -> Call:
    def call(i: int) -> Any:
        frame = frames[i % len(frames)]
        return estimator(frame, center=_center(frame))

    return call


def _searching(estimator: Estimator, frames: list[Tensor]) -> Call:
    return lambda i: estimator(frames[i % len(frames)])


def _center(frame: Tensor) -> Tensor:
    return ops.hand_center(frame, near=NEAR, far=FAR)[0]


def _baselines(material: Material, frames: list[Tensor]) -> dict[str, Call | CannotRun]:
    """Centre and crop with OpenCV, the networks with each of the baselines."""
    settings = material.settings
    plain = PlainEstimator(material.model, STAGES).eval()
    crop = material.crops[:1]
    last = crop.contiguous(memory_format=torch.channels_last)
    packed = PlainEstimator(material.model, STAGES).eval()
    packed.use_channels_last()
    exported = exported_networks(plain, (crop,), settings)
    networks: dict[str, Any] = {
        "PyTorch": plain,
        "PyTorch, channels_last": lambda crop: packed(crop.contiguous(memory_format=torch.channels_last)),
        "torch.compile": compiled(plain, (crop,), settings),
        "torch.compile, channels_last": _with_layout(compiled(packed, (last,), settings)),
        **exported,
    }
    return {
        name: network
        if isinstance(network, CannotRun)
        else _pipeline(network, name in exported, frames, settings.device)
        for name, network in networks.items()
    }


def _with_layout(network: Any | CannotRun) -> Any | CannotRun:
    if isinstance(network, CannotRun):
        return network
    return lambda crop: network(crop.contiguous(memory_format=torch.channels_last))


def _pipeline(network: Callable[[Any], Any], numpy: bool, frames: list[Tensor], device: str) -> Call:
    """Joints uvd [J, 3] of a frame with OpenCV and a network that takes tensors or arrays."""
    arrays = [frame.cpu().numpy() for frame in frames]

    def call(i: int) -> Any:
        frame = arrays[i % len(arrays)]
        center = center_opencv(frame, NEAR, FAR)
        crop = crop_opencv_region(frame, center, CAMERA, holes=True)[None, None]
        pose = np.asarray(network(crop) if numpy else network(torch.from_numpy(crop).to(device)).cpu())[-1, 0]
        scale = np.array([CUBE * CAMERA.fx / center[2], CUBE * CAMERA.fy / center[2], CUBE], np.float32)
        return pose * scale + center

    return call
