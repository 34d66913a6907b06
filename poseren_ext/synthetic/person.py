# SPDX-License-Identifier: MIT
"""A person who faces the camera behind the hands: what a hand detector takes for a hand most easily."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from poseren_ext._utils.counter_rng import Counter
from poseren_ext.synthetic.objects import frames_along
from poseren_ext.synthetic.solids import CYLINDER, ELLIPSOID, Solids

_HEAD = (76.0, 95.0, 115.0)  # mm: half sizes to the side, to the front and up
# Middles and half sizes of the parts of a head, mm to its side, front and top. Mean sizes of adults, by eye.
_FACE = (
    ((0.0, 102.0, -8.0), (15.0, 18.0, 26.0)),  # nose
    ((0.0, 84.0, 26.0), (56.0, 17.0, 13.0)),  # brow
    ((0.0, 48.0, -78.0), (46.0, 46.0, 38.0)),  # chin
    ((0.0, 90.0, -48.0), (26.0, 12.0, 12.0)),  # mouth
    ((38.0, 68.0, -18.0), (26.0, 24.0, 26.0)),  # cheeks
    ((-38.0, 68.0, -18.0), (26.0, 24.0, 26.0)),
    ((78.0, 0.0, -5.0), (10.0, 18.0, 31.0)),  # ears
    ((-78.0, 0.0, -5.0), (10.0, 18.0, 31.0)),
    ((0.0, -18.0, 28.0), (88.0, 102.0, 108.0)),  # hair
)
_THERE = 0.85  # share of the heads that have each part
_HEAD_SOLID = 2  # number of the head among the solids
_DARK = 0.6  # share of the persons with hair, eyes or both unseen
_KNOTS = 24  # of the edges of the unseen parts, along each side of the image
_TURN = 0.5  # radians: standard deviation of the turn of the head


def person_behind(rng: Counter, palm: torch.Tensor) -> Solids:
    """Torso, arms, neck, head and face of a person 60 to 600 mm behind the palm [B, 3] (camera mm)."""
    u = rng.uniform("person", 8)
    lean = torch.where(u[:, 0] < 0.85, 0.25 * rng.normal("lean", 1)[:, 0], math.pi * (2.0 * u[:, 1] - 1.0))
    up = torch.stack([lean.sin(), -lean.cos(), 0.3 * rng.normal("stoop", 1)[:, 0]], 1)
    rotation = frames_along(up)
    up = rotation[:, :, 2]
    size = (0.8 + 0.35 * u[:, 2])[:, None]
    torso_half = (
        size
        * palm.new_tensor([150.0, 150.0, 290.0])
        * torch.stack([1.0 + 0.3 * u[:, 3], 0.75 + 0.3 * u[:, 4], torch.ones_like(lean)], 1)
    )
    behind = 60.0 + 540.0 * u[:, 5:6] + torso_half[:, 1:2]
    beside = 350.0 * (u[:, 6:8] - 0.5) + palm.new_tensor([0.0, 120.0])
    chest = palm + torch.cat([beside, behind], 1)
    neck = chest + up * (torso_half[:, 2:] + 10.0)
    forward = torch.stack([torch.zeros_like(lean), torch.zeros_like(lean), -torch.ones_like(lean)], 1)
    head = neck + up * (size * 130.0) + 25.0 * forward
    center = torch.stack([chest, neck], 1)
    half = torch.stack([torso_half, size * palm.new_tensor([58.0, 58.0, 60.0])], 1)
    kind = torch.tensor([ELLIPSOID, CYLINDER]).expand(len(palm), 2)
    body = Solids(center, rotation[:, None].expand(-1, 2, 3, 3), half, kind)
    return body.concat(_head(rng, head, up, size)).concat(_upper_arms(rng, chest, up, torso_half))


def without_dark_parts(depth: torch.Tensor, window: torch.Tensor, person: Solids, rng: Counter) -> torch.Tensor:
    """Depth images in which hair, eyes or both of some persons are not seen, as it is with dark hair and glasses.

    Args:
        depth: [B, H, W] mm, inf where nothing is.
        window: [B, 4], see `render.render_depth`.
        person: of `person_behind`.
        rng: the random numbers of the frames.
    """
    H, W = depth.shape[1:]
    u = rng.uniform("darkparts", 4)
    there = person.half[:, _HEAD_SOLID].amin(1) > 0.0
    chosen = (there & (u[:, 0] < _DARK)).nonzero()[:, 0]
    if not len(chosen):
        return depth
    depth, view, u = depth.clone(), window[chosen], u[chosen]
    x = view[:, 0, None, None] + view[:, 2, None, None] * torch.arange(W, device=depth.device)
    y = view[:, 1, None, None] + view[:, 3, None, None] * torch.arange(H, device=depth.device)[:, None]
    z = depth[chosen]
    seen = z.isfinite()
    z = torch.where(seen, z, 0.0)
    away = torch.stack([x * z, y * z, z], -1) - person.center[chosen, _HEAD_SOLID][:, None, None]
    side, front, top = (away @ person.rotation[chosen, _HEAD_SOLID][:, None]).unbind(-1)
    size = (person.half[chosen, _HEAD_SOLID, 2] / _HEAD[2])[:, None, None]
    edge = F.interpolate(
        rng.normal("darkedge", _KNOTS * _KNOTS)[chosen].view(-1, 1, _KNOTS, _KNOTS), (H, W), mode="bicubic"
    )
    ragged = 10.0 * edge[:, 0]
    head = seen & (away.norm(dim=-1) < 150.0 * size)
    line = (10.0 + 60.0 * u[:, 1])[:, None, None]  # mm above the middle of the head
    hair = (top > (line + ragged) * size) | (front < (-10.0 + ragged) * size)
    eyes = ((top - 12.0 * size).abs() < (14.0 + ragged) * size) & (side.abs() < 62.0 * size) & (front > 30.0 * size)
    which = u[:, 2, None, None]
    dark = head & ((hair & (which < 0.75)) | (eyes & (which > 0.35)))
    depth[chosen] = depth[chosen].masked_fill(dark, torch.inf)
    return depth


def _head(rng: Counter, center: torch.Tensor, up: torch.Tensor, size: torch.Tensor) -> Solids:
    """Head and face around centres [B, 3], turned to the side and to the front."""
    turn = _TURN * rng.normal("headturn", 1)
    forward = torch.cat([turn.sin(), 0.3 * rng.normal("nod", 1), -turn.cos()], 1)
    forward = F.normalize(forward - (forward * up).sum(1, keepdim=True) * up, dim=1)
    axes = torch.stack([torch.linalg.cross(up, forward), forward, up], 2)  # columns: side, front, top
    count = len(_FACE)
    shown = rng.uniform("faceparts", count) < _THERE
    vary = rng.uniform("facesizes", 3 * count, 0.8, 1.25).view(-1, count, 3)
    middles, halves = (center.new_tensor([part[i] for part in _FACE]) for i in (0, 1))
    at = center[:, None] + size[:, None] * (middles @ axes.mT)
    half = size[:, None] * halves * vary * shown[:, :, None]
    skull = size * center.new_tensor(_HEAD)
    return Solids(
        torch.cat([center[:, None], at], 1),
        axes[:, None].expand(-1, 1 + count, 3, 3),
        torch.cat([skull[:, None], half], 1),
        torch.full((len(center), 1 + count), ELLIPSOID),
    )


def _upper_arms(rng: Counter, chest: torch.Tensor, up: torch.Tensor, torso: torch.Tensor) -> Solids:
    """Shoulders and upper arms at both sides of a chest [B, 3]; torso [B, 3] half sizes."""
    side = F.normalize(torch.linalg.cross(up, up.new_tensor([0.0, 0.0, -1.0]).expand_as(up)), dim=1)
    swing = 0.4 * rng.normal("armswing", 6).view(-1, 2, 3)
    girth = rng.uniform("girth", 2, 38.0, 60.0)
    parts = []
    for i, sign in enumerate((1.0, -1.0)):
        shoulder = chest + 0.62 * torso[:, 2:] * up + sign * 0.9 * torso[:, :1] * side
        along = F.normalize(-up + 0.25 * sign * side + swing[:, i], dim=1)
        arm = shoulder + 140.0 * along
        center = torch.stack([shoulder, arm], 1)
        rotation = frames_along(along)[:, None].expand(-1, 2, 3, 3)
        thick = girth[:, i, None, None] * center.new_tensor([[1.35, 1.35, 1.35], [1.0, 1.0, 0.0]])
        half = thick + center.new_tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 160.0]])
        parts.append(Solids(center, rotation, half, torch.full((len(chest), 2), ELLIPSOID)))
    return parts[0].concat(parts[1])
