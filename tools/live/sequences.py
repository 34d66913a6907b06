# SPDX-License-Identifier: MIT
"""Synthetic sequences for the measures of live tracking: one moving hand, and two hands that cross."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from poseren_ext.geometry.camera import CAMERAS, Camera
from poseren_ext.synthetic import SyntheticSequence
from poseren_ext.synthetic.conventions import convert_joints
from poseren_ext.synthetic.frames import camera_window
from poseren_ext.synthetic.render import render_depth
from poseren_ext.synthetic.sensor import sense
from poseren_ext.synthetic.varied_scene import mirrored

RATE = 30.0
"""Frames per second."""
_BATCH = 10


@dataclass(frozen=True)
class MovingFrame:
    """A frame of a sequence.

    Attributes:
        depth: uint16 [H, W], mm.
        joints: [hands, 21, 3], mm, camera frame: msra21.
    """

    depth: torch.Tensor
    joints: npt.NDArray[np.float32]


def one_hand(seed: int, number: int, count: int, camera: Camera = CAMERAS["sr305"]) -> Iterator[MovingFrame]:
    """A right hand that goes from one drawn pose to the next in 20 frames, before a background."""
    sequence = SyntheticSequence(seed, "test", number=number, camera=camera)
    for first in range(0, count, _BATCH):
        frames = sequence.frames(torch.arange(first, min(first + _BATCH, count)))
        for depth, joints in zip(frames.depth, frames.xyz, strict=True):
            yield MovingFrame(_stored(depth), joints[None].numpy())


def crossing_path(count: int) -> npt.NDArray[np.float64]:
    """Palms [count, 2, 3] of a left and a right hand that cross every 1.5 s, the right one 130 mm behind the left."""
    time = np.arange(count) / RATE
    swing, lift = 190 * np.sin(2 * np.pi * time / 3.1 + 1.2), 25 * np.sin(2 * np.pi * time / 1.7)
    left = np.stack([-swing, lift, 430 + 0 * time], 1)
    right = np.stack([swing, -lift, 560 + 15 * np.sin(time)], 1)
    return np.stack([left, right], 1)


def crossing_hands(seed: int, count: int, camera: Camera = CAMERAS["sr305"]) -> Iterator[MovingFrame]:
    """A left and a right hand that cross, with changing poses."""
    hands = [SyntheticSequence(seed, "test", number=number, camera=camera) for number in (0, 1)]
    path = torch.from_numpy(crossing_path(count)).float()
    for first in range(0, count, _BATCH):
        index = torch.arange(first, min(first + _BATCH, count))
        window, shape = camera_window(camera, len(index), index.device)
        surfaces, joints = [], []
        for number, (hand, side) in enumerate(zip(hands, (-1.0, 1.0), strict=True)):
            xyz, cones = hand.scenes(index).posed()
            factor = torch.tensor([[side, 1.0, 1.0]]).expand(len(index), 3)
            palm = 0.5 * (xyz[:, 0] + xyz[:, 5]) * factor
            shift = path[index, number] - palm
            turn = torch.eye(3).expand(len(index), 3, 3)
            surfaces.append(mirrored(cones, factor).moved(turn, shift))
            joints.append(convert_joints(xyz * factor[:, None] + shift[:, None], "msra21"))
        depth = render_depth(surfaces[0].concat(surfaces[1]), window, *shape)
        depth = sense(depth, hands[0]._looks(index), hands[0]._counter(index), hands[0].sensor)
        for image, both in zip(depth, torch.stack(joints, 1), strict=True):
            yield MovingFrame(_stored(image), both.numpy())


def _stored(depth: torch.Tensor) -> torch.Tensor:
    return depth.round().clamp(0, 65535).to(torch.uint16)
