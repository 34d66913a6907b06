# SPDX-License-Identifier: MIT
"""Whole scenes for hand detection: no hand, one or two, with arms, people, tables and objects."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F

from poseren_ext._utils.counter_rng import Counter
from poseren_ext.geometry.camera import CAMERAS, Camera, xyz_to_uvd
from poseren_ext.synthetic.conventions import convert_joints
from poseren_ext.synthetic.frames import camera_window, window_camera
from poseren_ext.synthetic.kinematics import Cones
from poseren_ext.synthetic.objects import objects_around
from poseren_ext.synthetic.person import person_behind, without_dark_parts
from poseren_ext.synthetic.render import render_depth
from poseren_ext.synthetic.scene import SUBJECTS
from poseren_ext.synthetic.solids import Solids
from poseren_ext.synthetic.surroundings import Surroundings, add_surroundings, shown_only, surrounding_solids
from poseren_ext.synthetic.varied_scene import VariedScene, View, mirrored, sample_varied_scene
from poseren_ext.synthetic.varied_sensor import VariedSensor, sense_varied

SceneKind: TypeAlias = Literal["empty", "one", "two", "holding", "egocentric", "person", "table", "cluttered"]
SCENE_KINDS: tuple[SceneKind, ...] = ("empty", "one", "two", "holding", "egocentric", "person", "table", "cluttered")
RIGHT, LEFT, NO_HAND = 0, 1, -1
_SHARES = (0.14, 0.16, 0.20, 0.12, 0.12, 0.10, 0.08, 0.08)
_SECOND = 0.35  # share of the kinds from "holding" on that show two hands
_SALT = {"train": 0x5343454E, "validation": 0x53434556, "test": 0x53434554}
_DEPTH = (220.0, 1300.0)  # mm, of palms
_LEFT_PARTNER = 0.85  # share of second hands that are the other hand of the same person
_SAME = 1.0  # mm of depth: the same surface


@dataclass(frozen=True)
class SceneFrames:
    """B depth frames and the hands in them, at most two each.

    Attributes:
        depth: float32 [B, H, W] mm, 0 where the camera sees nothing.
        camera: [B, 4] fx, fy, cx, cy.
        uvd, xyz: [B, 2, J, 3] joints in pixels and mm, and in mm; without meaning where there is no hand.
        side: int64 [B, 2] RIGHT, LEFT or NO_HAND.
        visible: [B, 2] share of the hand's surface facing the camera that nothing hides and that has depth, times the
            share of its joints inside the frame.
        kind: int64 [B], index in `SCENE_KINDS`.
    """

    depth: torch.Tensor
    camera: torch.Tensor
    uvd: torch.Tensor
    xyz: torch.Tensor
    side: torch.Tensor
    visible: torch.Tensor
    kind: torch.Tensor


@dataclass(frozen=True)
class SyntheticScenes:
    """An endless set of scenes; a frame is determined by its index, whatever the batch.

    Attributes:
        seed: random seed of everything except the hands of the subjects.
        split: "train", "validation" or "test"; no subject is in two splits.
        skeleton: skeleton of the joints, key of `SKELETONS`.
        camera: intrinsics and frame size.
        zoom: limits of a factor on the focal length, one draw per frame, for training on many cameras.
        faults: of the cameras.
        open_share: fraction of the hands that are flat and open (`sample_angles`), for training.
        persons: least share of the frames of each kind with a person behind the hands, for training.

    Raises:
        ValueError: The split is unknown or the camera has no size.
    """

    seed: int
    split: Literal["train", "validation", "test"] = "train"
    skeleton: str = "msra21"
    camera: Camera = CAMERAS["sr305"]
    zoom: tuple[float, float] = (1.0, 1.0)
    faults: VariedSensor = field(default_factory=VariedSensor)
    open_share: float = 0.0
    persons: float = 0.0

    def __post_init__(self) -> None:
        if self.split not in SUBJECTS:
            raise ValueError(f"split is {self.split!r}; expected one of {', '.join(SUBJECTS)}")
        camera_window(self.camera, 1, torch.device("cpu"))

    def frames(self, index: torch.Tensor) -> SceneFrames:
        """The frames with the given indices (int64 [B])."""
        rng = Counter(self.seed ^ (_SALT[self.split] << 20), index)
        other = Counter(self.seed ^ (_SALT[self.split] << 20) ^ 0x4F544852, index)
        kind = torch.bucketize(
            rng.uniform("scenekind", 1)[:, 0], torch.tensor(_SHARES, dtype=torch.float32).cumsum(0)[:-1], right=True
        )
        # Scenes are drawn with a right hand first. Half of the images are mirrored afterwards.
        flipped = rng.uniform("flipped", 1)[:, 0] < 0.5
        window, shape = self._windows(rng, flipped)
        hands, side, shown = self._hands(rng, other, kind, window, shape)
        depth, whole, seen = self._depth(rng, kind, hands, shown, window, shape)
        depth = sense_varied(depth, window, rng, self.faults)
        visible = ((seen & (depth > 0.0)[:, None]).sum((2, 3)).float() / whole).nan_to_num()
        return _labelled(depth, window, kind, hands, side, visible, flipped, self.skeleton)

    def _windows(self, rng: Counter, flipped: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int]]:
        """Windows [B, 4] of the frames before they are mirrored, and their height and width."""
        window, shape = camera_window(self.camera, len(flipped), flipped.device)
        low, high = self.zoom
        window = window / (low * (high / low) ** rng.uniform("zoom", 1))
        last = window[:, 0] + window[:, 2] * (shape[1] - 1)
        return torch.cat([torch.where(flipped, -last, window[:, 0])[:, None], window[:, 1:]], 1), shape

    def _hands(
        self, rng: Counter, other: Counter, kind: torch.Tensor, window: torch.Tensor, shape: tuple[int, int]
    ) -> tuple[list[VariedScene], torch.Tensor, torch.Tensor]:
        """Two hands, their sides [B, 2] (NO_HAND where there is none), and which are rendered: bool [B, 2]."""
        empty = kind == SCENE_KINDS.index("empty")
        u = rng.uniform("sceneis", 4)
        beyond = empty & (u[:, 0] < 0.35)  # the hand is outside, its arm may be inside
        first = self._posed(rng, kind, _place(rng, window, shape, beyond))
        partner = u[:, 1] < _LEFT_PARTNER
        flip = torch.where(partner, -1.0, 1.0).float()
        side = torch.stack([flip, torch.ones_like(flip), torch.ones_like(flip)], 1)
        place = _second_place(other, first, _place(other, window, shape, beyond), partner)
        second = self._posed(other, kind, place * side)
        turned = VariedScene(
            second.joints * side[:, None], mirrored(second.hand, side), mirrored(second.arm, side), second.normal * side
        )
        several = kind > SCENE_KINDS.index("two")
        two = (kind == SCENE_KINDS.index("two")) | (several & (u[:, 2] < _SECOND))
        there = torch.stack([~empty, two], 1)
        side = torch.stack([torch.full_like(kind, RIGHT), torch.where(partner, LEFT, RIGHT)], 1)
        shown = torch.stack([~empty | beyond, two], 1)
        return [first, turned], torch.where(there, side, NO_HAND), shown

    def _posed(self, rng: Counter, kind: torch.Tensor, place: torch.Tensor) -> VariedScene:
        """Hands at the given places, those of egocentric scenes with the arm towards the camera."""
        subjects = SUBJECTS[self.split]
        towards = (kind == SCENE_KINDS.index("egocentric"))[:, None]
        views = (View(towards=value) for value in (False, True))
        free, ego = (sample_varied_scene(rng, subjects, view, place, self.open_share) for view in views)

        def pick(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return torch.where(towards.view(-1, *[1] * (a.dim() - 1)), a, b)

        def cones(a: Cones, b: Cones) -> Cones:
            return Cones(pick(a.a, b.a), pick(a.b, b.b), pick(a.ra, b.ra), pick(a.rb, b.rb))

        return VariedScene(
            pick(ego.joints, free.joints),
            cones(ego.hand, free.hand),
            cones(ego.arm, free.arm),
            pick(ego.normal, free.normal),
        )

    def _depth(
        self,
        rng: Counter,
        kind: torch.Tensor,
        hands: list[VariedScene],
        shown: torch.Tensor,
        window: torch.Tensor,
        shape: tuple[int, int],
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Clean depth [B, H, W], inf where nothing is; the pixels of each hand, hidden or not.

        Of these, the number [B, 2] of all, and bool [B, 2, H, W], which are not hidden.
        """
        own = [render_depth(shown_only(hand.hand, shown[:, i]), window, *shape) for i, hand in enumerate(hands)]
        arms = shown_only(hands[0].arm, shown[:, 0]).concat(shown_only(hands[1].arm, shown[:, 1]))
        depth = torch.minimum(torch.minimum(*own), render_depth(arms, window, *shape))
        shares = _surroundings(rng, kind)
        person = _person(rng, kind, hands[0].joints, self.persons)
        solids = surrounding_solids(rng, hands[0], shares).concat(_things(rng, kind, window, shape)).concat(person)
        # Planes lie behind the first hand even where it is not shown.
        around = hands[0].hand.concat(hands[0].arm).concat(shown_only(hands[1].hand, shown[:, 1]))
        depth = add_surroundings(depth, window, around, solids, rng, shares)
        hand = torch.stack(own, 1)
        seen = hand.isfinite() & (hand <= depth[:, None] + _SAME)
        return without_dark_parts(depth, window, person, rng), hand.isfinite().sum((2, 3)), seen


