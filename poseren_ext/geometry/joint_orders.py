# SPDX-License-Identifier: MIT
"""Joint orders of other tools and of the datasets, and the way from one of our skeletons to them.

Joints are matched by anatomy: the wrist, and of each finger MCP, PIP, DIP and tip; of the thumb CMC, MCP, IP and tip.
The thumb's "mcp", "pip" and "dip" of MSRA and HANDS 2017 are its CMC, MCP and IP joints. A joint that a skeleton does
not have is missing: NaN in the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from poseren_ext._utils.arrays import as_tensor, like
from poseren_ext.geometry.skeleton import FINGERS, SKELETONS, Skeleton

_LONG = FINGERS[1:]
_PARTS = ("mcp", "pip", "dip", "tip")
_THUMB = ("thumb cmc", "thumb mcp", "thumb ip", "thumb tip")


def _finger(finger: str, parts: tuple[str, ...] = _PARTS) -> tuple[str, ...]:
    return tuple(f"{finger} {part}" for part in parts)


# OpenXR's XrHandJointEXT: each finger from the metacarpal's base to the tip.
_OPENXR_FINGERS = tuple(joint for finger in _LONG for joint in (f"{finger} metacarpal", *_finger(finger)))

_TOOLS: dict[str, tuple[str, ...]] = {
    "mediapipe": ("wrist", *_THUMB, *(joint for finger in _LONG for joint in _finger(finger))),
    "mano": (
        "wrist",
        *(joint for finger in ("index", "middle", "pinky", "ring") for joint in _finger(finger, _PARTS[:3])),
        *_THUMB[:3],
        *(f"{finger} tip" for finger in FINGERS),
    ),
    "openxr26": ("palm", "wrist", *_THUMB, *_OPENXR_FINGERS),
}

# The joints of our skeletons by anatomy. Names that no other order has stand for places between joints: NYU's and
# ICVL's palms differ from each other and from OpenXR's. NYU's "root" markers sit at the PIP joints.
_ANATOMY: dict[str, dict[str, str]] = {
    "msra21": {"thumb mcp": "thumb cmc", "thumb pip": "thumb mcp", "thumb dip": "thumb ip"},
    "hands17": {"thumb mcp": "thumb cmc", "thumb pip": "thumb mcp", "thumb dip": "thumb ip"},
    "icvl16": {
        "palm": "icvl palm",
        "thumb root": "thumb mcp",
        "thumb mid": "thumb ip",
        **{f"{finger} root": f"{finger} mcp" for finger in _LONG},
        **{f"{finger} mid": f"{finger} pip" for finger in _LONG},
    },
    "nyu14": {
        "palm": "nyu palm",
        "thumb root 1": "thumb mcp",
        "thumb root 2": "thumb ip",
        **{f"{finger} root": f"{finger} pip" for finger in _LONG},
    },
}
_DATASETS = {"msra": "msra21", "nyu": "nyu14", "icvl": "icvl16"}

ORDERS: tuple[str, ...] = (*_TOOLS, *SKELETONS)
"""Names of the orders: mediapipe, mano and openxr26, and those of the datasets."""


def anatomy(skeleton: Skeleton) -> tuple[str, ...]:
    """The joints of a skeleton by anatomy, such as "thumb cmc"."""
    names = _ANATOMY.get(skeleton.name, {})
    return tuple(names.get(joint, joint) for joint in skeleton.joints)


def as_anatomy(names: Sequence[str]) -> tuple[str, ...]:
    """Names of joints by anatomy: translated if they are all those of a skeleton, otherwise as they are."""
    skeleton = next((one for one in SKELETONS.values() if set(one.joints) == set(names)), None)
    known = dict(zip(skeleton.joints, anatomy(skeleton), strict=True)) if skeleton else {}
    return tuple(known.get(name, name) for name in names)


def joint_names(order: str) -> tuple[str, ...]:
    """The joints of an order, by anatomy.

    Args:
        order: one of ``ORDERS``; a dataset's name stands for its skeleton.

    Raises:
        ValueError: the order is unknown.
    """
    name = _DATASETS.get(order.lower(), order.lower())
    if name in _TOOLS:
        return _TOOLS[name]
    if name in SKELETONS:
        return anatomy(SKELETONS[name])
    raise ValueError(f"joint order {order!r} is unknown; expected one of {', '.join(ORDERS)}")


def missing_joints(skeleton: Skeleton, order: str) -> tuple[str, ...]:
    """The joints of an order that a skeleton does not have.

    Raises:
        ValueError: the order is unknown.
    """
    known = set(anatomy(skeleton))
    return tuple(joint for joint in joint_names(order) if joint not in known)


def in_order(joints: Any, skeleton: Skeleton, order: str) -> Any:
    """Joints of a skeleton in another order.

    Args:
        joints: [..., J, 3], a floating-point tensor or array, in the skeleton's order.
        skeleton: whose joints they are.
        order: one of ``ORDERS``.

    Returns:
        [..., K, 3], of the same kind; NaN for joints that the skeleton does not have.

    Raises:
        ValueError: the order is unknown, or the joints are not those of the skeleton.
    """
    points = as_tensor(joints)
    if points.dim() < 2 or points.shape[-2] != skeleton.num_joints:
        raise ValueError(
            f"joints have shape {list(points.shape)}; expected [..., {skeleton.num_joints}, 3] for {skeleton.name}"
        )
    place = {joint: index for index, joint in enumerate(anatomy(skeleton))}
    source = [place.get(joint, -1) for joint in joint_names(order)]
    index = torch.tensor(source, device=points.device)
    moved = points.index_select(-2, index.clamp(min=0)).masked_fill((index < 0)[:, None], torch.nan)
    return like(moved, joints)
