# SPDX-License-Identifier: MIT
"""Objects held by hands, in front of them, and beside them."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from poseren_ext._utils.counter_rng import Counter
from poseren_ext.synthetic.kinematics import Cones
from poseren_ext.synthetic.solids import BOX, CYLINDER, ELLIPSOID, Solids

_SQUEEZE = 4.0  # mm that the skin gives way
_REACH = torch.linspace(6.0, 76.0, 15, dtype=torch.float32)  # mm above the palm where a held object's axis may lie
_BESIDE = 3  # things beside a hand at most


def frames_along(axis: torch.Tensor) -> torch.Tensor:
    """Rotations [..., 3, 3] whose third column is the given direction [..., 3]."""
    axis = F.normalize(axis, dim=-1)
    helper = torch.where(axis[..., 2:].abs() < 0.9, axis.new_tensor([0.0, 0.0, 1.0]), axis.new_tensor([1.0, 0.0, 0.0]))
    first = F.normalize(torch.linalg.cross(helper, axis), dim=-1)
    return torch.stack([first, torch.linalg.cross(axis, first), axis], -1)


def held_objects(rng: Counter, joints: torch.Tensor, hand: Cones, normal: torch.Tensor) -> Solids:
    """The held object of each hand: one object of two parts.

    In two thirds of the hands it is in the palm: at the first position along the palm normal where the drawn size fits
    between the fingers. If it does not fit at any position, it is at the one with the most room and made thinner. The
    other hands hold it between the tips of thumb and index finger.

    Args:
        rng: the samples' random numbers.
        joints: [B, 21, 3] MSRA's, camera mm.
        hand: the hand's cones (`hand_cones`).
        normal: [B, 3] palm's unit normal.
    """
    u = rng.uniform("held", 8)
    radius, center, axis = _in_palm(rng, joints, hand, normal, 5.0 + 40.0 * u[:, 0] ** 1.5)
    tips = 0.5 * (joints[:, 20] + joints[:, 4])
    apart = (joints[:, 20] - joints[:, 4]).norm(dim=1)
    pinched = u[:, 1] < 0.34
    radius = torch.where(pinched, (0.5 * apart - 7.0 + _SQUEEZE).clamp(4.0, 45.0), radius)
    center = torch.where(pinched[:, None], tips, center)
    axis = torch.where(pinched[:, None], rng.normal("heldaxis", 3), axis)
    rotation = frames_along(axis)
    # shapes: cylinder, box, ellipsoid, disc, bottle, tool
    shape = torch.bucketize(u[:, 2].contiguous(), u.new_tensor([0.26, 0.5, 0.64, 0.74, 0.88]))
    length = 20.0 + 110.0 * u[:, 3] ** 1.5
    flat = 0.35 + 0.65 * u[:, 4]
    halves = torch.stack(
        [
            torch.stack([radius, radius, length], 1),
            torch.stack([radius * flat, radius, 0.8 * length], 1),
            torch.stack([radius, radius * (0.8 + 0.4 * u[:, 4]), radius * (0.8 + 0.8 * u[:, 5])], 1),
            torch.stack([radius + 15.0, radius + 15.0, 4.0 + 6.0 * u[:, 5]], 1),
            torch.stack([radius, radius, 0.7 * length], 1),
            torch.stack([radius.clamp(max=14.0), radius.clamp(max=14.0), 0.6 * length + 30.0], 1),
        ],
        1,
    )
    rows = torch.arange(len(u), device=u.device)
    half = halves[rows, shape]
    kinds = torch.tensor([CYLINDER, BOX, ELLIPSOID, CYLINDER, CYLINDER, CYLINDER], device=u.device)
    # An object is rarely held in its middle; a disc's middle lies off by its radius, in its own plane.
    along = (rng.uniform("slide", 1, -0.6, 0.6)[:, 0] * half[:, 2]).unsqueeze(1) * rotation[:, :, 2]
    disc = (shape == 3)[:, None]
    center = center + torch.where(disc, 0.7 * half[:, :1] * rotation[:, :, 0], along)
    # The second part: a bottle's neck, a tool's head.
    end = center + rotation[:, :, 2] * (half[:, 2:] + 0.5 * radius[:, None])
    neck = torch.stack([0.4 * radius, 0.4 * radius, 0.6 * radius + 8.0], 1)
    head = torch.stack([10.0 + 22.0 * u[:, 5], 8.0 + 10.0 * u[:, 6], 10.0 + 25.0 * u[:, 7]], 1)
    second = torch.where((shape == 4)[:, None], neck, torch.where((shape == 5)[:, None], head, 0.0))
    second_kind = torch.where(shape == 5, BOX, CYLINDER)
    return Solids(
        torch.stack([center, end], 1),
        torch.stack([rotation, rotation], 1),
        torch.stack([half, second], 1),
        torch.stack([kinds[shape], second_kind], 1),
    )


def _in_palm(
    rng: Counter, joints: torch.Tensor, hand: Cones, normal: torch.Tensor, wanted: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Radius [B], centre [B, 3] and axis [B, 3] of what lies in the palm and touches it."""
    across = F.normalize(joints[:, 13] - joints[:, 1], dim=1)  # from the index finger's to the pinky's knuckle
    ahead = torch.linalg.cross(normal, across)
    usual = rng.uniform("heldusual", 1) < 0.65
    angle = torch.where(usual, 0.35 * rng.normal("heldturn", 1), rng.uniform("heldany", 1, -1.5, 1.5))
    axis = across * angle.cos() + ahead * angle.sin()
    # Over the knuckles or, by up to 25 mm, farther up the fingers or down the palm.
    knuckles = joints[:, [1, 5, 9, 13]].mean(1)
    along = F.normalize(knuckles - joints[:, 0], dim=1)
    base = knuckles + along * rng.uniform("heldbase", 1, -30.0, 22.0)
    reach = _REACH.to(joints.device)
    places = base[:, None] + normal[:, None] * reach[:, None]  # [B, S, 3]
    a, b = hand.a, hand.b
    points = torch.cat([a, 0.5 * (a + b), b], 1)  # spheres along the hand's bones
    sizes = torch.cat([hand.ra, 0.5 * (hand.ra + hand.rb), hand.rb], 1)
    away = places[:, :, None] - points[:, None]  # [B, S, P, 3]
    away = away - (away @ axis[:, None, :, None]) * axis[:, None, None, :]
    room = (away.norm(dim=-1) - sizes[:, None]).amin(2)  # [B, S]
    fits = room + _SQUEEZE >= wanted[:, None]
    first = torch.where(fits.any(1), fits.int().argmax(1), room.argmax(1))
    rows = torch.arange(len(joints), device=joints.device)
    radius = torch.minimum(wanted, (room[rows, first] + _SQUEEZE).clamp(min=4.0))
    return radius, places[rows, first], axis


