# SPDX-License-Identifier: MIT
"""Training of the second stage of the hand detector: crops around proposals of the first one, and their loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poseren_ext.inference.learnt_detection import best_proposals, hand_cells
from poseren_ext.inference.surface_detection import reduction
from poseren_ext.models.hand_proposals import ProposalNetwork, padded
from poseren_ext.models.hand_verifier import CUBE, HANDS, HandVerifier, Verdict, verifier_crops
from tools.detector.frames import Batch, drawn, taken

NEAR, FAR = (115.0, 200.0), (145.0, 260.0)
"""mm from the middle of a hand, and of a second one: nearer crops show it, farther ones do not. Between the two limits
neither answer costs."""
_LEAST_PROPOSAL = 0.03  # score of proposals to learn from: less than the least that is looked at again
_SHARE = 0.45  # of crops with hands; they weigh as much as among all proposals, so that scores are probabilities
_PAIRS = 2.0  # crops of two hands are seen so many times as often as others with hands, and weigh as much less
_SHIFT = 12.0  # mm: standard deviation of a crop's centre from the proposal
_TURN = 0.6  # radians: standard deviation
_SCALE = (0.9, 1.1)
_MM = 20.0
_PLACE, _SIDE = 0.1, 0.2  # weights of an error of _MM and of the side
_JOINTS = 0.03  # weight of a mm of the joints
_LARGEST = 300.0  # mm: joints farther away are learnt as if they were there
_FRAMES = 32  # at once


@dataclass(frozen=True)
class Labels:
    """What N crops show: the nearest hand, and the other one beside it.

    Attributes:
        hand: [N, HANDS] 1 for a hand, else 0.
        weight: [N, HANDS] 0 where neither answer costs.
        left: [N, HANDS] 1 for a left hand, else 0.
        offset: [N, HANDS, 3] mm from the crop's centre to the hand's, in the plane of the centre and in depth.
        joints: [N, HANDS, J, 3] mm, likewise.
    """

    hand: Tensor
    weight: Tensor
    left: Tensor
    offset: Tensor
    joints: Tensor


def labels(center: Tensor, frames: Batch) -> Labels:
    """Labels of crops around centres [N, 3] (u, v, d) of N frames."""
    z, focal = center[:, 2], frames.focal

    def relative(points: Tensor) -> Tensor:
        away = points - center.view(-1, *[1] * (points.dim() - 2), 3)
        scale = (z / focal).view(-1, *[1] * (points.dim() - 1))
        return torch.cat([away[..., :2] * scale, away[..., 2:]], -1)

    offset = relative(frames.center)
    distance = offset.norm(dim=2)
    there = frames.side >= 0
    away, order = torch.where(frames.wanted, distance, torch.inf).sort(1)
    # There is no second hand without a first one.
    hand = ((away < away.new_tensor(NEAR)) & (away[:, :1] < NEAR[0])).float()
    far = away.new_tensor(FAR)
    free = (away < far) | (torch.where(frames.unsure, distance, torch.inf).amin(1, keepdim=True) < far)
    weight = torch.where((hand == 0) & free, 0.0, 1.0)
    rows = torch.arange(len(center))[:, None]
    left = (frames.side[rows, order] == 1).float()
    joints = relative(frames.joints)
    joints = torch.where(there[..., None, None], joints, 0.0)  # those of no hand may be no numbers
    return Labels(hand, weight, left, torch.where(there[..., None], offset, 0.0)[rows, order], joints[rows, order])


class CropSampler:
    """Random crops around the proposals of the first stage in frames of one size.

    Args:
        network: the first stage.
        frames: the frames.
        generator: of random numbers.
    """

    def __init__(self, network: ProposalNetwork, frames: Sequence[Batch], generator: torch.Generator) -> None:
        self._frames, self._generator = frames, generator
        proposals, numbers, hands, first = [], [], [], 0
        for batch in frames:
            for start in range(0, len(batch.depth), _FRAMES):
                part = Batch(*(value[start : start + _FRAMES] for value in vars(batch).values()))
                found = _proposals(network, part)
                row, column = (found[:, :, 0] >= _LEAST_PROPOSAL).nonzero(as_tuple=True)
                shown = Batch(*(value[row] for value in vars(part).values()))
                proposals.append(found[row, column])
                numbers.append(first + start + row)
                hands.append(labels(proposals[-1][:, 1:], shown).hand)
            first += len(batch.depth)
        self._proposals, self._numbers = torch.cat(proposals), torch.cat(numbers)
        hand = torch.cat(hands)
        self._hands, self._others = hand[:, 0].nonzero()[:, 0], (hand[:, 0] == 0).nonzero()[:, 0]
        self._often = 1.0 + (_PAIRS - 1.0) * hand[self._hands, 1]

    def crops(self, count: int) -> tuple[Tensor, Tensor, Labels]:
        """The crops [N, 2, S, S], the logarithms of the mm per pixel at their centres [N], and their labels."""
        g, hands = self._generator, round(_SHARE * count)
        hand = drawn(self._often, hands, g)
        other = torch.randint(len(self._others), (count - hands,), generator=g)
        chosen = torch.cat([self._hands[hand], self._others[other]])
        frames, proposal = taken(self._frames, self._numbers[chosen]), self._proposals[chosen]
        center = proposal[:, 1:] + _SHIFT * torch.randn(count, 3, generator=g) * torch.cat(
            [(frames.focal / proposal[:, 3])[:, None].expand(-1, 2), torch.ones(count, 1)], 1
        )
        center[:, 2] = center[:, 2].clamp(min=100.0)
        transform, mirror = self._transforms(count)
        camera = F.pad(frames.focal[:, None].expand(-1, 2), (0, 2))
        crops = verifier_crops(frames.depth.view(torch.uint16), center, camera, transform)
        pitch = (center[:, 2] / frames.focal).log()
        truth = labels(center, frames)
        # The loss is that of proposals that are all drawn equally often.
        among_hands = _SHARE * self._often[hand] / self._often.sum()
        among_others = among_hands.new_full((count - hands,), (1.0 - _SHARE) / len(self._others))
        chance = torch.cat([among_hands, among_others])
        weight = (1.0 / (chance * len(self._proposals))).float()
        return crops, pitch, moved(replace(truth, weight=truth.weight * weight[:, None]), transform, mirror)

    def _transforms(self, count: int) -> tuple[Tensor, Tensor]:
        """Turned, scaled and mirrored crops [N, 2, 3], and which are mirrored."""
        g = self._generator
        angle, u = _TURN * torch.randn(count, generator=g), torch.rand(count, 2, generator=g)
        mirror = u[:, 0] < 0.5
        c, s = angle.cos(), angle.sin()
        sign = torch.where(mirror, -1.0, 1.0)
        linear = torch.stack([torch.stack([c * sign, -s], 1), torch.stack([s * sign, c], 1)], 1)
        scale = _SCALE[0] + (_SCALE[1] - _SCALE[0]) * u[:, 1]
        return F.pad(linear * scale[:, None, None], (0, 1)), mirror


def moved(truth: Labels, transform: Tensor, mirror: Tensor) -> Labels:
    """Labels of crops that were seen through transforms [N, 2, 3]."""
    points = torch.cat([truth.offset[:, :, None], truth.joints], 2)
    points = torch.cat([points[..., :2] @ transform[:, None, :, :2].mT, points[..., 2:]], -1)
    left = torch.where(mirror[:, None], 1.0 - truth.left, truth.left)
    return Labels(truth.hand, truth.weight, left, points[:, :, 0], points[:, :, 1:])


def _proposals(network: ProposalNetwork, frames: Batch) -> Tensor:
    """Score, u, v, d [B, 8, 4] of the first stage in whole or reduced frames."""
    stride = reduction(tuple(frames.depth.shape[1:]))
    camera = F.pad(frames.focal[:, None].expand(-1, 2), (0, 2))
    with torch.inference_mode():
        depth = padded(frames.depth[:, ::stride, ::stride].float())
        return best_proposals(hand_cells(network, depth, camera, stride))


class JointVerifier(nn.Module):
    """The second stage with a guess of the hands' joints, which only training asks for.

    Where the joints are says which hand it is: without this guess, sides are hardly learnt.

    Args:
        verifier: the second stage.
        joints: number of joints.
    """

    def __init__(self, verifier: HandVerifier, joints: int) -> None:
        super().__init__()
        self.verifier = verifier
        self.joints = nn.Linear(verifier.hidden.in_features - 1, HANDS * joints * 3)

    def forward(self, crops: Tensor, pitch: Tensor) -> tuple[Verdict, Tensor]:
        """The verdict, and the joints [N, HANDS, J, 3] mm from the crop's centre."""
        features = self.verifier.features(crops)
        guess = self.joints(features).float().view(len(crops), HANDS, -1, 3)
        return self.verifier.verdict(features, pitch), CUBE * guess


def loss(verdict: Verdict, guess: Tensor, truth: Labels) -> Tensor:
    """Cross entropy of hands; of those that are there, that of the side, and absolute errors of centre and joints."""
    hand = F.binary_cross_entropy_with_logits(verdict.hand, truth.hand, truth.weight, reduction="none").sum(1).mean()
    side = F.binary_cross_entropy_with_logits(verdict.left, truth.left, reduction="none")
    place = (verdict.offset - truth.offset).abs().sum(2) / _MM
    joints = (guess - truth.joints.clamp(-_LARGEST, _LARGEST)).abs().mean((2, 3))
    each = _SIDE * side + _PLACE * place + _JOINTS * joints
    return hand + (each * truth.hand).sum() / truth.hand[:, 0].sum().clamp(min=1.0)
