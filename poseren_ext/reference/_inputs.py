# SPDX-License-Identifier: MIT
"""Checks of arguments that several ops share, and their conversion to batched float32 tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from poseren_ext.geometry.camera import CameraLike, intrinsics

DEPTH_DTYPES = (torch.uint16, torch.int32, torch.float16, torch.bfloat16, torch.float32)


def batched_depth(depth: Tensor) -> tuple[Tensor, bool]:
    """Depth frames as [B, H, W], and whether they came with the batch axis.

    Raises:
        TypeError: The depth is not a tensor, or has an unsupported dtype.
        ValueError: The shape is neither [H, W] nor [B, H, W].
    """
    if not isinstance(depth, Tensor):
        raise TypeError(f"depth is a {type(depth).__name__}; expected a tensor [B, H, W] (torch.as_tensor converts)")
    if depth.dtype not in DEPTH_DTYPES:
        names = ", ".join(str(dtype).removeprefix("torch.") for dtype in DEPTH_DTYPES)
        raise TypeError(f"depth has dtype {depth.dtype}; expected one of {names}: convert it")
    if depth.dim() not in (2, 3):
        raise ValueError(f"depth has shape {tuple(depth.shape)}; expected [B, H, W] or [H, W]")
    return (depth, True) if depth.dim() == 3 else (depth[None], False)


def companion(tensor: Tensor, name: str, tail: tuple[int, ...], batch: int, batched: bool) -> Tensor:
    """A tensor that goes with the main argument, as [batch, *tail].

    Raises:
        ValueError: The shape is another one, or has a batch axis where the main argument has none.
    """
    expected = (batch, *tail) if batched else tail
    if tuple(tensor.shape) != expected:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}; expected {list(expected)}")
    return tensor if batched else tensor[None]


def camera_rows(camera: CameraLike, batch: int, device: torch.device) -> Tensor:
    """Intrinsics fx, fy, cx, cy of each sample: float32 [batch, 4], pixels.

    Raises:
        TypeError: The value is not a camera.
        ValueError: The intrinsics are invalid, or the numbers of cameras and samples differ.
    """
    rows = intrinsics(camera, device=device)
    if rows.dim() == 2 and rows.shape[0] != batch:
        raise ValueError(f"{rows.shape[0]} cameras for {batch} samples; expected one for all, or one each")
    return rows.expand(batch, 4)


def cube_rows(cube: float | Tensor, batch: int, device: torch.device) -> Tensor:
    """Half edges of each sample's cube along x, y, z: float32 [batch, 3], mm.

    Args:
        cube: a number or a tensor: scalar, [B] or [B, 3] ([3] for one sample without a batch axis).
        batch: B.
        device: Device of the result.

    Raises:
        ValueError: The shape is another one, or the number is not positive.
    """
    edges = torch.as_tensor(cube, dtype=torch.float32, device=device)
    if not isinstance(cube, Tensor) and not bool(edges > 0):
        raise ValueError(f"cube is {cube}; expected a positive half edge in mm")
    if edges.dim() == 1 and edges.shape[0] == batch:
        edges = edges[:, None]
    if tuple(edges.shape) not in ((), (batch, 1), (batch, 3)) and not (batch == 1 and tuple(edges.shape) == (3,)):
        raise ValueError(f"cube has shape {tuple(edges.shape)}; expected a number, [{batch}] or [{batch}, 3], in mm")
    return edges.expand(batch, 3)


def positive(value: float, name: str) -> float:
    """The value, checked to be a positive finite number.

    Raises:
        ValueError: It is not.
    """
    if not 0 < value < float("inf"):
        raise ValueError(f"{name} is {value}; expected a positive finite number")
    return float(value)
