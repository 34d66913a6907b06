# SPDX-License-Identifier: MIT
"""The cascade as a plain loop, and the regions that memoisation has to recompute (paper, algorithm 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn.functional import linear, relu

from poseren_ext.reference.pose_roi_pool import pose_roi_pool, roi_windows


class HeadGeometry(Protocol):
    """Regions of a head; implemented by ``poseren_ext.models.HeadConfig``."""

    @property
    def joints(self) -> tuple[int, ...]:
        """Indices of the guided joints; empty for a grid."""

    @property
    def grid(self) -> tuple[tuple[int, int], ...]:
        """First cells (row, column) of fixed regions."""

    @property
    def cells(self) -> int:
        """P, cells along a region's side."""

    @property
    def roi_size(self) -> int:
        """Side of a guided joint's window, crop pixels."""

    @property
    def image_size(self) -> int:
        """Side of the depth crop, pixels."""

    @property
    def tree(self) -> tuple[tuple[int, ...], ...]:
        """The regions of each finger."""

    @property
    def mode(self) -> Literal["max", "align"]:
        """How guided regions are pooled."""


class Head(Protocol):
    """Geometry and weights of a head; implemented by ``poseren_ext.models.RegionEnsemble``."""

    @property
    def config(self) -> HeadGeometry:
        """The regions and the tree."""

    @property
    def region_weight(self) -> Tensor:
        """[M, W1, C*P*P]."""

    @property
    def region_bias(self) -> Tensor:
        """[M, W1]."""

    @property
    def finger_weight(self) -> Tensor:
        """[F, W2, K*W1]."""

    @property
    def finger_bias(self) -> Tensor:
        """[F, W2]."""

    @property
    def pose_weight(self) -> Tensor:
        """[3J, F*W2]."""

    @property
    def pose_bias(self) -> Tensor:
        """[3J]."""


def cascade_refine(features: Tensor, pose: Tensor, head: Head, *, stages: int = 3) -> tuple[Tensor, Tensor]:
    """``P_t = R(P_{t-1}, F)`` for t = 1..T: one model for every stage, on features computed once.

    Every stage is computed in full, and dropout is not applied. A compiled implementation may reuse the results of
    regions that :func:`moved_windows` reports as unmoved, with the same result.

    Args:
        features: [B, C, H, W] or [C, H, W] of the backbone.
        pose: initial normalised pose [B, J, 3] or [J, 3].
        head: the refining model's head.
        stages: T.

    Returns:
        tuple[Tensor, Tensor]: poses [T+1, B, J, 3] (or [T+1, J, 3]): the initial pose and that of every stage, float32,
            or float64 if features or weights are. stages_run int32 [B] (or []): the number of stages that have work:
            stage 1, and every later stage before which at least one window of the sample moved. A sample at a fixed
            point has no more work; a sample with a NaN pose has none once all its windows are invalid. In mode "align"
            every stage has work; a grid, which does not depend on the pose, has work in stage 1 only.

    Raises:
        TypeError: features or pose is not a floating-point tensor.
        ValueError: Shapes do not match each other or the head, or stages is negative.
    """
    if stages < 0:
        raise ValueError(f"stages is {stages}; expected 0 or more")
    if features.dim() == 3 and pose.dim() == 2:
        batch, stages_run = cascade_refine(features[None], pose[None], head, stages=stages)
        return batch[:, 0], stages_run[0]
    outputs = head.pose_weight.shape[0]
    if pose.dim() != 3 or pose.shape[1] * 3 != outputs or pose.shape[2] != 3:
        raise ValueError(f"pose has shape {tuple(pose.shape)}; expected [B, {outputs // 3}, 3]: the head's joints")
    dtype = torch.promote_types(torch.promote_types(features.dtype, head.region_weight.dtype), torch.float32)
    features = features.to(dtype)
    poses = [pose.to(dtype)]
    for _ in range(stages):
        poses.append(_stage(features, poses[-1], head))
    result = torch.stack(poses)
    return result, moved_windows(result, head.config).any(-1).sum(0, dtype=torch.int32)


def moved_windows(poses: Tensor, geometry: HeadGeometry) -> Tensor:
    """The regions that each stage of a cascade has to compute because their windows moved.

    Args:
        poses: [T+1, B, J, 3] of :func:`cascade_refine`.
        geometry: the head's configuration.

    Returns:
        Tensor: bool [T, B, M]: all regions in stage 1, then the regions whose window moved since the previous stage.
    """
    stages, batch = poses.shape[0] - 1, poses.shape[1]
    regions = len(geometry.joints) or len(geometry.grid)
    moved = torch.ones(stages, batch, regions, dtype=torch.bool, device=poses.device)
    if geometry.grid:
        moved[1:] = False
    elif geometry.mode == "max" and stages > 1:
        windows = roi_windows(
            poses[:-1].flatten(0, 1),
            geometry.joints,
            image_size=geometry.image_size,
            roi_size=geometry.roi_size,
        ).reshape(stages, batch, regions, 4)
        moved[1:] = (windows[1:] != windows[:-1]).any(-1)
    return moved


def _stage(features: Tensor, pose: Tensor, head: Head) -> Tensor:
    """One stage R(P, F): features [B, C, H, W], pose [B, J, 3] -> [B, J, 3]."""
    geometry = head.config
    if geometry.grid:
        regions = _grid_regions(features, geometry.grid, geometry.cells)
    else:
        regions = pose_roi_pool(
            features,
            pose,
            geometry.joints,
            output_size=geometry.cells,
            image_size=geometry.image_size,
            roi_size=geometry.roi_size,
            mode=geometry.mode,
        )
    dtype = features.dtype
    region_hidden = [
        relu(linear(regions[:, m].flatten(1), head.region_weight[m].to(dtype), head.region_bias[m].to(dtype)))
        for m in range(regions.shape[1])
    ]
    fingers = [
        relu(linear(torch.cat([region_hidden[m] for m in members], 1), weight.to(dtype), bias.to(dtype)))
        for members, weight, bias in zip(geometry.tree, head.finger_weight, head.finger_bias, strict=True)
    ]
    joints = linear(torch.cat(fingers, 1), head.pose_weight.to(dtype), head.pose_bias.to(dtype))
    return joints.reshape(pose.shape)


def _grid_regions(features: Tensor, grid: Sequence[tuple[int, int]], cells: int) -> Tensor:
    """Fixed regions [B, M, C, P, P] of features [B, C, H, W]."""
    return torch.stack([features[:, :, row : row + cells, column : column + cells] for row, column in grid], 1)
