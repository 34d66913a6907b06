# SPDX-License-Identifier: MIT
"""Hand detection on scenes that training never saw, by kind of scene: `python -m tools.detector.measure`.

A hand counts as found if a cube of 150 mm half edge around the middle of a detection holds all its joints. Hands of
which less than 30 % is visible are left out: they need not be found, and a detection on them is neither right nor
false.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from poseren_ext.geometry.camera import CAMERAS, Camera
from poseren_ext.inference.hand_detection import HandDetection, Method, find_hands
from poseren_ext.ops import normalize_pose
from poseren_ext.synthetic.scene_export import SIDES
from poseren_ext.synthetic.scenes import NO_HAND, SCENE_KINDS, SceneFrames, SyntheticScenes, reduced

TEST_SCENES = 2048
TEST_SEED = 20_271
VISIBLE = 0.3
"""Smallest visible share of hands that count."""
CUBE = 150.0
SHARES = ("recall", "precision", "side given", "side right")
"""Shares of the hands that are found, of the detections that are hands, of the found hands whose side is given, and of
the given sides that are right."""
_BATCH = 16


@dataclass
class Counts:
    """What a method found in some scenes."""

    hands: int = 0
    found: int = 0
    with_side: int = 0
    right_side: int = 0
    detections: int = 0
    correct: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    @property
    def shares(self) -> tuple[float, ...]:
        """Those of `SHARES`; NaN where there is nothing to count."""
        pairs = (
            (self.found, self.hands),
            (self.correct, self.detections),
            (self.with_side, self.found),
            (self.right_side, self.with_side),
        )
        return tuple(a / b if b else float("nan") for a, b in pairs)


def count(detections: Sequence[HandDetection], frames: SceneFrames, i: int, camera: Camera) -> Counts:
    """Counts of frame i."""
    result = Counts()
    pairs = paired(detections, frames, i, camera)
    for hand, detection in pairs.items():
        if frames.visible[i, hand] < VISIBLE:
            continue
        result.hands += 1
        if detection is not None:
            result.found += 1
            result.with_side += detection.side is not None
            result.right_side += detection.side == SIDES[int(frames.side[i, hand])]
            result.detections += 1
            result.correct += 1
    result.detections += len(detections) - sum(detection is not None for detection in pairs.values())
    return result


def paired(
    detections: Sequence[HandDetection], frames: SceneFrames, i: int, camera: Camera
) -> dict[int, HandDetection | None]:
    """For each hand of frame i, the most visible first, the nearest detection left whose cube holds it, if any."""
    left, pairs = list(detections), dict[int, HandDetection | None]()
    for hand in frames.visible[i].argsort(descending=True).tolist():
        if frames.side[i, hand] == NO_HAND:
            continue
        away = [_distance(one, frames.uvd[i, hand], camera) for one in left]
        nearest = min(away, default=math.inf)
        pairs[hand] = None if nearest == math.inf else left.pop(away.index(nearest))
    return pairs


def _distance(detection: HandDetection, uvd: Tensor, camera: Camera) -> float:
    """Half edges of a detection's cube from its centre to that of a hand [J, 3]; inf if the cube does not hold it."""
    pose = normalize_pose(uvd[None], torch.tensor([detection.middle]), camera, cube=CUBE)[0]
    if not bool((pose.abs() <= 1.0).all()):
        return math.inf
    return float((0.5 * (pose.amin(0) + pose.amax(0))).norm())


def measure(scenes: SyntheticScenes, frames: int, methods: Sequence[Method]) -> Iterator[str]:
    """Markdown table: one row per kind of scene, then all, and the time per frame of each method."""
    results = {(method, kind): Counts() for method in methods for kind in SCENE_KINDS}
    times: dict[Method, list[float]] = {method: [] for method in methods}
    for start in range(0, frames, _BATCH):
        part = scenes.frames(torch.arange(start, min(start + _BATCH, frames)))
        stored = part.depth.round().numpy().astype(np.uint16)
        for i, depth in enumerate(stored):
            for method in methods:
                began = time.perf_counter()
                found = find_hands(depth, scenes.camera, 2, method=method)
                times[method].append(time.perf_counter() - began)
                results[method, SCENE_KINDS[int(part.kind[i])]] += count(found, part, i, scenes.camera)
    columns = [f"{method}: {name}" for method in methods for name in SHARES]
    yield f"| scene | hands | {' | '.join(columns)} |"
    yield "| --- " * (2 + len(columns)) + "|"
    for kind in (*SCENE_KINDS, "all"):
        chosen = [sum((results[m, k] for k in SCENE_KINDS if kind in (k, "all")), Counts()) for m in methods]
        cells = [_percent(share) for one in chosen for share in one.shares]
        yield f"| {kind} | {chosen[0].hands} | {' | '.join(cells)} |"
    for method in methods:
        yield f"{method}: {1000 * float(np.median(times[method])):.1f} ms per frame (median)"


def _percent(share: float) -> str:
    return "-" if np.isnan(share) else f"{100 * share:.1f} %"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m tools.detector.measure", description=__doc__)
    parser.add_argument("--scenes", type=int, default=TEST_SCENES)
    parser.add_argument("--seed", type=int, default=TEST_SEED)
    parser.add_argument("--split", default="test", choices=("validation", "test"))
    parser.add_argument("--stride", type=int, default=1, help="render only every so many pixels of 640x480; 2 is fast")
    parser.add_argument("--methods", nargs="+", default=("surface", "learnt"))
    given = parser.parse_args()
    scenes = SyntheticScenes(given.seed, given.split, camera=reduced(CAMERAS["sr305"], given.stride))
    for line in measure(scenes, given.scenes, given.methods):
        print(line)


if __name__ == "__main__":
    torch.set_num_threads(min(2, torch.get_num_threads()))
    main()
