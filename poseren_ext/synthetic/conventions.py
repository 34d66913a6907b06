# SPDX-License-Identifier: MIT
"""The synthetic hand's joints in each dataset's own convention: which joints, where they sit, in which order."""

from __future__ import annotations

import torch

# MSRA's 21: the wrist, then four joints a finger; the thumb's are its CMC, MCP and IP joints and its tip.
_WRIST, _INDEX, _MIDDLE, _RING, _PINKY, _THUMB = 0, 1, 5, 9, 13, 17
_THUMB_TO_PINKY = (_THUMB, _INDEX, _MIDDLE, _RING, _PINKY)

Weights = dict[int, float]

# Places between joints, as weights of the 21 that sum to 1. NYU's palm lies two thirds of the way to the middle
# knuckle; its two wrist joints some 17 mm to the sides of the wrist's middle, the first on the thumb's side.
_NYU_PALM: Weights = {_WRIST: 0.35, _MIDDLE: 0.65}
_NYU_WRIST_1: Weights = {_WRIST: 1.0, _INDEX: 0.28, _PINKY: -0.28}
_NYU_WRIST_2: Weights = {_WRIST: 1.0, _INDEX: -0.28, _PINKY: 0.28}
_ICVL_PALM: Weights = {_WRIST: 0.4, _MIDDLE: 0.6}


def _at(joint: int) -> Weights:
    return {joint: 1.0}


_CONVENTIONS: dict[str, tuple[Weights, ...]] = {
    "msra21": tuple(_at(joint) for joint in range(21)),
    "nyu14": (
        *(_at(finger + part) for finger in (_PINKY, _RING, _MIDDLE, _INDEX) for part in (3, 1)),
        *(_at(_THUMB + part) for part in (3, 2, 1)),
        *(_NYU_WRIST_2, _NYU_WRIST_1, _NYU_PALM),
    ),
    "icvl16": (
        _ICVL_PALM,
        *(_at(_THUMB + part) for part in (1, 2, 3)),
        *(_at(finger + part) for finger in (_INDEX, _MIDDLE, _RING, _PINKY) for part in (0, 1, 3)),
    ),
    "hands17": (
        _at(_WRIST),
        *(_at(finger) for finger in _THUMB_TO_PINKY),
        *(_at(finger + part) for finger in _THUMB_TO_PINKY for part in (1, 2, 3)),
    ),
}


def convert_joints(joints: torch.Tensor, skeleton: str) -> torch.Tensor:
    """Joints in mm, from MSRA's 21 to another convention.

    ICVL shows left hands; the synthetic hand stays a right one.

    Args:
        joints: [..., 21, 3] in mm (not in pixels: some places lie between joints).
        skeleton: key of `poseren_ext.geometry.skeleton.SKELETONS`.

    Returns:
        [..., J, 3].

    Raises:
        ValueError: The convention is unknown.
    """
    if skeleton not in _CONVENTIONS:
        raise ValueError(f"skeleton is {skeleton!r}; expected one of {', '.join(_CONVENTIONS)}")
    places = _CONVENTIONS[skeleton]
    weights = joints.new_zeros(len(places), 21)
    for row, place in enumerate(places):
        for joint, weight in place.items():
            weights[row, joint] = weight
    return weights @ joints
