# SPDX-License-Identifier: MIT
"""Test splits with fixed seeds for evaluation, and the training mixture of the recipe `bundled`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch

from poseren_ext._utils.arrays import joined
from poseren_ext._utils.counter_rng import Counter
from poseren_ext.datasets.sample import FrameBatch
from poseren_ext.geometry.camera import CAMERAS, Camera
from poseren_ext.synthetic.frames import SyntheticHands
from poseren_ext.synthetic.relief import vary_relief
from poseren_ext.synthetic.surroundings import EVERYTHING, Surroundings
from poseren_ext.synthetic.varied_frames import VariedHands
from poseren_ext.synthetic.varied_scene import View

SplitKind: TypeAlias = Literal["palm", "side", "back", "holding", "egocentric", "cluttered", "two_hands"]
SubjectSplit: TypeAlias = Literal["train", "validation", "test"]
TEST_SEED = 20_270
_ALONE = Surroundings()
_EGOCENTRIC = View(towards=True, depth=(250.0, 650.0))

_KINDS: dict[SplitKind, tuple[View, Surroundings]] = {
    "side": (View((-0.3, 0.5)), _ALONE),
    "back": (View((-1.0, -0.3)), _ALONE),
    "holding": (View(), Surroundings(held=1.0)),
    "egocentric": (_EGOCENTRIC, _ALONE),
    "cluttered": (View(), Surroundings(front=0.35, beside=1.0, table=0.4)),
    "two_hands": (View(), Surroundings(other=1.0)),
}
SPLIT_KINDS: tuple[SplitKind, ...] = ("palm", *_KINDS)
"""Their names; all of them concatenated are called "all"."""


def split_hands(
    kind: SplitKind,
    split: SubjectSplit = "test",
    seed: int = TEST_SEED,
    *,
    skeleton: str = "msra21",
    camera: Camera = CAMERAS["sr305"],
) -> SyntheticHands:
    """The hands of a test split.

    "palm" shows palms, turned up to 60 degrees away from the camera; "side" and "back" the rest of the sphere of views;
    the other splits any view with an object in the hand, an arm that comes from the camera, objects around the hand, or
    a second hand.

    Args:
        kind: which one.
        split: whose subjects' hands; measurements take "test".
        seed: of the frames; each kind adds a number of its own.
        skeleton: the joints' convention.
        camera: intrinsics and frame size.

    Raises:
        ValueError: The name is unknown.
    """
    if kind not in SPLIT_KINDS:
        raise ValueError(f"split kind is {kind!r}; expected one of {', '.join(SPLIT_KINDS)}")
    if kind == "palm":
        return SyntheticHands(seed, split, skeleton=skeleton, camera=camera)
    view, surroundings = _KINDS[kind]
    number = SPLIT_KINDS.index(kind)
    return VariedHands(seed + number, split, skeleton=skeleton, camera=camera, view=view, surroundings=surroundings)


@dataclass(frozen=True)
class TrainingHands(SyntheticHands):
    """The training mixture of the recipe `bundled`: palms as `SyntheticHands` draws them, the rest `VariedHands`.

    Attributes:
        palm_share: share of the palms.
        egocentric_share: fraction of the other frames with the arm towards the camera.
        open_share: fraction of the frames that show a flat open hand. Among the gestures of the test splits it is rare,
            before cameras it is not.
        relief: whether the relief of the surfaces is changed (`vary_relief`).
    """

    open_share: float = 0.2
    palm_share: float = 0.36
    egocentric_share: float = 0.2
    relief: bool = True

    def tiles(self, index: torch.Tensor, *, size: int = 96, margin: float = 1.0) -> FrameBatch:
        """Only the windows around the hands, with centres as different searches for the hand give them."""
        u = Counter(self.seed ^ 0x4D495845, index).uniform("kind", 1)[:, 0]
        ego = self.palm_share + self.egocentric_share * (1.0 - self.palm_share)
        kind = torch.bucketize(u, u.new_tensor([self.palm_share, ego]), right=True)
        shared = (
            self.seed,
            self.split,
            self.difficulty,
            self.skeleton,
            self.camera,
            self.cube,
            self.sensor,
            self.open_share,
        )
        sets = (
            SyntheticHands(*shared),
            VariedHands(*shared, view=_EGOCENTRIC, surroundings=EVERYTHING),
            VariedHands(*shared, surroundings=EVERYTHING),
        )
        chosen = [(kind == number).nonzero()[:, 0] for number in range(len(sets))]
        parts = [
            hands.tiles(index[which], size=size, margin=margin)
            for hands, which in zip(sets, chosen, strict=True)
            if len(which)
        ]
        frames = joined(parts)[torch.cat(chosen).argsort()]
        if not self.relief:
            return frames
        return replace(frames, depth=vary_relief(frames.depth, Counter(self.seed ^ 0x52454C46, index)))
