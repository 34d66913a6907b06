# SPDX-License-Identifier: MIT
"""Errors by viewpoint: the yaw and pitch curves of the paper's figure 8 (MSRA protocol)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics import Metric

from poseren_ext.geometry.skeleton import Skeleton

BIN_DEGREES = 2
RANGES_DEGREES = {"yaw": (-41, 41), "pitch": (-11, 91)}
"""Outer edges of the bins: angles are rounded to the nearest even degree, -40 to 40 and -10 to 90 (authors' script)."""


def hand_angles(joints: Tensor, wrist: int, middle: int, pinky: int) -> tuple[Tensor, Tensor]:
    """Yaw and pitch of the palm.

    The palm frame has y from the wrist to the root of the middle finger and z across the palm. Pitch is the angle of y
    towards the camera, yaw its angle sideways in the image.

    Args:
        joints: labels [B, J, 3], mm, camera frame (x right, y down, z forward).
        wrist: index of the wrist.
        middle: index of the middle finger's root (MCP).
        pinky: index of the little finger's root (MCP).

    Returns:
        Yaw [B] and pitch [B], degrees, float64; NaN for a palm with no extent.
    """
    joints = joints.double()
    up = joints[:, middle] - joints[:, wrist]
    up = up / torch.linalg.vector_norm(up, dim=-1, keepdim=True)
    normal = torch.linalg.cross(up, joints[:, pinky] - joints[:, wrist])
    flat = torch.linalg.vector_norm(normal, dim=-1) == 0
    pitch = -torch.asin(up[:, 2].clamp(-1, 1))
    # Rounding can push the ratio past 1 where the hand points straight at the camera.
    yaw = torch.asin((up[:, 0] / torch.cos(pitch)).clamp(-1, 1))
    yaw, pitch = (torch.rad2deg(angle).masked_fill(flat, torch.nan) for angle in (yaw, pitch))
    return yaw, pitch


@dataclass(frozen=True)
class ViewpointCurve:
    """Mean joint error in bins of one angle.

    Attributes:
        edges: bin edges, degrees, K + 1 values.
        frames: frames in each bin, K values.
        error: mean joint error in each bin, mm; None where a bin is empty.
        outside: frames whose angle lies outside all bins.
    """

    edges: tuple[float, ...]
    frames: tuple[int, ...]
    error: tuple[float | None, ...]
    outside: int

    @property
    def centers(self) -> tuple[float, ...]:
        """Centre of each bin, degrees."""
        return tuple((low + high) / 2 for low, high in zip(self.edges[:-1], self.edges[1:], strict=True))

    @classmethod
    def from_lists(
        cls, edges: Sequence[float], frames: Sequence[int], error: Sequence[float | None], outside: int
    ) -> ViewpointCurve:
        """Create from JSON, which has lists instead of tuples."""
        return cls(tuple(edges), tuple(frames), tuple(error), outside)


class ViewpointError(Metric):
    """Mean joint error in bins of the hand's yaw and pitch, taken from the labels.

    Args:
        skeleton: a skeleton with the joints "wrist", "middle mcp" and "pinky mcp" (those of MSRA and HANDS17).

    Raises:
        ValueError: The skeleton does not have these joints.
    """

    full_state_update = False
    higher_is_better = False
    seen: Tensor

    def __init__(self, skeleton: Skeleton) -> None:
        super().__init__()
        needed = ("wrist", "middle mcp", "pinky mcp")
        missing = [joint for joint in needed if joint not in skeleton.joints]
        if missing:
            raise ValueError(f"{skeleton.name} has no {', '.join(missing)}; viewpoints need MSRA's or HANDS17's joints")
        self.palm = tuple(skeleton.joints.index(joint) for joint in needed)
        for axis, (low, high) in RANGES_DEGREES.items():
            bins = (high - low) // BIN_DEGREES
            self.add_state(f"{axis}_total", torch.zeros(bins, dtype=torch.float64), dist_reduce_fx="sum")
            self.add_state(f"{axis}_frames", torch.zeros(bins, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("seen", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add a batch of joints [B, J, 3], mm, camera frame."""
        error = torch.linalg.vector_norm(prediction.double() - target.double(), dim=-1).mean(1)
        self.seen += len(error)
        wrist, middle, pinky = self.palm
        for axis, angle in zip(RANGES_DEGREES, hand_angles(target, wrist, middle, pinky), strict=True):
            low, high = RANGES_DEGREES[axis]
            index = torch.floor((angle - low) / BIN_DEGREES)
            inside = (angle >= low) & (angle < high)  # NaN is outside
            index = index[inside].long()
            getattr(self, f"{axis}_total").index_add_(0, index, error[inside])
            getattr(self, f"{axis}_frames").index_add_(0, index, torch.ones_like(index))

    def compute(self) -> dict[str, Tensor]:
        """Mean error, mm, float64, by yaw [41] and by pitch [51]; NaN in empty bins."""
        return {axis: getattr(self, f"{axis}_total") / getattr(self, f"{axis}_frames") for axis in RANGES_DEGREES}

    def curves(self) -> dict[str, ViewpointCurve]:
        """The same with bin edges and counts, to print, plot and store."""
        curves = {}
        for axis, error in self.compute().items():
            low, high = RANGES_DEGREES[axis]
            frames = getattr(self, f"{axis}_frames").tolist()
            curves[axis] = ViewpointCurve(
                edges=tuple(float(edge) for edge in range(low, high + 1, BIN_DEGREES)),
                frames=tuple(frames),
                error=tuple(value if count else None for value, count in zip(error.tolist(), frames, strict=True)),
                outside=int(self.seen) - sum(frames),
            )
        return curves
