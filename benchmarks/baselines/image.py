# SPDX-License-Identifier: MIT
"""Hand centre and crop with OpenCV, NumPy, PyTorch and kornia."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.rows import CannotRun
from poseren_ext.geometry.camera import Camera

Array = npt.NDArray[Any]


def center_opencv(depth: Array, near: float, far: float) -> Array:
    """u, v, d of a frame uint16 [H, W] from the moments of a mask and the mean depth in it."""
    mask = cv2.inRange(depth, near, far)
    moments = cv2.moments(mask, binaryImage=True)
    area = moments["m00"]
    return np.array([moments["m10"] / area, moments["m01"] / area, cv2.mean(depth, mask)[0]], np.float32)


def center_numpy(depth: Array, near: float, far: float) -> Array:
    """u, v, d of a frame uint16 [H, W] from sums along rows and columns of a mask."""
    mask = (depth >= near) & (depth <= far)
    columns, rows = mask.sum(0, dtype=np.int32), mask.sum(1, dtype=np.int32)
    count = columns.sum()
    u, v = columns @ np.arange(len(columns)), rows @ np.arange(len(rows))
    return np.array([u / count, v / count, depth[mask].sum(dtype=np.int64) / count], np.float32)


def center_torch(depth: Tensor, near: float, far: float) -> Tensor:
    """u, v, d [B, 3] of frames uint16 [B, H, W]."""
    depth = depth.to(torch.int32)
    mask = (depth >= near) & (depth <= far)
    columns, rows = mask.sum(1), mask.sum(2)  # [B, W], [B, H]
    count = columns.sum(1)
    u = (columns * torch.arange(columns.shape[1], device=depth.device)).sum(1)
    v = (rows * torch.arange(rows.shape[1], device=depth.device)).sum(1)
    d = (depth * mask).sum((1, 2))
    return torch.stack([u / count, v / count, d / count], 1)


def crop_opencv(depth: Array, center: Array, camera: Camera, *, cube: float = 150.0, size: int = 96) -> Array:
    """The crop [S, S] of a frame uint16 [H, W]: converted to float32, warped, clipped, divided."""
    return _warped(depth.astype(np.float32), center, camera, 0.0, 0.0, cube, size)


def crop_opencv_region(
    depth: Array, center: Array, camera: Camera, *, cube: float = 150.0, size: int = 96, holes: bool = False
) -> Array:
    """As :func:`crop_opencv`, but converts only the pixels inside the crop; `holes`: zeros become background."""
    u, v, z = center
    left, top = max(0, int(u - cube * camera.fx / z) - 1), max(0, int(v - cube * camera.fy / z) - 1)
    right, bottom = int(u + cube * camera.fx / z) + 3, int(v + cube * camera.fy / z) + 3
    part = depth[top:bottom, left:right].astype(np.float32)
    if holes:
        part[part == 0] = z + cube
    return _warped(part, center, camera, left, top, cube, size)


def _warped(image: Array, center: Array, camera: Camera, left: float, top: float, cube: float, size: int) -> Array:
    u, v, z = (float(value) for value in center)
    across, down = cube * camera.fx / z, cube * camera.fy / z
    step_u, step_v = 2 * across / (size - 1), 2 * down / (size - 1)
    matrix = np.array([[step_u, 0, u - across - left], [0, step_v, v - down - top]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped: Array = cv2.warpAffine(
        image, matrix, (size, size), flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=z + cube
    )
    crop = warped - np.float32(z)
    np.clip(crop, -cube, cube, out=crop)
    crop /= cube
    return crop  # type: ignore[no-any-return]


def crop_torch(
    depth: Tensor, center: Tensor, camera: Camera, *, cube: float = 150.0, size: int = 96, holes: bool = False
) -> Tensor:
    """Crops [B, 1, S, S] of frames uint16 [B, H, W] by grid_sample, whose border value can only be zero.

    `holes`: zeros become background.
    """
    H, W = depth.shape[1:]
    z = center[:, 2, None]
    steps = torch.linspace(-1, 1, size, device=depth.device)
    u = center[:, :1] + steps * (cube * camera.fx) / z  # [B, S]
    v = center[:, 1:2] + steps * (cube * camera.fy) / z
    grid = torch.stack(
        [(2 * u / (W - 1) - 1)[:, None].expand(-1, size, -1), (2 * v / (H - 1) - 1)[:, :, None].expand(-1, -1, size)],
        -1,
    )
    relative = depth[:, None].float() - (z + cube)[:, :, None, None]
    if holes:
        relative = torch.where(depth[:, None].to(torch.int32) == 0, 0.0, relative)
    warped = F.grid_sample(relative, grid, mode="bilinear", padding_mode="zeros", align_corners=True) + cube
    return (warped / cube).clamp(-1, 1)


def crop_kornia(
    camera: Camera, *, cube: float = 150.0, size: int = 96
) -> Callable[[Tensor, Tensor], Tensor] | CannotRun:
    """As :func:`crop_torch` with kornia's crop_and_resize: a function of (depth, center)."""
    try:
        crop_and_resize = import_module("kornia.geometry.transform").crop_and_resize
    except (ImportError, RuntimeError) as error:
        return CannotRun(f"kornia does not load: {error}")

    def crop(depth: Tensor, center: Tensor) -> Tensor:
        z = center[:, 2, None]
        reach = torch.tensor([cube * camera.fx, cube * camera.fy], device=depth.device) / z
        corners = torch.tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]], device=depth.device)
        boxes = center[:, None, :2] + corners * reach[:, None]  # [B, 4, 2]
        relative = depth[:, None].float() - (z + cube)[:, :, None, None]
        warped: Tensor = crop_and_resize(relative, boxes, (size, size)) + cube
        return (warped / cube).clamp(-1, 1)

    return crop
