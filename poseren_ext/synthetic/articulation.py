# SPDX-License-Identifier: MIT
"""Joint angles of synthetic hands: limits, couplings, and the gestures that are sampled."""

from __future__ import annotations

import torch

from poseren_ext._utils.counter_rng import Counter
from poseren_ext.synthetic.anatomy import FINGERS

ANGLES = (
    *(f"{finger}_{turn}" for finger in FINGERS for turn in ("spread", "mcp", "pip", "dip")),
    "thumb_radial",
    "thumb_palmar",
    "thumb_twist",
    "thumb_mcp",
    "thumb_ip",
    "wrist_flexion",
    "wrist_deviation",
)
_FINGER_LIMITS = ((-15.0, 15.0), (-15.0, 92.0), (0.0, 108.0), (-5.0, 80.0))
LIMITS: tuple[tuple[float, float], ...] = (
    *(_FINGER_LIMITS * 4),
    (-5.0, 58.0),
    (0.0, 62.0),
    (-15.0, 15.0),
    (-8.0, 55.0),
    (-15.0, 80.0),
    (-45.0, 45.0),
    (-15.0, 25.0),
)
"""Degrees, one (lowest, highest) for each of ANGLES. Flexion is positive to the palm, spread positive to the thumb."""

INDEPENDENT_SHARE = 0.36
_FARTHEST_BACK = -25.0
"""Smallest angle of the knuckles of flat open hands, degrees."""
_GESTURES = (
    *(("independent", INDEPENDENT_SHARE), ("random", 0.12), ("grasp", 0.18)),
    *(("count", 0.18), ("pinch", 0.10), ("fist", 0.06)),
)


def clamp_to_limits(angles: torch.Tensor) -> torch.Tensor:
    """Angles [..., 23] clamped to LIMITS."""
    limits = angles.new_tensor(LIMITS)
    return torch.minimum(torch.maximum(angles, limits[:, 0]), limits[:, 1])


def sample_gesture(rng: Counter) -> torch.Tensor:
    """The kind of gesture of each sample: int64 [B], index into independent, random, grasp, count, pinch, fist."""
    bounds = torch.tensor([share for _, share in _GESTURES], dtype=torch.float32, device=rng.index.device).cumsum(0)
    return torch.bucketize(rng.uniform("gesture", 1)[:, 0], bounds[:-1], right=True)


def _finger_curls(rng: Counter, gesture: torch.Tensor) -> torch.Tensor:
    """Curl of each of the four fingers [B, 4]: 0 is straight, 1 is a fist."""
    own = rng.uniform("curl", 4, -0.08, 1.08)
    common = rng.uniform("grasp", 1, -0.05, 1.05) + rng.uniform("slope", 1, -0.2, 0.2) * torch.linspace(
        -1.0, 1.0, 4, dtype=torch.float32, device=own.device
    )
    count = torch.where(rng.uniform("count", 4) < 0.5, 0.92 + 0.14 * own, 0.08 * own)
    pinch_with = rng.integer("which", 1, 5)  # 4: all fingers together
    pinched = (torch.arange(4, device=own.device) == pinch_with) | (pinch_with == 4)
    pinch = torch.where(pinched, 0.58 + 0.10 * own, own)
    fist = 0.9 + 0.15 * own
    choices = torch.stack([own, own, common, count, pinch, fist], 1)
    return choices.gather(1, gesture[:, None, None].expand(-1, 1, 4))[:, 0]


def _finger_angles(rng: Counter, gesture: torch.Tensor) -> torch.Tensor:
    """[B, 4, 4]: spread, mcp, pip, dip of the four fingers, before limits."""
    B = len(gesture)
    curl = _finger_curls(rng, gesture)
    loose = curl.new_tensor([0.16, 0.5, 0.14, 0.06, 0.05, 0.04])[gesture][:, None]
    mcp = 88.0 * (curl + loose * rng.normal("mcp", 4))
    pip = 104.0 * (curl + loose * rng.normal("pip", 4))
    free = (gesture == 1)[:, None]
    mcp = torch.where(free, rng.uniform("mcpfree", 4, -15.0, 92.0), mcp)
    pip = torch.where(free, rng.uniform("pipfree", 4, 0.0, 108.0), pip)
    pip = pip.clamp(0.0, 108.0)
    dip = pip * (2.0 / 3.0) * (1.0 + 0.15 * rng.normal("dip", 4)) + 4.0 * rng.normal("dip0", 4)
    fan = rng.uniform("fan", 1, -0.35, 1.0) * curl.new_tensor([8.0, 2.0, -4.0, -10.0])
    spread = (fan + 2.5 * rng.normal("spread", 4)) * (1.0 - 0.75 * curl.clamp(0.0, 1.0))
    return torch.stack([spread, mcp, pip, dip], 2).view(B, 4, 4)


