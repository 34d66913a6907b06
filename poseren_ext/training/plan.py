# SPDX-License-Identifier: MIT
"""The phases of a run: Init-CNN, then one refining phase or one phase per stage (paper, section 3.4)."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from poseren_ext.training.config import Phase, TrainConfig


@dataclass(frozen=True)
class PhasePlan:
    """One phase of a run.

    Attributes:
        name: "init", "refine" (stages unrolled) or "stage_1", "stage_2", ...: in the log and in checkpoints.
        kind: the trained network: "init" for Init-CNN, "refine" for the refining network.
        stage: t for a stage that is trained on T^(t-1), else 0.
        steps: number of updates.
        offset: number of steps of all earlier phases.
        sets: indices of the stored poses P^0, P^1, ... that samples start from; empty without stored poses.
        frames: size of the training set; 0 for the endless stream.
    """

    name: str
    kind: Phase
    stage: int
    steps: int
    offset: int
    sets: tuple[int, ...] = ()
    frames: int = 0

    @property
    def samples(self) -> int:
        """Number of samples per epoch: each frame once per set of poses."""
        return self.frames * max(len(self.sets), 1)


def plan_phases(config: TrainConfig, frames: int) -> list[PhasePlan]:
    """The phases of a run.

    Args:
        config: the run.
        frames: size of the training set; 0 for the endless stream of synthetic frames.

    Raises:
        ValueError: Epochs or stored poses are configured for the endless stream.
    """
    epochs = (config.init_epochs, config.refine_epochs)
    if not frames and any(epochs):
        raise ValueError(
            f"init_epochs and refine_epochs are {epochs[0]} and {epochs[1]}, and the stream of synthetic frames has no "
            "end; set steps instead, or poses='stored' for a finite set"
        )
    phases = [PhasePlan("init", "init", 0, _steps(config, "init", frames), 0, frames=frames)]
    if config.poses == "unrolled":
        steps = _steps(config, "refine", frames)
        return [*phases, PhasePlan("refine", "refine", 0, steps, phases[0].steps, frames=frames)]
    for stage in range(1, config.stages + 1):
        sets = tuple(range(stage)) if config.poses == "stored" else (0,) * stage
        steps = _steps(config, "refine", frames * stage)
        offset = phases[-1].offset + phases[-1].steps
        phases.append(PhasePlan(f"stage_{stage}", "refine", stage, steps, offset, sets, frames))
    return phases


def _steps(config: TrainConfig, kind: Phase, samples: int) -> int:
    epochs: int = getattr(config, f"{kind}_epochs")
    steps: int = getattr(config, f"{kind}_steps")
    return math.ceil(epochs * samples / config.batch) if epochs else steps


def describe_phases(config: TrainConfig, phases: list[PhasePlan]) -> str:
    """JSON text that says which samples each phase trains on, with counts."""
    source = {"init": "Init-CNN", "mean": "the mean pose"}.get(config.initial, config.initial)
    rows: list[dict[str, Any]] = []
    for phase in phases:
        row: dict[str, Any] = {"phase": phase.name, "steps": phase.steps, "batch": config.batch}
        row["samples_per_epoch"] = phase.samples or "endless"
        if phase.samples:
            row["epochs"] = round(phase.steps * config.batch / phase.samples, 2)
        if phase.sets:
            row["initial_poses"] = [
                {"set": f"P^{s}", "from": source if s == 0 else f"R^{s}(P^{s - 1})", "samples": phase.frames}
                for s in phase.sets
            ]
        elif phase.kind == "refine":
            row["initial_poses"] = f"{source}, then the network's own poses, unrolled over {config.stages} stages"
        rows.append(row)
    return json.dumps(rows, indent=2) + "\n"
