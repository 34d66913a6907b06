# SPDX-License-Identifier: MIT
"""Training: Init-CNN first, then Pose-REN on the poses that it and its stages predict (paper, section 3.4)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn

from poseren_ext._utils.atomic_files import forget_drafts, write_atomic
from poseren_ext._utils.cuda_graph import GraphedStep
from poseren_ext.models import PoseREN, initialize, save
from poseren_ext.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from poseren_ext.training.config import Phase, TrainConfig
from poseren_ext.training.distributed import ALONE, Ranks
from poseren_ext.training.finalize import finalize
from poseren_ext.training.initial_poses import first_poses, initial_poses, load_start, refined_poses, stored_poses
from poseren_ext.training.interruption import Interruption
from poseren_ext.training.log import TrainingLog
from poseren_ext.training.loggers import Logger, open_loggers
from poseren_ext.training.optimizers import make_optimizer, set_rates
from poseren_ext.training.pack_batches import CropBatch
from poseren_ext.training.phases import InitStage, StagePoses, autocast, redraw, smooth_l1, tensor_cores
from poseren_ext.training.plan import PhasePlan, describe_phases, plan_phases
from poseren_ext.training.run_folder import (
    CHECKPOINT,
    CONFIG,
    FILES,
    MODEL,
    PHASES,
    remove_run,
    require_no_files,
    require_same_run,
    write_config,
)
from poseren_ext.training.streams import must_render, open_set, open_stream
from poseren_ext.training.validation import Validation, check_validation

Watch: TypeAlias = Callable[[str, int, int, Mapping[str, Any]], None]
"""Called after every step: the phase, the step, the number of steps, and the latest numbers of the log.

