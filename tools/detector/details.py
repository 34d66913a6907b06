# SPDX-License-Identifier: MIT
"""What decides whether a hand is found, and what a shift by one pixel changes: `python -m tools.detector.details`.

The hands are those of `tools.detector.measure`, counted in the same way.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch

from poseren_ext.geometry.camera import CAMERAS, Camera, uvd_to_xyz
from poseren_ext.inference.hand_detection import HandDetection, find_hands
from poseren_ext.synthetic.scenes import NO_HAND, SceneFrames, SyntheticScenes, reduced
from tools.detector.measure import TEST_SEED, VISIBLE, paired

_SCENES, _SHIFTED = 1024, 384
_VISIBLE = (VISIBLE, 0.45, 0.6, 0.75, 1.01)
_AWAY = (0.0, 600.0, 900.0, 3000.0)  # mm
_NEAR = 800.0  # mm: detections whose shift is measured
_SAME = 60.0  # mm: a centre that moves farther is that of another hand
_STILL = 5.0  # mm
_BATCH = 16


@dataclass(frozen=True)
class Hand:
    """A hand that counts: its visible share, its distance in mm, and whether a detection holds it."""

    visible: float
    away: float
    found: bool


def hands_of(detections: Sequence[HandDetection], frames: SceneFrames, i: int, camera: Camera) -> list[Hand]:
    """The hands of frame i that count."""
    found = paired(detections, frames, i, camera)
    return [
        Hand(float(frames.visible[i, k]), float(frames.uvd[i, k, :, 2].mean()), found.get(k) is not None)
        for k in (0, 1)
        if frames.side[i, k] != NO_HAND and frames.visible[i, k] >= VISIBLE
    ]


def moves(frame: npt.NDArray[np.uint16], camera: Camera) -> list[list[float]]:
    """How far the centres of the near hands of a frame move with it, mm; inf for those that are lost.

    One list for each of two detections at most, the most certain first: a shift to the right, and one down. It is empty
    for a hand that is not near.
    """
    height, width = frame.shape
    result = []
    for hand in find_hands(frame, camera, 2):
        distances = []
        for rows, columns in ((0, 1), (1, 0)) if hand.center[2] < _NEAR else ():
            shifted = cv2.copyMakeBorder(frame, rows, 0, columns, 0, cv2.BORDER_REPLICATE)[:height, :width]
            others = [np.array(other.center) - (columns, rows, 0) for other in find_hands(shifted, camera, 2)]
            points = uvd_to_xyz(np.array([hand.center, *others], np.float32), camera)
            nearest = float(np.linalg.norm(points[1:] - points[0], axis=1).min(initial=np.inf))
            distances.append(nearest if nearest < _SAME else np.inf)
        result.append(distances)
    return result


def details(scenes: SyntheticScenes, frames: int, shifted: int) -> Iterator[str]:
    """Recall by visible share and by distance, then the moves of the centres."""
    hands: list[Hand] = []
    first: list[float] = []
    every: list[float] = []
    for start in range(0, max(frames, shifted), _BATCH):
        part = scenes.frames(torch.arange(start, start + _BATCH))
        for i, depth in enumerate(part.depth.round().numpy().astype(np.uint16)):
            if start + i < frames:
                hands += hands_of(find_hands(depth, scenes.camera, 2), part, i, scenes.camera)
            if start + i < shifted:
                moved = moves(depth, scenes.camera)
                first += moved[0] if moved else []
                every += [distance for distances in moved for distance in distances]
    yield from _shares("visible", hands, lambda hand: hand.visible, _VISIBLE)
    yield from _shares("mm away", hands, lambda hand: hand.away, _AWAY)
    for name, values in (("most certain", np.array(first)), ("all", np.array(every))):
        still, lost = (values < _STILL).mean(), np.isinf(values).mean()
        yield (
            f"{name} detections, {len(values)} shifts: {still:.1%} below {_STILL:.0f} mm, "
            f"median {np.median(values):.1f} mm, {lost:.1%} lost"
        )


def _shares(name: str, hands: Sequence[Hand], value: Callable[[Hand], float], limits: Sequence[float]) -> Iterator[str]:
    for low, high in itertools.pairwise(limits):
        found = [hand.found for hand in hands if low <= value(hand) < high]
        yield f"{name} {low:g} to {min(high, 3000.0):g}: {np.mean(found):.1%} of {len(found)} hands"


def main() -> None:
    """Prints the lines."""
    parser = argparse.ArgumentParser(prog="python -m tools.detector.details", description=__doc__)
    parser.add_argument("--scenes", type=int, default=_SCENES, help="for the recall")
    parser.add_argument("--shifted", type=int, default=_SHIFTED, help="scenes for the shifts")
    parser.add_argument("--seed", type=int, default=TEST_SEED)
    parser.add_argument("--stride", type=int, default=1, help="render only every so many pixels of 640x480")
    given = parser.parse_args()
    scenes = SyntheticScenes(given.seed, "test", camera=reduced(CAMERAS["sr305"], given.stride))
    for line in details(scenes, given.scenes, given.shifted):
        print(line, flush=True)


if __name__ == "__main__":
    torch.set_num_threads(min(2, torch.get_num_threads()))
    main()
