# SPDX-License-Identifier: MIT
"""Feature-map windows of guided joints, and pooling of their regions (paper, section 3.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

LIMIT = 1e6
"""Normalised coordinates of this magnitude or more count as infinite and make a joint invalid."""


def roi_windows(
    pose: Tensor, joints: Sequence[int], *, image_size: int = 96, roi_size: int = 48, spatial_scale: float = 0.125
) -> Tensor:
    """`poseren_ext.ops.roi_windows` in PyTorch: the same arguments (tensors only), results and errors.

    All operations are in float32 and in this order, so that every implementation rounds borderline windows equally:
    ``x1 = (x+1)*S/2 - r/2``, ``x2 = (x+1)*S/2 + r/2``; if ``x1 < 0``: ``x1 = 0``, ``x2 = r``; then if ``x2 >= S-1``:
    ``x2 = S-1``, ``x1 = S-1-r``; ``first = round(x1*s)``, ``last = round(x2*s)``, half away from zero.
    If float32 cannot distinguish ``x1*s`` or ``x2*s`` from a half, a window may be one cell wider.
    """
    if not pose.is_floating_point():
        raise TypeError(f"pose has dtype {pose.dtype}; expected floating-point normalised joints [B, J, 3]")
    if pose.dim() not in (2, 3) or pose.shape[-1] < 2:
        raise ValueError(f"pose has shape {tuple(pose.shape)}; expected normalised joints [B, J, 3] or [J, 3]")
    if not 0 < roi_size < image_size:
        raise ValueError(f"roi_size is {roi_size} for a crop of {image_size} pixels; expected 1 to {image_size - 1}")
    center = _guided(pose, joints).detach().float()  # [..., M, 2]
    middle = (center + 1) * image_size / 2
    low, high = middle - roi_size / 2, middle + roi_size / 2
    high = torch.where(low < 0, roi_size, high)
    low = torch.where(low < 0, 0, low)
    low = torch.where(high >= image_size - 1, image_size - 1 - roi_size, low)
    high = torch.where(high >= image_size - 1, image_size - 1, high)
    windows = torch.cat([_round_half_up(low * spatial_scale), _round_half_up(high * spatial_scale)], -1)
    somewhere = (center.abs() < LIMIT).all(-1, keepdim=True)
    return torch.where(somewhere, windows, -1).to(torch.int32)


def pose_roi_pool(
    features: Tensor,
    pose: Tensor,
    joints: Sequence[int],
    *,
    output_size: int = 7,
    image_size: int = 96,
    roi_size: int = 48,
    spatial_scale: float = 0.125,
    mode: Literal["max", "align"] = "max",
    sampling_ratio: int = 2,
) -> Tensor:
    """`poseren_ext.ops.pose_roi_pool` in PyTorch: the same arguments (tensors only), results and errors.

    The bounds of bins ("max") are computed in exact integers. "align" uses the pose in float64 if it is float64 and in
    float32 otherwise, and accumulates in at least float32.
    """
    if not features.is_floating_point():
        raise TypeError(f"features have dtype {features.dtype}; expected a floating-point [B, C, H, W]")
    if features.dim() not in (3, 4) or pose.dim() != features.dim() - 1:
        raise ValueError(
            f"features have shape {tuple(features.shape)} and pose {tuple(pose.shape)}; expected [B, C, H, W] and "
            "[B, J, 3], or both without B"
        )
    if features.dim() == 3:
        features, pose, batched = features[None], pose[None], False
    else:
        batched = True
    if features.shape[0] != pose.shape[0]:
        raise ValueError(
            f"features hold {features.shape[0]} samples and pose {pose.shape[0]}; expected as many of both"
        )
    if min(output_size, sampling_ratio, *features.shape[-2:]) < 1:
        raise ValueError(
            f"output_size is {output_size}, sampling_ratio {sampling_ratio}, the map "
            f"{features.shape[-2]}x{features.shape[-1]}; expected positive sizes"
        )
    windows = roi_windows(
        pose, joints, image_size=image_size, roi_size=roi_size, spatial_scale=spatial_scale
    )  # validates the other arguments
    if mode == "max":
        most = math.ceil(roi_size * spatial_scale) + 2  # rounding makes a window at most one cell wider
        regions = _max_pool(features, windows.long(), output_size, most)
    elif mode == "align":
        center = _guided(pose, joints)
        center = center if center.dtype == torch.float64 else center.float()
        spatial_scale = float(np.float32(spatial_scale))  # precision of roi_windows
        start = (((center + 1) * image_size / 2) - roi_size / 2) * spatial_scale - 0.5
        regions = _align(features, start, roi_size * spatial_scale, output_size, sampling_ratio)
    else:
        raise ValueError(f"mode is {mode!r}; expected 'max' or 'align'")
    invalid = (windows[..., 0] < 0)[..., None, None, None]
    regions = torch.where(invalid, torch.nan, regions).to(features.dtype)
    return regions if batched else regions[0]


def _guided(pose: Tensor, joints: Sequence[int]) -> Tensor:
    """The x and y of the guided joints: [..., M, 2]."""
    wrong = [joint for joint in joints if not 0 <= joint < pose.shape[-2]]
    if wrong:
        raise ValueError(f"joints holds {wrong[0]}; expected indices from 0 to {pose.shape[-2] - 1}: the pose's joints")
    # Slices, not an index: torch.export cannot trace the tensor of indices within a decomposition.
    return torch.cat([pose[..., joint : joint + 1, :2] for joint in joints] or [pose[..., :0, :2]], -2)


def _round_half_up(value: Tensor) -> Tensor:
    """Nearest integer, halves up (torch.round rounds halves to even). Adding 0.5 first would round too early."""
    whole = value.floor()
    return torch.where(value - whole >= 0.5, whole + 1, whole)


def _max_pool(features: Tensor, windows: Tensor, P: int, most: int) -> Tensor:
    """RoI max pooling of features [B, C, H, W] over windows [B, M, 4] of at most ``most`` cells: [B, M, C, P, P]."""
    H, W = features.shape[-2:]
    columns, column_inside = _bin_cells(windows[..., 0], windows[..., 2], P, W, most)  # [B, M, P, K]
    rows, row_inside = _bin_cells(windows[..., 1], windows[..., 3], P, H, most)  # [B, M, P, K]
    inside = (row_inside[..., :, None, :, None] & column_inside[..., None, :, None, :]).flatten(-2)
    cells = (rows[..., :, None, :, None] * W + columns[..., None, :, None, :]).flatten(-2)
    values = _gather_cells(features, cells)  # [B, C, M, P, P, K * K]
    values = torch.where(inside[:, None], values, -torch.inf).max(-1).values
    values = torch.where(inside.any(-1)[:, None], values, 0)
    return values.movedim(1, 2)


def _bin_cells(first: Tensor, last: Tensor, P: int, size: int, most: int) -> tuple[Tensor, Tensor]:
    """Cells of each bin along one axis, and a mask of those in the bin and on the map: two [B, M, P, K].

    K, the cells of the widest bin that any window can have, does not depend on the values: the graph can be exported.
    """
    extent = last - first + 1
    bins = torch.arange(P, device=first.device)
    low = first[..., None] + bins * extent[..., None] // P
    high = first[..., None] + ((bins + 1) * extent[..., None] + P - 1) // P
    widest = max(-(-(p + 1) * h // P) - p * h // P for h in range(1, most + 1) for p in range(P))
    cells = low[..., None] + torch.arange(widest, device=first.device)
    inside = (cells >= 0) & (cells < high[..., None]) & (cells < size)
    return cells.clamp(0, size - 1), inside


def _gather_cells(features: Tensor, cells: Tensor) -> Tensor:
    """Features [B, C, H, W] at the flat cells [B, ...]: [B, C, ...]."""
    B, C = features.shape[:2]
    index = cells.flatten(1)[:, None].expand(-1, C, -1)
    return features.flatten(2).gather(2, index).reshape(B, C, *cells.shape[1:])


def _align(features: Tensor, start: Tensor, extent: float, P: int, ratio: int) -> Tensor:
    """RoI align of features [B, C, H, W], windows extent cells wide from start [B, M, 2] (cells): [B, M, C, P, P]."""
    H, W = features.shape[-2:]
    steps = (torch.arange(P * ratio, device=start.device, dtype=start.dtype) + 0.5) * (extent / P / ratio)
    x, left, right, x_inside = _axis_samples(start[..., 0, None] + steps, W)  # each [B, M, P*ratio]
    y, top, bottom, y_inside = _axis_samples(start[..., 1, None] + steps, H)
    wide = features.to(torch.promote_types(features.dtype, torch.float32))

    def tap(row: Tensor, column: Tensor, weight_y: Tensor, weight_x: Tensor) -> Tensor:
        cells = row[..., :, None] * W + column[..., None, :]
        return _gather_cells(wide, cells) * (weight_y[..., :, None] * weight_x[..., None, :])[:, None]

    samples = tap(top, left, 1 - y, 1 - x) + tap(top, right, 1 - y, x) + tap(bottom, left, y, 1 - x)
    samples = samples + tap(bottom, right, y, x)  # [B, C, M, P*ratio, P*ratio]
    inside = (y_inside[..., :, None] & x_inside[..., None, :])[:, None]
    samples = torch.where(inside, samples, 0)
    bins = samples.reshape(*samples.shape[:3], P, ratio, P, ratio).mean((4, 6))
    return bins.movedim(1, 2)


def _axis_samples(position: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Along one axis: weight of the upper cell, the two cells (int64), and whether the sample is inside.

    A position that is NaN, or more than one cell outside the map, contributes 0 and has no gradient.
    """
    inside = (position >= -1) & (position <= size)
    position = torch.where(inside, position, 0).clamp(0, size - 1)
    low = position.detach().floor()
    high = (low + 1).clamp(max=size - 1)
    return position - low, low.long(), high.long(), inside