While synthetic frames are rendered: "frames", the number that is done, the number of all, and no numbers.
"""

FRAMES = "frames"
"""The phase of `Watch` while synthetic frames are rendered."""


class DivergedError(RuntimeError):
    """The loss became NaN or infinite."""


class Trainer:
    """One training run in one folder.

    The folder contains config.toml, phases.json (the samples of each phase), log.csv, checkpoint.safetensors (and the
    previous checkpoint) and, at the end, model.safetensors.

    Args:
        config: the run.
        folder: the run's folder; created if it does not exist.
        resume: continue from the folder's checkpoint; on the CPU with the same number of threads the result is
            bit-identical to that of an uninterrupted run.
        overwrite: delete the run in the folder, and files with the names of its files.
        ranks: rank of this process; each process computes its share of every batch, and the first one writes files.
        device: device of the model and the training set.
        watch: called after every step, and while frames are rendered.
        loggers: objects that get the numbers of log.csv, beside those that the configuration names.

    Raises:
        FileExistsError: The folder contains a run, or files that the run would overwrite, and resume and overwrite are
            False.
        FileNotFoundError: There is no checkpoint to resume, or the initial model does not exist.
        KeyboardInterrupt: Ctrl-C while frames are rendered; the run can be resumed.
        ImportError: A logger is requested whose library is not installed.
        ValueError: The checkpoint has another configuration or is corrupt, the initial model has other layers, or
            resume and overwrite are both True.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        *,
        resume: bool = False,
        overwrite: bool = False,
        ranks: Ranks = ALONE,
        device: torch.device | str = "cpu",
        watch: Watch | None = None,
        loggers: Sequence[Logger] = (),
    ) -> None:
        self.config, self.folder, self.ranks, self.device = config, folder, ranks, torch.device(device)
        self._share, self._watch, self._loggers = ranks.share(config.batch), watch, loggers
        self._compiled = config.compile and self.device.type == "cuda"
        self._graphed = config.graph and self.device.type == "cuda" and ranks.world == 1 and not config.init_every
        self._interruption = Interruption()
        if resume and overwrite:
            raise ValueError("resume and overwrite are both True; a run is continued or replaced")
        if ranks.main and not (resume or overwrite):  # the others may look when this one has begun to write
            require_no_files(folder)
        checkpoint = read_checkpoint(self._checkpoint_path) if resume else None
        folder.mkdir(parents=True, exist_ok=True)
        if ranks.main:  # a killed run may have left drafts, each as large as a checkpoint
            for name in FILES:
                forget_drafts(folder / name)
        if config.validate_every:
            check_validation(config)
        torch.manual_seed(config.seed)
        self.model = PoseREN.build(config.model())
        initialize(self.model, fully_connected=config.fully_connected)
        # Channels last doubles the speed of the convolutions on a CPU.
        self.model = self.model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.saved: tuple[str, int] | None = None  # phase and step of the last checkpoint
        self.frames = None if must_render(config) else open_set(config, self.device)
        frames = config.frames if must_render(config) else 0 if self.frames is None else len(self.frames)
        self.phases = plan_phases(config, frames)
        self.poses: list[torch.Tensor] = []
        """Stored poses P^0, P^1, ...: normalised [N, J, 3], of the training frames without augmentation."""
        self._log: TrainingLog | None = None
        if checkpoint:
            require_same_run(self._checkpoint_path, checkpoint, config, [plan.name for plan in self.phases])
        else:
            if config.start:
                load_start(self.model, config.start)
            if ranks.main:
                self._begin_files(overwrite)
        if must_render(config):
            self.frames = open_set(config, self.device, progress=self._rendered)
        self._enter(self.phases[0], 0)
        if checkpoint:
            self._restore(checkpoint)
            if ranks.main:
                done = {plan.name: plan.steps for plan in self.phases[: self.phases.index(self.plan)]}
                self._log = self._open_log(done | {self.phase: self.step})
                self._describe()
        if (self.plan, self.step) == (self.phases[0], 0) and not config.start:
            self.model.mean_pose.copy_(self.stream.mean_pose())
        validates = ranks.main and config.validate_every
        self.validation = Validation(config, self.device, progress=self._rendered) if validates else None

    @property
    def _checkpoint_path(self) -> Path:
        return self.folder / CHECKPOINT

    def _begin_files(self, overwrite: bool) -> None:
        """Writes the files of a new run, with a checkpoint, so that it can be resumed from now on."""
        if overwrite:
            remove_run(self.folder)
        self._log = self._open_log({})
        self._describe()
        self._write_checkpoint(self.phases[0].name, 0, {})

    def _describe(self) -> None:
        write_config(self.folder / CONFIG, self.config)
        write_atomic(self.folder / PHASES, describe_phases(self.config, self.phases))

    def _rendered(self, done: int, count: int) -> None:
        if self._watch:
            self._watch(FRAMES, done, count, {})

    def run(self) -> PoseREN:
        """Trains to the end and writes the model; returns it in evaluation mode.

        Raises:
            DivergedError: The loss became NaN or infinite.
            KeyboardInterrupt: SIGINT or SIGTERM (as `Terminated`) arrived; a checkpoint was written.
        """
        with self._interruption.handled():
            try:
                self._run_phase()
                while self.plan is not self.phases[-1]:
                    self._next_phase()
                    self._run_phase()
            except KeyboardInterrupt:
                if (self.phase, self.step) != self.saved:
                    self._checkpoint()
                raise
        self.model.eval()
        if self.config.finish:
            finalize(self.model, self.config, self.device)
        if self.ranks.main:
            save(self.model, self.folder / MODEL)
        return self.model

    def _next_phase(self) -> None:
        """Prepares the phase after the current one: stored poses, initial weights, optimizer; writes a checkpoint."""
        plan = self.phases[self.phases.index(self.plan) + 1]
        with self._interruption.deferred():
            if plan.stage:
                self.poses.append(self._predict_poses())
            if not self.config.start:
                self.model.start_from_init()
                if plan.stage > 1:
                    generator = torch.Generator().manual_seed(self.config.seed)
                    redraw(self.model.head, self.config.fully_connected, generator)
            self._enter(plan, 0)
            self._checkpoint()

    def start_phase(self, phase: Phase) -> None:
        """Starts the first phase of a kind with the current weights."""
        plan = next(plan for plan in self.phases if plan.kind == phase)
        if plan.stage:
            self.poses = [self._predict_poses()]
        self._enter(plan, 0)

    def _predict_poses(self) -> torch.Tensor:
        """P^0, or the poses P^t that stage t predicts from P^(t-1), on crops without augmentation."""
        assert self.frames is not None
        if not self.poses:
            return first_poses(self.config, self.model, self.frames)
        return refined_poses(self.model, self.frames, self.poses[-1])

    def advance(self, steps: int) -> torch.Tensor:
        """Trains some steps of the phase without log, validation and checkpoint; returns the sum [] of the losses."""
        running = self._no_loss()
        for _ in range(steps):
            running += self._next_step()
        return running

    def _enter(self, plan: PhasePlan, step: int) -> None:
        self.plan, self.phase, self.step = plan, plan.name, step
        self.optimizer = make_optimizer(self.config, plan.kind, self._trained(), captured=self._graphed)
        self.stream = open_stream(
            self.config,
            plan.kind,
            self.device,
            frames=self.frames,
            stage=plan.stage,
            copies=max(len(plan.sets), 1),
            progress=self._rendered,
        )
        self._initial = None
        if plan.stage:
            self._initial = stored_poses([self.poses[index] for index in plan.sets])
        elif plan.kind == "refine":
            self._initial = initial_poses(self.config, self.model, self.stream, compiled=self._compiled)
        self._network = self._make_network()
        self._update = GraphedStep(self._learn) if self._graphed else self._learn

    @property
    def _offsets(self) -> dict[str, int]:
        return {plan.name: plan.offset for plan in self.phases}

    def _open_log(self, done: Mapping[str, int]) -> TrainingLog:
        """The log, after the last valid step of each phase."""
        first = max((self._offsets[phase] + step + 1 for phase, step in done.items()), default=0)
        loggers = [*open_loggers(self.config, self.folder, first), *self._loggers]
        return TrainingLog(self.folder, done, self._offsets, loggers)

    def _run_phase(self) -> None:
        config, steps = self.config, self.plan.steps
        running, since, counted = self._no_loss(), time.perf_counter(), 0
        row: dict[str, Any] = {}
        while self.step < steps:
            running += self._next_step()
            counted += 1
            last = self.step == steps
            validating = config.validate_every > 0 and (last or self.step % config.validate_every == 0)
            due = last or validating or self.step % config.log_every == 0
            saving = last or self.step % config.checkpoint_every == 0
            if due or saving or self.device.type == "cpu":  # reading numbers from a GPU synchronises with it
                self._require_finite([float(running)], "the loss")
            if due:
                mean = self.ranks.mean(float(running) / counted)
                speed = counted * config.batch / (time.perf_counter() - since)
                row = {"loss": mean, "learning_rate": self._rate, "samples_per_second": speed}
                if self.validation and validating:
                    row["validation_mm"] = self._validate(self.validation)
                    self._require_finite(row["validation_mm"], "the error on the validation frames")
                if self._log:
                    self._log.write(self.phase, self.step, row)
                running, since, counted = self._no_loss(), time.perf_counter(), 0
            if self._watch:
                self._watch(self.phase, self.step, steps, row)
            if saving:
                self._checkpoint()

    def _next_step(self) -> torch.Tensor:
        at = self.plan.offset + self.step
        # Seed dropout, so that a resumed run repeats it; each process has a different seed.
        torch.manual_seed(self.config.seed * 1_000_003 + at + (self.ranks.rank << 40))
        self._rate = set_rates(self.config, self.optimizer, self.step, self.plan.steps)
        # Unrolled phases read one endless stream, so that the second phase trains on new frames.
        batch = self.stream.batch(self.step if self.plan.stage else at, self._share)
        with self._interruption.deferred():
            loss = self._train_step(batch)
            self.step += 1
        return loss

    def _no_loss(self) -> torch.Tensor:
        return torch.zeros((), dtype=torch.float64, device=self.device)

    def _require_finite(self, values: Sequence[float], name: str) -> None:
        if not all(map(math.isfinite, values)):
            value = next(value for value in values if not math.isfinite(value))
            raise DivergedError(
                f"the training diverged: {name} is {value} at {self.phase} step {self.step}; lower learning_rate (now "
                f"{self.config.learning_rate:g})"
            )

    def _train_step(self, batch: CropBatch) -> torch.Tensor:
        """The loss [] before the update."""
        crops = batch.crop.to(self.device, memory_format=torch.channels_last)
        initial = self._initial(batch, crops) if self._initial else None
        self._network.train()
        with tensor_cores(self.config.precision):
            return self._update(crops, batch.pose, initial)

    def _learn(self, crops: torch.Tensor, wanted: torch.Tensor, initial: torch.Tensor | None) -> torch.Tensor:
        """Gradients and update on a batch, without synchronising with the host."""
        config = self.config
        self.optimizer.zero_grad()
        total = self._no_loss()
        parts = crops.chunk(config.accumulate), wanted.chunk(config.accumulate)
        given = [None] * len(parts[0]) if initial is None else initial.chunk(config.accumulate)
        for crop, pose, before in zip(*parts, given, strict=True):
            with autocast(self.device, config.precision):
                stages = self._network(crop, before)
            losses = [smooth_l1(stage.float(), pose, config.loss, config.loss_beta) for stage in stages]
            loss = torch.stack(losses).mean()
            if self._init_learns():
                with autocast(self.device, config.precision):
                    first = self.model.init(crop)
                loss = loss + smooth_l1(first.float(), pose, config.loss, config.loss_beta)
            loss = loss * (len(crop) / len(crops))
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        if self._init_learns():
            self.ranks.average_gradients(self.model.init)
        if config.clip:
            nn.utils.clip_grad_norm_([p for part in self._trained() for p in part.parameters()], config.clip)
        self.optimizer.step()
        return total

    def _make_network(self) -> nn.Module:
        if self.plan.kind == "init":
            return self.ranks.parallel(InitStage(self.model.init, compiled=self._compiled))
        unrolled = 1 if self.plan.stage else self.config.stages
        stages = StagePoses(self.model.backbone, self.model.head, unrolled, compiled=self._compiled)
        return self.ranks.parallel(stages)

    def _init_learns(self) -> bool:
        """Whether this step of the second phase also trains Init-CNN."""
        every = self.config.init_every if self.phase == "refine" else 0
        return bool(every) and self.step % every == 0

    def _trained(self) -> list[nn.Module]:
        if self.plan.kind == "init":
            return [self.model.init]
        stages: list[nn.Module] = [self.model.backbone, self.model.head]
        return [*stages, self.model.init] if self.config.init_every else stages

    def _validate(self, validation: Validation) -> list[float]:
        refining = self.plan.kind == "refine"
        mean = refining and self.config.initial == "mean"
        return validation(self.model, stages=3 if refining else 0, mean_initial=mean)

    def _checkpoint(self) -> None:
        if not self.ranks.main:
            return
        tensors: dict[str, torch.Tensor] = {}
        for index, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in values.items()}
        tensors |= {f"poses.{index}": poses for index, poses in enumerate(self.poses)}
        self._write_checkpoint(self.phase, self.step, tensors)

    def _write_checkpoint(self, phase: str, step: int, tensors: Mapping[str, torch.Tensor]) -> None:
        """Writes the model with these other tensors."""
        model = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        state = {"config": self.config.to_json(), "phase": phase, "step": step}
        write_checkpoint(self._checkpoint_path, Checkpoint({**model, **tensors}, state))
        self.saved = phase, step

    def _restore(self, checkpoint: Checkpoint) -> None:
        tensors = checkpoint.tensors
        self.model.load_state_dict({n[6:]: t for n, t in tensors.items() if n.startswith("model.")})
        stored = sum(name.startswith("poses.") for name in tensors)
        self.poses = [tensors[f"poses.{index}"].to(self.device) for index in range(stored)]
        names = [plan.name for plan in self.phases]
        self._enter(self.phases[names.index(checkpoint.state["phase"])], checkpoint.state["step"])
        self.saved = self.phase, self.step
        slots: dict[int, dict[str, torch.Tensor]] = {}
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".", 2)
                if tensor.dim():  # the optimizer state needs the memory layout of the parameter
                    tensor = torch.empty_like(parameters[int(index)]).copy_(tensor)
                slots.setdefault(int(index), {})[key] = tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": slots})
