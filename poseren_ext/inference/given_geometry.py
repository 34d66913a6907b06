# SPDX-License-Identifier: MIT
"""Centres and initial poses that a caller gives: read, and checked against the frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from poseren_ext import ops
from poseren_ext._utils.arrays import as_tensor
from poseren_ext.geometry.camera import Camera, xyz_to_uvd
from poseren_ext.inference.input_frames import InputFrames

FARTHEST_JOINT = 1.5
"""Half edges of the cube from its centre: most joints of a hand are nearer."""
_PROBE_SIZE = 48  # pixels: a hand is much larger
_CONVERT = "convert it with poseren_ext.xyz_to_uvd"


def given_centers(center: Any, frames: InputFrames, *, allow_nan: bool = False) -> Tensor:
    """Centres as float32 [B, 3].

    Args:
        center: u, v (pixels), d (mm), [3] or [B, 3].
        frames: the frames.
        allow_nan: accept NaN, for a frame without a hand.

    Raises:
        ValueError: the shape is another, or a centre is not finite with a positive depth.
    """
    try:
        centers = as_tensor(center).to(frames.depth.device, torch.float32)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"center is {center!r}; expected numbers u, v (pixels), d (mm): [3] or [B, 3]") from None
    shape = tuple(centers.shape)
    if centers.dim() == 1:
        centers = centers.expand(len(frames.depth), -1)
    if centers.shape != (len(frames.depth), 3):
        raise ValueError(f"center has shape {shape}; expected [3] or [{len(frames.depth)}, 3]: u, v in pixels, d in mm")
    usable = torch.isfinite(centers).all(1) & (centers[:, 2] > 0)
    if allow_nan:
        usable |= centers.isnan().any(1)
    if not bool(usable.all()):
        bad = (~usable).nonzero()[:, 0].tolist()
        raise ValueError(f"center of frames {bad} is not finite with a positive depth; expected u, v, d (px, px, mm)")
    return centers


def check_cubes(
    centers: Tensor, frames: InputFrames, camera: Camera, cube: float, depth_unit: float, *, allow_empty: bool = False
) -> Tensor:
    """Refuse centres [B, 3] far outside their frames, or without any depth in the cube around them.

    A hand that is cut by the border of the frame may have its centre up to half the cube's half edge outside.

    Args:
        centers: u, v (pixels), d (mm) of the cubes.
        frames: the frames.
        camera: their intrinsics.
        cube: half edge of the cubes, mm.
        depth_unit: mm per stored unit.
        allow_empty: give NaN for a NaN centre, and for one inside its frame whose cube has no depth, instead of an
            error.

    Returns:
        The centres.

    Raises:
        ValueError: A centre is refused; the message says whether it looks like metres or like x, y, z.
    """
    height, width = frames.depth.shape[1:]
    u, v, d = centers.unbind(1)
    if bool((d < 10).any()):
        i = int((d < 10).nonzero()[0])
        raise ValueError(f"center of frame {i} has a depth of {float(d[i]):g} mm; expected mm: this looks like metres")
    inside = (u > -0.5) & (u < width - 0.5) & (v > -0.5) & (v < height - 0.5)
    out_u = torch.maximum(-u, u - (width - 1)) / camera.fx
    out_v = torch.maximum(-v, v - (height - 1)) / camera.fy
    cut = torch.maximum(out_u, out_v) * d < cube / 2  # mm outside the frame
    seen = _has_depth(centers, frames, camera, cube, depth_unit)
    usable = seen & inside
    if bool(usable.all()):
        return centers
    usable |= seen & cut & ~_has_depth(xyz_to_uvd(centers, camera, check=False), frames, camera, cube, depth_unit)
    if allow_empty:
        usable |= inside | d.isnan()
    if bool(usable.all()):
        return torch.where((seen | (~inside & ~d.isnan()))[:, None], centers, torch.nan)
    i = int((~usable).nonzero()[0])
    where = "no depth is in the cube around it" if bool(inside[i]) else f"it is outside the {width}x{height} frame"
    advice = "check center and depth_unit"
    if bool(looks_like_xyz(centers, frames, camera, cube, depth_unit)[i]):
        advice = f"this looks like x, y, z in mm: {_CONVERT}"
    given = ", ".join(f"{value:g}" for value in centers[i].tolist())
    raise ValueError(f"center of frame {i} is ({given}): {where}; expected u, v in pixels and d in mm; {advice}")


def check_initial(pose: Tensor) -> None:
    """Refuse initial poses that are not where the hand is.

    Args:
        pose: normalised joints [B, J, 3]; NaN where the frame has no hand.

    Raises:
        ValueError: most joints of a pose are outside the cube around the hand.
    """
    outside = (pose.abs() > FARTHEST_JOINT).any(-1).float().mean(1) > 0.5
    if bool(outside.any()):
        raise ValueError(
            f"init_pose of frames {outside.nonzero()[:, 0].tolist()} is not at the hand: most of its joints are "
            "outside the cube; expected u, v in pixels and d in mm. Pass init_space='xyz' for joints in camera mm; "
            "convert metres to mm"
        )


def looks_like_xyz(centers: Tensor, frames: InputFrames, camera: Camera, cube: float, depth_unit: float) -> Tensor:
    """Whether centres [B, 3] have no depth around them as u, v, d, but have as x, y, z in mm: bool [B]."""
    moved = xyz_to_uvd(centers, camera, check=False)
    given, converted = (_has_depth(points, frames, camera, cube, depth_unit) for points in (centers, moved))
    return converted & ~given


def check_space(name: str, points: npt.NDArray[Any], width: int, height: int) -> None:
    """Refuse centres or initial poses of a whole recording that cannot be u, v (pixels), d (mm).

    Args:
        name: what they are called in the message.
        points: [N, ..., 3]; NaN, and zeros for frames without a hand, are ignored.
        width: columns of the frames.
        height: rows of the frames.

    Raises:
        ValueError: they are metres, x, y, z, or shares of the frame.
    """
    points = np.asarray(points, np.float64).reshape(len(points), -1, 3)
    points = points[np.isfinite(points).all((1, 2)) & points.any((1, 2))]
    if not len(points):
        return
    low, high = points.min((0, 1)), points.max((0, 1))
    ranges = ", ".join(f"{axis} {a:.4g}..{b:.4g}" for axis, a, b in zip("uvd", low, high, strict=True))
    middle, depth = points.mean(1), float(np.median(points[..., 2]))
    size = np.array([width, height])
    outside = ((middle[:, :2] < -0.1 * size) | (middle[:, :2] > 1.1 * size)).any(1).mean()  # a hand may leave the frame
    if depth < 0:
        looks = f"x, y, z whose z points at the camera: turn the signs of y and z, then {_CONVERT}"
    elif depth < 10:
        looks = "metres: multiply by 1000" + f", then {_CONVERT}" * bool(np.abs(points[..., :2]).max() < 10)
    elif np.abs(points[..., :2]).max() <= 2:
        looks = f"shares of the frame: multiply u by {width} and v by {height}"
    elif outside > 0.25 and (middle[:, :2] < 0).any():
        looks = f"x, y, z in mm: {_CONVERT}"
    elif outside > 0.25:
        looks = "pixels of larger frames: scale them with the frames"
    else:
        return
    raise ValueError(
        f"{name} is not u, v (pixels), d (mm) of {width}x{height} frames ({ranges}); this looks like {looks}"
    )


def _has_depth(centers: Tensor, frames: InputFrames, camera: Camera, cube: float, depth_unit: float) -> Tensor:
    """Whether the cube around each centre holds depth: bool [B]."""
    probe = ops.depth_crop(
        frames.depth, centers, camera, cube=cube, size=_PROBE_SIZE, interpolation="nearest", depth_unit=depth_unit
    )
    return (probe.abs() < 1).flatten(1).any(1)
