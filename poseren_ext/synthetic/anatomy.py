# SPDX-License-Identifier: MIT
"""Bone lengths, joint places and radii of synthetic right hands, varying from subject to subject.

Hand frame (right hand, mm): origin at the wrist, x to the thumb's side, y to the fingers, z out of the palm.
The template is an adult hand of about 200 mm from the wrist joint to the end of the middle finger.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from poseren_ext._utils.counter_rng import Counter

FINGERS = ("index", "middle", "ring", "pinky")

_MCP = ((25.0, 91.0, 0.0), (3.0, 95.0, -3.0), (-18.0, 88.0, -1.0), (-36.0, 77.0, 4.0))
_CARPUS = ((13.0, 12.0, 1.0), (4.0, 13.0, -1.0), (-7.0, 12.0, -1.0), (-17.0, 11.0, 1.0))
_FINGER_BONES = ((43.0, 25.0, 18.0), (48.0, 29.0, 19.0), (44.0, 28.0, 19.0), (34.0, 20.0, 17.0))
_FINGER_RADII = ((11.2, 9.8, 8.8, 7.4), (11.4, 9.9, 8.9, 7.5), (10.8, 9.3, 8.4, 7.2), (9.7, 8.3, 7.4, 6.4))
_METACARPAL_RADII = ((14.5, 12.3), (14.5, 12.5), (14.0, 12.0), (13.5, 11.3))
_THUMB_CMC = (19.0, 20.0, 7.0)
_THUMB_BONES = (46.0, 33.0, 21.0)
_THUMB_RADII = (15.5, 12.6, 10.7, 8.6)
_SPLAY = (5.0, 0.0, -5.0, -11.0)  # degrees, rest direction of each finger in the palm's plane
_ROLL = (-3.0, 2.0, 7.0, 12.0)  # degrees, flexing fingers converge on the scaphoid


@dataclass(frozen=True)
class Anatomy:
    """The unposed hands of B subjects, mm and degrees.

    Attributes:
        mcp: [B, 4, 3] finger knuckles; carpus: [B, 4, 3] metacarpal bases; cmc: [B, 3] thumb base.
        bones: [B, 4, 3] proximal, middle, distal lengths; thumb_bones: [B, 3] metacarpal, proximal, distal.
        radii: [B, 4, 4] at MCP, PIP, DIP, TIP; thumb_radii: [B, 4]; metacarpal_radii: [B, 4, 2].
        splay, roll: [B, 4] rest angles of the fingers; scale: [B] overall size; girth: [B] overall thickness.
    """

    mcp: torch.Tensor
    carpus: torch.Tensor
    cmc: torch.Tensor
    bones: torch.Tensor
    thumb_bones: torch.Tensor
    radii: torch.Tensor
    thumb_radii: torch.Tensor
    metacarpal_radii: torch.Tensor
    splay: torch.Tensor
    roll: torch.Tensor
    scale: torch.Tensor
    girth: torch.Tensor


def sample_anatomy(subjects: torch.Tensor, size: tuple[float, float] = (1.0, 0.15)) -> Anatomy:
    """Draws the hands of the given subjects; a subject number always gives the same hand.

    Args:
        subjects: int64 [B].
        size: middle of the hands' sizes, and how far they go up and down from it; 1 is an adult's 200 mm.
    """
    rng = Counter(0x48414E44, subjects)
    device = subjects.device
    B = len(subjects)

    def vary(stream: str, count: int, fraction: float) -> torch.Tensor:
        return 1.0 + fraction * rng.uniform(stream, count, -1.0, 1.0)

    def template(values: object) -> torch.Tensor:
        return torch.tensor(values, device=device, dtype=torch.float32)

    scale = size[0] + size[1] * rng.uniform("size", 1, -1.0, 1.0)
    girth = vary("girth", 1, 0.13)
    width = vary("width", 1, 0.07)
    stretch = torch.cat([width, vary("palm", 1, 0.04), torch.ones_like(width)], 1)[:, None, :] * scale[:, :, None]
    jitter = rng.uniform("knuckle", 12, -1.5, 1.5).view(B, 4, 3)
    finger = vary("finger", 4, 0.05)
    bone = vary("bone", 12, 0.05).view(B, 4, 3)
    thick = girth * scale
    return Anatomy(
        mcp=(template(_MCP) + jitter) * stretch,
        carpus=template(_CARPUS) * stretch,
        cmc=((template(_THUMB_CMC) + rng.uniform("cmc", 3, -2.0, 2.0)) * stretch[:, 0]),
        bones=template(_FINGER_BONES) * bone * (finger * scale)[:, :, None],
        thumb_bones=template(_THUMB_BONES) * vary("thumb", 3, 0.07) * scale,
        radii=template(_FINGER_RADII) * (vary("radius", 4, 0.05) * thick)[:, :, None],
        thumb_radii=template(_THUMB_RADII) * vary("thumbr", 4, 0.05) * thick,
        metacarpal_radii=template(_METACARPAL_RADII) * thick[:, :, None],
        splay=template(_SPLAY) + rng.uniform("splay", 4, -2.5, 2.5),
        roll=template(_ROLL) + rng.uniform("roll", 4, -3.0, 3.0),
        scale=scale[:, 0],
        girth=girth[:, 0],
    )
