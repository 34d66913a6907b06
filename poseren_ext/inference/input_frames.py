# SPDX-License-Identifier: MIT
"""Depth frames from arrays and tensors of many kinds as one tensor, checked for frequent mistakes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from poseren_ext import ops
from poseren_ext._utils.arrays import as_tensor, is_array, like
from poseren_ext.geometry.camera import Camera
from poseren_ext.inference.camera_check import judge_camera

DEPTH_DTYPES = (torch.uint16, torch.int32, torch.float16, torch.bfloat16, torch.float32)

NEAREST_PLAUSIBLE = 20.0
"""mm. A frame whose farthest point is nearer is in another unit: no hand fits in front of such a camera."""
FARTHEST_PLAUSIBLE = 100_000.0
"""mm. A frame whose nearest point is farther is in another unit."""
NEAREST_HAND, FARTHEST_HAND = 120.0, 2000.0
"""mm: where depth cameras see hands well enough for a pose."""
UNITS = {
    1.0: "millimetres",
    1000.0: "metres",
    0.125: "eighths of a millimetre: SR300, SR305",
    0.1: "tenths of a millimetre: D405",
    0.25: "quarters of a millimetre: L515",
    10.0: "centimetres",
    0.001: "micrometres",
}
"""mm per stored unit, and the cameras and files that use it."""


@dataclass(frozen=True)
class InputFrames:
    """Depth frames as a tensor, and the form in which the caller gave them.

    Attributes:
        depth: [B, H, W], as stored.
        batched: the caller gave a batch axis.
        given: an array of the kind that the caller gave.
    """

    depth: Tensor
    batched: bool
    given: object

    def like(self, result: Tensor, axis: int = 0) -> Any:
        """A result in the caller's kind of array, without the batch axis that the caller had not."""
        return like(result if self.batched else result.squeeze(axis), self.given)

    def millimetres(self, depth_unit: float) -> Iterator[npt.NDArray[np.float32]]:
        """The frames one by one, in mm."""
        for frame in self.depth:
            yield frame.cpu().float().numpy() * np.float32(depth_unit)


def read_frames(depth: object, device: torch.device) -> InputFrames:
    """Frames from an array, a tensor, or a list of either.

    Args:
        depth: [H, W] or [B, H, W], or a list of [H, W] of one size.
        device: where the frames are wanted.

    Raises:
        TypeError: depth is not an array, a tensor or a list of them, or not of a depth dtype.
        ValueError: The rank is another, frames have several sizes, or there is no frame or no pixel.
    """
    is_list = isinstance(depth, Sequence) and not isinstance(depth, str | bytes)
    depth, given = _stack(depth) if is_list else (_tensor(depth), depth)  # type: ignore[arg-type]
    if not isinstance(depth, Tensor):
        raise TypeError(f"depth is a {type(depth).__name__}; expected an array, a tensor or a list of them")
    if depth.dtype not in DEPTH_DTYPES:
        names = ", ".join(str(dtype).removeprefix("torch.") for dtype in DEPTH_DTYPES)
        raise TypeError(f"depth has dtype {depth.dtype}; expected one of {names}: 8-bit images are no depth frames")
    if depth.is_nested or depth.layout != torch.strided or depth.is_meta:
        kind = "no values (meta device)" if depth.is_meta else f"layout {depth.layout}"
        raise TypeError(f"depth has {kind}; expected a dense tensor")
    if not is_list and depth.dim() == 3 and depth.shape[-1] in (2, 3, 4) and depth.shape[-2] > 4:
        raise ValueError(f"depth has shape {tuple(depth.shape)}: {depth.shape[-1]} channels; expected one, [H, W]")
    if not is_list and depth.dim() in (3, 4) and depth.shape[-1] == 1 and depth.shape[-2] > 1:
        depth = depth[..., 0]  # [H, W, 1]: one channel
    if depth.dim() not in (2, 3):
        raise ValueError(f"depth has shape {tuple(depth.shape)}; expected [H, W] or [B, H, W], one channel")
    batched = is_list or depth.dim() == 3
    depth = depth if depth.dim() == 3 else depth[None]
    if depth.numel() == 0:
        raise ValueError(f"depth has shape {tuple(depth.shape)}; expected at least one frame and one pixel")
    return InputFrames(depth.to(device), batched, given)


