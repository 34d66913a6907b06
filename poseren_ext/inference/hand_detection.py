# SPDX-License-Identifier: MIT
"""Hand detection in depth frames: the one function that finds hands for every other part of the package."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, TypeAlias, get_args, overload

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from poseren_ext.geometry.camera import Camera
from poseren_ext.inference.learnt_detection import LEAST_SCORE, learnt_hands
from poseren_ext.inference.surface_detection import masks_around, reduction, surface_hands

Image = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
Method: TypeAlias = Literal["learnt", "surface"]
_ANY_SCORE = 1e-30  # of a presumed hand: the best proposal is taken


@dataclass(frozen=True)
class HandDetection:
    """A hand in a frame.

    Attributes:
        center: u, v (pixels), d (mm) of the cube in which the hand's pose is estimated: near the mean of the visible
            surface of the hand without its forearm (paper, section 3.5).
        middle: likewise, of the box around the hand's joints, hidden or not ("learnt"): of the cube that most likely
            holds all of them. The same as center for a hand that "surface" finds.
        side: "left" or "right"; None where it is not known, as of every hand that "surface" finds.
        score: 0 to 1, how likely this is a whole hand.
    """

    center: tuple[float, float, float]
    middle: tuple[float, float, float]
    side: Literal["left", "right"] | None
    score: float
    _masks: Callable[[], tuple[Mask, Mask]] = field(repr=False, compare=False)

    @property
    def mask(self) -> Mask:
        """The hand's pixels [H, W]."""
        return self._masks()[0]

    @property
    def surface(self) -> Mask:
        """The pixels [H, W] of the hand and of what is connected with it, its arm first of all."""
        return self._masks()[1]


@overload
def find_hands(
    depth: Sequence[Tensor | Image],
    camera: Camera,
    max_hands: int = 2,
    *,
    depth_unit: float = 1.0,
    method: Method = "learnt",
    score_threshold: float = LEAST_SCORE,
) -> list[list[HandDetection]]: ...
@overload
def find_hands(
    depth: Tensor | Image,
    camera: Camera,
    max_hands: int = 2,
    *,
    depth_unit: float = 1.0,
    method: Method = "learnt",
    score_threshold: float = LEAST_SCORE,
) -> list[Any]: ...
def find_hands(
    depth: Tensor | Image | Sequence[Tensor | Image],
    camera: Camera,
    max_hands: int = 2,
    *,
    depth_unit: float = 1.0,
    method: Method = "learnt",
    score_threshold: float = LEAST_SCORE,
) -> list[HandDetection] | list[list[HandDetection]]:
    """Find hands in one depth frame or in several.

    The result of a frame does not depend on other frames. Pixels that are 0, negative, NaN or infinite have no depth.

    Args:
        depth: one frame [H, W], or several as an array [B, H, W] or a list of [H, W], as stored.
        camera: intrinsics of the frames.
        max_hands: the largest number of hands per frame.
        depth_unit: mm per stored unit.
        method: "learnt" takes what two small networks find, the most certain hand first; "surface" takes the nearest
            connected surfaces of a hand's width, nearest first, whether they are hands or not.
        score_threshold: least score of what the networks find. Lower values find more hands, and more things that are
            none; the surface method does not use it.

    Returns:
        At most ``max_hands`` detections for one frame; a list of these lists, one per frame, for several. A frame
        without a hand gives an empty list.

    Raises:
        ValueError: depth is neither [H, W] nor [B, H, W], max_hands is below 1, the method is unknown, or the
            threshold is not above 0 and at most 1.
    """
    if isinstance(max_hands, bool) or not isinstance(max_hands, numbers.Integral) or max_hands < 1:
        raise ValueError(f"max_hands is {max_hands!r}; expected a whole number, 1 or more")
    if method not in get_args(Method):
        raise ValueError(f"method is {method!r}; expected one of {', '.join(map(repr, get_args(Method)))}")
    if not 0.0 < score_threshold <= 1.0:
        raise ValueError(f"score_threshold is {score_threshold!r}; expected a number above 0, at most 1")
    if isinstance(depth, Tensor | np.ndarray) and depth.ndim == 2:
        return _in_frame(depth, camera, max_hands, depth_unit, method, score_threshold)
    if not isinstance(depth, Sequence) and np.ndim(depth) != 3:
        raise ValueError(f"depth has shape {tuple(np.shape(depth))}; expected [H, W] or [B, H, W]")
    return [_in_frame(frame, camera, max_hands, depth_unit, method, score_threshold) for frame in depth]


def presumed_hand(depth: Tensor | Image, camera: Camera, depth_unit: float = 1.0) -> HandDetection | None:
    """The hand of a frame [H, W] that is known to show one, however uncertain: the best detection, or else surface.

    None if there is no surface of a hand's width.
    """
    found: list[HandDetection] = find_hands(depth, camera, 1, depth_unit=depth_unit, score_threshold=_ANY_SCORE)
    found = found or find_hands(depth, camera, 1, depth_unit=depth_unit, method="surface")
    return found[0] if found else None


def _in_frame(
    depth: Tensor | Image,
    camera: Camera,
    max_hands: int,
    depth_unit: float,
    method: Method,
    score_threshold: float,
) -> list[HandDetection]:
    frame = _array(depth)
    if frame.ndim != 2:
        raise ValueError(f"a frame has shape {frame.shape}; expected [H, W]")
    size, stride = (frame.shape[0], frame.shape[1]), reduction(frame.shape)
    if method == "learnt":
        found = learnt_hands(frame, camera, max_hands, depth_unit, score_threshold)
        masks = partial(_masks_around, frame, camera, depth_unit)
        return [HandDetection(one.center, one.middle, one.side, one.score, partial(masks, one.center)) for one in found]
    return [
        HandDetection(one.center, one.center, None, one.score, partial(_enlarged, one.masks, size, stride))
        for one in surface_hands(frame, camera, max_hands, depth_unit)
    ]


def _masks_around(
    frame: Image, camera: Camera, depth_unit: float, center: tuple[float, float, float]
) -> tuple[Mask, Mask]:
    size = (frame.shape[0], frame.shape[1])
    return _enlarged(masks_around(center, frame, camera, depth_unit), size, reduction(size))


def _array(depth: Tensor | Image) -> Image:
    if isinstance(depth, Tensor):
        return (depth.detach().float() if depth.dtype == torch.bfloat16 else depth.detach()).cpu().numpy()
    return np.asarray(depth)


def _enlarged(masks: tuple[Mask, Mask], shape: tuple[int, int], stride: int) -> tuple[Mask, Mask]:
    return _enlarge(masks[0], shape, stride), _enlarge(masks[1], shape, stride)


def _enlarge(mask: Mask, shape: tuple[int, int], stride: int) -> Mask:
    """A mask of the reduced image in the whole one, whose pixels lie in the middle of the reduced one's."""
    half, (height, width) = stride // 2, shape
    whole = cv2.resize(
        np.uint8(mask), (mask.shape[1] * stride, mask.shape[0] * stride), interpolation=cv2.INTER_NEAREST
    )
    enlarged: Mask = np.pad(whole, ((0, half), (0, half)), "edge")[half:][:height, half:][:, :width].astype(bool)
    return enlarged
