# SPDX-License-Identifier: MIT
"""Frames of hands seen from every side, and the mixture that the bundled model is trained on."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import torch

from poseren_ext._utils.counter_rng import Counter
from poseren_ext.geometry.camera import xyz_to_uvd
from poseren_ext.synthetic.conventions import convert_joints
from poseren_ext.synthetic.frames import Frames, SyntheticHands, _centroid, _window_camera
from poseren_ext.synthetic.render import render_depth
from poseren_ext.synthetic.scene import SUBJECTS
from poseren_ext.synthetic.sensor import add_background, sense
from poseren_ext.synthetic.varied_scene import VariedScene, View, sample_varied_scene

_SALT = 0x56415259
_SCOUT_SIZE, _SCOUT_REACH = 64, 400.0  # pixels, mm: the coarse image that centres are taken from
_HAND_LENGTH = 190.0  # mm: what hand detection keeps of hand and arm, from the fingertips on


@dataclass(frozen=True)
class VariedHands(SyntheticHands):
    """An endless set of right hands seen from every side, as `SyntheticHands` otherwise.

    Attributes:
        view: from where.
    """

    view: View = field(default_factory=View)

    def tiles(self, index: torch.Tensor, *, size: int = 96, margin: float = 1.0) -> Frames:
        """Only the windows around the hands, with centres as different searches for the hand give them."""
        rng = self._counter(index)
        scene = sample_varied_scene(rng, SUBJECTS[self.split], self.view)
        center = self._drawn_center(rng, scene)
        half = margin * self.cube / center[:, 2:]
        window = torch.cat([center[:, :2] / center[:, 2:] - half, (2.0 * half / (size - 1)).expand(-1, 2)], 1)
        cones = scene.hand.concat(scene.arm)
        far = cones.farthest()
        depth = add_background(render_depth(cones, window, size, size), window, far, rng, self.sensor)
        depth = sense(depth, rng, rng, self.sensor)
        camera = _window_camera(window)
        joints = convert_joints(scene.joints, self.skeleton)
        uvd = xyz_to_uvd(joints, camera, check=False)
        return Frames(depth, camera, xyz_to_uvd(center, camera), far + 15.0, uvd, joints)

    def _counter(self, index: torch.Tensor) -> Counter:
        return Counter(self.seed ^ (_SALT << 20) ^ sum(map(ord, self.split)), index)

    def _drawn_center(self, rng: Counter, scene: VariedScene) -> torch.Tensor:
        """Centres [B, 3], camera mm: a mixture of what searches give, each off by up to 30 mm in half of the frames."""
        palm = 0.5 * (scene.joints[:, 0] + scene.joints[:, 5])
        reach = _SCOUT_REACH / palm[:, 2:]
        step = (2.0 * reach / (_SCOUT_SIZE - 1)).expand(-1, 2)
        window = torch.cat([palm[:, :2] / palm[:, 2:] - reach, step], 1)
        hand = render_depth(scene.hand, window, _SCOUT_SIZE, _SCOUT_SIZE)
        arm = render_depth(scene.arm, window, _SCOUT_SIZE, _SCOUT_SIZE)
        both = torch.minimum(hand, arm)
        camera = _window_camera(window)
        seen = both.isfinite()
        depth = torch.where(seen, both, 0.0)
        end = scene.arm.b[:, 0]  # the elbow's end of the forearm
        points = torch.stack([*_rays(window, _SCOUT_SIZE), torch.ones_like(depth)], -1) * depth[..., None]
        away = torch.where(seen, (points - end[:, None, None]).norm(dim=-1), 0.0)
        outer = seen & (away > away.amax((1, 2), keepdim=True) - _HAND_LENGTH)
        own = hand.isfinite() & (hand <= arm)
        own |= seen & ~own.any(2).any(1)[:, None, None]  # a hand that is hidden altogether
        choices = torch.stack(
            [
                _unproject(_centroid(depth, camera, self.cube), camera),
                _unproject(_centroid(depth, camera, self.cube, mask=own), camera),
                _unproject(_centroid(depth, camera, self.cube, mask=outer), camera),
                scene.joints.mean(1),
            ],
            1,
        )
        kind = torch.bucketize(rng.uniform("center", 1)[:, 0], palm.new_tensor([0.2, 0.5, 0.85]))
        chosen = choices[torch.arange(len(palm), device=palm.device), kind]
        off = (rng.uniform("offcenter", 1) < 0.5) * rng.uniform("offby", 3, -30.0, 30.0)
        return chosen + off


@dataclass(frozen=True)
class TrainingHands(SyntheticHands):
    """The mixture that the bundled model learns from: frames of `SyntheticHands`, the rest of `VariedHands`.

    Attributes:
        palm_share: how many of the frames show the palm, as `SyntheticHands` draws it.
    """

    palm_share: float = 0.36

    def tiles(self, index: torch.Tensor, *, size: int = 96, margin: float = 1.0) -> Frames:
        """Only the windows around the hands."""
        easy = Counter(self.seed ^ _SALT, index).uniform("palm", 1)[:, 0] < self.palm_share
        shared = (self.seed, self.split)
        palms = SyntheticHands(*shared, self.difficulty, self.skeleton, self.camera, self.cube, self.sensor)
        varied = VariedHands(*shared, self.difficulty, self.skeleton, self.camera, self.cube, self.sensor)
        parts = [
            hands.tiles(index[chosen], size=size, margin=margin)
            for hands, chosen in ((palms, easy), (varied, ~easy))
            if bool(chosen.any())
        ]
        order = torch.cat([easy.nonzero()[:, 0], (~easy).nonzero()[:, 0]]).argsort()
        return Frames(*(torch.cat([getattr(part, f.name) for part in parts])[order] for f in fields(Frames)))


def _rays(window: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Slopes x/z and y/z [B, size, size] of a window's pixels."""
    steps = torch.arange(size, device=window.device)
    x = window[:, 0, None] + window[:, 2, None] * steps
    y = window[:, 1, None] + window[:, 3, None] * steps
    return x[:, None, :].expand(-1, size, -1), y[:, :, None].expand(-1, -1, size)


def _unproject(uvd: torch.Tensor, camera: torch.Tensor) -> torch.Tensor:
    """Camera mm [B, 3] of u, v, mm."""
    return torch.cat([(uvd[:, :2] - camera[:, 2:]) / camera[:, :2] * uvd[:, 2:], uvd[:, 2:]], 1)