def _labelled(
    depth: torch.Tensor,
    window: torch.Tensor,
    kind: torch.Tensor,
    hands: list[VariedScene],
    side: torch.Tensor,
    visible: torch.Tensor,
    flipped: torch.Tensor,
    skeleton: str,
) -> SceneFrames:
    """The frames with their labels; those of ``flipped`` (bool [B]) are mirrored."""
    height, width = depth.shape[1:]
    depth = torch.where(flipped[:, None, None], depth.flip(2), depth)
    first = torch.where(flipped, -(window[:, 0] + window[:, 2] * (width - 1)), window[:, 0])
    camera = window_camera(torch.cat([first[:, None], window[:, 1:]], 1))
    joints = torch.stack([convert_joints(hand.joints, skeleton) for hand in hands], 1)  # [B, 2, J, 3]
    mirror = torch.where(flipped, -1.0, 1.0).float()[:, None, None]
    joints = torch.cat([joints[..., :1] * mirror[..., None], joints[..., 1:]], -1)
    uvd = torch.stack([xyz_to_uvd(joints[:, i], camera, check=False) for i in range(2)], 1)
    limits = uvd.new_tensor([width - 1.0, height - 1.0])
    inside = ((uvd[..., :2] >= 0) & (uvd[..., :2] <= limits)).all(-1).float().mean(-1)
    there = side != NO_HAND
    side = torch.where(there & flipped[:, None], RIGHT + LEFT - side, side)
    return SceneFrames(depth, camera, uvd, joints, side, visible * inside * there, kind)


