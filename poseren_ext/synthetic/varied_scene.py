# SPDX-License-Identifier: MIT
"""Posed hands seen from any side, with arms from any side, before objects and backgrounds are added."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from poseren_ext._utils.counter_rng import Counter
from poseren_ext.synthetic.anatomy import Anatomy, sample_anatomy
from poseren_ext.synthetic.articulation import sample_angles
from poseren_ext.synthetic.kinematics import Cones, arm_axes, hand_cones, hand_joints

SIZE = (0.95, 0.25)
"""Middle and half range of the hand sizes: children to large adults."""
_CANDIDATES = 8  # candidate directions per hand
_NEAREST = 120.0  # mm: arms end before they come nearer to the camera
_STEEPEST = -0.85  # smallest z of the direction of the arm: one that points more at the camera hides the hand
_STUB = 20.0  # mm of forearm that `hand_cones` itself makes


@dataclass(frozen=True)
class View:
    """The side that a hand is seen from.

    Attributes:
        facing: limits of the cosine between the palm's normal and the direction to the camera: 1 shows the palm, -1 the
            back of the hand.
        towards: the forearm points at the camera, as when it is worn on the head.
        depth: limits of the palm's z, mm.
    """

    facing: tuple[float, float] = (-1.0, 1.0)
    towards: bool = False
    depth: tuple[float, float] = (250.0, 1200.0)


@dataclass(frozen=True)
class VariedScene:
    """B posed hands before a camera.

    Attributes:
        joints: [B, 21, 3] MSRA's, camera mm.
        hand: the cones of the hand with its wrist, camera mm.
        arm: the cones of forearm, upper arm and sleeve.
        normal: [B, 3] unit normal of the palm, out of it.
    """

    joints: torch.Tensor
    hand: Cones
    arm: Cones
    normal: torch.Tensor


def sample_directions(rng: Counter, view: View, elbow: torch.Tensor) -> torch.Tensor:
    """Rotations [B, 3, 3] from the hand frame to the camera frame.

    The palm normal is uniform on the part of the sphere that the view allows. The rotation about that normal is uniform
    too, among those where the forearm does not lie between the camera and the hand.

    Args:
        rng: the random numbers of the samples.
        view: the allowed directions.
        elbow: [B, 3] unit direction from wrist to elbow in the hand frame.
    """
    B, K = len(elbow), _CANDIDATES
    # All candidates share one normal, unless the direction of the arm decides (view.towards).
    facing = rng.uniform("facing", K, *view.facing)
    around = rng.uniform("around", K, -math.pi, math.pi)
    if not view.towards:
        facing, around = facing[:, :1].expand(B, K), around[:, :1].expand(B, K)
    spin = rng.uniform("spin", K, -math.pi, math.pi)
    across = (1.0 - facing * facing).clamp(min=0.0).sqrt()
    normal = torch.stack([across * around.cos(), across * around.sin(), -facing], -1)  # [B, K, 3], -z to the camera
    helper = torch.where(
        normal[..., 2:].abs() < 0.9, normal.new_tensor([0.0, 0.0, 1.0]), normal.new_tensor([1.0, 0.0, 0.0])
    )
    first = F.normalize(torch.linalg.cross(helper, normal), dim=-1)
    second = torch.linalg.cross(normal, first)
    x = first * spin.cos()[..., None] + second * spin.sin()[..., None]
    rotation = torch.stack([x, torch.linalg.cross(normal, x), normal], -1)  # columns: the axes of the hand
    back = (rotation @ elbow[:, None, :, None])[..., 0]  # [B, K, 3]
    good = back[..., 2] > _STEEPEST
    if view.towards:
        good &= back[..., 2] < -0.35
    chosen = good.int().argmax(1)  # the first good one
    return rotation[torch.arange(B, device=elbow.device), chosen]


def _place(rng: Counter, view: View) -> torch.Tensor:
    """Positions of the palms [B, 3], camera mm, uniform in the logarithm of the depth."""
    near, far = view.depth
    depth = near * (far / near) ** rng.uniform("place", 1)
    # The palm stays 60 mm inside the view of a typical camera, so near hands have less room to the side.
    aside = depth.new_tensor([0.55, 0.42]) * (1.0 - 60.0 / depth)
    slope = rng.uniform("placexy", 2, -1.0, 1.0) * aside
    return torch.cat([slope, torch.ones_like(depth)], 1) * depth


def _arm(rng: Counter, hand: Anatomy, angles: torch.Tensor, rotation: torch.Tensor, shift: torch.Tensor) -> Cones:
    """Forearm, upper arm and sleeve, camera mm; the arm is absent, a short stub, or as long as the camera sees.

    Two parallel cones form the oval forearm, one the upper arm, two the sleeve.
    """
    thick = hand.scale * hand.girth
    kind = rng.uniform("armkind", 1)[:, 0]
    length = rng.uniform("armlength", 1)[:, 0]
    forearm = torch.where(kind < 0.08, 1.0, torch.where(kind < 0.30, 15.0 + 90.0 * length, 90.0 + 190.0 * length))
    back, across = (rotation @ axis[:, :, None] for axis in arm_axes(angles))
    back, across = back[:, :, 0], across[:, :, 0]
    wrist = shift
    # The arm ends before it reaches the camera.
    room = (wrist[:, 2] - _NEAREST - 45.0) / (-back[:, 2]).clamp(min=1e-3)
    forearm = torch.where(back[:, 2] < 0.0, torch.minimum(forearm, room.clamp(min=1.0)), forearm)
    parts = []
    girth = thick * (1.0 + 0.12 * rng.normal("armgirth", 1)[:, 0]).clamp(0.75, 1.3)
    for side in (-1.0, 1.0):
        near = wrist - side * across * (9.5 * hand.scale)[:, None]
        far = wrist + forearm[:, None] * back - side * across * (11.0 + 0.03 * forearm[:, None])
        parts.append((near, far, 18.0 * thick, (19.0 + 0.035 * forearm) * girth))
    elbow = wrist + forearm[:, None] * back
    bent = F.normalize(back + 0.9 * rng.normal("upperarm", 3), dim=1)
    upper = torch.where((kind >= 0.45) & (forearm > 180.0), 250.0, 0.5).to(forearm.dtype)
    room = (elbow[:, 2] - _NEAREST - 60.0) / (-bent[:, 2]).clamp(min=1e-3)
    upper = torch.where(bent[:, 2] < 0.0, torch.minimum(upper, room.clamp(min=0.5)), upper)
    end = (19.0 + 0.035 * forearm) * girth
    parts.append((elbow, elbow + upper[:, None] * bent, end, torch.where(upper > 1.0, 1.35 * end, end)))
    # The sleeve starts between the wrist and the middle of the forearm, and hangs to one side.
    u = rng.uniform("sleeve", 4)
    worn = u[:, 0] < 0.45
    start = torch.minimum(-12.0 + 130.0 * u[:, 1] ** 2, 0.9 * forearm)
    wide = torch.where(worn, 1.08 + 0.55 * u[:, 2] ** 2, 0.2)
    hang = 12.0 * rng.normal("hang", 3) * worn[:, None]
    mouth, deep = wrist + start[:, None] * back + hang, elbow + hang
    for side in (-1.0, 1.0):
        aside = side * across * (10.0 * hand.scale)[:, None]
        parts.append((mouth - aside, deep - aside, (20.0 + 5.0 * u[:, 3]) * thick * wide, end * wide))
    return Cones(*(torch.stack(column, 1) for column in zip(*parts, strict=True)))


def mirrored(cones: Cones, side: torch.Tensor) -> Cones:
    """Cones multiplied by [B, 3] factors of 1 or -1; -1 in x turns right hands into left ones."""
    return Cones(cones.a * side[:, None], cones.b * side[:, None], cones.ra, cones.rb)


def sample_varied_scene(
    rng: Counter,
    subjects: tuple[int, int],
    view: View,
    place: torch.Tensor | None = None,
    open_share: float = 0.0,
) -> VariedScene:
    """Draws one posed hand per sample.

    Args:
        rng: the random numbers of the samples.
        subjects: number of the first subject, and number of subjects.
        view: the side that the hands are seen from.
        place: [B, 3] positions of the palms, camera mm; by default drawn from the view.
        open_share: see `sample_angles`.
    """
    subject = subjects[0] + rng.integer("subject", 1, subjects[1])[:, 0]
    hand, angles = sample_anatomy(subject, SIZE), sample_angles(rng, open_share)
    joints = hand_joints(hand, angles)
    rotation = sample_directions(rng, view, arm_axes(angles)[0])
    palm = 0.5 * (joints[:, 0] + joints[:, 5])
    shift = (_place(rng, view) if place is None else place) - (rotation @ palm[:, :, None])[:, :, 0]
    cones = hand_cones(hand, joints, angles, torch.full_like(hand.scale, _STUB)).moved(rotation, shift)
    arm = _arm(rng, hand, angles, rotation, shift)
    return VariedScene(joints @ rotation.transpose(1, 2) + shift[:, None], cones, arm, rotation[:, :, 2])
