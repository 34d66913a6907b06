# SPDX-License-Identifier: MIT
"""Forward kinematics: anatomy and joint angles to 21 joints and to the round cones of the hand's surface."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from poseren_ext.synthetic.anatomy import Anatomy


@dataclass(frozen=True)
class Cones:
    """K round cones per hand: spheres swept from a (radius ra) to b (radius rb), in mm.

    Attributes:
        a, b: [B, K, 3]; ra, rb: [B, K].
    """

    a: torch.Tensor
    b: torch.Tensor
    ra: torch.Tensor
    rb: torch.Tensor

    def farthest(self) -> torch.Tensor:
        """Largest z of the surface, [B]."""
        ends = torch.cat([self.a[..., 2] + self.ra, self.b[..., 2] + self.rb], 1)
        return ends.amax(1)

    def concat(self, other: Cones) -> Cones:
        """These cones and those of `other`, which belong to the same hands."""
        pairs = ((self.a, other.a), (self.b, other.b), (self.ra, other.ra), (self.rb, other.rb))
        return Cones(*(torch.cat(pair, 1) for pair in pairs))

    def part(self, which: slice) -> Cones:
        """A slice of the cones of each hand."""
        return Cones(self.a[:, which], self.b[:, which], self.ra[:, which], self.rb[:, which])

    def of(self, hands: torch.Tensor) -> Cones:
        """The cones of a subset of the hands, selected by indices or by bool [B]."""
        return Cones(self.a[hands], self.b[hands], self.ra[hands], self.rb[hands])

    def moved(self, rotation: torch.Tensor, translation: torch.Tensor) -> Cones:
        """The cones rotated by [B, 3, 3], then translated by [B, 3] mm."""
        turn = rotation.transpose(1, 2)
        return Cones(self.a @ turn + translation[:, None], self.b @ turn + translation[:, None], self.ra, self.rb)


def _unit(v: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(v, dim=-1)


def _finger_joints(hand: Anatomy, angles: torch.Tensor) -> torch.Tensor:
    """[B, 4, 4, 3]: MCP, PIP, DIP, TIP of index, middle, ring, pinky; angles [B, 4, 4] in radians."""
    side = torch.deg2rad(hand.splay) + angles[..., 0]
    roll = torch.deg2rad(hand.roll)
    ahead = torch.stack([side.sin(), side.cos(), torch.zeros_like(side)], -1)
    # second axis of the flexion plane: the palm normal, tilted by the roll, orthogonal to `ahead`
    lean = torch.stack([roll.sin() * side.cos(), -roll.sin() * side.sin(), roll.cos()], -1)
    points = [hand.mcp]
    bend = torch.zeros_like(side)
    for k in range(3):
        bend = bend + angles[..., k + 1]
        step = bend.cos()[..., None] * ahead + bend.sin()[..., None] * lean
        points.append(points[-1] + hand.bones[..., k, None] * step)
    return torch.stack(points, 2)


def _thumb_joints(hand: Anatomy, angles: torch.Tensor) -> torch.Tensor:
    """[B, 4, 3]: CMC, MCP, IP, TIP of the thumb; angles [B, 5] in radians (radial, palmar, twist, mcp, ip)."""
    radial, palmar, twist = angles[:, 0], angles[:, 1], angles[:, 2]
    ahead = torch.stack([radial.sin() * palmar.cos(), radial.cos() * palmar.cos(), palmar.sin()], -1)
    # Opposition: the thumb rolls inward as it leaves the plane of the palm, so that its pad faces the fingers.
    inward = 0.87 - 0.9 * palmar + twist
    pad = torch.stack([-inward.cos(), torch.full_like(inward, -0.15), inward.sin()], -1)
    pad = _unit(pad - (pad * ahead).sum(-1, keepdim=True) * ahead)
    points = [hand.cmc]
    bend = torch.zeros_like(radial)
    for k in range(3):
        if k > 0:
            bend = bend + angles[:, k + 2]
        step = bend.cos()[:, None] * ahead + bend.sin()[:, None] * pad
        points.append(points[-1] + hand.thumb_bones[:, k, None] * step)
    return torch.stack(points, 1)


def hand_joints(hand: Anatomy, angles: torch.Tensor) -> torch.Tensor:
    """Joints in the hand frame: [B, 21, 3] mm in MSRA's order (wrist; index, middle, ring, pinky, thumb x 4).

    Args:
        hand: B subjects.
        angles: [B, 23] degrees, see `articulation.ANGLES`.
    """
    radians = torch.deg2rad(angles)
    fingers = _finger_joints(hand, radians[:, :16].reshape(-1, 4, 4))
    thumb = _thumb_joints(hand, radians[:, 16:21])
    wrist = torch.zeros_like(thumb[:, :1])
    return torch.cat([wrist, fingers.flatten(1, 2), thumb], 1)


def _between(p: torch.Tensor, q: torch.Tensor, s: float) -> torch.Tensor:
    return p + s * (q - p)


class _Surface:
    """Collects the round cones of B hands; radii given as numbers scale with the size and girth of the hand."""

    def __init__(self, hand: Anatomy) -> None:
        self._scale = hand.scale
        self._thick = hand.scale * hand.girth
        self._parts: list[tuple[torch.Tensor, ...]] = []

    def at(self, x: float, y: float, z: float) -> torch.Tensor:
        """A point in the hand frame [B, 3], given in mm of the template hand."""
        return self._scale[:, None] * self._scale.new_tensor([x, y, z])

    def add(self, a: torch.Tensor, b: torch.Tensor, ra: torch.Tensor | float, rb: torch.Tensor | float) -> None:
        """One cone from a to b, [B, 3]."""
        radii = [r if isinstance(r, torch.Tensor) else r * self._thick for r in (ra, rb)]
        self._parts.append((a, b, *radii))

    def cones(self) -> Cones:
        a, b, ra, rb = (torch.stack(column, 1) for column in zip(*self._parts, strict=True))
        return Cones(a, b, ra, rb)


def hand_cones(hand: Anatomy, joints: torch.Tensor, angles: torch.Tensor, forearm: torch.Tensor) -> Cones:
    """The surface of posed hands as 37 round cones in the hand frame; the last 4 form the wrist and the forearm.

    Args:
        hand: B subjects.
        joints: [B, 21, 3] from `hand_joints`.
        angles: [B, 23] degrees (the two wrist angles rotate the forearm).
        forearm: [B] visible length beyond the wrist, mm.
    """
    surface = _Surface(hand)
    finger, thumb = joints[:, 1:17].reshape(-1, 4, 4, 3), joints[:, 17:21]
    for f in range(4):
        for k in range(3):
            surface.add(finger[:, f, k], finger[:, f, k + 1], hand.radii[:, f, k], hand.radii[:, f, k + 1])
        surface.add(hand.carpus[:, f], hand.mcp[:, f], hand.metacarpal_radii[:, f, 0], hand.metacarpal_radii[:, f, 1])
    for f in range(3):  # the front edge of the palm and the webs between neighbouring fingers
        surface.add(hand.mcp[:, f], hand.mcp[:, f + 1], 11.5, 11.5)
        for reach, radius in ((0.22, 10.0), (0.42, 7.5)):
            left, right = (_between(finger[:, g, 0], finger[:, g, 1], reach) for g in (f, f + 1))
            surface.add(left, right, radius, radius)
    for k in range(3):
        surface.add(thumb[:, k], thumb[:, k + 1], hand.thumb_radii[:, k], hand.thumb_radii[:, k + 1])
    _add_palm(surface, hand, thumb)
    _add_forearm(surface, angles, forearm)
    return surface.cones()


def _add_palm(surface: _Surface, hand: Anatomy, thumb: torch.Tensor) -> None:
    """The web of the thumb, the thenar and hypothenar muscles, and the middle of the palm."""
    at, add = surface.at, surface.add
    index, pinky = (hand.carpus[:, 0], hand.mcp[:, 0]), (hand.carpus[:, 3], hand.mcp[:, 3])
    add(_between(thumb[:, 0], thumb[:, 1], 0.55), _between(*index, 0.45), 13.0, 11.0)
    add(_between(thumb[:, 0], thumb[:, 1], 0.85), _between(*index, 0.72), 8.5, 9.0)
    add(at(11.0, 11.0, 9.0), _between(thumb[:, 0], thumb[:, 1], 0.6), 15.0, 14.5)  # thenar muscle
    add(at(-20.0, 9.0, 8.0), _between(*pinky, 0.75) + at(-5.0, 0.0, 8.0), 14.5, 12.5)  # hypothenar muscle
    add(at(-3.0, 20.0, 2.0), _between(hand.mcp[:, 1], hand.mcp[:, 2], 0.5) * 0.85, 15.0, 13.5)


def arm_axes(angles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit vectors [B, 3] in the hand frame: from wrist to elbow, and across the forearm (rotated by the wrist)."""
    flexion, deviation = torch.deg2rad(angles[:, 21]), torch.deg2rad(angles[:, 22])
    back = torch.stack([deviation.sin() * flexion.cos(), -deviation.cos() * flexion.cos(), flexion.sin()], -1)
    return back, _unit(torch.linalg.cross(back, angles.new_tensor([0.0, 0.0, 1.0]).expand_as(back)))


def _add_forearm(surface: _Surface, angles: torch.Tensor, length: torch.Tensor) -> None:
    """Two parallel cones give wrist and forearm their oval section; the wrist angles rotate them."""
    back, across = arm_axes(angles)
    for side in (-1.0, 1.0):
        near = surface.at(9.5 * side, 0.0, 0.0)
        far = length[:, None] * back - side * across * (11.0 + 0.03 * length[:, None])
        surface.add(near, far, 18.0, 19.0 + 0.035 * length)
        surface.add(near, surface.at(10.0 * side, 13.0, 2.0), 18.0, 16.5)
