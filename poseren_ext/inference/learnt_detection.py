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
"""Detections with a lower score are not hands."""
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
    detector: HandDetector | None = None,
) -> list[LearntHand]:
    """The hands of one frame [H, W], the most certain first; arguments as those of `find_hands`."""
    stride = reduction(frame.shape)
    small = np.ascontiguousarray(frame[::stride, ::stride], np.float32) * np.float32(depth_unit)
    small = np.where(np.isfinite(small) & (small > 0), small, np.float32(0))
    focal = float(np.sqrt(camera.fx * camera.fy)) / stride
    with torch.inference_mode():
        focals = torch.tensor([focal], dtype=torch.float32)
        maps = (detector or bundled_detector())(padded(torch.from_numpy(small)[None]), focals)[0].float()
        candidates = _candidates(maps)
    hands: list[LearntHand] = []
    for score, left, column, row, d in sorted(candidates, reverse=True):
        u, v = ((x * CELL - 0.5) * stride for x in (column, row))
        side: Literal["right", "left"] = "left" if left > 0.0 else "right"
        hand = LearntHand((u, v, d), side if abs(left) >= _CERTAIN else None, score)
        if all(_distance(hand, other, camera) > _SAME_HAND for other in hands):
            hands.append(hand)
    return [hand._replace(center=_settled(hand.center, small, camera, stride)) for hand in hands[:max_hands]]


def _settled(
    center: tuple[float, float, float], depth: npt.NDArray[np.float32], camera: Camera, stride: int
) -> tuple[float, float, float]:
    """The mean of the surface around a centre, each point weighted by its distance; the joints lie a little behind it.

    It moves less than the network's answer when the image moves: one step of a mean shift.

    Args:
        center: u, v (pixels of the whole frame), d (mm).
        depth: the reduced frame [h, w] mm, 0 where there is none.
        camera: intrinsics of the whole frame.
        stride: the reduction.
    """
    u, v, d = center
    x = (np.arange(depth.shape[1], dtype=np.float32) * stride - camera.cx) / camera.fx
    y = (np.arange(depth.shape[0], dtype=np.float32)[:, None] * stride - camera.cy) / camera.fy
    across, down = x * depth - (u - camera.cx) / camera.fx * d, y * depth - (v - camera.cy) / camera.fy * d
    squared = across**2 + down**2 + (depth - np.float32(d)) ** 2
    # A pixel's area grows with the square of its depth.
    weight = np.exp(squared * np.float32(-0.5 / _SURFACE**2)) * depth**2
    total = float(weight.sum())
    if total <= 0.0:
        return center
    z = float((weight * depth).sum()) / total + _BEHIND
    right = (u - camera.cx) / camera.fx * d + float((weight * across).sum()) / total
    below = (v - camera.cy) / camera.fy * d + float((weight * down).sum()) / total
    return right / z * camera.fx + camera.cx, below / z * camera.fy + camera.cy, z


def _distance(a: LearntHand, b: LearntHand, camera: Camera) -> float:
    """Distance of two centres, mm."""
    (x, y, z), (p, q, r) = (
        ((u - camera.cx) * d / camera.fx, (v - camera.cy) * d / camera.fy, d) for u, v, d in (a.center, b.center)
    )
    return float(np.sqrt((x - p) ** 2 + (y - q) ** 2 + (z - r) ** 2))


def _candidates(maps: Tensor) -> list[list[float]]:
    """Local maxima of the heat map: score, logit of a left hand, column, row (cells), depth (mm).

    Each position is the mean of what the cells around the maximum give, weighted by their scores: it moves smoothly
    with the image.

    Args:
        maps: [5, h, w] of the network.
    """
    score = maps[0].sigmoid()
    peak = (score == F.max_pool2d(score[None, None], 3, 1, 1)[0, 0]) & (score >= LEAST_SCORE)
    row, column = peak.nonzero().unbind(1)
    h, w = score.shape
    steps = torch.tensor([-1, 0, 1])
    rows, columns = (row[:, None] + steps)[:, :, None], (column[:, None] + steps)[:, None, :]  # [N, 3, 1], [N, 1, 3]
    inside = (rows >= 0) & (rows < h) & (columns >= 0) & (columns < w)
    at, across = rows.clamp(0, h - 1), columns.clamp(0, w - 1)
    weight = torch.where(inside, score[at, across], 0.0)
    weight = weight / weight.sum((1, 2), keepdim=True)
    left, u, v, depth = (maps[channel, at, across] for channel in range(1, 5))
    values = (left, columns + u + 0.5, rows + v + 0.5, 1000.0 * depth.clamp(max=3.0).exp())
    means = [(weight * value).sum((1, 2)) for value in values]
    found = torch.stack([score[row, column], *means], 1)
    return [one for one in found.tolist() if _NEAREST < one[4] < _FARTHEST]


@lru_cache(maxsize=1)
def bundled_detector(path: Path = BUNDLED_DETECTOR) -> HandDetector:
    """The bundled network, read once."""
    return load_detector(path)
