# SPDX-License-Identifier: MIT
"""A moving synthetic hand: one rendered frame, shifted."""

from functools import cache

import numpy as np
import torch

from poseren_ext.geometry.camera import Camera
from poseren_ext.synthetic import SyntheticSequence

CAMERA = Camera(238, 238, 159.5, 119.5, 320, 240)


@cache
def _still():
    sequence = SyntheticSequence(11, "test", number=3, camera=CAMERA)
    depth = sequence.frames(torch.arange(1)).depth[0].round().numpy().astype(np.uint16)
    # Only what is near: where the frame is shifted, nothing but the hand moves.
    near = depth[depth > 0].min()
    return np.where(depth < near + 250, depth, 0).astype(np.uint16)


def still():
    return _still().copy()


def moving(count, step=3):
    """uint16 [count, 240, 320]: to the right and back."""
    shifts = [step * (i if i % 16 < 8 else -i) % 16 for i in range(count)]
    return np.stack([np.roll(_still(), shift, axis=1) for shift in shifts])


def mirrored():
    """The other hand."""
    return _still()[:, ::-1].copy()


def two_hands(count):
    """uint16 [count, 240, 320]: a right hand on the left and a left hand on the right, which approach each other."""
    hand = np.zeros((240, 320), np.uint16)
    hand[:130, 175:230] = _still()[:130, 175:230]  # without the objects beside it
    frames = [np.maximum(np.roll(hand, i - 90, axis=1), np.roll(hand[:, ::-1], 90 - i, axis=1)) for i in range(count)]
    return np.stack(frames)
