# SPDX-License-Identifier: MIT
"""Evaluation of frames with any number of hands: labelled and predicted hands are paired, the others counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from poseren_ext._utils.assignment import assign
from poseren_ext.io.hand_files import Hand

FARTHEST = 100.0
"""Largest mean joint distance of a pair, mm. Even a wrong pose of the same hand is nearer; what is farther from every
label is a false detection."""


@dataclass(frozen=True)
class HandsEvaluation:
    """What a system finds, and how well.

    Attributes:
        name: of the system.
        frames: number of frames.
        hands: number of labelled hands.
        found: number of them that have a prediction.
        missed: number of labelled hands without a prediction.
        false: number of predictions without a label.
        same_side: number of pairs with the same side, of those in which both sides are known.
        sides: number of those.
        mean_3d: mean joint distance of the pairs, mm; NaN without a pair.
    """

    name: str
    frames: int
    hands: int
    found: int
    missed: int
    false: int
    same_side: int
    sides: int
    mean_3d: float

    @property
    def recall(self) -> float:
        """Share of the labelled hands that were found; NaN without one."""
        return self.found / self.hands if self.hands else float("nan")

    @property
    def precision(self) -> float:
        """Share of the predictions that are hands; NaN without one."""
        predicted = self.found + self.false
        return self.found / predicted if predicted else float("nan")


def pair_hands(
    labels: Sequence[Hand], predictions: Sequence[Hand], farthest: float = FARTHEST
) -> list[tuple[int, int, float]]:
    """Pair the hands of one frame: as many as possible, with the least sum of distances among those.

    Args:
        labels: the labelled hands.
        predictions: the predicted ones.
        farthest: largest mean joint distance of a pair, mm.

    Returns:
        Index of the label, index of the prediction, and mean joint distance in mm of each pair.
    """
    distance = [
        [float(np.linalg.norm(label.joints - found.joints, axis=-1).mean()) for found in predictions]
        for label in labels
    ]
    costs = [[one if one <= farthest else float("inf") for one in row] for row in distance]
    return [(label, found, distance[label][found]) for label, found in assign(costs)]


def evaluate_hands(
    labels: Sequence[Sequence[Hand]],
    predictions: Sequence[Sequence[Hand]],
    *,
    name: str = "",
    farthest: float = FARTHEST,
) -> HandsEvaluation:
    """Pair the hands of every frame; the error is that of the pairs, missed hands and false detections are counted.

    Args:
        labels: the labelled hands of each frame.
        predictions: the predicted hands of the same frames.
        name: of the system.
        farthest: largest mean joint distance of a pair, mm.

    Raises:
        ValueError: The numbers of frames differ.
    """
    if len(labels) != len(predictions):
        raise ValueError(f"{len(predictions)} frames are predicted; expected the {len(labels)} labelled ones")
    errors, sides = [], []
    for truth, found in zip(labels, predictions, strict=True):
        for label, prediction, distance in pair_hands(truth, found, farthest):
            errors.append(distance)
            known = truth[label].side, found[prediction].side
            sides += [known[0] == known[1]] if all(known) else []
    hands, predicted = (sum(map(len, each)) for each in (labels, predictions))
    return HandsEvaluation(
        name=name,
        frames=len(labels),
        hands=hands,
        found=len(errors),
        missed=hands - len(errors),
        false=predicted - len(errors),
        same_side=sum(sides),
        sides=len(sides),
        mean_3d=float(np.mean(errors)) if errors else float("nan"),
    )
