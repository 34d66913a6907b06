# SPDX-License-Identifier: MIT
"""Hand skeletons of the datasets: joint names, the guided joints of Pose-REN, its finger tree, and what to draw.

Joint indices are always in the dataset's public order: that of its published label files.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

Finger = tuple[int, int, int]

FINGERS = ("thumb", "index", "middle", "ring", "pinky")
PALM_GROUP = len(FINGERS)
"""The colour group of joints that belong to no finger: palm and wrist."""


@dataclass(frozen=True)
class Skeleton:
    """The joints of one dataset and the structure that Pose-REN builds on them (paper, section 3.2 and 3.3).

    Attributes:
        name: key in ``SKELETONS``.
        joints: the joints' names, in the dataset's public order.
        guided: the 11 joints whose feature regions feed the network: palm, then root and tip of each finger, thumb to
            pinky (indices into ``joints``).
        fingers: (palm, root, tip) of each finger, thumb to pinky (indices into ``joints``).
        bones: pairs of joints to draw a line between.
        finger_of: for each joint the finger that it belongs to, 0 thumb to 4 pinky; 5 for palm and wrist. For colours.
        hand: the hand that the dataset shows.
    """

    name: str
    joints: tuple[str, ...]
    guided: tuple[int, ...]
    fingers: tuple[Finger, ...]
    bones: tuple[tuple[int, int], ...]
    finger_of: tuple[int, ...]
    hand: Literal["left", "right"]

    @property
    def num_joints(self) -> int:
        """J, the number of joints."""
        return len(self.joints)

    @property
    def tree(self) -> tuple[Finger, ...]:
        """(palm, root, tip) of each finger as positions in ``guided``: which regions a finger's layer concatenates."""
        position = {joint: region for region, joint in enumerate(self.guided)}
        return tuple((position[palm], position[root], position[tip]) for palm, root, tip in self.fingers)


def _skeleton(
    name: str,
    joints: tuple[str, ...],
    fingers: tuple[Finger, ...],
    bones: tuple[tuple[int, int], ...],
    finger_of: tuple[int, ...],
    hand: Literal["left", "right"] = "right",
) -> Skeleton:
    """A skeleton whose guided joints are the palm and each finger's root and tip."""
    guided = (fingers[0][0], *(joint for _, root, tip in fingers for joint in (root, tip)))
    return Skeleton(name, joints, guided, fingers, bones, finger_of, hand)


def _chains(*chains: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Bones along each chain of joints."""
    return tuple(bone for chain in chains for bone in pairwise(chain))


_NYU14 = _skeleton(
    "nyu14",
    joints=(
        *("pinky tip", "pinky root", "ring tip", "ring root", "middle tip", "middle root", "index tip", "index root"),
        *("thumb tip", "thumb root 2", "thumb root 1", "wrist 2", "wrist 1", "palm"),
    ),
    fingers=((13, 10, 8), (13, 7, 6), (13, 5, 4), (13, 3, 2), (13, 1, 0)),
    bones=(
        *((0, 1), (2, 3), (4, 5), (6, 7), (8, 9), (9, 10)),
        *((1, 13), (3, 13), (5, 13), (7, 13), (10, 13), (11, 13), (12, 13)),
    ),
    finger_of=(4, 4, 3, 3, 2, 2, 1, 1, 0, 0, 0, PALM_GROUP, PALM_GROUP, PALM_GROUP),
)

_ICVL16 = _skeleton(
    "icvl16",
    joints=("palm", *(f"{finger} {part}" for finger in FINGERS for part in ("root", "mid", "tip"))),
    fingers=tuple((0, 1 + 3 * finger, 3 + 3 * finger) for finger in range(5)),
    bones=_chains(*((0, 1 + 3 * finger, 2 + 3 * finger, 3 + 3 * finger) for finger in range(5))),
    finger_of=(PALM_GROUP, *(finger for finger in range(5) for _ in range(3))),
    hand="left",
)

# MSRA lists the thumb last: its block of four joints starts at 17, the other fingers' at 1, 5, 9, 13.
_MSRA_BLOCKS = (17, 1, 5, 9, 13)
_MSRA21 = _skeleton(
    "msra21",
    joints=(
        "wrist",
        *(f"{finger} {part}" for finger in (*FINGERS[1:], FINGERS[0]) for part in ("mcp", "pip", "dip", "tip")),
    ),
    fingers=tuple((0, block + 1, block + 3) for block in _MSRA_BLOCKS),
    bones=_chains(*((0, block, block + 1, block + 2, block + 3) for block in _MSRA_BLOCKS)),
    finger_of=(PALM_GROUP, *(finger for finger in (1, 2, 3, 4, 0) for _ in range(4))),
)

# The HANDS17 label files state no handedness; BigHand2.2M, which they come from, is taken to show right hands.
_HANDS17 = _skeleton(
    "hands17",
    joints=(
        "wrist",
        *(f"{finger} mcp" for finger in FINGERS),
        *(f"{finger} {part}" for finger in FINGERS for part in ("pip", "dip", "tip")),
    ),
    fingers=tuple((0, 6 + 3 * finger, 8 + 3 * finger) for finger in range(5)),
    bones=_chains(*((0, 1 + finger, 6 + 3 * finger, 7 + 3 * finger, 8 + 3 * finger) for finger in range(5))),
    finger_of=(PALM_GROUP, *range(5), *(finger for finger in range(5) for _ in range(3))),
)

SKELETONS: dict[str, Skeleton] = {skeleton.name: skeleton for skeleton in (_NYU14, _ICVL16, _MSRA21, _HANDS17)}
"""The datasets' skeletons: nyu14, icvl16, msra21, hands17."""
