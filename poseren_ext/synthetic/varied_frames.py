# SPDX-License-Identifier: MIT
"""Frames of hands seen from every side, among objects and other hands, by many kinds of cameras."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from poseren_ext._utils.counter_rng import Counter
from poseren_ext.datasets.sample import FrameBatch
from poseren_ext.geometry.camera import xyz_to_uvd
from poseren_ext.synthetic.conventions import convert_joints
from poseren_ext.synthetic.frames import SyntheticHands, camera_window, centroid, far_end, tile_window, window_camera
from poseren_ext.synthetic.kinematics import Cones
from poseren_ext.synthetic.render import render_depth
from poseren_ext.synthetic.scene import SUBJECTS
from poseren_ext.synthetic.solids import Solids, render_solids
from poseren_ext.synthetic.surroundings import (
    EVERYTHING,
    Surroundings,
    add_surroundings,
    second_hand,
    surrounding_solids,
)
from poseren_ext.synthetic.varied_scene import VariedScene, View, sample_varied_scene
from poseren_ext.synthetic.varied_sensor import VariedSensor, sense_varied

_SALT, _OTHER_SALT = 0x56415259, 0x4F544852
_SPLIT_SALT = {"train": 0x7261696E, "validation": 0x76616C69, "test": 0x74657374}
_SCOUT_SIZE, _SCOUT_REACH = 64, 400.0  # pixels, mm: a coarse image, from which centres are computed
_HAND_LENGTH = 190.0  # mm: length from the fingertips that hand detection keeps of hand and arm
_CENTERS = (0.2, 0.5, 0.85)
"""Cumulative shares of the kinds of training centres: hand and arm, hand, its far 190 mm; the rest: the joints."""
_OFF_CENTER = 30.0  # mm to each side, in half of the training frames


@dataclass(frozen=True)
class _Scenes:
    """B complete scenes: the hand, all cones, and the objects."""

    hand: VariedScene
    own: Cones  # hand and arm
    all: Cones  # with the second hand
    solids: Solids


@dataclass(frozen=True)
class VariedHands(SyntheticHands):
    """An endless set of right hands seen from every side; the index determines a frame, as in `SyntheticHands`.

    Attributes:
        view: the side that the hands are seen from.
        surroundings: what else the frames show.
        faults: sensor faults of the cameras; `sensor` and `difficulty` are not used.
    """

    view: View = field(default_factory=View)
    surroundings: Surroundings = EVERYTHING
    faults: VariedSensor = field(default_factory=VariedSensor)

    def tiles(self, index: torch.Tensor, *, size: int = 96, margin: float = 1.0) -> FrameBatch:
        """Only the windows around the hands, with centres as different kinds of hand detection give them."""
        rng = self._counter(index)
        scenes = self._scenes(rng, index)
        center = self._training_center(rng, scenes)
        return self._seen(rng, scenes, center, tile_window(center, self.cube, size, margin), (size, size))

    def frames(self, index: torch.Tensor) -> FrameBatch:
        """Whole camera frames; the centre is that of the visible pixels of the hand, or of its joints if it is hidden.

        Raises:
            ValueError: The camera has no size.
        """
        rng = self._counter(index)
        scenes = self._scenes(rng, index)
        window, shape = camera_window(self.camera, len(index), index.device)
        return self._seen(rng, scenes, self._hand_center(scenes), window, shape)

    def farthest(self, index: torch.Tensor) -> torch.Tensor:
        """Largest depth of each hand and its forearm, with the noise of the camera: [B] mm."""
        return far_end(self._scenes(self._counter(index), index).own)

    def visible_share(self, index: torch.Tensor) -> torch.Tensor:
        """Visible share of the silhouette of each hand: [B], 0 to 1."""
        scenes = self._scenes(self._counter(index), index)
        window = self._scout_window(scenes)
        hand, rest = self._scout(scenes, window)
        shown = hand.isfinite()
        return (shown & (hand <= rest)).sum((1, 2)).float() / shown.sum((1, 2)).clamp(min=1)

    def _counter(self, index: torch.Tensor) -> Counter:
        return Counter(self.seed ^ _SALT ^ (_SPLIT_SALT[self.split] << 20), index)

    def _scenes(self, rng: Counter, index: torch.Tensor) -> _Scenes:
        subjects = SUBJECTS[self.split]
        hand = sample_varied_scene(rng, subjects, self.view, open_share=self.open_share)
        own = hand.hand.concat(hand.arm)
        everything = own
        if torch.as_tensor(self.surroundings.other > 0.0).any():
            others = Counter(self.seed ^ _OTHER_SALT ^ (_SPLIT_SALT[self.split] << 20), index)
            everything = own.concat(second_hand(others, hand, subjects, self.view, self.surroundings.other))
        return _Scenes(hand, own, everything, surrounding_solids(rng, hand, self.surroundings))

    def _seen(
        self, rng: Counter, scenes: _Scenes, center: torch.Tensor, window: torch.Tensor, shape: tuple[int, int]
    ) -> FrameBatch:
        """Frames [B, H, W] through windows [B, 4]; centres [B, 3] in camera mm."""
        depth = render_depth(scenes.all, window, *shape)
        depth = add_surroundings(depth, window, scenes.all, scenes.solids, rng, self.surroundings)
        depth = sense_varied(depth, window, rng, self.faults)
        camera = window_camera(window)
        joints = convert_joints(scenes.hand.joints, self.skeleton)
        uvd = xyz_to_uvd(joints, camera, check=False)
        return FrameBatch(depth, camera, xyz_to_uvd(center, camera), uvd, rng.index, self.cube)

    def _scout_window(self, scenes: _Scenes) -> torch.Tensor:
        palm = 0.5 * (scenes.hand.joints[:, 0] + scenes.hand.joints[:, 5])
        return tile_window(palm, _SCOUT_REACH, _SCOUT_SIZE, 1.0)

    def _scout(self, scenes: _Scenes, window: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Coarse depth of the hand alone, and of its arm and the objects: [B, S, S], inf for no surface."""
        size = (_SCOUT_SIZE, _SCOUT_SIZE)
        hand = render_depth(scenes.hand.hand, window, *size)
        rest = render_depth(scenes.all.part(slice(scenes.hand.hand.ra.shape[1], None)), window, *size)
        return hand, torch.minimum(rest, render_solids(scenes.solids, window, *size))

    def _hand_center(self, scenes: _Scenes) -> torch.Tensor:
        """Centre [B, 3] of the visible pixels of the hand, camera mm."""
        window = self._scout_window(scenes)
        hand, rest = self._scout(scenes, window)
        own = hand.isfinite() & (hand <= rest)
        center = _mean_point(hand, own, window, self.cube)
        return torch.where(own.any(2).any(1)[:, None], center, scenes.hand.joints.mean(1))

    def _training_center(self, rng: Counter, scenes: _Scenes) -> torch.Tensor:
        """Centres [B, 3], camera mm, as kinds of detection give them; half are off by up to 30 mm in each axis."""
        window = self._scout_window(scenes)
        hand, rest = self._scout(scenes, window)
        mean = scenes.hand.joints.mean(1)
        own = hand.isfinite() & (hand <= rest)
        found = own.any(2).any(1)[:, None]
        arm = render_depth(scenes.hand.arm, window, _SCOUT_SIZE, _SCOUT_SIZE)
        both = torch.minimum(hand, arm)
        seen = both.isfinite()
        end = scenes.hand.arm.b[:, 0]  # the elbow's end of the forearm
        away = torch.where(seen, (_points(both, seen, window) - end[:, None, None]).norm(dim=-1), 0.0)
        outer = seen & (away > away.amax((1, 2), keepdim=True) - _HAND_LENGTH)
        choices = [_mean_point(both, seen, window, self.cube), _mean_point(hand, own, window, self.cube)]
        choices += [_mean_point(both, outer, window, self.cube), mean]
        kind = torch.bucketize(rng.uniform("center", 1)[:, 0], mean.new_tensor(_CENTERS))
        chosen = torch.stack(choices, 1)[torch.arange(len(mean), device=mean.device), kind]
        chosen = torch.where(found & ((chosen - mean).norm(dim=1, keepdim=True) < 120.0), chosen, mean)
        return chosen + (rng.uniform("offcenter", 1) < 0.5) * rng.uniform("offby", 3, -_OFF_CENTER, _OFF_CENTER)


def _points(depth: torch.Tensor, seen: torch.Tensor, window: torch.Tensor) -> torch.Tensor:
    """Camera mm [B, S, S, 3] of pixels."""
    steps = torch.arange(depth.shape[1], device=depth.device)
    x = (window[:, 0, None] + window[:, 2, None] * steps)[:, None, :].expand_as(depth)
    y = (window[:, 1, None] + window[:, 3, None] * steps)[:, :, None].expand_as(depth)
    return torch.stack([x, y, torch.ones_like(depth)], -1) * torch.where(seen, depth, 0.0)[..., None]


def _mean_point(depth: torch.Tensor, chosen: torch.Tensor, window: torch.Tensor, cube: float) -> torch.Tensor:
    """Camera mm [B, 3] of the centre of the chosen pixels, as `hand_center` computes it."""
    camera = window_camera(window)
    uvd = centroid(torch.where(chosen, depth, 0.0), camera, cube)
    return torch.cat([(uvd[:, :2] - camera[:, 2:]) / camera[:, :2] * uvd[:, 2:], uvd[:, 2:]], 1)
