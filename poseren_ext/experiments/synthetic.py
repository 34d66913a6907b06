# SPDX-License-Identifier: MIT
"""Synthetic hands to train and to test the paper's variants on: same frames, same steps, same start for all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poseren_ext.evaluation.labelled_frames import SyntheticTest
from poseren_ext.evaluation.methods import JointEstimator
from poseren_ext.experiments.simulated_methods import simulated
from poseren_ext.geometry.skeleton import SKELETONS, Skeleton
from poseren_ext.models import HeadConfig, ModelConfig, PoseREN, initialize, load, save
from poseren_ext.training import TrainConfig
from poseren_ext.training.muon import Muon
from poseren_ext.training.synthetic_batches import SyntheticStream

Progress = Callable[[str, int, int], None]
"""Told what is trained, the step and the number of steps."""


@dataclass(frozen=True)
class Scale:
    """How much is trained and tested.

    Attributes:
        name: "tiny" (minutes on two cores), "small" (an hour), "full" (a GPU).
        init_steps, refine_steps: optimiser steps of Init-CNN and of each variant.
        batch: samples a step.
        channels: of the backbone's three levels.
        widths: of the heads' two kinds of layers; without structure they are chosen for as many weights as Pose-REN's.
        init_widths: of Init-CNN.
        chunk, reuse: see `TrainConfig`.
        test_frames: unseen subjects' frames.
        seeds: how often everything is trained where results are close.
    """

    name: str
    init_steps: int
    refine_steps: int
    batch: int
    channels: tuple[int, int, int]
    widths: tuple[int, int]
    init_widths: tuple[int, int]
    chunk: int
    reuse: int
    test_frames: int
    seeds: int


SCALES = {
    scale.name: scale
    for scale in (
        Scale("tiny", 80, 80, 32, (8, 16, 24), (32, 64), (64, 64), 512, 8, 128, 1),
        Scale("small", 1000, 600, 32, (8, 16, 32), (48, 96), (96, 128), 2048, 8, 1024, 3),
        Scale("full", 60000, 60000, 128, (16, 32, 64), (2048, 2048), (2048, 2048), 16384, 4, 8192, 3),
    )
}


def same_weights(skeleton: Skeleton, widths: tuple[int, int], channels: int) -> tuple[int, int]:
    """Layer widths with which the head without structure has as many weights as Pose-REN's (section 4.4.3)."""
    second = widths[1]
    target = _weights(HeadConfig.pose_ren(skeleton, widths=widths, channels=channels))
    base = _weights(HeadConfig.without_structure(skeleton, widths=(0x100, second), channels=channels))
    more = _weights(HeadConfig.without_structure(skeleton, widths=(0x101, second), channels=channels))
    return max(1, round(0x100 + (target - base) / (more - base))), second


def _weights(head: HeadConfig) -> int:
    region = head.num_regions * head.widths[0] * (head.channels * head.cells**2 + 1)
    finger = len(head.tree) * head.widths[1] * (len(head.tree[0]) * head.widths[0] + 1)
    return region + finger + 3 * head.num_joints * (len(head.tree) * head.widths[1] + 1)


@dataclass(frozen=True)
class Variant:
    """A head to train.

    Attributes:
        head: makes its configuration from skeleton, widths and channels.
        stages: how often it is applied in training.
        from_mean: training starts from the mean pose instead of Init-CNN's.
    """

    head: Callable[[Skeleton, tuple[int, int], int], HeadConfig]
    stages: int = 3
    from_mean: bool = False


VARIANTS: dict[str, Variant] = {
    "Pose-REN": Variant(lambda s, w, c: HeadConfig.pose_ren(s, widths=w, channels=c)),
    "w/o structure": Variant(lambda s, w, c: HeadConfig.without_structure(s, widths=same_weights(s, w, c), channels=c)),
    "REN-4x6x6": Variant(lambda s, w, c: HeadConfig.ren_4x6x6(s, widths=w, channels=c), stages=1),
    "REN-9x6x6": Variant(lambda s, w, c: HeadConfig.ren_9x6x6(s, widths=w, channels=c), stages=1),
    "guided-4x6x6": Variant(lambda s, w, c: HeadConfig.guided_4x6x6(s, widths=w, channels=c), stages=1),
    "guided-9x6x6": Variant(lambda s, w, c: HeadConfig.guided_9x6x6(s, widths=w, channels=c), stages=1),
    "mean-pose training": Variant(lambda s, w, c: HeadConfig.pose_ren(s, widths=w, channels=c), from_mean=True),
}


