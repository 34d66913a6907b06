# SPDX-License-Identifier: MIT
"""Sensor model of a depth camera: background, ragged edges, noise, quantisation, missing pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from poseren_ext._utils.counter_rng import Counter
from poseren_ext.synthetic.kinematics import Cones
from poseren_ext.synthetic.render import render_depth

_BODIES = 4


@dataclass(frozen=True)
class Sensor:
    """Ranges of the sensor faults; each frame draws random values within them.

    Attributes:
        noise: standard deviation of the depth noise at 700 mm, mm (grows with the square of the depth).
        step: depth quantisation at 700 mm, mm (grows likewise).
        ragged: how far edges jump sideways, in pixels (standard deviation).
        dropout: fraction of the pixels just behind an edge that are missing.
        holes: how often a frame has holes.
        background: shares of frames with nothing, a wall, and clutter behind the hand.
    """

    noise: tuple[float, float] = (0.05, 2.0)
    step: tuple[float, float] = (0.1, 3.0)
    ragged: tuple[float, float] = (0.0, 0.5)
    dropout: tuple[float, float] = (0.0, 0.8)
    holes: float = 0.25
    background: tuple[float, float, float] = (0.45, 0.25, 0.30)


def _draw(rng: Counter, stream: str, limits: tuple[float, float]) -> torch.Tensor:
    return rng.uniform(stream, 1, *limits)[:, :, None]


def add_background(
    depth: torch.Tensor, window: torch.Tensor, hand_far: torch.Tensor, rng: Counter, sensor: Sensor
) -> torch.Tensor:
    """Adds nothing, a slanted wall, or a wall and bodies behind hands.

    Args:
        depth: [B, H, W] mm, inf where the hand is not.
        window: [B, 4], see `render.render_depth`.
        hand_far: [B] the hand's largest depth, mm; the background keeps 30 mm behind it.
        rng: the frames' random numbers.
        sensor: how often which background.
    """
    H, W = depth.shape[1:]
    kind = rng.uniform("bgkind", 1)[:, 0]
    x = window[:, 0, None] + window[:, 2, None] * torch.arange(W, device=depth.device)
    y = window[:, 1, None] + window[:, 3, None] * torch.arange(H, device=depth.device)
    tilt = rng.uniform("bgtilt", 2, -0.6, 0.6)
    gap = rng.uniform("bggap", 1, 30.0, 450.0)[:, 0]
    middle = window[:, :2] + 0.5 * window[:, 2:] * window.new_tensor([W - 1.0, H - 1.0])
    plane = (hand_far + gap)[:, None, None] * (
        1.0
        + tilt[:, 0, None, None] * (x - middle[:, :1])[:, None, :]
        + tilt[:, 1, None, None] * (y - middle[:, 1:])[:, :, None]
    )
    none, wall, _ = sensor.background
    behind = torch.where((kind < none)[:, None, None], torch.inf, plane)
    cluttered = (kind >= none + wall).nonzero()[:, 0]
    if len(cluttered):
        bodies = render_depth(bodies_behind(rng, hand_far, middle, cluttered), window[cluttered], H, W)
        behind[cluttered] = torch.minimum(behind[cluttered] + 300.0, bodies)
    return torch.minimum(depth, torch.maximum(behind, (hand_far + 30.0)[:, None, None]))


def bodies_behind(rng: Counter, hand_far: torch.Tensor, middle: torch.Tensor, chosen: torch.Tensor) -> Cones:
    """Thick round cones (torso, head, arms, furniture) somewhere behind the hand."""
    u = rng.uniform("bodies", 8 * _BODIES)[chosen].view(-1, _BODIES, 8)
    radius = 30.0 + 120.0 * u[..., 0] ** 2
    z = hand_far[chosen, None] + 40.0 + radius + 300.0 * u[..., 1]
    place = middle[chosen, None] * z[..., None] + 640.0 * (u[..., 2:4] - 0.5)
    a = torch.cat([place, z[..., None]], -1)
    b = a + 400.0 * (u[..., 4:7] - 0.5) * a.new_tensor([1.0, 1.0, 0.3])
    return Cones(a, b, radius, radius * (0.7 + 0.6 * u[..., 7]))


def sense(depth: torch.Tensor, rng: Counter, pixels: Counter, sensor: Sensor) -> torch.Tensor:
    """Depth as a camera measures it.

    Args:
        depth: [B, H, W] mm, inf where there is nothing.
        rng: draws the size of the faults of each frame, and its holes.
        pixels: draws the noise of each pixel.
        sensor: the ranges of the faults.

    Returns:
        float32 [B, H, W] mm, 0 where the camera sees nothing.
    """
    B, H, W = depth.shape
    depth = torch.where(depth.isinf(), 0.0, depth)
    shake = _draw(rng, "shake", sensor.ragged)
    across, down, _ = (values.view(B, H, W) for values in pixels.field("ragged", H * W))
    sideways, along = ((shake * jump).round_().long() for jump in (across, down))
    column = (torch.arange(W, device=depth.device) + sideways).clamp_(0, W - 1)
    row = (torch.arange(H, device=depth.device)[:, None] + along).clamp_(0, H - 1)
    depth = depth.flatten(1).gather(1, (row * W + column).flatten(1)).view(B, H, W)

    white, _, chance = (values.view(B, H, W) for values in pixels.field("noise", H * W))
    smooth = F.avg_pool2d(white[:, None], 3, 1, 1)[:, 0]  # neighbouring pixels share part of their noise
    grows = (depth / 700.0) ** 2
    noisy = depth + _draw(rng, "sigma", sensor.noise) * grows * (0.7 * white + 2.1 * smooth)
    step = (_draw(rng, "step", sensor.step) * grows).clamp_(min=1e-3)
    noisy = torch.round(noisy / step) * step

    front = -F.max_pool2d(-torch.where(depth > 0, depth, 1e6)[:, None], 3, 1, 1)[:, 0]
    lost = (depth - front > 25.0) & (chance < _draw(rng, "droprate", sensor.dropout))
    lost |= round_holes(rng, H, W, sensor.holes)
    return noisy.masked_fill_(lost | (depth == 0.0), 0.0)


def round_holes(rng: Counter, H: int, W: int, often: float) -> torch.Tensor:
    """Up to three round holes per frame: bool [B, H, W]."""
    u = rng.uniform("holes", 10)
    y = torch.arange(H, device=u.device)[None, :, None]
    x = torch.arange(W, device=u.device)[None, None, :]
    inside = torch.zeros(len(u), H, W, dtype=torch.bool, device=u.device)
    for k in range(3):
        cx, cy, r = u[:, 3 * k] * W, u[:, 3 * k + 1] * H, (1.0 + 4.0 * u[:, 3 * k + 2]) * W / 96.0
        inside |= (x - cx[:, None, None]) ** 2 + (y - cy[:, None, None]) ** 2 < (r * r)[:, None, None]
    return inside & (u[:, 9] < often)[:, None, None]
