# SPDX-License-Identifier: MIT
"""Second stage of hand detection: a small network that looks at the cube around each proposal of the first."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from poseren_ext.models.hand_proposals import Block
from poseren_ext.ops import depth_crop

CUBE, SURROUNDINGS = 160.0, 400.0
"""Half edges in mm of the cube that shows the hand, and of the one that shows its arm and what is around."""
SIZE = 64
"""Side of both crops, pixels."""
HANDS = 2
"""Hands of one crop: that around its centre, and one beside it. Two hands that touch are often one proposal."""
_OUTPUTS = 5  # logits of a hand and of a left one; offset of its centre in x, y and depth, in half edges of the cube


class Verdict(NamedTuple):
    """What the network finds in N crops."""

    hand: Tensor
    """[N, HANDS] logits of there being a hand near the crop's centre, and of a second one beside that."""
    left: Tensor
    """[N, HANDS] logits of their being left hands."""
    offset: Tensor
    """[N, HANDS, 3] mm, of their centres: across and down in the plane of the crop's centre, and in depth."""


class HandVerifier(nn.Module):
    """Whether there is a hand around a proposal, or two, which ones, and where their centres are.

    Args:
        channels: of the maps of the hand's crop at 1/4 and 1/8 of its size, and of both crops at 1/16.
    """

    def __init__(self, channels: tuple[int, int, int] = (32, 64, 96)) -> None:
        super().__init__()
        quarter, eighth, sixteenth = channels
        self.channels = channels
        self.hand = _reduced_maps(quarter, eighth)
        self.around = _reduced_maps(quarter // 2, eighth // 2)
        self.joined = nn.Sequential(
            Block(eighth + eighth // 2, sixteenth, 2),
            Block(sixteenth, sixteenth),
            Block(sixteenth, sixteenth),
            nn.Flatten(),
        )
        self.hidden = nn.Linear(sixteenth * (SIZE // 16) ** 2 + 1, 64)
        self.head = nn.Linear(64, HANDS * _OUTPUTS)

    def features(self, crops: Tensor) -> Tensor:
        """What both crops [N, 2, 64, 64] of :func:`verifier_crops` show: [N, F]."""
        joined: Tensor = self.joined(torch.cat([self.hand(crops[:, :1]), self.around(crops[:, 1:])], 1))
        return joined

    def verdict(self, features: Tensor, pitch: Tensor) -> Verdict:
        """The verdict on features [N, F] and logarithms of the mm per pixel of the frames at the crops' centres [N]."""
        hidden = torch.relu(self.hidden(torch.cat([features, pitch.to(features.dtype)[:, None]], 1)))
        hand, left, offset = self.head(hidden).float().unflatten(1, (HANDS, _OUTPUTS)).split((1, 1, 3), 2)
        return Verdict(hand[..., 0], left[..., 0], CUBE * offset)

    def forward(self, crops: Tensor, pitch: Tensor) -> Verdict:
        """`verdict` of the `features`. The first stage's score is no input: faces of recorded frames have high ones."""
        return self.verdict(self.features(crops), pitch)


def _reduced_maps(quarter: int, eighth: int) -> nn.Sequential:
    """Layers from one crop to maps at 1/8 of its size."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, 2, 2),
        nn.ReLU(),
        Block(16, quarter, 2),
        Block(quarter, quarter),
        Block(quarter, eighth, 2),
        Block(eighth, eighth),
    )


def verifier_crops(
    depth: Tensor, center: Tensor, camera: Tensor, transform: Tensor | None = None, depth_unit: float = 1.0
) -> Tensor:
    """Both crops of each proposal, [N, 2, 64, 64]: depth from the centre's, from -1 to 1 half edge; background is 1.

    Args:
        depth: [N, H, W] mm, as :func:`poseren_ext.depth_crop` takes it.
        center: [N, 3] u, v (pixels), d (mm).
        camera: [N, 4] fx, fy, cx, cy.
        transform: [N, 2, 3] of the crops' coordinates, for training.
        depth_unit: mm per stored unit.
    """
    crops = [
        depth_crop(depth, center, camera, cube=cube, size=SIZE, transform=transform, depth_unit=depth_unit)
        for cube in (CUBE, SURROUNDINGS)
    ]
    return torch.cat(crops, 1)
