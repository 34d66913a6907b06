# SPDX-License-Identifier: MIT
"""`python -m poseren_ext.training.bundle RUN`: measures a trained model, puts it into the package, writes its card."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import torch

from poseren_ext.data.atomic import write_atomic
from poseren_ext.data.synthetic import SyntheticHands
from poseren_ext.models import PoseREN, load
from poseren_ext.ops import roi_windows
from poseren_ext.skeleton import SKELETONS
from poseren_ext.training.config import RECIPES, TrainConfig, read_config
from poseren_ext.training.stream import Store, render_store
from poseren_ext.training.validate import label_store, stage_errors, stage_poses
from poseren_ext.turns import mean_of_views, turned_views
from poseren_ext.weights import BUNDLED

TEST_SEED = 20_270
TEST_FRAMES = 4096
STAGES = 3
TURNS, TURNED_FRAMES = (2, 4), 1024
"""How often hands are looked at, and of how many of the frames."""
_LARGEST_FILE = 12_000_000


@dataclass(frozen=True)
class Measurement:
    """A model on synthetic frames of subjects, and of a seed, that training never saw.

    Attributes:
        seed, frames: which frames.
        stage_mm: mean joint error of the initial pose and of each stage.
        mean_pose_mm: that of the mean pose, for comparison.
        joint_mm: last stage, each joint.
        moved: share of the windows that moved at each stage.
        turned_mm: of the last stage, when a hand is looked at so often (`Estimator(turns=...)`) and the mean is taken;
            of the first frames.
    """

    seed: int
    frames: int
    stage_mm: tuple[float, ...]
    mean_pose_mm: float
    joint_mm: tuple[float, ...]
    moved: tuple[float, ...]
    turned_mm: dict[int, float]


def measure(model: PoseREN, *, seed: int = TEST_SEED, frames: int = TEST_FRAMES) -> Measurement:
    """Measures on the test split, in float64."""
    hands = SyntheticHands(seed, "test", 1.0, model.skeleton.name, cube=model.config.cube)
    store = render_store(hands, 0, frames)
    labels = label_store(store, model.config.cube)
    poses = stage_poses(model, labels.crop, stages=STAGES)
    errors = stage_errors(poses, labels, model.config.cube)
    mean = stage_errors(model.mean_pose.expand(1, frames, -1, -1), labels, model.config.cube)
    guided = model.head.config.joints
    windows = [roi_windows(pose, guided) for pose in poses[:-1]]
    # The first stage has no window before it; a later one moved where its guiding pose's windows did.
    moved = [float((a != b).any(-1).float().mean()) for a, b in pairwise(windows)]
    return Measurement(
        seed,
        frames,
        tuple(errors.mean((1, 2)).tolist()),
        float(mean.mean()),
        tuple(errors[-1].mean(0).tolist()),
        tuple(moved),
        _turned(model, store[:TURNED_FRAMES]),
    )


def _turned(model: PoseREN, store: Store) -> dict[int, float]:
    """Mean joint error of the last stage's mean over turned views; the fewer views are among the most."""
    most, cube = max(TURNS), model.config.cube
    views, labels = turned_views(most), label_store(store, cube)
    seen = [store.crop(cube, transform=view.expand(len(store), 2, 3)) for view in views]
    poses = torch.stack([stage_poses(model, crop, stages=STAGES)[-1] for crop in seen])  # [K, N, J, 3]
    errors = {}
    for turns in TURNS:
        chosen = slice(None, None, most // turns)
        mean = mean_of_views(poses[chosen].flatten(0, 1)[None], views[chosen])
        errors[turns] = float(stage_errors(mean, labels, cube).mean())
    return errors


def card(model: PoseREN, config: TrainConfig, measured: Measurement, size: int, made: str, where: str) -> str:
    """The model card, Markdown.

    Args:
        model: the model.
        config: how it was trained.
        measured: what it does.
        size: of its file, bytes.
        made: the command, and the version of the code, that trained it.
        where: on which machine.
    """
    initial, *stages = measured.stage_mm
    base = asdict(RECIPES[config.recipe])
    changed = {name: value for name, value in asdict(config).items() if base[name] != value}
    names = SKELETONS[config.skeleton].joints
    rows = "\n".join(f"| stage {t} | {error:.2f} | {error / initial - 1:+.1%} |" for t, error in enumerate(stages, 1))
    joints = "\n".join(f"| {name} | {error:.2f} |" for name, error in zip(names, measured.joint_mm, strict=True))
    turned = "\n".join(f"| {turns} turns | {error:.2f} |" for turns, error in measured.turned_mm.items())
    moved = ", ".join(f"{share:.1%}" for share in measured.moved)
    return f"""# demo: a compact Pose-REN for right hands

A Pose-REN with narrow fully connected layers, trained on synthetic hands alone: no recorded frame was used. It gives
{len(names)} joints in MSRA's order (`{config.skeleton}`) from a depth crop of a cube of half edge {config.cube:.0f} mm.

| | |
| --- | --- |
| parameters | {sum(p.numel() for p in model.parameters()):,} |
| file | {size:,} bytes, weights as {config.weight_dtype}, computed with in float32 |
| layers | Init-CNN {config.init_widths}, regions and fingers {config.refine_widths}, channels {config.channels} |
| hand | {config.hand}; for left hands the crop is mirrored |
| licence | MIT, weights too |

## What it measures

{measured.frames:,} synthetic frames of subjects that training never saw (test split, seed {measured.seed}, full
difficulty: any turn in the image plane, up to 60 degrees out of it, 350 to 1000 mm away, each finger anywhere from
straight to a fist, hand size +-15 %, forearm, background and sensor noise on, centre from `hand_center`).
Mean joint error, mm:

| | mm | against the initial pose |
| --- | --- | --- |
| mean pose | {measured.mean_pose_mm:.2f} | |
| initial (Init-CNN) | {initial:.2f} | |
{rows}

Windows moved by stages 1 and 2: {moved} (the rest of the work is skipped by the exact shortcut).

Looked at several times, turned in the image plane, and the mean taken (`Estimator(turns=...)`), on the first
{min(TURNED_FRAMES, measured.frames):,} of these frames:

| | mm |
| --- | --- |
{turned}

Last stage, each joint:

| joint | mm |
| --- | --- |
{joints}

## How it was made

{made}

Recipe `{config.recipe}`, seed {config.seed}, {config.init_steps:,} steps of Init-CNN and {config.refine_steps:,} of
Pose-REN, {config.batch} samples each, on {where}. Changed from the recipe: `{json.dumps(changed)}`.

## Limits

- The hands that it knows are synthetic: real frames are answered worse than the figures above.
- It expects the palm's side or the edge of the hand; the back of the hand was not trained.
- One hand, not holding anything; the hand region must be centred within a few centimetres (`hand_center` does that).
- The widths are a twentieth of the paper's: it shows how the system works, not how well the paper's network does.

Written by `python -m poseren_ext.training.bundle`.
"""


def bundle(
    run: Path,
    made: str,
    target: Path = BUNDLED["demo"],
    *,
    where: str = "two CPU cores",
    frames: int = TEST_FRAMES,
) -> Measurement:
    """Copies a run's model to the target, and writes its card beside it.

    Raises:
        ValueError: a file larger than 12 MB.
    """
    source = run / "model.safetensors"
    size = source.stat().st_size
    if size > _LARGEST_FILE:
        raise ValueError(f"{source} has {size} bytes; a bundled model may have {_LARGEST_FILE}: store it as float16")
    model = load(source)
    config = read_config(run / "config.toml")
    measured = measure(model, frames=frames)
    write_atomic(target, source.read_bytes())
    write_atomic(target.with_suffix(".md"), card(model, config, measured, size, made, where))
    return measured


def main() -> None:
    """Bundles a run."""
    parser = argparse.ArgumentParser(prog="python -m poseren_ext.training.bundle", description=__doc__)
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("--made", default="", help="the command and the version of the code that trained it")
    parser.add_argument("--on", default="two CPU cores", help="the machine that trained it")
    arguments = parser.parse_args()
    print(bundle(arguments.run, arguments.made, where=arguments.on))


if __name__ == "__main__":
    torch.set_num_threads(min(2, torch.get_num_threads()))
    main()