def _thumb_angles(rng: Counter, gesture: torch.Tensor) -> torch.Tensor:
    """[B, 5]: radial, palmar, twist, mcp, ip of the thumb, before limits."""
    own = rng.uniform("thumb", 4)
    radial, palmar = -2.0 + 58.0 * own[:, 0], 60.0 * own[:, 1]
    mcp, ip = -5.0 + 50.0 * own[:, 2], -12.0 + 85.0 * own[:, 3]
    tucked = (gesture == 5) | ((gesture == 3) & (rng.uniform("tuck", 1)[:, 0] < 0.5))
    radial = torch.where(tucked, 6.0 + 14.0 * own[:, 0], radial)
    palmar = torch.where(tucked, 38.0 + 16.0 * own[:, 1], palmar)
    mcp = torch.where(tucked, 20.0 + 30.0 * own[:, 2], mcp)
    ip = torch.where(tucked, 20.0 + 45.0 * own[:, 3], ip)
    pinching = gesture == 4
    radial = torch.where(pinching, 12.0 + 22.0 * own[:, 0], radial)
    palmar = torch.where(pinching, 42.0 + 16.0 * own[:, 1], palmar)
    mcp = torch.where(pinching, 25.0 * own[:, 2], mcp)
    ip = torch.where(pinching, -5.0 + 35.0 * own[:, 3], ip)
    twist = 6.0 * rng.normal("twist", 1)[:, 0]
    return torch.stack([radial, palmar, twist, mcp, ip], 1)


def _open_hand(rng: Counter) -> torch.Tensor:
    """[B, 21]: angles of the fingers and the thumb of flat open hands, whose knuckles bend back further."""
    fan = rng.uniform("openfan", 1, -0.35, 1.6)
    spread = fan * fan.new_tensor([8.0, 2.0, -4.0, -10.0]) + 2.5 * rng.normal("openspread", 4)
    mcp = rng.uniform("openmcp", 1, -22.0, 12.0) + 4.0 * rng.normal("openknuckle", 4)
    pip, dip = 6.0 * rng.normal("openpip", 4).abs(), 4.0 * rng.normal("opendip", 4)
    own = rng.uniform("openthumb", 4)
    radial, palmar = 58.0 * own[:, 0], 30.0 * own[:, 1] ** 2  # most thumbs are near the plane of the palm
    thumb = [radial, palmar, 6.0 * rng.normal("twist", 1)[:, 0], -8.0 + 28.0 * own[:, 2], -15.0 + 40.0 * own[:, 3]]
    angles = torch.cat([torch.stack([spread, mcp, pip, dip], 2).flatten(1), torch.stack(thumb, 1)], 1)
    limits = angles.new_tensor(LIMITS)[:21]
    limits[1:16:4, 0] = _FARTHEST_BACK
    return torch.minimum(torch.maximum(angles, limits[:, 0]), limits[:, 1])


def sample_angles(rng: Counter, open_share: float = 0.0) -> torch.Tensor:
    """Joint angles of each sample: float32 [B, 23] in degrees, in the order of ANGLES, within LIMITS.

    Only the knuckles of flat open hands bend back beyond their limit, to -25 degrees.

    Args:
        rng: the random numbers of the samples.
        open_share: fraction of the samples that show a flat open hand instead of one of the gestures, of which one in
            thirty is nearly that.
    """
    gesture = sample_gesture(rng)
    wrist = torch.stack([16.0 * rng.normal("wristf", 1)[:, 0], 5.0 + 8.0 * rng.normal("wristd", 1)[:, 0]], 1)
    angles = clamp_to_limits(
        torch.cat([_finger_angles(rng, gesture).flatten(1), _thumb_angles(rng, gesture), wrist], 1)
    )
    if open_share > 0.0:
        flat = torch.cat([_open_hand(rng), angles[:, 21:]], 1)
        angles = torch.where(rng.uniform("open", 1) < open_share, flat, angles)
    return angles