def check_camera(camera: Camera, frames: InputFrames) -> None:
    """Refuses intrinsics that cannot be of these frames.

    Raises:
        ValueError: the intrinsics belong to frames of another size, are in another order or not in pixels; the message
            has those that would fit.
    """
    verdict = judge_camera(camera, tuple(frames.depth.shape[1:]))
    # A small part that was cut out of a frame sees a narrow angle.
    if verdict.kind == "fault" and not verdict.narrow:
        raise ValueError(f"the camera does not fit the frames: {verdict.text}")


def check_units(frames: InputFrames, depth_unit: float, *, allow_empty: bool = False) -> None:
    """Refuses empty frames and depth that is not in mm after scaling by the unit.

    Args:
        frames: the frames.
        depth_unit: mm per stored unit.
        allow_empty: accept frames without depth.

    Raises:
        ValueError: A frame has no depth, or depths that no depth camera measures.
    """
    _, plausible = ops.hand_center(frames.depth, near=NEAREST_PLAUSIBLE, far=FARTHEST_PLAUSIBLE, depth_unit=depth_unit)
    if bool((plausible > 0).all()):  # one such pixel a frame settles it
        return
    for i, frame in enumerate(frames.millimetres(depth_unit)):
        seen = frame[np.isfinite(frame) & (frame > 0)]
        if seen.size == 0 and allow_empty:
            continue
        if seen.size == 0:
            raise ValueError(f"frame {i} has no depth: all pixels are 0, negative, NaN or infinite")
        nearest, farthest = float(seen.min()), float(seen.max())
        if farthest < NEAREST_PLAUSIBLE:
            raise ValueError(
                f"frame {i} ends at {farthest:g} mm (depth_unit={depth_unit:g}); expected mm: this looks like metres. "
                f"Pass depth_unit={1000 * depth_unit:g}"
            )
        if nearest > FARTHEST_PLAUSIBLE:
            raise ValueError(
                f"frame {i} begins at {nearest:g} mm (depth_unit={depth_unit:g}); expected mm: this looks like "
                f"micrometres. Pass depth_unit={depth_unit / 1000:g}"
            )


def _stack(frames: Sequence[Any]) -> tuple[Tensor, object]:
    """Frames of one size as one tensor, and one of them as it was given: a tensor if any of them was one."""
    if not frames:
        raise ValueError("depth is an empty list; expected at least one frame [H, W]")
    tensors = [_tensor(frame) for frame in frames]
    if not all(isinstance(frame, Tensor) for frame in tensors):
        kinds = sorted({type(frame).__name__ for frame in frames})
        raise TypeError(f"depth is a list of {', '.join(kinds)}; expected numpy arrays or torch tensors [H, W]")
    shapes = sorted({tuple(frame.shape) for frame in tensors})
    if len(shapes) > 1 or len(shapes[0]) != 2:
        raise ValueError(f"depth is a list of frames of shapes {shapes}; expected [H, W] of one size: call once a size")
    return torch.stack(tensors), next((frame for frame in frames if isinstance(frame, Tensor)), frames[0])


def _tensor(array: Any) -> Any:
    """An array as a tensor, on the same memory where its type is one that the ops read; other values unchanged."""
    if isinstance(array, np.ndarray):
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        elif array.dtype in (np.int16, np.int64, np.uint32, np.uint64):
            array = np.clip(array.astype(np.int64), -(2**31), 2**31 - 1).astype(np.int32)  # never wrapped to a depth
    elif isinstance(array, Tensor):
        if array.dtype == torch.float64:
            array = array.float()
        elif array.dtype in (torch.int16, torch.int64, torch.uint32, torch.uint64):
            array = array.long().clamp(-(2**31), 2**31 - 1).int()
    try:
        return as_tensor(array) if is_array(array) else array
    except (TypeError, BufferError):
        kind = f"dtype {array.dtype}" if hasattr(array, "dtype") else f"type {type(array).__name__}"
        raise TypeError(f"depth has {kind}; expected uint16, int32, float16 or float32") from None
