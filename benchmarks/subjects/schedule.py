# SPDX-License-Identifier: MIT
"""Estimated duration of the paper's training on this GPU, from many steps of each of its two phases."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.material import Material
from benchmarks.rows import Row
from poseren_ext.training import Trainer, make_config
from poseren_ext.training.config import RECIPES
from poseren_ext.training.plan import plan_phases

FRAMES, EPOCH_FRAMES = 4096, 72_757
STEPS = 500
MINUTES = 15.0


def rows(material: Material, machine: dict[str, Any]) -> Iterator[Row]:
    """One row: the time of a step of each phase, and of all steps, with synthetic frames instead of NYU's.

    The frames are rendered beforehand and kept on the GPU. The timed step consists of gathering, augmented crop,
    one stage on stored poses, gradients and update.
    """
    paper = RECIPES["paper"]
    phases = plan_phases(paper, EPOCH_FRAMES)
    init_steps, refine_steps = phases[0].steps, sum(phase.steps for phase in phases[1:])
    fields = {"recipe": "paper", "precision": "bf16", "frames": FRAMES, "validate_every": 0}
    fields |= {"init_steps": 10**6, "refine_steps": 10**6, "compile": bool(material.settings.compile_seconds)}
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode(False), torch.enable_grad():
        trainer = Trainer(make_config(fields), Path(folder), device=material.settings.device)
        init = _step_ms(trainer)
        trainer.start_phase("refine")
        refine = _step_ms(trainer)
    minutes = (init * init_steps + refine * refine_steps) / 60_000
    yield Row(
        name="training, the paper's whole schedule",
        device=material.settings.device,
        dtype="bf16 autocast",
        batch=paper.batch,
        ours_ms=(init * init_steps + refine * refine_steps) / (init_steps + refine_steps),
        baselines={},
        ratio={},
        lower_bound_ms=None,
        params={
            "init_step_ms": init,
            "refine_step_ms": refine,
            "steps": [init_steps, refine_steps],
            "steps_timed": STEPS,
            "frames_of_the_schedule": EPOCH_FRAMES,
            "minutes": minutes,
        },
        machine=machine,
        targets=[{"wanted": f"at most {MINUTES:g} minutes in all", "reached": minutes, "met": minutes <= MINUTES}],
    )


def _step_ms(trainer: Trainer) -> float:
    trainer.advance(20)  # compiles, captures and warms up
    torch.cuda.synchronize()
    began = time.perf_counter()
    trainer.advance(STEPS)
    torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - began) / STEPS
