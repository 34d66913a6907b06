# SPDX-License-Identifier: MIT
"""Depth frames and geometry that the tests of depth_crop share."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from poseren_ext.geometry.camera import Camera

CAMERA = Camera(200.0, 180.0, 20.0, 15.0)
CENTER = torch.tensor([21.3, 14.6, 800.0])
CUBE = 60.0


def rough_frames(seed: int, shape: tuple[int, int, int], dtype: torch.dtype) -> Tensor:
    """Tilted planes with noise, steps and holes; NaN and infinities too where the type has them."""
    random = np.random.default_rng(seed)
    _, v, u = np.indices(shape)
    frames = 760 + 2 * u + v + random.normal(0, 5, shape)
    frames[random.random(shape) < 0.1] += 400
    frames[random.random(shape) < 0.03] = 0
    depth = torch.from_numpy(frames).to(torch.int32).to(dtype)
    for hole in (math.nan, math.inf, -math.inf) if dtype.is_floating_point else ():
        some = torch.from_numpy(random.random(shape) < 0.03)
        depth = torch.where(some, torch.tensor(hole).to(dtype), depth)
    return depth


def random_transforms(seed: int, batch: int) -> Tensor:
    """Turns by any angle, zooms and shifts: [batch, 2, 3]."""
    random = np.random.default_rng(seed)
    angle, zoom = random.uniform(-math.pi, math.pi, batch), random.uniform(0.8, 1.2, batch)
    cosine, sine = zoom * np.cos(angle), zoom * np.sin(angle)
    shift = random.uniform(-0.2, 0.2, (2, batch))
    rows = [[cosine, -sine, shift[0]], [sine, cosine, shift[1]]]
    return torch.from_numpy(np.moveaxis(np.array(rows), -1, 0)).float()
