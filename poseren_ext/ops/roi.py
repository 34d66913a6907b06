# SPDX-License-Identifier: MIT
"""Feature-map windows around guided joints, and the regions pooled from them (paper, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from poseren_ext.ops import _autograd
from poseren_ext.ops._validate import (
    FLOATING,
    add_batch,
    check_devices,
    check_result_size,
    check_tensor,
    choice,
    positive,
    whole,
)

MOST_JOINTS = 128
"""Largest number of guided joints in one call."""


def roi_windows(
    pose: Tensor, joints: Sequence[int], *, image_size: int = 96, roi_size: int = 48, spatial_scale: float = 0.125
) -> Tensor:
    """Feature-map windows around guided joints (paper, section 3.2, equations 3 and 4).

    In float32 and in this order: ``x1 = (x+1)*S/2 - r/2``, ``x2 = (x+1)*S/2 + r/2``; if ``x1 < 0``: ``x1 = 0``,
    ``x2 = r``; then if ``x2 >= S-1``: ``x2 = S-1``, ``x1 = S-1-r``; ``first = round(x1*s)``, ``last = round(x2*s)``,
    half away from zero. Only x and y matter. The windows are integers: not differentiable.

    Args:
        pose: normalised joints [B, J, >=2] or [J, >=2], floating-point; x and y in [-1, 1] span the depth crop.
        joints: M indices into J, 1 to 128 of them.
        image_size: side S of the depth crop, pixels.
        roi_size: side r of a window, pixels.
        spatial_scale: feature cells per crop pixel, s.

    Returns:
        Tensor: int32 [B, M, 4] (or [M, 4]): first column, first row, last column, last row, inclusive. The window of a
            joint with a coordinate that is NaN, infinite, or of magnitude 1e6 or more is -1, -1, -1, -1. The last cell
            can lie one beyond the map, as in the published system.

    Raises:
        TypeError: pose is not a floating-point tensor, or another argument is not a number.
        ValueError: The pose's shape is not [B, J, >=2], an index is outside J, or a window is larger than the crop.
    """
    rows, batched = _pose(pose)
    windows: Tensor = _autograd.call(
        "roi_windows",
        rows.detach().float(),
        guided_joints(joints, rows),
        *window_geometry(image_size, roi_size, spatial_scale),
    )
    return windows if batched else windows[0]


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
    """Pools regions of a feature map around guided joints (paper, section 3.2).

    ``"max"``: RoI max pooling of the window of :func:`roi_windows`. Bin p of an axis covers the cells
    ``[first + floor(p*h/P), first + ceil((p+1)*h/P))`` with ``h = last - first + 1``, clipped to the map; an empty bin
    is 0, a NaN in a bin gives NaN, the gradient goes to the first of equal maxima in row-major order.
    ``"align"``: RoI align of the continuous window ``((p+1)*S/2 -+ r/2)*s - 0.5`` around the joint (cell centres at
    whole numbers, ``aligned=True``), not moved inside the crop; each bin is the mean of sampling_ratio^2 bilinear
    samples; a sample more than one cell outside the map is 0, one nearer to it is moved onto it.
    In both modes a joint with the window -1 (see :func:`roi_windows`) has a NaN region and gradient 0, and nothing is
    read for it.

    Differentiable once, in reverse and forward mode: in the features, and in mode "align" in the pose (in mode "max"
    the derivative with respect to the pose is 0). A second derivative raises RuntimeError. Gradients are summed in a
    fixed order: the bits do not depend on the number of threads.

    Args:
        features: [B, C, H, W] or [C, H, W], floating-point, of any memory layout.
        pose: normalised joints [B, J, >=2] or [J, >=2]. "max" uses it in float32, "align" in float32, or in float64 if
            it is float64: never in the features' type.
        joints: M indices into J, 1 to 128 of them.
        output_size: P, bins along each side.
        image_size: side of the depth crop, pixels.
        roi_size: side of a window, pixels.
        spatial_scale: feature cells per crop pixel.
        mode: "max" or "align".
        sampling_ratio: samples along each side of a bin ("align").

    Returns:
        [B, M, C, P, P] (or [M, C, P, P]) in the features' dtype, contiguous. "align" sums in float32 at least.

    Raises:
        TypeError: features or pose is not a floating-point tensor, or another argument is not a number.
        ValueError: Shapes or devices do not match, an index is outside J, a size is out of range, or mode is unknown.
    """
    check_tensor(features, "features", "[B, C, H, W]")
    maps, batched = add_batch(features, "features", "[B, C, H, W]", 4)
    if 0 in maps.shape[-2:]:
        raise ValueError(f"features have shape {tuple(features.shape)}; expected at least one cell along H and W")
    rows, pose_batched = _pose(pose)
    if pose_batched != batched or rows.shape[0] != maps.shape[0]:
        raise ValueError(
            f"features have shape {tuple(features.shape)} and pose has shape {tuple(pose.shape)}; expected "
            "[B, C, H, W] and [B, J, 3] of one B, or both without B"
        )
    check_devices(maps, "features", pose=rows)
    align = choice(mode, "mode", ("max", "align")) == "align"
    guided = guided_joints(joints, rows)
    bins = whole(output_size, "output_size", "bins along each side of a region")
    check_result_size((*maps.shape[:2], len(guided), bins, bins), maps.dtype)
    if not (align and rows.dtype == torch.float64):
        rows = rows.to(torch.float32)
    regions: Tensor = _autograd.call(
        "pose_roi_pool",
        maps,
        rows if align else rows.detach(),
        guided,
        bins,
        *window_geometry(image_size, roi_size, spatial_scale),
        align,
        whole(sampling_ratio, "sampling_ratio", "samples along each side of a bin"),
    )
    return regions if batched else regions[0]


def guided_joints(joints: Sequence[int], pose: Tensor) -> tuple[int, ...]:
    """The indices, checked to name joints of a pose [B, J, ...].

    Raises:
        TypeError: joints is not a sequence, or an index is not an integer.
        ValueError: An index is outside J, or the number of indices is not 1 to 128.
    """
    if isinstance(joints, str) or not hasattr(joints, "__len__") or not hasattr(joints, "__getitem__"):
        raise TypeError(
            f"joints is of type {type(joints).__name__}; expected indices of the pose's joints, as a sequence"
        )
    if not 1 <= len(joints) <= MOST_JOINTS:
        raise ValueError(f"joints names {len(joints)} guided joints; expected 1 to {MOST_JOINTS}")
    last = pose.shape[1] - 1
    return tuple(whole(joint, "joints", "index of one of the pose's joints", least=0, most=last) for joint in joints)


def window_geometry(image_size: int, roi_size: int, spatial_scale: float) -> tuple[int, int, float]:
    """The three numbers that map a pose to windows, checked.

    Raises:
        TypeError: An argument is not a number.
        ValueError: A window is larger than the crop, or a size is not positive or beyond every feature map.
    """
    image = whole(image_size, "image_size", "side of the depth crop, pixels")
    roi = whole(roi_size, "roi_size", "side of a window, pixels, smaller than the crop", most=image - 1)
    scale = positive(spatial_scale, "spatial_scale", "feature cells per crop pixel")
    if image * scale >= 2**24:
        raise ValueError(f"spatial_scale is {scale} for a crop of {image} pixels; expected a map below 2^24 cells")
    return image, roi, scale


def _pose(pose: Tensor) -> tuple[Tensor, bool]:
    """The pose as [B, J, >=2], and whether it had a batch axis."""
    shape = "normalised joints [B, J, 3]"
    check_tensor(pose, "pose", shape, FLOATING)
    rows, batched = add_batch(pose, "pose", shape, 3)
    if rows.shape[-1] < 2:
        raise ValueError(f"pose has shape {tuple(pose.shape)}; expected {shape}: x and y at least")
    return rows, batched
