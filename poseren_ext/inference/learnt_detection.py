# SPDX-License-Identifier: MIT
"""Hand detection by two small networks: proposals on a reduced depth frame, and a second look at each of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from poseren_ext.geometry.camera import Camera
from poseren_ext.inference.onnx_detector import OnnxDetector
from poseren_ext.inference.surface_detection import reduction
from poseren_ext.models.detector import BUNDLED_DETECTOR, HandDetector, load_detector
from poseren_ext.models.hand_proposals import CELL, padded
from poseren_ext.models.hand_verifier import HANDS, Verdict, verifier_crops

LEAST_SCORE = 0.5
"""Detections with a lower score are not taken for hands, unless asked for."""
VERIFIED_SIDE = 320
"""Longest side of the frame that the second network sees, pixels; longer ones are reduced."""
MOST_PROPOSALS = 8
"""The second network looks at so many proposals of a frame at most."""
LEAST_PROPOSAL = 0.12
"""Proposals with a lower score are no hands."""
CERTAIN_SIDE = 1.7
"""Least logit of a side that is given: such sides are right for 97 of 100 hands of validation scenes."""
_SURFACE = 60.0  # mm: standard deviation of the weights of surface points around the middle of a hand's joints
_TO_SURFACE = 0.75  # how far a centre lies from the middle of the joints towards the mean of these points
_BEHIND = 8.0  # mm from the surface to the middle of the joints
_SAME_HAND = 60.0  # mm: detections nearer to each other are one hand
_NEAREST, _FARTHEST = 100.0, 3000.0  # mm: limits of the depth of proposals


class LearntHand(NamedTuple):
    """A detection."""

    middle: tuple[float, float, float]
    """u, v (pixels of the whole frame), d (mm) of the middle of the box around its joints."""
    center: tuple[float, float, float]
    """Likewise, of the cube in which its pose is estimated: near the mean of its surface."""
    side: Literal["right", "left"] | None
    """None where the network is not certain."""
    score: float


def learnt_hands(
    frame: npt.NDArray[Any],
    camera: Camera,
    max_hands: int,
    depth_unit: float,
    score_threshold: float = LEAST_SCORE,
    detector: HandDetector | OnnxDetector | None = None,
) -> list[LearntHand]:
    """The hands of one frame [H, W], the most certain first; arguments as those of `find_hands`."""
    detector, depth_unit = detector or fastest_detector(), float(depth_unit)
    stride, finer = reduction(frame.shape), reduction(frame.shape, VERIFIED_SIDE)
    with torch.inference_mode():
        intrinsics = torch.tensor([[camera.fx, camera.fy, camera.cx, camera.cy]], dtype=torch.float32)
        coarse = _known_depth(_reduced(frame, 0, stride), depth_unit)
        cells = hand_cells(detector.proposals, padded(coarse), intrinsics, stride)
        proposals = best_proposals(cells)[0]
        proposals = proposals[proposals[:, 0] >= LEAST_PROPOSAL]
        if not len(proposals):
            return []
        looks = [_reduced(frame, first, finer) for first in first_pixels(finer)]
        seen = verified(detector.verifier, proposals[:, 1:], looks, intrinsics, finer, depth_unit)
        best = _distinct(seen, camera, score_threshold)[:max_hands]
        middles = torch.tensor([row[2:] for row in best], dtype=torch.float32).view(-1, 3)
        centers = settled(middles, coarse, intrinsics, stride)
    return [
        LearntHand((u, v, d), tuple(center), _side(left), score)
        for (score, left, u, v, d), center in zip(best, centers.tolist(), strict=True)
    ]


def _side(left: float) -> Literal["right", "left"] | None:
    """The side by the logit of a left hand."""
    return ("left" if left > 0.0 else "right") if abs(left) >= CERTAIN_SIDE else None


def _distinct(hands: Tensor, camera: Camera, least: float) -> list[list[float]]:
    """Rows of `verified` by score, down to the least, without those within _SAME_HAND mm of a better one.

    Both hands of one proposal are two, however near they are.
    """
    rows, kept = hands.tolist(), list[int]()
    for k in sorted(range(len(rows)), key=lambda k: -rows[k][0]):
        others = [one for one in kept if one // HANDS != k // HANDS]
        if rows[k][0] >= least and all(_distance(rows[k][2:], rows[one][2:], camera) > _SAME_HAND for one in others):
            kept.append(k)
    return [rows[k] for k in kept]


def _reduced(frame: npt.NDArray[Any], first: int, stride: int) -> Tensor:
    """Every ``stride``-th row and column of a frame, from the ``first`` on: [1, h, w] as stored.

    It is a copy: PyTorch warns of arrays that are not writable.
    """
    dtype = np.uint16 if frame.dtype == np.uint16 else np.float32
    return torch.from_numpy(np.array(frame[first::stride, first::stride], dtype, order="C"))[None]


def _known_depth(stored: Tensor, depth_unit: float) -> Tensor:
    """Stored depth in mm, 0 where there is none."""
    depth = stored.float() * depth_unit
    return torch.where(depth.isfinite() & (depth > 0.0), depth, 0.0)


def hand_cells(network: Callable[[Tensor, Tensor], Tensor], depth: Tensor, camera: Tensor, stride: int) -> Tensor:
    """What the first network finds in each cell of reduced frames, decoded.

    Each position is the mean of what the cells around give, weighted by their scores: it moves smoothly with the image.

    Args:
        network: the first stage.
        depth: reduced and padded frames [B, H, W] mm, 0 where there is none.
        camera: fx, fy, cx, cy of the whole frames, [B, 4] pixels.
        stride: pixels of the whole frame per pixel of the reduced one.

    Returns:
        Tensor: [B, 4, H / 4, W / 4]: score, which is 0 where it is no local maximum or at an impossible depth; the
            centre's u, v (pixels of the whole frame) and d (mm).
    """
    maps = network(depth, (camera[:, 0] * camera[:, 1]).sqrt() / stride).float()
    score, across, down, distance = maps.unbind(1)
    score = score.sigmoid()
    columns, rows = torch.arange(maps.shape[3], device=maps.device), torch.arange(maps.shape[2], device=maps.device)
    values = torch.stack(
        [columns + across + 0.5, rows[:, None] + down + 0.5, 1000.0 * distance.clamp(max=3.0).exp()], 1
    )
    weight = score[:, None]
    means = F.avg_pool2d(weight * values, 3, 1, 1) / F.avg_pool2d(weight, 3, 1, 1)
    pixels, mm = (means[:, :2] * CELL - 0.5) * stride, means[:, 2]
    peak = (score == F.max_pool2d(weight, 3, 1, 1)[:, 0]) & (mm > _NEAREST) & (mm < _FARTHEST)
    return torch.cat([torch.where(peak, score, 0.0)[:, None], pixels, means[:, 2:]], 1)


def best_proposals(cells: Tensor) -> Tensor:
    """Score, u, v and d of the most certain cells of `hand_cells`: [B, MOST_PROPOSALS, 4]."""
    flat = cells.flatten(2)
    best = flat[:, 0].topk(min(MOST_PROPOSALS, flat.shape[2]), 1).indices
    return flat.gather(2, best[:, None].expand(-1, 4, -1)).mT


def first_pixels(stride: int) -> tuple[int, int]:
    """First row and column of the two reduced frames of `verified`. They share no pixel unless the stride is 1."""
    return 0, stride // 2


def verified(
    network: Callable[[Tensor, Tensor], Verdict],
    center: Tensor,
    looks: Sequence[Tensor],
    camera: Tensor,
    stride: int,
    depth_unit: float = 1.0,
) -> Tensor:
    """The hands that a closer look at each proposal finds: score, logit of a left hand, and the centre's u, v and d.

    Rows [N * HANDS, 5]: the hands of the first proposal, then those of the next. They are the means of two looks, the
    second one mirrored and at other pixels: errors of the network and noise of the camera are smaller in the mean.

    Args:
        network: the second stage.
        center: u, v (pixels of the whole frame), d (mm) of the proposals [N, 3].
        looks: two reductions of the frame of each [N, H, W], or of that of all [1, H, W], from `first_pixels` on.
        camera: fx, fy, cx, cy of the whole frames [N, 4] or [1, 4].
        stride: pixels of the whole frame per pixel of the reduced ones.
        depth_unit: mm per stored unit.
    """
    count = center.shape[0]  # len() would make it a constant of exported graphs
    camera = camera.expand(count, -1)
    focal, d = camera[:, None, :2], center[:, None, 2:]
    crops = []
    for depth, first in zip(looks, first_pixels(stride), strict=True):
        reduced_center = torch.cat([(center[:, :2] - first) / stride, center[:, 2:]], 1)
        crops.append(
            verifier_crops(depth.expand(count, -1, -1), reduced_center, camera / stride, depth_unit=depth_unit)
        )
    pitch = torch.log(center[:, 2] * stride / (camera[:, 0] * camera[:, 1]).sqrt())
    hand, left, offset = network(torch.cat([crops[0], crops[1].flip(3)]), pitch.repeat(2))
    hand, left = 0.5 * (hand[:count] + hand[count:]), 0.5 * (left[:count] - left[count:])
    offset = 0.5 * (offset[:count] + offset[count:] * offset.new_tensor([-1.0, 1.0, 1.0]))
    pixels = center[:, None, :2] + offset[..., :2] * focal / d
    mm = (d + offset[..., 2:]).clamp(min=_NEAREST)
    return torch.cat([hand.sigmoid()[..., None], left[..., None], pixels, mm], 2).flatten(0, 1)


def settled(center: Tensor, depth: Tensor, camera: Tensor, stride: int) -> Tensor:
    """The centre moved most of the way to the mean of the surface around it; the joints lie a little behind that.

    The mean, with a weight for each point that falls with its distance, moves less than the network's answer when the
    image moves: one step of a mean shift. Poses are more accurate in a cube around it, as the networks have learnt from
    such cubes. Where joints are hidden, the network's answer is nearer to their middle.

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
    return torch.where(total[:, :, 0] > 0.0, center + _TO_SURFACE * (torch.cat(moved, 1)[:, :, 0] - center), center)


def _distance(a: Sequence[float], b: Sequence[float], camera: Camera) -> float:
    """Distance of two centres u, v, d, mm."""
    (x, y, z), (p, q, r) = (((u - camera.cx) * d / camera.fx, (v - camera.cy) * d / camera.fy, d) for u, v, d in (a, b))
    return float(np.sqrt((x - p) ** 2 + (y - q) ** 2 + (z - r) ** 2))


@lru_cache(maxsize=1)
def fastest_detector() -> HandDetector | OnnxDetector:
    """The bundled networks, in ONNX Runtime if that is installed."""
    detector = bundled_detector()
    try:
        return OnnxDetector(detector)
    except ImportError:
        return detector
    except Exception as error:  # of the library's own types
        warnings.warn(
            f"PyTorch finds the hands, which takes longer, as ONNX Runtime cannot load the detector ({error}); "
            "update it: pip install --upgrade onnxruntime",
            stacklevel=2,
        )
        return detector


@lru_cache(maxsize=1)
def bundled_detector(path: Path = BUNDLED_DETECTOR) -> HandDetector:
    """The bundled networks, read once."""
    return load_detector(path)