def reduced(camera: Camera, stride: int) -> Camera:
    """The camera whose frames are every ``stride``-th row and column of another's."""
    if camera.width is None or camera.height is None:
        raise ValueError("the camera has no width and height")
    return replace(
        camera,
        fx=camera.fx / stride,
        fy=camera.fy / stride,
        cx=camera.cx / stride,
        cy=camera.cy / stride,
        width=-(-camera.width // stride),
        height=-(-camera.height // stride),
    )


def _limits(window: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """Lowest x/z and y/z, then the highest: [B, 4]."""
    size = window.new_tensor([shape[1] - 1.0, shape[0] - 1.0])
    return torch.cat([window[:, :2], window[:, :2] + window[:, 2:] * size], 1)


def _place(rng: Counter, window: torch.Tensor, shape: tuple[int, int], beyond: torch.Tensor) -> torch.Tensor:
    """Where palms are, [B, 3] camera mm: 50 mm inside the frame, or up to 250 mm outside it.

    Args:
        rng: the samples' random numbers.
        window: [B, 4] of the frames.
        shape: their height and width.
        beyond: bool [B], which are outside.
    """
    near, far = _DEPTH
    depth = near * (far / near) ** rng.uniform("place", 1)
    limits = _limits(window, shape)
    middle, half = 0.5 * (limits[:, :2] + limits[:, 2:]), 0.5 * (limits[:, 2:] - limits[:, :2])
    slope = middle + rng.uniform("placexy", 2, -1.0, 1.0) * (half - 50.0 / depth).clamp(min=0.05)
    u = rng.uniform("beyond", 3)
    out = half + (120.0 + 130.0 * u[:, :1]) / depth
    axis = (u[:, 1] < 0.5).long()
    outside = slope.scatter(
        1, axis[:, None], (middle + torch.where(u[:, 2:] < 0.5, -out, out)).gather(1, axis[:, None])
    )
    slope = torch.where(beyond[:, None], outside, slope)
    return torch.cat([slope, torch.ones_like(depth)], 1) * depth


def _second_place(rng: Counter, first: VariedScene, free: torch.Tensor, partner: torch.Tensor) -> torch.Tensor:
    """Where second palms are, [B, 3]: half of them within 200 mm of the first, the others anywhere but there."""
    palm = 0.5 * (first.joints[:, 0] + first.joints[:, 5])
    u = rng.uniform("secondat", 2)
    apart = torch.where(partner, 60.0 + 140.0 * u[:, 1], 120.0 + 90.0 * u[:, 1])[:, None]
    direction = F.normalize(rng.normal("secondway", 3) * palm.new_tensor([1.0, 1.0, 0.6]), dim=1)
    near = palm + apart * direction
    away = free - palm
    distance = away.norm(dim=1, keepdim=True).clamp(min=1.0)
    free = torch.where(distance < 150.0, palm + away / distance * 150.0, free)
    place = torch.where(u[:, :1] < 0.5, near, free)
    return torch.cat([place[:, :2], place[:, 2:].clamp(min=200.0)], 1)


def _surroundings(rng: Counter, kind: torch.Tensor) -> Surroundings:
    """Probabilities [B] of what is around the first hand, by the kind of scene."""

    def share(**shares: float) -> torch.Tensor:
        return torch.tensor([shares.get(name, shares["rest"]) for name in SCENE_KINDS], dtype=torch.float32)[kind]

    return Surroundings(
        held=share(holding=1.0, cluttered=0.2, empty=0.3, rest=0.0),
        front=share(cluttered=0.5, holding=0.05, rest=0.03),
        beside=share(cluttered=1.0, empty=0.6, table=0.5, rest=0.05),
        table=share(table=0.9, cluttered=0.3, empty=0.25, rest=0.1),
        wall=share(table=0.05, rest=0.25),
        bodies=share(table=0.05, person=0.05, rest=0.2),
    )


def _things(rng: Counter, kind: torch.Tensor, window: torch.Tensor, shape: tuple[int, int]) -> Solids:
    """Objects anywhere in the frame."""
    many = torch.tensor([name in ("empty", "table", "cluttered") for name in SCENE_KINDS])[kind]
    u = rng.uniform("extras", 2)[:, 0]
    return objects_around(rng, _limits(window, shape)).kept(torch.where(many, u < 0.7, u < 0.15))


def _person(rng: Counter, kind: torch.Tensor, joints: torch.Tensor, least: float) -> Solids:
    """A person behind the first hand, in at least this share of the frames of each kind."""
    u = rng.uniform("extras", 2)[:, 1]
    share = u.new_tensor([{"person": 1.0, "empty": 0.4}.get(name, 0.08) for name in SCENE_KINDS])[kind]
    return person_behind(rng, 0.5 * (joints[:, 0] + joints[:, 5])).kept(u < share.clamp(min=least))
