# SPDX-License-Identifier: MIT
"""`python -m tools.bundle_model.card RUN`: measures a trained model, puts it into the package, writes its card."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from poseren_ext._utils.atomic_files import write_atomic
from poseren_ext.geometry.skeleton import SKELETONS
from poseren_ext.models import PoseREN, load, round_to_bytes, save
from poseren_ext.models.files import BUNDLED
from poseren_ext.training.config import RECIPES, TrainConfig, read_config
from tools.bundle_model.measure import FEWER, TEST_FRAMES, Measurement, measure

_LARGEST_FILE = 12_000_000


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
| file | {size:,} bytes, fully connected weights as int8 rows, computed with in float32 |
| layers | Init-CNN {config.init_widths}, regions and fingers {config.refine_widths}, channels {config.channels} |
| hand | {config.hand}; for left hands the crop is mirrored |
| licence | MIT, weights too |

## What it measures

{measured.frames:,} synthetic frames of subjects that training never saw (test split, seed {measured.seed}, full
difficulty: any turn in the image plane, up to 60 degrees out of it, 350 to 1000 mm away, each finger anywhere from
straight to a fist, hand size +-15 %, forearm, background and sensor noise on, centre from `hand_center`), whole
frames of 640x480 in whole mm. Mean joint error, mm:

| | mm | against the initial pose |
| --- | --- | --- |
| mean pose | {measured.mean_pose_mm:.2f} | |
| initial (Init-CNN) | {initial:.2f} | |
{rows}

Windows moved by stages 1 and 2: {moved} (the rest of the work is skipped by the exact shortcut).

Looked at several times, turned in the image plane, and the mean taken (`Estimator(turns=...)`), on the first
{min(FEWER, measured.frames):,} of these frames:

| | mm |
| --- | --- |
{turned}

On windows rendered in the crop's own resolution, as training sees them, where each faulty pixel is one of the crop's:
{measured.window_mm:.2f} mm.

Last stage, each joint:

| joint | mm |
| --- | --- |
{joints}

The same by the command line, a T for each stage:

```text
poseren render unseen --split test --seed {measured.seed} --frames {measured.frames}
poseren predict unseen/depth --camera sr305 --centers unseen/centers.txt --stages T --out T.txt
poseren eval --dataset msra --camera 476.007,476.007,313.683,242.755 --gt unseen/labels.txt --pred T.txt
```

## How it was made

{made}

Recipe `{config.recipe}`, seed {config.seed}, {config.init_steps:,} steps of Init-CNN and {config.refine_steps:,} of
Pose-REN, {config.batch} samples each, on {where}. Changed from the recipe: `{json.dumps(changed)}`.

## Limits

- The hands that it knows are synthetic: real frames are answered worse than the figures above.
- It expects the palm's side or the edge of the hand; the back of the hand was not trained.
- One hand, not holding anything; the hand region must be centred within a few centimetres (`hand_center` does that).
- The widths are a twentieth of the paper's: it shows how the system works, not how well the paper's network does.

Written by `python -m tools.bundle_model.card`.
"""


def bundle(
    run: Path,
    made: str,
    target: Path = BUNDLED["demo"],
    *,
    where: str = "two CPU cores",
    frames: int = TEST_FRAMES,
) -> Measurement:
    """Writes a run's model to the target, fully connected weights as int8 rows, and its card beside it.

    Raises:
        ValueError: The file is larger than 12 MB.
    """
    model = load(run / "model.safetensors")
    round_to_bytes(model)  # changes nothing in a run that ended with finish=true
    model.config = replace(model.config, weight_dtype="int8")
    config = read_config(run / "config.toml")
    measured = measure(model, frames=frames)
    with TemporaryDirectory() as folder:
        draft = Path(folder) / "model.safetensors"
        save(model, draft)
        content = draft.read_bytes()
    size = len(content)
    if size > _LARGEST_FILE:
        raise ValueError(f"the model file has {size} bytes; a bundled model may have at most {_LARGEST_FILE}")
    write_atomic(target, content)
    write_atomic(target.with_suffix(".md"), card(model, config, measured, size, made, where))
    return measured


def main() -> None:
    """Bundles a run."""
    parser = argparse.ArgumentParser(prog="python -m tools.bundle_model.card", description=__doc__)
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("--made", default="", help="the command and the version of the code that trained it")
    parser.add_argument("--on", default="two CPU cores", help="the machine that trained it")
    arguments = parser.parse_args()
    print(bundle(arguments.run, arguments.made, where=arguments.on))


if __name__ == "__main__":
    torch.set_num_threads(min(2, torch.get_num_threads()))
    main()
