# SPDX-License-Identifier: MIT
"""Hand detection by a small network: a heat map of hand centres on a reduced depth frame."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from poseren_ext.geometry.camera import Camera
from poseren_ext.inference.surface_detection import reduction
from poseren_ext.models.detector import BUNDLED_DETECTOR, CELL, HandDetector, load_detector, padded

LEAST_SCORE = 0.35
"""Detections with a lower score are not taken for hands, unless asked for."""
_CERTAIN = 1.5  # least logit of a side, right in four of five hands
_SURFACE = 60.0  # mm: standard deviation of the weights of surface points around a centre
_BEHIND = 8.0  # mm from the surface to the middle of the joints
_SAME_HAND = 60.0  # mm: detections nearer to each other are one hand
_NEAREST, _FARTHEST = 100.0, 3000.0  # mm: limits of a centre's depth


class LearntHand(NamedTuple):
    """A detection."""

    center: tuple[float, float, float]
    """u, v (pixels of the whole frame), d (mm)."""
    side: Literal["right", "left"] | None
    """None where the network is not certain."""
    score: float


def learnt_hands(
    frame: npt.NDArray[Any],
    camera: Camera,
    max_hands: int,
    depth_unit: float,
    score_threshold: float = LEAST_SCORE,
    detector: HandDetector | None = None,
) -> list[LearntHand]:
    """The hands of one frame [H, W], the most certain first; arguments as those of `find_hands`."""
    stride = reduction(frame.shape)
    small = np.ascontiguousarray(frame[::stride, ::stride], np.float32) * np.float32(depth_unit)
    depth = padded(torch.from_numpy(np.where(np.isfinite(small) & (small > 0), small, np.float32(0)))[None])
    with torch.inference_mode():
        intrinsics = torch.tensor([[camera.fx, camera.fy, camera.cx, camera.cy]], dtype=torch.float32)
        cells = hand_cells(detector or bundled_detector(), depth, intrinsics, stride)[0]
        found = cells[:, cells[0] >= score_threshold].T.tolist()
        hands: list[LearntHand] = []
        for score, left, u, v, d in sorted(found, reverse=True):
            side: Literal["right", "left"] = "left" if left > 0.0 else "right"
            hand = LearntHand((u, v, d), side if abs(left) >= _CERTAIN else None, score)
            if all(_distance(hand, other, camera) > _SAME_HAND for other in hands):
                hands.append(hand)
        centers = torch.tensor([hand.center for hand in hands[:max_hands]], dtype=torch.float32).view(-1, 3)
        centers = settled(centers, depth, intrinsics, stride)
    return [hand._replace(center=tuple(center)) for hand, center in zip(hands, centers.tolist(), strict=False)]


def hand_cells(detector: HandDetector, depth: Tensor, camera: Tensor, stride: int) -> Tensor:
    """What the network finds in each cell of reduced frames, decoded.

    Each position is the mean of what the cells around give, weighted by their scores: it moves smoothly with the image.

    Args:
        detector: the network.
        depth: reduced and padded frames [B, H, W] mm, 0 where there is none.
        camera: fx, fy, cx, cy of the whole frames, [B, 4] pixels.
        stride: pixels of the whole frame per pixel of the reduced one.

    Returns:
        Tensor: [B, 5, H / 4, W / 4]: score, which is 0 where it is no local maximum or at an impossible depth; logit of
            a left hand; the centre's u, v (pixels of the whole frame) and d (mm).
    """
    maps = detector(depth, (camera[:, 0] * camera[:, 1]).sqrt() / stride).float()
    score, left, across, down, distance = maps.unbind(1)
    score = score.sigmoid()
    columns, rows = torch.arange(maps.shape[3], device=maps.device), torch.arange(maps.shape[2], device=maps.device)
    values = torch.stack(
        [left, columns + across + 0.5, rows[:, None] + down + 0.5, 1000.0 * distance.clamp(max=3.0).exp()], 1
    )
    weight = score[:, None]
    means = F.avg_pool2d(weight * values, 3, 1, 1) / F.avg_pool2d(weight, 3, 1, 1)
    pixels, mm = (means[:, 1:3] * CELL - 0.5) * stride, means[:, 3]
    peak = (score == F.max_pool2d(weight, 3, 1, 1)[:, 0]) & (mm > _NEAREST) & (mm < _FARTHEST)
    return torch.cat([torch.where(peak, score, 0.0)[:, None], means[:, :1], pixels, means[:, 3:]], 1)


def settled(center: Tensor, depth: Tensor, camera: Tensor, stride: int) -> Tensor:
    """The mean of the surface around a centre, each point weighted by its distance; the joints lie a little behind it.

    It moves less than the network's answer when the image moves: one step of a mean shift.

    Args:
        center: u, v (pixels of the whole frame), d (mm) [N, 3].
        depth: the reduced frames [N, H, W] mm, 0 where there is none; or one frame [1, H, W] of all centres.
        camera: fx, fy, cx, cy of the whole frames [N, 4] or [1, 4], pixels.
        stride: the reduction.
    """
    u, v, d = center[:, :, None, None].unbind(1)
    fx, fy, cx, cy = camera[:, :, None, None].unbind(1)
    x = (torch.arange(depth.shape[2], device=depth.device) * stride - cx) / fx
    y = (torch.arange(depth.shape[1], device=depth.device)[:, None] * stride - cy) / fy
    right, below = (u - cx) / fx * d, (v - cy) / fy * d
    across, down = x * depth - right, y * depth - below
    squared = across**2 + down**2 + (depth - d) ** 2
    # A pixel's area grows with the square of its depth.
    weight = torch.exp(squared * (-0.5 / _SURFACE**2)) * depth**2
    total, *moments = (
        part.sum((1, 2), keepdim=True) for part in (weight, *(weight * p for p in (across, down, depth)))
    )
    z = moments[2] / total + _BEHIND
    moved = [(right + moments[0] / total) / z * fx + cx, (below + moments[1] / total) / z * fy + cy, z]
    return torch.where(total[:, :, 0] > 0.0, torch.cat(moved, 1)[:, :, 0], center)


def _distance(a: LearntHand, b: LearntHand, camera: Camera) -> float:
    """Distance of two centres, mm."""
    (x, y, z), (p, q, r) = (
        ((u - camera.cx) * d / camera.fx, (v - camera.cy) * d / camera.fy, d) for u, v, d in (a.center, b.center)
    )
    return float(np.sqrt((x - p) ** 2 + (y - q) ** 2 + (z - r) ** 2))


@lru_cache(maxsize=1)
def bundled_detector(path: Path = BUNDLED_DETECTOR) -> HandDetector:
    """The bundled network, read once."""
    return load_detector(path)
