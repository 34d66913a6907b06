# SPDX-License-Identifier: MIT
"""Trains `paper` at small scale and `compact` for a given time, and writes the errors of each stage on unseen hands.

`python tools/learning_curves.py --minutes 60 --threads 2` writes docs/results/learning/NAME.json after each validation
and curves.png at the end. The time is processor time, so that other processes on the machine do not change the results.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from poseren_ext.plotting.style import new_figure, save, tidy
from poseren_ext.training import TrainConfig, Trainer, make_config
from poseren_ext.training.config import Phase

OUT = Path(__file__).resolve().parent.parent / "docs" / "results" / "learning"
RECIPES: dict[str, dict[str, Any]] = {
    # The paper's recipe for narrow layers and a training set of 1024 synthetic frames; the ratio of the weights of the
    # finger layers to those of the region layers is the paper's.
    "paper": {
        **{"channels": [8, 16, 32], "init_widths": [96, 128], "refine_widths": [32, 1024]},
        **{"fully_connected": "he", "dropout": 0.0, "frames": 1024, "batch": 8, "learning_rate": 0.003},
    },
    # The recipe `compact` with the same convolutions, in batches of 16 and rendering fewer frames.
    "compact": {
        **{"channels": [8, 16, 32], "init_widths": [96, 128], "refine_widths": [48, 128]},
        **{"batch": 16, "chunk": 1024, "reuse": 10},
    },
}
_VALIDATIONS = 12  # per phase
_WARM_UP_STEPS = 4
_TIMED_STEPS = 20
_RESERVE = 0.9  # of the time; the rest is for validation


def plan(recipe: str, seconds: float, changes: Mapping[str, Any]) -> TrainConfig:
    """A run that takes this processor time, from the measured time of a few steps."""
    values = {"recipe": recipe, "validation_frames": 256, **RECIPES[recipe], **changes}
    config = make_config(values)
    sample = _seconds_per_sample({**values, "validate_every": 0, "frames": 2 * config.batch, "chunk": 2 * config.batch})
    seconds *= _RESERVE
    if config.poses == "stored":  # stage t has t samples per frame
        stages = config.stages * (config.stages + 1) / 2
        epochs = max(4, int(seconds / (config.frames * (sample["init"] + stages * sample["refine"]))))
        steps = math.ceil(epochs * config.frames / config.batch)
        length = {"init_epochs": epochs, "refine_epochs": epochs}
    else:
        share = config.init_steps / (config.init_steps + config.refine_steps)
        each = config.batch * (share * sample["init"] + (1 - share) * sample["refine"])
        steps = max(8, int(seconds / each * min(share, 1 - share)))
        length = {"init_steps": steps, "refine_steps": max(8, int(steps * (1 - share) / share))}
    every = max(1, steps // _VALIDATIONS)
    return make_config({**values, **length, "validate_every": every, "log_every": every, "checkpoint_every": every})


def _seconds_per_sample(values: Mapping[str, Any]) -> dict[str, float]:
    """Processor time of a sample in each phase, rendering included."""
    config = make_config({**values, "init_epochs": 0, "refine_epochs": 0})
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(config, Path(folder))
        phases: tuple[Phase, ...] = ("init", "refine")
        for phase in phases:
            trainer.start_phase(phase)
            trainer.advance(_WARM_UP_STEPS)
            began = time.process_time()
            trainer.advance(_TIMED_STEPS)
            seconds[phase] = (time.process_time() - began) / (_TIMED_STEPS * config.batch)
    return seconds


def train(config: TrainConfig, file: Path) -> None:
    """Trains, and writes the curve to a JSON file after each validation."""
    began = time.process_time()
    curve: list[dict[str, Any]] = []
    result: dict[str, Any] = {"recipe": config.recipe, "threads": torch.get_num_threads(), "curve": curve}
    result["config"] = json.loads(config.to_json())
    last: Mapping[str, Any] = {}

    def watch(phase: str, step: int, steps: int, row: Mapping[str, Any]) -> None:
        nonlocal last
        if row is last or "validation_mm" not in row:
            return
        last = row
        offset = next(plan.offset for plan in trainer.phases if plan.name == phase)
        curve.append(
            {
                **{"phase": phase, "step": step, "steps": steps, "samples": (offset + step) * config.batch},
                "cpu_minutes": round((time.process_time() - began) / 60, 3),
                "loss": round(row["loss"], 5),
                "error_mm": [round(error, 3) for error in row["validation_mm"]],
            }
        )
        file.write_text(json.dumps(result, indent=1) + "\n")

    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(config, Path(folder), watch=watch)
        assert trainer.validation is not None
        result["mean_pose_mm"] = round(trainer.validation(trainer.model, stages=0, mean_initial=True)[0], 3)
        trainer.run()


def draw(results: Sequence[Mapping[str, Any]], file: Path) -> None:
    """One panel per recipe: the error of the initial pose and after each stage, over the processor time."""
    figure = new_figure(5.2 * len(results), 3.6)
    for index, result in enumerate(results):
        axes = figure.add_subplot(1, len(results), index + 1)
        curve = result["curve"]
        axes.axhline(result["mean_pose_mm"], color="0.6", linestyle=":", label="mean pose")
        for stage in range(max(len(row["error_mm"]) for row in curve)):
            points = [(row["cpu_minutes"], row["error_mm"][stage]) for row in curve if len(row["error_mm"]) > stage]
            axes.plot(*zip(*points, strict=True), marker=".", label=f"P{stage}" if stage else "P0, Init-CNN")
        for before, after in itertools.pairwise(curve):
            if before["phase"] != after["phase"]:
                axes.axvline(before["cpu_minutes"], color="0.8", linewidth=0.8)
        axes.set_title(f"poseren train {result['recipe']}")
        axes.set_ylim(bottom=0)
        tidy(axes, "processor time, minutes", "error on unseen hands, mm")
        axes.legend()
    save(figure, file)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the recipes one after the other and draw their curves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="processor time of each recipe, all threads")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--recipe", action="append", choices=list(RECIPES), help="default: both")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the results")
    parser.add_argument("--draw-only", action="store_true", help="draw the results in the folder")
    parser.add_argument("fields", nargs="*", metavar="FIELD=VALUE", help="fields of the configuration, as JSON")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    given.out.mkdir(parents=True, exist_ok=True)
    names = given.recipe or list(RECIPES)
    changes = {name: json.loads(value) for name, value in (field.split("=", 1) for field in given.fields)}
    for name in () if given.draw_only else names:
        train(plan(name, given.minutes * 60, changes), given.out / f"{name}.json")
    draw([json.loads((given.out / f"{name}.json").read_text()) for name in names], given.out / "curves.png")


if __name__ == "__main__":
    main()
