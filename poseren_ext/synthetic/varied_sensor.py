# SPDX-License-Identifier: MIT
"""Sensor faults of depth cameras: shadows, flying pixels, filters, low resolution, quantisation, holes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from poseren_ext._utils.counter_rng import Counter
from poseren_ext.synthetic.relief import surface_means
from poseren_ext.synthetic.sensor import round_holes

_EDGE = 25.0  # mm from one pixel to the next: an edge


@dataclass(frozen=True)
class VariedSensor:
    """Ranges of the faults; each frame draws random values within them.

    Attributes:
        noise: standard deviation of the depth noise at 700 mm, mm (grows with the square of the depth).
        step: depth quantisation at 700 mm, mm (grows likewise); in a third of the frames the same at any depth.
        ragged: sideways displacement of edges, pixels (standard deviation).
        dropout: fraction of the pixels just behind an edge that are missing.
        flying: share of the edge pixels with a depth between both sides of the edge.
        shadow: share of the frames with a shadow on one side of near surfaces, cast by the projector of the camera.
        baseline: distance between projector and camera, mm.
        smooth: share of the frames that are smoothed within surfaces.
        focal: focal length of the cameras, pixels; if it is shorter than that of the image, the pixels are coarser.
        holes: share of the frames with holes.
    """

    noise: tuple[float, float] = (0.05, 2.5)
    step: tuple[float, float] = (0.1, 4.0)
    ragged: tuple[float, float] = (0.0, 0.5)
    dropout: tuple[float, float] = (0.0, 0.8)
    flying: tuple[float, float] = (0.0, 0.5)
    shadow: float = 0.5
    baseline: tuple[float, float] = (20.0, 80.0)
    smooth: float = 0.3
    focal: tuple[float, float] = (220.0, 950.0)
    holes: float = 0.25


def sense_varied(
    depth: torch.Tensor, window: torch.Tensor, rng: Counter, sensor: VariedSensor, pixels: Counter | None = None
) -> torch.Tensor:
    """Depth as one of many cameras measures it.

    Args:
        depth: [B, H, W] mm, inf where there is nothing.
        window: [B, 4], see `render.render_depth`.
        rng: draws the size of the faults of each frame.
        sensor: the ranges of the faults.
        pixels: draws the noise of each pixel; by default `rng`.

    Returns:
        float32 [B, H, W] mm, 0 for missing pixels.
    """
    B, H, W = depth.shape
    pixels = pixels or rng
    lost = _shadow(depth, window, rng, sensor)
    depth = torch.where(depth.isinf(), 0.0, depth)
    across, down, mix = (values.view(B, H, W) for values in pixels.field("ragged", H * W))
    row, column = _sampled(rng, window, depth, sensor, across, down)
    at = (row * W + column).flatten(1)
    depth = depth.flatten(1).gather(1, at).view(B, H, W)
    lost = lost.flatten(1).gather(1, at).view(B, H, W)
    known = torch.where(depth > 0.0, depth, 1e6)
    front = -F.max_pool2d(-known[:, None], 3, 1, 1)[:, 0]
    edge = (depth - front > _EDGE) & (depth > 0.0)
    flying = edge & (mix < _draw(rng, "flying", sensor.flying)) & (depth - front < 600.0)
    depth = torch.where(flying, front + (depth - front) * (0.5 + 0.3 * across).clamp(0.0, 1.0), depth)
    depth = _smoothed(depth, rng, sensor.smooth)

    white, _, chance = (values.view(B, H, W) for values in pixels.field("noise", H * W))
    smooth = F.avg_pool2d(white[:, None], 3, 1, 1)[:, 0]  # neighbouring pixels share part of their noise
    grows = (depth / 700.0) ** 2
    noisy = depth + _draw(rng, "sigma", sensor.noise) * grows * (0.7 * white + 2.1 * smooth)
    even = _draw(rng, "stepkind", (0.0, 1.0)) < 0.33
    step = (_draw(rng, "step", sensor.step) * torch.where(even, 1.0, grows)).clamp_(min=1e-3)
    noisy = torch.round(noisy / step) * step
    lost |= edge & ~flying & (chance < _draw(rng, "droprate", sensor.dropout))
    lost |= round_holes(rng, H, W, sensor.holes)
    return noisy.masked_fill_(lost | (depth == 0.0), 0.0)


def _draw(rng: Counter, stream: str, limits: tuple[float, float]) -> torch.Tensor:
    return rng.uniform(stream, 1, *limits)[:, :, None]


def _shadow(depth: torch.Tensor, window: torch.Tensor, rng: Counter, sensor: VariedSensor) -> torch.Tensor:
    """Pixels in the shadow of the projector of the camera: bool [B, H, W].

    A point at column c and depth z is lit from the direction c + k / z, where k is the baseline in pixels times mm.
    Along a row away from the projector, a point is in shadow if an earlier point has a direction beyond its own.
    """
    u = rng.uniform("shadow", 3)
    base = (sensor.baseline[0] + (sensor.baseline[1] - sensor.baseline[0]) * u[:, 1]) * (u[:, 0] < sensor.shadow)
    k = base / window[:, 2]
    columns = torch.arange(depth.shape[2], device=depth.device).float()
    shift = k[:, None, None] / depth  # 0 where there is nothing
    forward = (columns + shift).cummax(2)[0] - (columns + shift)
    backward = ((-columns + shift).flip(2).cummax(2)[0]).flip(2) - (-columns + shift)
    side = (u[:, 2] < 0.5)[:, None, None]
    return torch.where(side, forward, backward) > 0.75


def _sampled(
    rng: Counter,
    window: torch.Tensor,
    depth: torch.Tensor,
    sensor: VariedSensor,
    across: torch.Tensor,
    down: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Row and column [B, H, W] of the source of each pixel, for coarse pixels and ragged edges."""
    B, H, W = depth.shape
    u = rng.uniform("focal", 3)
    focal = sensor.focal[0] * (sensor.focal[1] / sensor.focal[0]) ** u[:, 0]
    size = (1.0 / (focal * window[:, 2])).clamp(min=1.0)[:, None, None]  # camera pixels in image pixels
    shake = _draw(rng, "shake", sensor.ragged)
    column = torch.arange(W, device=depth.device).expand(B, H, W)
    row = torch.arange(H, device=depth.device)[:, None].expand(B, H, W)
    # All image pixels within a coarse pixel read its middle.
    column = ((column / size + u[:, 1, None, None]).floor() + 0.5 - u[:, 1, None, None]) * size
    row = ((row / size + u[:, 2, None, None]).floor() + 0.5 - u[:, 2, None, None]) * size
    fine = size <= 1.0
    column = torch.where(fine, torch.arange(W, device=depth.device), column)
    row = torch.where(fine, torch.arange(H, device=depth.device)[:, None], row)
    sideways, along = (column + shake * across).round_(), (row + shake * down).round_()
    return along.long().clamp_(0, H - 1), sideways.long().clamp_(0, W - 1)


def _smoothed(depth: torch.Tensor, rng: Counter, share: float) -> torch.Tensor:
    """Mean of each pixel and those of its neighbours that lie on the same surface, in a share of the frames."""
    chosen = (rng.uniform("smooth", 1)[:, 0] < share).nonzero()[:, 0]
    if not len(chosen):
        return depth
    smoothed = depth.clone()
    smoothed[chosen] = surface_means(depth[chosen])
    return smoothed
