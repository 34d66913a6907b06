# SPDX-License-Identifier: MIT
"""The compiled ops in operators of PyTorch, so that modules that call them can be exported to other runtimes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import relu

from poseren_ext import reference
from poseren_ext.ops import _native


def onnx_decompositions() -> dict[torch._ops.OperatorBase, Callable[..., Any]]:
    """A decomposition of every op of this package, for ``torch.export.ExportedProgram.run_decompositions``.

    A module that calls ``ops.hand_center``, ``ops.depth_crop``, ``ops.roi_windows``, ``ops.pose_roi_pool`` or
    ``ops.cascade_refine`` exports to ONNX in standard operators:

        with torch.no_grad():
            program = torch.export.export(module.eval(), example).run_decompositions(onnx_decompositions())
            torch.onnx.export(program, dynamo=True).save("module.onnx")

    The results equal those of the compiled ops up to rounding. Other operators of the program stay as they are.
    """
    functions = (_hand_center, _depth_crop, _roi_windows, _pose_roi_pool, _cascade_refine)
    return {getattr(_native.ops, function.__name__[1:]).default: function for function in functions}


# The arguments are those of csrc/ops/schema.cpp.


def _hand_center(
    depth: Tensor,
    mask: Tensor | None,
    camera: Tensor | None,
    cube: Tensor | None,
    near: float,
    far: float,
    depth_unit: float,
    iterations: int,
) -> tuple[Tensor, Tensor]:
    half_edges = {} if cube is None else {"cube": cube}
    return reference.hand_center(
        depth,
        near=near,
        far=far,
        mask=mask,
        depth_unit=depth_unit,
        iterations=iterations,
        camera=camera,
        **half_edges,
    )


def _depth_crop(
    depth: Tensor,
    center: Tensor,
    camera: Tensor,
    cube: Tensor,
    transform: Tensor | None,
    size: int,
    invalid: int,
    invalid_value: float,
    nearest: bool,
    depth_unit: float,
    dtype: torch.dtype,
) -> Tensor:
    return reference.depth_crop(
        depth,
        center,
        camera,
        cube=cube,
        size=size,
        transform=transform,
        invalid=(None, "background", invalid_value)[invalid],
        interpolation="nearest" if nearest else "bilinear",
        depth_unit=depth_unit,
        dtype=dtype,
    )


def _roi_windows(pose: Tensor, joints: Sequence[int], image_size: int, roi_size: int, spatial_scale: float) -> Tensor:
    return reference.roi_windows(pose, joints, image_size=image_size, roi_size=roi_size, spatial_scale=spatial_scale)


def _pose_roi_pool(
    features: Tensor,
    pose: Tensor,
    joints: Sequence[int],
    output_size: int,
    image_size: int,
    roi_size: int,
    spatial_scale: float,
    align: bool,
    sampling_ratio: int,
) -> Tensor:
    return reference.pose_roi_pool(
        features,
        pose,
        joints,
        output_size=output_size,
        image_size=image_size,
        roi_size=roi_size,
        spatial_scale=spatial_scale,
        mode="align" if align else "max",
        sampling_ratio=sampling_ratio,
    )


def _cascade_refine(
    features: Tensor,
    pose: Tensor,
    joints: Sequence[int],
    tree: Sequence[int],
    region_weight: Tensor,
    region_scale: Tensor | None,
    region_bias: Tensor,
    finger_weight: Tensor,
    finger_scale: Tensor | None,
    finger_bias: Tensor,
    pose_weight: Tensor,
    pose_scale: Tensor | None,
    pose_bias: Tensor,
    output_size: int,
    image_size: int,
    roi_size: int,
    spatial_scale: float,
    align: bool,
    sampling_ratio: int,
    stages: int,
) -> tuple[Tensor, Tensor]:
    def layer(inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Inputs [G, B, N], weight [G, W, N], bias [G, W] -> [G, B, W]."""
        return torch.baddbmm(bias[:, None], inputs, weight.transpose(1, 2))

    first, second, last = (
        weight.float() if scale is None else weight.float() * scale[..., None]
        for weight, scale in (
            (region_weight, region_scale),
            (finger_weight, finger_scale),
            (pose_weight, pose_scale),
        )
    )
    batch, fingers = pose.shape[0], finger_weight.shape[0]
    pooling = (joints, output_size, image_size, roi_size, spatial_scale, align, sampling_ratio)
    windows = (image_size, roi_size, spatial_scale)
    poses = [pose]
    run = torch.zeros(batch, dtype=torch.int32, device=pose.device)
    for stage in range(stages):
        inputs = _pose_roi_pool(features, poses[-1], *pooling).flatten(2).transpose(0, 1)  # [M, B, C*P*P]
        hidden = relu(layer(inputs, first, region_bias))
        parts = torch.stack([hidden[region] for region in tree]).reshape(
            fingers, -1, batch, hidden.shape[-1]
        )  # [F, K, B, W1]
        parts = relu(layer(parts.transpose(1, 2).flatten(2), second, finger_bias))
        joined = torch.nn.functional.linear(parts.transpose(0, 1).flatten(1), last, pose_bias)
        if stage == 0 or align:
            run = run + 1
        else:
            now, before = (_roi_windows(one, joints, *windows) for one in poses[-2:])
            run = run + (now != before).flatten(1).any(1)
        poses.append(joined.reshape(pose.shape))
    return torch.stack(poses), run
