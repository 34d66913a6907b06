# SPDX-License-Identifier: MIT
"""What is around varied hands: objects, a second hand, tables and walls that they may touch, bodies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F

from poseren_ext._utils.counter_rng import Counter
from poseren_ext.synthetic.kinematics import Cones
from poseren_ext.synthetic.objects import held_objects, objects_beside, objects_in_front
from poseren_ext.synthetic.render import render_depth
from poseren_ext.synthetic.sensor import bodies_behind
from poseren_ext.synthetic.solids import Solids, render_solids
from poseren_ext.synthetic.varied_scene import VariedScene, View, mirrored, sample_varied_scene

AWAY = 1e7
"""How far to the side, mm, a hand is moved that a frame does not show."""

Share: TypeAlias = float | torch.Tensor
"""A share of frames, or one probability per frame [B]."""


@dataclass(frozen=True)
class Surroundings:
    """Shares of the frames with each kind of surroundings.

    Attributes:
        held: with an object in the hand.
        front: with an object between the camera and part of the hand.
        beside: with objects beside and behind the hand.
        other: with a second hand beside, behind or in front of the first.
        table: with a plane that hand or arm touches.
        wall: with a plane farther behind.
        bodies: with a wall and thick bodies in front of it; the rest has nothing behind the hand.
    """

    held: Share = 0.0
    front: Share = 0.0
    beside: Share = 0.0
    other: Share = 0.0
    table: Share = 0.15
    wall: Share = 0.25
    bodies: Share = 0.2


EVERYTHING = Surroundings(held=0.3, front=0.12, beside=0.25, other=0.2)
"""The surroundings that the bundled models are trained with."""


def surrounding_solids(rng: Counter, scene: VariedScene, shares: Surroundings) -> Solids:
    """The objects of each frame."""

    def there(stream: str, share: Share) -> torch.Tensor:
        return rng.uniform(stream, 1)[:, 0] < share

    held = held_objects(rng, scene.joints, scene.hand, scene.normal).kept(there("holds", shares.held))
    front = objects_in_front(rng, scene.joints).kept(there("infront", shares.front))
    beside = objects_beside(rng, scene.joints).kept(there("cluttered", shares.beside))
    return held.concat(front).concat(beside)


def second_hand(rng: Counter, scene: VariedScene, subjects: tuple[int, int], view: View, share: Share) -> Cones:
    """A second hand with its arm, near the first; four fifths are left hands. Frames without one have it far away.

    A second right hand is at least 110 mm away, because only the centre tells which of the two is meant.

    Args:
        rng: the random numbers of the second hand; not those of the first.
        scene: the first hand.
        subjects: as in `sample_varied_scene`.
        view: of the first hand.
        share: of the frames with a second hand.
    """
    palm = 0.5 * (scene.joints[:, 0] + scene.joints[:, 5])
    u = rng.uniform("otherhand", 4)
    left = u[:, 0] < 0.8
    apart = torch.where(left, 45.0 + 150.0 * u[:, 1], 110.0 + 90.0 * u[:, 1])
    direction = F.normalize(rng.normal("otherway", 3) * palm.new_tensor([1.0, 1.0, 0.5]), dim=1)
    target = palm + apart[:, None] * direction
    target = torch.cat([target[:, :2], target[:, 2:].clamp(min=180.0)], 1)
    flip = torch.where(left, -1.0, 1.0).float()
    side = torch.stack([flip, torch.ones_like(flip), torch.ones_like(flip)], 1)
    other = sample_varied_scene(rng, subjects, view, place=target * side)
    return shown_only(mirrored(other.hand.concat(other.arm), side), u[:, 3] < share)


def shown_only(cones: Cones, shown: torch.Tensor) -> Cones:
    """The cones of some frames (bool [B]); those of the others are far away."""
    shift = torch.zeros_like(cones.a[:, :1])
    shift[..., 0] = AWAY * (~shown[:, None]).to(shift.dtype)
    return Cones(cones.a + shift, cones.b + shift, cones.ra, cones.rb)


def add_surroundings(
    depth: torch.Tensor, window: torch.Tensor, cones: Cones, solids: Solids, rng: Counter, shares: Surroundings
) -> torch.Tensor:
    """Adds objects, tables, walls and bodies to clean depth images.

    Args:
        depth: [B, H, W] mm, inf where there is no hand.
        window: [B, 4], see `render.render_depth`.
        cones: of all hands in the frames.
        solids: the objects.
        rng: the random numbers of the frames.
        shares: of the kinds of surroundings.
    """
    H, W = depth.shape[1:]
    depth = torch.minimum(depth, render_solids(solids, window, H, W))
    kind = rng.uniform("behind", 1)[:, 0]
    table, wall = shares.table, shares.table + shares.wall
    touched = kind < table
    plane = _plane_depth(window, H, W, *_planes(rng, cones, touched))
    behind = torch.where((kind < wall + shares.bodies)[:, None, None], plane, torch.inf)
    crowded = ((kind >= wall) & (kind < wall + shares.bodies)).nonzero()[:, 0]
    if len(crowded):
        middle = window[:, :2] + 0.5 * window[:, 2:] * window.new_tensor([W - 1.0, H - 1.0])
        bodies = bodies_behind(rng, cones.farthest(), middle, crowded)
        behind[crowded] = torch.minimum(behind[crowded] + 300.0, render_depth(bodies, window[crowded], H, W))
    return torch.minimum(depth, behind)


def _planes(rng: Counter, cones: Cones, touched: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Normals [B, 3], away from the camera, and offsets [B] mm of planes behind all cones; a table is touched."""
    tilt = rng.uniform("planetilt", 2, -1.1, 1.1)
    tilt = torch.where(touched[:, None], tilt, 0.6 * tilt)
    normal = F.normalize(torch.cat([tilt, torch.ones_like(tilt[:, :1])], 1), dim=1)
    near = cones.a[..., 2] < 1e5
    ends = torch.maximum(
        (cones.a @ normal[:, :, None])[..., 0] + cones.ra, (cones.b @ normal[:, :, None])[..., 0] + cones.rb
    )
    # A second hand that the frame does not show touches nothing.
    present = near & (cones.a[..., 0].abs() < 0.1 * AWAY)
    support = ends.masked_fill(~present, -torch.inf).amax(1)
    u = rng.uniform("planegap", 2)
    gap = torch.where(touched, torch.where(u[:, 0] < 0.7, -2.0, 25.0 * u[:, 1]), 5.0 + 450.0 * u[:, 1])
    return normal, support + gap


def _plane_depth(
    window: torch.Tensor, height: int, width: int, normal: torch.Tensor, offset: torch.Tensor
) -> torch.Tensor:
    """Depth [B, H, W] of planes normal . p = offset; inf where a ray does not hit its plane."""
    x = window[:, 0, None] + window[:, 2, None] * torch.arange(width, device=window.device)
    y = window[:, 1, None] + window[:, 3, None] * torch.arange(height, device=window.device)
    along = (normal[:, :1] * x)[:, None, :] + (normal[:, 1:2] * y)[:, :, None] + normal[:, 2, None, None]
    met = along > 0.02
    depth = offset[:, None, None] / torch.where(met, along, 1.0)
    return depth.masked_fill(~met | (depth > 8000.0), torch.inf)
