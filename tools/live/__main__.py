# SPDX-License-Identifier: MIT
"""Measures live tracking on synthetic sequences: noise and lag of the joints, track numbers of crossing hands, speed.

python -m tools.live --json live.json
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from poseren_ext import Estimator
from poseren_ext._utils.assignment import assign
from poseren_ext.geometry.camera import CAMERAS, Camera
from poseren_ext.inference.estimator import Hand
from poseren_ext.live import HandTracker, OneEuroSettings
from tools.live.sequences import RATE, MovingFrame, crossing_hands, one_hand

HALF = Camera(238, 238, 159.5, 119.5, 320, 240)
Joints = npt.NDArray[np.float64]


def second_difference(joints: Joints) -> Joints:
    """Squared second differences [N-2, J] of joints [N, J, 3]; NaN where a frame is missing."""
    squared: Joints = (np.diff(joints, 2, axis=0) ** 2).sum(-1)
    return squared


def shifted_distance(joints: Joints, truth: Joints, shifts: Joints) -> Joints:
    """Mean squared distance [S] to the truth of `shifts` frames before, linearly interpolated."""
    count = len(truth)
    result = []
    for shift in shifts:
        place = np.arange(count) - shift
        inside = (place >= 0) & (place <= count - 1) & (np.arange(count) >= 4) & (np.arange(count) < count - 4)
        before = np.floor(place).astype(int).clip(0, count - 2)
        weight = (place - before)[:, None, None]
        then = (1 - weight) * truth[before] + weight * truth[before + 1]
        result.append(np.nanmean(((joints - then) ** 2).sum(-1)[inside]))
    return np.array(result)


def noise_and_lag(pairs: Sequence[tuple[Joints, Joints]]) -> dict[str, float]:
    """Of predicted and true joints [N, J, 3] of several sequences.

    Returns:
        noise: RMS of the second difference, prediction over truth; lag: the shift in frames of least RMS distance;
        error: mean joint error in mm; lost: number of frames without a hand.
    """
    shifts = np.arange(-1.0, 4.0, 0.05)
    ours, theirs, distance = 0.0, 0.0, np.zeros(len(shifts))
    for joints, truth in pairs:
        squared = second_difference(joints)
        seen = ~np.isnan(squared)
        ours += squared[seen].sum()
        theirs += second_difference(truth)[seen].sum()
        distance += shifted_distance(joints, truth, shifts)
    error = [np.nanmean(np.linalg.norm(joints - truth, axis=-1)) for joints, truth in pairs]
    lost = sum(int(np.isnan(joints[:, 0, 0]).sum()) for joints, _ in pairs)
    best = float(shifts[distance.argmin()])
    return {"noise": float(ours / theirs) ** 0.5, "lag": best, "error": float(np.mean(error)), "lost": lost}


def tracked_joints(frames: Iterable[MovingFrame], tracker: HandTracker) -> tuple[Joints, Joints]:
    """Joints of the first hand and the true ones [N, J, 3]; NaN where there is no hand."""
    found, truth = [], []
    for i, frame in enumerate(frames):
        hands = tracker.estimate(frame.depth, i / RATE)
        nothing = np.full(frame.joints[0].shape, np.nan)
        found.append(hands[0].pose.joints.numpy() if hands else nothing)  # type: ignore[union-attr]  # tensors in, out
        truth.append(frame.joints[0])
    return np.array(found, np.float64), np.array(truth, np.float64)


def track_numbers(frames: Iterable[MovingFrame], tracker: HandTracker) -> dict[str, Any]:
    """Track numbers of two hands: the results of a frame are assigned to the true hands by the least sum of distances.

    Returns:
        The number of results of each hand by track, of changes of a hand's track, and of frames.
    """
    last: dict[int, int] = {}
    counts: dict[int, Counter[int]] = {0: Counter(), 1: Counter()}
    switches = count = right_side = results = 0
    for i, frame in enumerate(frames):
        count += 1
        hands = tracker.estimate(frame.depth, i / RATE)
        middles = [np.asarray(hand.pose.joints).mean(0) for hand in hands]
        distances = [[float(np.linalg.norm(middle - true.mean(0))) for true in frame.joints] for middle in middles]
        for k, true in assign(distances):
            counts[true][hands[k].track] += 1
            switches += last.get(true, hands[k].track) != hands[k].track
            last[true] = hands[k].track
            results += 1
            right_side += hands[k].pose.hand[0] == ("left", "right")[true]
    return {
        "frames": count,
        "switches": switches,
        "tracks": [dict(counter) for counter in counts.values()],
        "side_right": right_side / max(results, 1),
    }


def frames_per_second(frames: Sequence[MovingFrame], tracker: HandTracker) -> float:
    """Speed after the first five frames."""
    for i, frame in enumerate(frames):
        if i == 5:
            began = time.perf_counter()
        tracker.estimate(frame.depth, i / RATE)
    return (len(frames) - 5) / (time.perf_counter() - began)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="demo")
    parser.add_argument("--tta", type=int, default=1)
    parser.add_argument("--sequences", type=int, default=6, help="of one hand, for each seed")
    parser.add_argument("--frames", type=int, default=60, help="of each sequence of one hand")
    parser.add_argument("--crossing", type=int, default=240, help="frames of two crossing hands")
    parser.add_argument("--seed", type=int, nargs="+", default=[22], help="crossing hands take the first")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    report: dict[str, Any] = {"threads": torch.get_num_threads(), "model": given.model, "tta": given.tta}

    def tracker(camera: Camera, hand: Hand = "auto", **settings: Any) -> HandTracker:
        return HandTracker(Estimator(given.model, camera=camera, hand=hand, tta=given.tta), **settings)

    camera = CAMERAS["sr305"]
    one_euro = OneEuroSettings()
    runs: list[tuple[str, Hand, OneEuroSettings | None]] = [
        ("smoothing off", "right", None),
        ("one-euro", "right", one_euro),
        ("one-euro, hand auto", "auto", one_euro),
    ]
    together: dict[str, list[tuple[Joints, Joints]]] = {name: [] for name, *_ in runs}
    for seed in given.seed:
        sequences = [list(one_hand(seed, number, given.frames)) for number in range(given.sequences)]
        for name, hand, smoothing in runs:
            pairs = [tracked_joints(frames, tracker(camera, hand, smoothing=smoothing)) for frames in sequences]
            report[f"seed {seed}, {name}"] = noise_and_lag(pairs)
            print(f"seed {seed}, {name}", report[f"seed {seed}, {name}"], flush=True)
            together[name] += pairs
    for name, pairs in together.items():
        report[name] = noise_and_lag(pairs)
        print(name, report[name], flush=True)
    crossing = list(crossing_hands(given.seed[0], given.crossing, HALF))
    report["crossing"] = track_numbers(crossing, tracker(HALF, max_hands=2))
    print("crossing", report["crossing"], flush=True)
    report["frames_per_second"] = {
        "one hand, 640x480": frames_per_second(sequences[0], tracker(camera)),
        "two hands, 320x240": frames_per_second(crossing[:60], tracker(HALF, max_hands=2)),
        "one of them, 320x240": frames_per_second(crossing[:60], tracker(HALF)),
    }
    print("frames/s", report["frames_per_second"], flush=True)
    if given.json:
        given.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
