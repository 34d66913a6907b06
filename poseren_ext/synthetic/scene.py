# SPDX-License-Identifier: MIT
"""Positions and articulations of hands: random scenes by seed and index, or smooth sequences."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from poseren_ext._utils.counter_rng import Counter
from poseren_ext.synthetic.anatomy import sample_anatomy
from poseren_ext.synthetic.articulation import sample_angles
from poseren_ext.synthetic.kinematics import Cones, hand_cones, hand_joints

SUBJECTS = {"train": (0, 4096), "validation": (1 << 39, 512), "test": (1 << 40, 512)}
"""First subject and number of subjects of each split; no subject is in two splits."""


_TILT = 60.0
"""Largest rotation out of the image plane, degrees; pitch and yaw are uniform on the disc of this radius."""


@dataclass(frozen=True)
class Scene:
    """B hands before a camera.

    Attributes:
        subject: int64 [B].
        angles: [B, 23] degrees (`articulation.ANGLES`).
        turn: [B, 3] radians: roll in the image plane, pitch and yaw out of it; zero is palm to the camera, fingers up.
        slope: [B, 2] x/z and y/z of the palm; depth: [B] z of the palm, mm.
        forearm: [B] visible length of the forearm, mm.
    """

    subject: torch.Tensor
    angles: torch.Tensor
    turn: torch.Tensor
    slope: torch.Tensor
    depth: torch.Tensor
    forearm: torch.Tensor

    def posed(self) -> tuple[torch.Tensor, Cones]:
        """Joints [B, 21, 3] (MSRA's order) and surface, camera frame, mm."""
        hand = sample_anatomy(self.subject)
        joints = hand_joints(hand, self.angles)
        cones = hand_cones(hand, joints, self.angles, self.forearm)
        rotation = _rotation(self.turn)
        palm = 0.5 * (joints[:, 0] + joints[:, 5])
        place = torch.cat([self.slope, torch.ones_like(self.slope[:, :1])], 1) * self.depth[:, None]
        shift = place - (rotation @ palm[:, :, None])[:, :, 0]
        return joints @ rotation.transpose(1, 2) + shift[:, None], cones.moved(rotation, shift)


def _rotation(turn: torch.Tensor) -> torch.Tensor:
    """Rotations [B, 3, 3] from hand frame to camera frame: yaw about y, then pitch about x, then roll about z."""

    def about(axis: int, angle: torch.Tensor) -> torch.Tensor:
        c, s = angle.cos(), angle.sin()
        i, j = (axis + 1) % 3, (axis + 2) % 3
        R = torch.zeros(len(angle), 3, 3, dtype=angle.dtype, device=angle.device)
        R[:, axis, axis] = 1.0
        R[:, i, i], R[:, i, j], R[:, j, i], R[:, j, j] = c, -s, s, c
        return R

    facing = torch.diag(turn.new_tensor([1.0, -1.0, -1.0]))  # y up to y down, palm towards the camera
    return about(2, turn[:, 0]) @ about(0, turn[:, 1]) @ about(1, turn[:, 2]) @ facing


def sample_scene(rng: Counter, split: str, difficulty: float = 1.0, open_share: float = 0.0) -> Scene:
    """Draws one scene per sample.

    At full difficulty, in-plane rotations cover the whole circle, out-of-plane rotations reach 60 degrees, the depth is
    350 to 1000 mm, and any articulation occurs. A smaller difficulty limits the out-of-plane rotation.

    Args:
        rng: the random numbers of the samples.
        split: key in SUBJECTS.
        difficulty: 0 to 1.
        open_share: see `sample_angles`.
    """
    first, count = SUBJECTS[split]
    roll = rng.uniform("roll", 1, -math.pi, math.pi)
    tilt = math.radians(_TILT) * difficulty * rng.uniform("tilt", 1).sqrt()
    towards = rng.uniform("towards", 1, -math.pi, math.pi)
    turn = torch.cat([roll, tilt * towards.cos(), tilt * towards.sin()], 1)
    # The forearm is at least a stub, and long only if it does not point at the camera and hide the hand.
    long = (turn[:, 1] / math.radians(25.0) + 1.0).clamp(0.0, 1.0)
    length = rng.uniform("forearm", 2)
    depth = rng.uniform("depth", 1, 350.0, 1000.0)
    # The palm stays 100 mm inside the view of a typical camera, so far hands have more room to the side.
    aside = turn.new_tensor([0.50, 0.38]) - 100.0 / depth
    return Scene(
        subject=first + rng.integer("subject", 1, count)[:, 0],
        angles=sample_angles(rng, open_share),
        turn=turn,
        slope=rng.uniform("slopexy", 2, -1.0, 1.0) * aside,
        depth=depth[:, 0],
        forearm=20.0 + 90.0 * length[:, 0] + 160.0 * long * length[:, 1] ** 2,
    )


_WANDER = 0.25
"""How far position and rotation of a moving hand follow the sampled scenes: 0 stays at the start, 1 reaches them."""


def blend_scenes(whole: Scene, before: Scene, after: Scene, weight: torch.Tensor) -> Scene:
    """Interpolates a moving hand between two sampled scenes.

    The articulation is interpolated in full; position and rotation stay near those of `whole`.

    Args:
        whole: subject and forearm, and the position and rotation that the motion stays near.
        before: scene at weight 0.
        after: scene at weight 1.
        weight: [B], 0 to 1.
    """
    w = weight[:, None]

    def near(own: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        mix = weight.view(-1, *[1] * (own.dim() - 1))
        return own + _WANDER * ((1.0 - mix) * (a - own) + mix * (b - own))

    def turn_near(angle: torch.Tensor) -> torch.Tensor:
        # the shorter way round, in the image plane
        shift = torch.remainder(angle - whole.turn + math.pi, 2.0 * math.pi) - math.pi
        return whole.turn + _WANDER * shift

    return replace(
        whole,
        angles=(1.0 - w) * before.angles + w * after.angles,
        turn=(1.0 - w) * turn_near(before.turn) + w * turn_near(after.turn),
        slope=near(whole.slope, before.slope, after.slope),
        depth=near(whole.depth, before.depth, after.depth),
    )