def _any_solid(rng: Counter, stream: str, count: int, low: float, high: float) -> Solids:
    """Solids of any kind, turn and proportions, at the origin: half sizes between low and high mm."""
    u = rng.uniform(stream, 9 * count).view(-1, count, 9)
    half = low * (high / low) ** u[..., :3]
    kind = (3.0 * u[..., 3]).long().clamp(max=2)
    axis = torch.stack([u[..., 4] - 0.5, u[..., 5] - 0.5, u[..., 6] - 0.5], -1)
    return Solids(torch.zeros_like(half), frames_along(axis), half, kind)


def objects_in_front(rng: Counter, joints: torch.Tensor) -> Solids:
    """One object per frame between the camera and a part of the hand, at most half the distance from the hand."""
    target = joints[torch.arange(len(joints), device=joints.device), rng.integer("frontof", 1, 21)[:, 0]]
    target = target + rng.normal("frontoff", 3) * target.new_tensor([25.0, 25.0, 0.0])
    solid = _any_solid(rng, "front", 1, 8.0, 50.0)
    scale = rng.uniform("frontat", 1, 0.6, 0.93)
    center = target * scale
    return Solids(center[:, None], solid.rotation, solid.half * scale[:, None], solid.kind)


def objects_beside(rng: Counter, joints: torch.Tensor) -> Solids:
    """Up to three objects per frame beside and behind the hand, sometimes in front of a part of it."""
    palm = 0.5 * (joints[:, 0] + joints[:, 5])
    solid = _any_solid(rng, "beside", _BESIDE, 12.0, 90.0)
    u = rng.uniform("besideat", 3 * _BESIDE).view(-1, _BESIDE, 3)
    around = 2.0 * math.pi * u[..., 0]
    radius = 60.0 + 110.0 * u[..., 1] + 0.5 * solid.half.amin(-1)
    behind = -60.0 + 220.0 * u[..., 2]
    center = palm[:, None] + torch.stack([radius * around.cos(), radius * around.sin(), behind], -1)
    there = rng.uniform("besides", _BESIDE) < palm.new_tensor([1.0, 0.6, 0.4])
    return Solids(center, solid.rotation, solid.half * there[:, :, None], solid.kind)


def objects_around(rng: Counter, limits: torch.Tensor, count: int = 4) -> Solids:
    """Objects anywhere in the frame, 250 to 1500 mm away, from a hand's size down to a pen's and up to a box's.

    Args:
        rng: the samples' random numbers.
        limits: [B, 4] lowest x/z, lowest y/z, highest x/z and highest y/z of the frame.
        count: objects per frame.
    """
    solid = _any_solid(rng, "around", count, 8.0, 130.0)
    u = rng.uniform("aroundat", 3 * count).view(-1, count, 3)
    depth = 250.0 * 6.0 ** u[..., 2:]
    low, high = limits[:, None, :2], limits[:, None, 2:]
    center = torch.cat([low + (high - low) * u[..., :2], torch.ones_like(depth)], 2) * depth
    return Solids(center, solid.rotation, solid.half, solid.kind)
