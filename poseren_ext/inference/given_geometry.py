# SPDX-License-Identifier: MIT
"""Centres and initial poses that a caller gives: read, and checked against the frames."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from poseren_ext import ops
from poseren_ext._utils.arrays import as_tensor
from poseren_ext.geometry.camera import Camera, xyz_to_uvd
from poseren_ext.inference.input_frames import Frames

FARTHEST_JOINT = 1.5
"""Half edges of the cube from its centre: most joints of a hand are nearer."""
_PROBE_SIZE = 48  # pixels: a hand is much larger


def given_centers(center: Any, frames: Frames) -> Tensor:
    """Centres as float32 [B, 3].

    Raises:
        ValueError: the shape is not [3] or [B, 3], or a centre is not finite with a positive depth.
    """
    centers = as_tensor(center).to(frames.depth.device, torch.float32)
    shape = tuple(centers.shape)
    if centers.dim() == 1:
        centers = centers.expand(len(frames.depth), -1)
    if centers.shape != (len(frames.depth), 3):
        raise ValueError(f"center has shape {shape}; expected [3] or [{len(frames.depth)}, 3]: u, v in pixels, d in mm")
    usable = torch.isfinite(centers).all(1) & (centers[:, 2] > 0)
    if not bool(usable.all()):
        bad = (~usable).nonzero()[:, 0].tolist()
        raise ValueError(f"center of frames {bad} is not finite with a positive depth; expected u, v, d (px, px, mm)")
    return centers


def check_cubes(
    centers: Tensor, frames: Frames, camera: Camera, cube: float, depth_unit: float, *, allow_empty: bool = False
) -> Tensor:
    """Refuse centres [B, 3] far outside their frames, or without any depth in the cube around them.

    A hand that is cut by the border of the frame may have its centre up to half the cube's half edge outside.

    Args:
        centers: u, v (pixels), d (mm) of the cubes.
        frames: the frames.
        camera: their intrinsics.
        cube: half edge of the cubes, mm.
        depth_unit: mm per stored unit.
        allow_empty: give NaN for a centre inside its frame whose cube has no depth, instead of an error.

    Returns:
        The centres.

    Raises:
        ValueError: such a centre; the message says whether it looks like metres or like x, y, z.
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
    usable |= seen & cut & ~_has_depth(xyz_to_uvd(centers, camera), frames, camera, cube, depth_unit)
    if allow_empty:
        usable |= inside
    if bool(usable.all()):
        return torch.where((seen | ~inside)[:, None], centers, torch.nan)
    i = int((~usable).nonzero()[0])
    where = "no depth is in the cube around it" if bool(inside[i]) else f"it is outside the {width}x{height} frame"
    moved = xyz_to_uvd(centers, camera)
    advice = "check center and depth_unit"
    if bool(_has_depth(moved, frames, camera, cube, depth_unit)[i]):
        advice = "this looks like x, y, z in mm: convert it with poseren_ext.xyz_to_uvd"
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


def _has_depth(centers: Tensor, frames: Frames, camera: Camera, cube: float, depth_unit: float) -> Tensor:
    """Whether the cube around each centre holds depth: bool [B]."""
    probe = ops.depth_crop(
        frames.depth, centers, camera, cube=cube, size=_PROBE_SIZE, interpolation="nearest", depth_unit=depth_unit
    )
    return (probe.abs() < 1).flatten(1).any(1)
