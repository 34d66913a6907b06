# SPDX-License-Identifier: MIT
"""Staged training (paper, section 3.4): Init-CNN first, then Pose-REN on the poses that it and its stages predict."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import nn

from poseren_ext._utils.atomic_files import forget_drafts, write_atomic
from poseren_ext._utils.cuda_graph import GraphedStep
from poseren_ext.models import PoseREN, initialize, save
from poseren_ext.training.checkpoint import Checkpoint, existing_checkpoints, read_checkpoint, write_checkpoint
from poseren_ext.training.config import Phase, TrainConfig
from poseren_ext.training.distributed import ALONE, Ranks
from poseren_ext.training.finalize import finalize
from poseren_ext.training.initial_poses import initial_poses, load_start
from poseren_ext.training.log import Journal
from poseren_ext.training.optimizers import make_optimizer, set_rates
from poseren_ext.training.pack_batches import CropBatch
from poseren_ext.training.phases import InitPose, StagePoses, autocast, tensor_cores
from poseren_ext.training.synthetic_batches import open_stream
from poseren_ext.training.validation import Validation

PHASES = ("init", "refine")
CHECKPOINT = "checkpoint.safetensors"
_FILES = ("config.toml", "log.csv", CHECKPOINT, "model.safetensors")
_MAY_CHANGE = (
    *("init_steps", "refine_steps", "log_every", "validate_every", "checkpoint_every", "tensorboard"),
    *("graph", "compile", "finish", "decay"),
)

Watch: TypeAlias = Callable[[Phase, int, int, Mapping[str, Any]], None]
"""Told after every step: the phase, the step, how many there are, and the numbers of the log known by then."""


class Trainer:
    """One training run in one folder: config.toml, log.csv, checkpoint.safetensors, model.safetensors.

    Args:
        config: the run.
        folder: where it is kept; made if need be.
        resume: go on from the folder's checkpoint; on the CPU, with the same number of threads, to the same bits.
        ranks: this process among those that train together; each takes its share of every batch, the first one writes.
        device: where the model, and the data if need be, are held.
        watch: told how it goes.

    Raises:
        FileExistsError: the folder holds a run, and it is not to be resumed.
        FileNotFoundError: nothing to resume, or no model to start from.
        ImportError: TensorBoard is wanted and not installed.
        ValueError: the folder's checkpoint is of another configuration, or is corrupt; or the model to start from has
            other layers.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        *,
        resume: bool = False,
        ranks: Ranks = ALONE,
        device: torch.device | str = "cpu",
        watch: Watch | None = None,
    ) -> None:
        self.config, self.folder, self.ranks, self.device = config, folder, ranks, torch.device(device)
        self._share, self._watch = ranks.share(config.batch), watch
        self._compiled = config.compile and self.device.type == "cuda"
        self._graphed = config.graph and self.device.type == "cuda" and ranks.world == 1 and not config.init_every
        if not resume and existing_checkpoints(self._checkpoint_path):
            raise FileExistsError(f"{folder} holds a training already; resume it, or train in another folder")
        checkpoint = read_checkpoint(self._checkpoint_path) if resume else None
        folder.mkdir(parents=True, exist_ok=True)
        if ranks.main:  # a killed run may have left some, each as large as a checkpoint
            for name in _FILES:
                forget_drafts(folder / name)
        torch.manual_seed(config.seed)
        self.model = PoseREN.build(config.model())
        initialize(self.model, fully_connected=config.fully_connected)
        # Channels last: the convolutions run twice as fast on a CPU.
        self.model = self.model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.saved: tuple[Phase, int] | None = None  # phase and step of the last checkpoint
        self._enter_phase("init", 0)
        if checkpoint:
            self._restore(checkpoint)
        elif config.start:
            load_start(self.model, config.start)
        else:
            self.model.mean_pose.copy_(self.stream.mean_pose())
        self._journal = self._open_journal() if ranks.main else None
        self.validation = Validation(config, self.device) if ranks.main and config.validate_every else None
        if ranks.main:
            write_atomic(folder / "config.toml", config.to_toml())

    @property
    def _checkpoint_path(self) -> Path:
        return self.folder / CHECKPOINT

    def run(self) -> PoseREN:
        """Trains to the end and writes the model; returns it in evaluation mode."""
        while True:
            self._run_phase()
            if self.phase == PHASES[-1]:
                break
            if not self.config.start:
                self.model.start_from_init()
            self.start_phase("refine")
            self._checkpoint()
        self.model.eval()
        if self.config.finish:
            finalize(self.model, self.config, self.device)
        if self.ranks.main:
            save(self.model, self.folder / "model.safetensors")
        return self.model

    def start_phase(self, phase: Phase) -> None:
        """Goes on with a phase from its first step, on the weights as they are."""
        self._enter_phase(phase, 0)

    def advance(self, steps: int) -> torch.Tensor:
        """Trains a few steps of the phase, without log, validation and checkpoint; their losses' sum []."""
        running = self._no_loss()
        for _ in range(steps):
            running += self._next_step()
        return running

    def _enter_phase(self, phase: Phase, step: int) -> None:
        self.phase: Phase
        self.phase, self.step = phase, step
        self.optimizer = make_optimizer(self.config, phase, self._trained(), captured=self._graphed)
        self.stream = open_stream(self.config, phase, self.device)
        self._initial = None
        if phase == "refine":
            self._initial = initial_poses(self.config, self.model, self.stream, compiled=self._compiled)
        self._trainee = self._make_trainee()
        self._update = GraphedStep(self._learn) if self._graphed else self._learn

    def _phase_steps(self) -> int:
        return self.config.init_steps if self.phase == "init" else self.config.refine_steps

    def _offset(self) -> int:
        # Both phases read one endless stream, so that the second sees frames that the first has not.
        return 0 if self.phase == "init" else self.config.init_steps

    def _open_journal(self) -> Journal:
        done: dict[str, int] = {}
        if self.saved is not None:
            done = {"init": self.config.init_steps} if self.phase == "refine" else {}
            done[self.phase] = self.step
        offsets = {"init": 0, "refine": self.config.init_steps}
        return Journal(self.folder, done, offsets, tensorboard=self.config.tensorboard)

    def _run_phase(self) -> None:
        config, steps = self.config, self._phase_steps()
        running, since, counted = self._no_loss(), time.perf_counter(), 0
        row: dict[str, Any] = {}
        while self.step < steps:
            running += self._next_step()
            counted += 1
            last = self.step == steps
            due = last or self.step % config.log_every == 0
            saving = last or self.step % config.checkpoint_every == 0
            if due or saving or self.device.type == "cpu":  # a GPU is asked for numbers only then: asking waits for it
                self._check_loss(running)
            if due:
                mean = self.ranks.mean(float(running) / counted)
                speed = counted * config.batch / (time.perf_counter() - since)
                row = {"loss": mean, "learning_rate": self._rate, "samples_per_second": speed}
                if self.validation and (last or self.step % config.validate_every == 0):
                    row["validation_mm"] = self._validate(self.validation)
                if self._journal:
                    self._journal.write(self.phase, self.step, row)
                running, since, counted = self._no_loss(), time.perf_counter(), 0
            if self._watch:
                self._watch(self.phase, self.step, steps, row)
            if saving:
                self._checkpoint()

    def _next_step(self) -> torch.Tensor:
        at = self._offset() + self.step
        # Dropout's, so that resuming repeats it; the processes drop different values.
        torch.manual_seed(self.config.seed * 1_000_003 + at + (self.ranks.rank << 40))
        self._rate = set_rates(self.config, self.optimizer, self.step, self._phase_steps())
        loss = self._train_step(self.stream.batch(at, self._share))
        self.step += 1
        return loss

    def _no_loss(self) -> torch.Tensor:
        return torch.zeros((), dtype=torch.float64, device=self.device)

    def _check_loss(self, running: torch.Tensor) -> None:
        if not bool(torch.isfinite(running)):
            raise FloatingPointError(
                f"the loss is {float(running)} at {self.phase} step {self.step}; lower the learning rate"
            )

    def _train_step(self, batch: CropBatch) -> torch.Tensor:
        """The loss [] before the update."""
        crops = batch.crop.to(self.device, memory_format=torch.channels_last)
        initial = self._initial(batch, crops) if self._initial else None
        self._trainee.train()
        with tensor_cores(self.config.precision):
            return self._update(crops, batch.pose, initial)

    def _learn(self, crops: torch.Tensor, wanted: torch.Tensor, initial: torch.Tensor | None) -> torch.Tensor:
        """Gradients and update on a batch; nothing of it comes back to the host."""
        config = self.config
        self.optimizer.zero_grad()
        total = self._no_loss()
        parts = crops.chunk(config.accumulate), wanted.chunk(config.accumulate)
        given = [None] * len(parts[0]) if initial is None else initial.chunk(config.accumulate)
        for crop, pose, before in zip(*parts, given, strict=True):
            with autocast(self.device, config.precision):
                stages = self._trainee(crop, before)
            losses = [F.smooth_l1_loss(stage.float(), pose, beta=config.loss_beta) for stage in stages]
            loss = torch.stack(losses).mean()
            if self._init_learns():
                with autocast(self.device, config.precision):
                    first = self.model.init(crop)
                loss = loss + F.smooth_l1_loss(first.float(), pose, beta=config.loss_beta)
            loss = loss * (len(crop) / len(crops))
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        if self._init_learns():
            self.ranks.average_gradients(self.model.init)
        if config.clip:
            nn.utils.clip_grad_norm_([p for part in self._trained() for p in part.parameters()], config.clip)
        self.optimizer.step()
        return total

    def _make_trainee(self) -> nn.Module:
        if self.phase == "init":
            return self.ranks.parallel(InitPose(self.model.init, compiled=self._compiled))
        stages = StagePoses(self.model.backbone, self.model.head, self.config.stages, compiled=self._compiled)
        return self.ranks.parallel(stages)

    def _init_learns(self) -> bool:
        """Whether Init-CNN learns beside the stages in this step of the second phase."""
        every = self.config.init_every if self.phase == "refine" else 0
        return bool(every) and self.step % every == 0

    def _trained(self) -> list[nn.Module]:
        if self.phase == "init":
            return [self.model.init]
        stages: list[nn.Module] = [self.model.backbone, self.model.head]
        return [*stages, self.model.init] if self.config.init_every else stages

    def _validate(self, validation: Validation) -> list[float]:
        mean = self.phase == "refine" and self.config.initial == "mean"
        return validation(self.model, stages=0 if self.phase == "init" else 3, mean_initial=mean)

    def _checkpoint(self) -> None:
        if not self.ranks.main:
            return
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in values.items()}
        state = {"config": self.config.to_json(), "phase": self.phase, "step": self.step}
        write_checkpoint(self._checkpoint_path, Checkpoint(tensors, state))
        self.saved = self.phase, self.step

    def _restore(self, checkpoint: Checkpoint) -> None:
        before, now = json.loads(checkpoint.state["config"]), json.loads(self.config.to_json())
        changed = [name for name in now if now[name] != before.get(name) and name not in _MAY_CHANGE]
        if changed:
            raise ValueError(
                f"{self._checkpoint_path} was written with another {', '.join(changed)}; resume with the configuration "
                "in config.toml, or train in another folder"
            )
        tensors = checkpoint.tensors
        self.model.load_state_dict({n[6:]: t for n, t in tensors.items() if n.startswith("model.")})
        self._enter_phase(checkpoint.state["phase"], checkpoint.state["step"])
        self.saved = self.phase, self.step
        slots: dict[int, dict[str, torch.Tensor]] = {}
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".", 2)
                if tensor.dim():  # the optimizer pairs memory, not indices: averages lie as their parameter does
                    tensor = torch.empty_like(parameters[int(index)]).copy_(tensor)
                slots.setdefault(int(index), {})[key] = tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": slots})
