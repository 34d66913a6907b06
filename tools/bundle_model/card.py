# SPDX-License-Identifier: MIT
"""`python -m tools.bundle_model.card RUN`: measures a trained model, puts it into the package, writes its card."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from poseren_ext._utils.atomic_files import write_atomic
from poseren_ext.geometry.skeleton import SKELETONS
from poseren_ext.models import PoseREN, load, round_to_nibbles, save
from poseren_ext.models.files import BUNDLED
from poseren_ext.training.config import RECIPES, TrainConfig, read_config
from tools.bundle_model.error_measure import ErrorResult, error_summary, measure_errors
from tools.bundle_model.measure import TEST_FRAMES, SplitResult, measure, split_table

_LARGEST_FILE = 12_000_000


def card(
    name: str,
    model: PoseREN,
    config: TrainConfig,
    results: Sequence[SplitResult],
    size: int,
    made: str,
    where: str,
    samples: str,
    errors: Sequence[ErrorResult] = (),
) -> str:
    """The model card, Markdown.

    Args:
        name: of the bundled model.
        model: the model.
        config: of its last training run.
        results: what it does on each test split.
        size: of its file, bytes.
        made: the commands, and the version of the code, that trained it.
        where: on which machine the last run was.
        samples: how many samples it has seen in all its training.
        errors: what its error head does on each test split.
    """
    base = asdict(RECIPES[config.recipe])
    changed = {name: value for name, value in asdict(config).items() if base[name] != value and name != "start"}
    names = SKELETONS[config.skeleton].joints
    frames = len(results[0].frame_mm)
    joint_mm = np.mean([result.joint_mm for result in results], 0)
    joints = "\n".join(f"| {name} | {error:.2f} |" for name, error in zip(names, joint_mm, strict=True))
    stages = "\n".join(
        f"| {result.kind} | {' | '.join(f'{error:.2f}' for error in result.stage_mm)} | "
        f"{', '.join(f'{share:.1%}' for share in result.moved)} |"
        for result in results
    )
    seeds = ", ".join(f"`{result.kind}` {result.seed}" for result in results)
    sure = ""
    if errors:
        sure = f"\n\n## Which hand, and how sure\n\nThe same frames, given centres.\n\n{error_summary(errors)}"
    learnt = config.refine_steps // config.init_every if config.init_every else 0
    return f"""# {name}: a compact Pose-REN for right hands

A Pose-REN with narrow fully connected layers, trained on synthetic hands alone: no recorded frame was used. It gives
{len(names)} joints in MSRA's order (`{config.skeleton}`) from a depth crop of a cube of half edge {config.cube:.0f} mm.

| | |
| --- | --- |
| parameters | {sum(p.numel() for p in model.parameters()):,} |
| file | {size:,} bytes, region weights in 4 bits, the other fully connected ones in 8, computed with in float32 |
| layers | Init-CNN {config.init_widths}, regions and fingers {config.refine_widths}, channels {config.channels} |
| hand | {config.hand}; for left hands the crop is mirrored |
| samples seen | {samples} |
| licence | MIT, weights too |

## Accuracy

{frames:,} synthetic frames of each test split, of subjects that training never saw (seeds {seeds}), whole frames of
640x480 in whole mm, one rotation. Mean joint error in mm. The centre is given (the visible hand's; for `palm` that of
hand and forearm) except in two columns: "own centre", where the library finds the hand, and "nearer of two", where it
finds at most two and the one nearer to the labelled hand counts, so that the other hand costs nothing.
`docs/data.md` describes and shows the splits.

{split_table(results)}

"over 30 mm": frames whose mean joint error is larger, given centres. "cube holds all": frames in which the cube around
the library's own centre holds every joint. Frames in which the library finds no hand count as the mean pose.

The error after each stage, given centres, and the share of regions that stages 2 and 3 recompute. The other regions did
not move, and their earlier results are used again, which does not change the poses:

| split | Init-CNN | stage 1 | stage 2 | stage 3 | regions recomputed |
| --- | --- | --- | --- | --- | --- |
{stages}

Last stage, each joint, mean over the splits:

| joint | mm |
| --- | --- |
{joints}

The same by the command line, for each split:

```text
poseren render unseen --split-kind back --frames {frames}
poseren predict unseen/depth --camera sr305 --centers unseen/centers.txt --stages 3 --out joints.txt
poseren eval --dataset msra --camera 476.007,476.007,313.683,242.755 --gt unseen/labels.txt --pred joints.txt
```

Or `python -m tools.bundle_model.measure {name} --frames {frames}` for all splits.{sure}

## How it was made

{made}

Last run: recipe `{config.recipe}`, seed {config.seed}, {config.init_steps:,} steps of Init-CNN and
{config.refine_steps:,} of Pose-REN, {config.batch} samples each, Init-CNN learning on in {learnt:,} of the latter, on
{where}. Changed from the recipe: `{json.dumps(changed)}`.

## Limits

- It was trained on synthetic hands only: errors on real frames are larger than the figures above.
- Palms are known best; sides, backs, held objects and second hands are answered with the errors above.
- One right hand, or a left one mirrored; the hand region must be centred within a few centimetres.
- Its region layers have {config.refine_widths[0]} outputs where the paper's have 2,048: it does not show how well the
  paper's network does.

Written by `python -m tools.bundle_model.card`.
"""


def bundle(
    run: Path,
    made: str,
    target: Path = BUNDLED["demo"],
    *,
    where: str = "two CPU cores",
    samples: str = "",
    frames: int = TEST_FRAMES,
    folder: Path | None = None,
) -> list[SplitResult]:
    """Writes a run's model to the target, with region weights in 4 bits, and its card beside it.

    Raises:
        ValueError: The file is larger than 12 MB.
    """
    model = load(run / "model.safetensors")
    round_to_nibbles(model)  # changes nothing in a run that ended with finish=true and weight_dtype="int4"
    model.config = replace(model.config, weight_dtype="int4")
    config = read_config(run / "config.toml")
    results = measure(model, frames=frames, folder=folder)
    errors = [] if model.error is None else measure_errors(model, frames=frames, folder=folder)
    with TemporaryDirectory() as temporary:
        draft = Path(temporary) / "model.safetensors"
        save(model, draft)
        content = draft.read_bytes()
    size = len(content)
    if size > _LARGEST_FILE:
        raise ValueError(f"the model file has {size} bytes; a bundled model may have at most {_LARGEST_FILE}")
    write_atomic(target, content)
    text = card(target.stem, model, config, results, size, made, where, samples, errors)
    write_atomic(target.with_suffix(".md"), text)
    return results


def main() -> None:
    """Bundles a run."""
    parser = argparse.ArgumentParser(prog="python -m tools.bundle_model.card", description=__doc__)
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("--made", default="", help="the command and the version of the code that trained it")
    parser.add_argument("--on", default="two CPU cores", help="the machine that trained it")
    parser.add_argument("--samples", default="", help="samples that the model has seen in all its training")
    parser.add_argument("--frames", type=int, default=TEST_FRAMES, help="of each test split")
    parser.add_argument("--folder", type=Path, help="keeps the rendered test frames here")
    parser.add_argument("--target", type=Path, default=BUNDLED["demo"], help="the model file to write")
    given = parser.parse_args()
    print(
        split_table(
            bundle(
                given.run,
                given.made,
                given.target,
                where=given.on,
                samples=given.samples,
                frames=given.frames,
                folder=given.folder,
            )
        )
    )


if __name__ == "__main__":
    torch.set_num_threads(min(2, torch.get_num_threads()))
    main()