class Lab:
    """Models of one scale, skeleton and seed, trained when they are first asked for and kept in a folder.

    Args:
        scale: how much.
        skeleton: the joints' convention, key of `SKELETONS`.
        seed: draws weights, training frames and their order; the test frames are always the same.
        folder: where models are kept: a later run loads them.
        progress: told about training.
        device: where to train and test.
    """

    def __init__(
        self, scale: Scale, skeleton: str, seed: int, folder: Path, progress: Progress, device: str = "cpu"
    ) -> None:
        self.scale, self.seed, self.progress = scale, seed, progress
        self.skeleton = SKELETONS[skeleton]
        self.device = torch.device(device)
        self.folder = folder / f"{scale.name}-{skeleton}-seed{seed}"

    @cached_property
    def _stream(self) -> SyntheticStream:
        scale = self.scale
        return SyntheticStream(
            TrainConfig(
                seed=self.seed, skeleton=self.skeleton.name, batch=scale.batch, chunk=scale.chunk, reuse=scale.reuse
            )
        )

    def _config(self, head: HeadConfig) -> ModelConfig:
        scale = self.scale
        init = HeadConfig.init_cnn(self.skeleton, widths=scale.init_widths, channels=scale.channels[2])
        return ModelConfig(
            self.skeleton.name,
            "right",
            150.0,
            96,
            scale.channels,
            replace(init, dropout=0.0),
            replace(head, dropout=0.0),
        )

    def _build(self, variant: Variant) -> PoseREN:
        torch.manual_seed(self.seed)
        model = PoseREN.build(self._config(variant.head(self.skeleton, self.scale.widths, self.scale.channels[2])))
        initialize(model, fully_connected="he")
        return self._placed(model)

    def _placed(self, model: PoseREN) -> PoseREN:
        # Channels last: the convolutions run twice as fast on a CPU.
        return model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def models(self, names: Sequence[str]) -> dict[str, PoseREN]:
        """The variants of these names (keys of `VARIANTS`), all with the same Init-CNN."""
        self.folder.mkdir(parents=True, exist_ok=True)
        found = {name: path for name in names if (path := self._path(name)).exists()}
        models = {name: self._placed(load(path)) for name, path in found.items()}
        missing = [name for name in names if name not in models]
        if missing:
            models |= self._train({name: self._build(VARIANTS[name]) for name in missing})
        return {name: models[name].eval() for name in names}

    def _path(self, name: str) -> Path:
        return self.folder / f"{name.replace('/', '').replace(' ', '-')}.safetensors"

    def _train(self, models: dict[str, PoseREN]) -> dict[str, PoseREN]:
        """Init-CNN once, then all variants side by side on the same batches."""
        start = self._init()
        for model in models.values():
            model.init.load_state_dict(start.init.state_dict())
            model.mean_pose.copy_(start.mean_pose)
            model.start_from_init()
        optimizers = {
            name: _Optimizer([m.backbone, m.head], self.scale.refine_steps, _REFINE_RATE) for name, m in models.items()
        }
        for step in range(self.scale.refine_steps):
            crop, truth = self._batch(self.scale.init_steps + step)
            with torch.no_grad():
                initial = start.init(crop)
            for name, model in models.items():
                variant = VARIANTS[name]
                pose = start.mean_pose.expand_as(initial) if variant.from_mean else initial
                stages = model.train()(crop, pose, variant.stages, detach=True)[1:]
                optimizers[name].step(F.smooth_l1_loss(stages, truth.expand_as(stages), beta=_BETA))
            self.progress(", ".join(models), step + 1, self.scale.refine_steps)
        for name, model in models.items():
            save(model.eval(), self._path(name))
        return models

    def _init(self) -> PoseREN:
        """A model whose Init-CNN and mean pose are trained; its head is of no use."""
        path = self._path("Init-CNN")
        if path.exists():
            return self._placed(load(path))
        model = self._build(VARIANTS["Pose-REN"])
        optimizer = _Optimizer([model.init], self.scale.init_steps)
        for step in range(self.scale.init_steps):
            crop, truth = self._batch(step)
            optimizer.step(F.smooth_l1_loss(model.train().init(crop), truth, beta=_BETA))
            self.progress("Init-CNN", step + 1, self.scale.init_steps)
        model.mean_pose.copy_(self._stream.mean_pose())
        save(model.eval(), path)
        return model

    def _batch(self, step: int) -> tuple[Tensor, Tensor]:
        batch = self._stream.batch(step)
        crop = batch.crop.to(self.device).contiguous(memory_format=torch.channels_last)
        return crop, batch.pose.to(self.device)

    @cached_property
    def test(self) -> SyntheticTest:
        """The frames that everything is measured on: subjects that no training has seen."""
        return SyntheticTest(self.skeleton, self.scale.test_frames, self.device)

    def initial(self, init_error: float) -> dict[str, JointEstimator]:
        """Simulated poses of methods that are not here; `init_error` as in `simulated`."""
        return simulated(self.test.uvd, self.test.camera, self.seed, init_error)


_BETA = 0.03
_MUON_RATE, _ADAM_RATE, _WARMUP, _DECAY = 0.02, 1e-3, 0.04, 0.5
_REFINE_RATE = 0.5  # the backbone starts from Init-CNN's


class _Optimizer:
    """Muon as the compact recipe uses it: the rate rises over the first part of the steps, falls to zero over the last.

    Args:
        modules: what is trained.
        steps: of the whole training.
        rate: multiple of the recipe's learning rates.
    """

    def __init__(self, modules: Sequence[nn.Module], steps: int, rate: float = 1.0) -> None:
        self.steps, self.done = steps, 0
        named = [(name, parameter) for module in modules for name, parameter in module.named_parameters()]
        hidden = [p for name, p in named if not _outer(name)]
        outer = [p for name, p in named if _outer(name)]
        self.parameters = hidden + outer
        self.muon = Muon(
            [
                {"params": hidden, "rate": rate * _MUON_RATE},
                {"params": outer, "rate": rate * _ADAM_RATE, "orthogonal": False},
            ]
        )

    def step(self, loss: Tensor) -> None:
        """One step down this loss."""
        share = self.done / self.steps
        for group in self.muon.param_groups:
            group["lr"] = group["rate"] * min(1.0, (share + 1 / self.steps) / _WARMUP, (1 - share) / _DECAY)
        self.muon.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.muon.step()
        self.done += 1


def _outer(name: str) -> bool:
    """Whether a parameter belongs to the first or the last layer, or is a bias: no case for Muon."""
    return name.endswith("bias") or "conv0" in name or "pose_weight" in name
