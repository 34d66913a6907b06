# SPDX-License-Identifier: MIT
"""Crops of depth frames for the network, and conversion of joints between frame and crop coordinates."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from poseren_ext.geometry.camera import CameraLike
from poseren_ext.ops import _autograd
from poseren_ext.ops._validate import (
    add_batch,
    camera_rows,
    check_devices,
    check_tensor,
    choice,
    cube_rows,
    match_batch,
    number,
    positive,
    whole,
)

DEPTHS = (torch.float32, torch.uint16, torch.int32, torch.float16, torch.bfloat16)
"""Supported dtypes of depth frames."""
CROPS = (torch.float32, torch.float16, torch.bfloat16)
"""Supported dtypes of crops."""

_KEEP, _BACKGROUND, _VALUE = 0, 1, 2  # csrc/core/depth_crop.h: Invalid


def hand_center(
    depth: Tensor,
    *,
    near: float,
    far: float,
    mask: Tensor | None = None,
    depth_unit: float = 1.0,
    iterations: int = 0,
    cube: float | Tensor = 150.0,
    camera: CameraLike | None = None,
) -> tuple[Tensor, Tensor]:
    """Mean pixel and mean depth of the hand region, the centre of the crop (paper, section 3.5).

    A pixel is valid where its depth is positive and finite, ``near <= depth * depth_unit <= far``, and the mask allows
    it. Each iteration takes the mean over the valid pixels inside the cube around the last centre; a cube without any
    leaves the last centre as it is. Sums of integer depths are exact, and those of floating-point depths are taken in
    one order: the result depends neither on the number of threads nor on the device.

    Args:
        depth: [B, H, W] or [H, W]; uint16, int32, float16, bfloat16 or float32. Views of larger frames are not copied.
        near: nearest valid depth, mm; 0 or less means any positive depth.
        far: farthest valid depth, mm.
        mask: bool, of depth's shape: False excludes a pixel.
        depth_unit: mm per stored unit.
        iterations: Number of refinements inside the cube; they need a camera.
        cube: half edges in mm: a number, [B] or [B, 3].
        camera: a ``Camera``, four numbers, [4] or [B, 4].

    Returns:
        tuple[Tensor, Tensor]: center float32 [B, 3] (or [3]): u, v in pixels ((0, 0) is the middle of the top-left
            pixel), depth in mm; NaN for a frame without valid pixels. count int64 [B] (or []): number of valid pixels
            in the mean.

    Raises:
        TypeError: depth or mask is not a tensor or has an unsupported dtype, or an argument is not a number.
        ValueError: Shapes or devices do not match, near is greater than far, depth_unit or cube is not positive,
            iterations is negative, or iterations is positive and camera is missing.
    """
    frames, batched = _depth_frames(depth)
    B, H, W = frames.shape
    near = number(near, "near", "nearest valid depth in mm", finite=False)
    far = number(far, "far", "farthest valid depth in mm", finite=False)
    if near > far:
        raise ValueError(f"near is {near} and far {far}; expected near <= far, in mm")
    iterations = whole(iterations, "iterations", "refinements inside the cube", least=0)
    if mask is not None:
        mask = check_tensor(mask, "mask", "of depth's shape", (torch.bool,))
        mask = match_batch(mask, "mask", (H, W), B, batched)
    check_devices(depth, "depth", mask=mask, cube=cube, camera=camera)
    cameras = cubes = None
    if camera is not None:
        cameras = camera_rows(camera, B, batched, depth.device)
        cubes = cube_rows(cube, B, batched, depth.device)
    elif iterations > 0:
        raise ValueError(f"iterations is {iterations} but camera is None; give the frames' camera to refine with")
    unit = positive(depth_unit, "depth_unit", "mm per stored unit")
    center, count = _autograd.call("hand_center", frames, mask, cameras, cubes, near, far, unit, iterations)
    return (center, count) if batched else (center[0], count[0])


def depth_crop(
    depth: Tensor,
    center: Tensor,
    camera: CameraLike,
    *,
    cube: float | Tensor = 150.0,
    size: int = 96,
    transform: Tensor | None = None,
    invalid: float | Literal["background"] | None = "background",
    interpolation: Literal["bilinear", "nearest"] = "bilinear",
    depth_unit: float = 1.0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """The cube around the hand as the network sees it: crop, resize, clamp, normalise in one pass (paper, section 3.5).

    Output pixel (row j, column i) has the normalised coordinate ``q = (2i/(S-1) - 1, 2j/(S-1) - 1)`` and samples
    ``u = cu + p_x * c_x*fx/z``, ``v = cv + p_y * c_y*fy/z`` with ``p = q``, or ``p = A^-1 q`` with a transform A. A tap
    outside the frame is background, ``z + c_z``; with ``invalid=None`` one NaN among the four taps makes the pixel NaN.
    The frame is read only where the crop looks and never converted as a whole. A floating-point depth has a gradient,
    bit-identical in each call; the other arguments get no gradient.

    Args:
        depth: [B, H, W] or [H, W]; uint16, int32, float16, bfloat16 or float32. Views of larger frames are not copied.
        center: floating-point [B, 3] or [3]: u, v in pixels, z in mm.
        camera: a ``Camera``, four numbers, [4] or [B, 4]; its fx and fy determine the size of the cube in pixels.
        cube: half edges c in mm: a number, [B] or [B, 3].
        size: S, side of the crop, pixels; at least 2.
        transform: floating-point A [B, 2, 3] or [2, 3] of normalised coordinates: augmented = A p.
        invalid: depth in mm that replaces, before interpolation, every invalid stored value (0, negative, NaN or
            infinite); "background" for ``z + c_z``; None keeps stored values.
        interpolation: "bilinear" or "nearest".
        depth_unit: mm per stored unit.
        dtype: float32, float16 or bfloat16 of the crop.

    Returns:
        Tensor: ``clamp(value - z, -c_z, c_z) / c_z``: [B, 1, S, S] (or [1, S, S]) in [-1, 1]. A sample is NaN, and its
            frame is not read, if center, fx, fy, cube or transform is not finite, if z, fx, fy or cube is not positive,
            or if the determinant of the transform is 0.

    Raises:
        TypeError: An argument is not a tensor or a number, or has an unsupported dtype.
        ValueError: Shapes or devices do not match, a number is out of range, or invalid or interpolation is unknown.
    """
    frames, batched = _depth_frames(depth)
    B = frames.shape[0]
    center = check_tensor(center, "center", "[B, 3] = u, v in pixels, z in mm")
    if transform is not None:
        transform = check_tensor(transform, "transform", "[B, 2, 3]")
    check_devices(depth, "depth", center=center, camera=camera, cube=cube, transform=transform)
    if transform is not None:
        transform = match_batch(transform, "transform", (2, 3), B, batched).float()
    if dtype not in CROPS:
        raise TypeError(f"dtype is {dtype}; expected torch.float32, torch.float16 or torch.bfloat16")
    crop = _autograd.call(
        "depth_crop",
        frames,
        match_batch(center, "center", (3,), B, batched).float(),
        camera_rows(camera, B, batched, depth.device),
        cube_rows(cube, B, batched, depth.device),
        transform,
        whole(size, "size", "side of the crop in pixels", least=2),
        *_invalid_policy(invalid),
        choice(interpolation, "interpolation", ("bilinear", "nearest")) == "nearest",
        positive(depth_unit, "depth_unit", "mm per stored unit"),
        dtype,
    )
    result: Tensor = crop if batched else crop[0]
    return result


def normalize_pose(uvd: Tensor, center: Tensor, camera: CameraLike, *, cube: float | Tensor = 150.0) -> Tensor:
    """Convert joints from pixels and mm to the cube's coordinates, in which [-1, 1] spans the depth crop.

    ``p = ((u - cu) * z / (fx * c_x), (v - cv) * z / (fy * c_y), (d - z) / c_z)`` with (cu, cv, z) the centre. u and v
    use the depth z of the centre, not that of the joint.

    Args:
        uvd: floating-point [B, J, 3] or [J, 3]: u, v in pixels, d in mm.
        center: floating-point [B, 3] or [3]: u, v in pixels, z in mm.
        camera: a ``Camera``, four numbers, [4] or [B, 4].
        cube: half edges in mm: a number, [B] or [B, 3].

    Returns:
        Tensor: [B, J, 3] (or [J, 3]): float32, or float64 if uvd is. NaN for a sample whose centre is not finite or has
            z <= 0.

    Raises:
        TypeError: An argument is not a tensor or a number, or has an unsupported dtype.
        ValueError: Shapes or devices do not match.
    """
    joints, origin, extent, batched = _joints_and_cube(uvd, "uvd", center, camera, cube)
    pose = (joints - origin) / extent
    return pose if batched else pose[0]


def denormalize_pose(pose: Tensor, center: Tensor, camera: CameraLike, *, cube: float | Tensor = 150.0) -> Tensor:
    """Convert joints from the cube's coordinates to pixels and mm: the inverse of :func:`normalize_pose`.

    ``u = x * (fx * c_x) / z + cu``, ``v = y * (fy * c_y) / z + cv``, ``d = p_z * c_z + z``.

    Args:
        pose: normalised joints, floating-point [B, J, 3] or [J, 3].
        center: floating-point [B, 3] or [3]: u, v in pixels, z in mm.
        camera: a ``Camera``, four numbers, [4] or [B, 4].
        cube: half edges in mm: a number, [B] or [B, 3].

    Returns:
        Tensor: uvd [B, J, 3] (or [J, 3]): u, v in pixels, d in mm; float32, or float64 if pose is. NaN for a sample
            whose centre is not finite or has z <= 0.

    Raises:
        TypeError: An argument is not a tensor or a number, or has an unsupported dtype.
        ValueError: Shapes or devices do not match.
    """
    joints, origin, extent, batched = _joints_and_cube(pose, "pose", center, camera, cube)
    uvd = joints * extent + origin
    return uvd if batched else uvd[0]


def _depth_frames(depth: Tensor) -> tuple[Tensor, bool]:
    """Depth as [B, H, W], and whether the argument had a batch axis."""
    return add_batch(check_tensor(depth, "depth", "[B, H, W]", DEPTHS), "depth", "[B, H, W]", 3)


def _invalid_policy(invalid: float | str | None) -> tuple[int, float]:
    """The policy and its depth in mm, in the form of the native op."""
    if invalid is None:
        return _KEEP, 0.0
    if isinstance(invalid, str):
        choice(invalid, "invalid", ("background",))
        return _BACKGROUND, 0.0
    return _VALUE, number(invalid, "invalid", "a depth in mm; or 'background', or None for stored values as they are")


def _joints_and_cube(
    joints: Tensor, name: str, center: Tensor, camera: CameraLike, cube: float | Tensor
) -> tuple[Tensor, Tensor, Tensor, bool]:
    """Joints [B, J, 3]; centre and half edges of the cube in (u, v, d) [B, 1, 3], NaN if invalid; batched."""
    joints = check_tensor(joints, name, "[B, J, 3]")
    center = check_tensor(center, "center", "[B, 3] = u, v in pixels, z in mm")
    joints, batched = add_batch(joints, name, "[B, J, 3]", 3)
    if joints.shape[-1] != 3:
        raise ValueError(f"{name} has shape {tuple(joints.shape)}; expected [B, J, 3]")
    check_devices(joints, name, center=center, camera=camera, cube=cube)
    B, dtype = joints.shape[0], torch.promote_types(joints.dtype, torch.float32)
    origin = match_batch(center, "center", (3,), B, batched).to(dtype)
    z = origin[:, 2:]
    somewhere = origin.isfinite().all(1, keepdim=True) & (z > 0)
    origin = torch.where(somewhere, origin, torch.nan)
    focal = camera_rows(camera, B, batched, joints.device)[:, :2].to(dtype)
    edges = cube_rows(cube, B, batched, joints.device).to(dtype)
    extent = torch.cat([focal * edges[:, :2] / z, edges[:, 2:]], 1)
    return joints.to(dtype), origin[:, None], extent[:, None], batched
