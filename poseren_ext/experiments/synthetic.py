# SPDX-License-Identifier: MIT
"""Training and test of the paper's variants on synthetic hands, with the same frames, steps and Init-CNN for all."""

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
from poseren_ext.training.config import Phase
from poseren_ext.training.optimizers import make_optimizer, set_rates
from poseren_ext.training.synthetic_batches import SyntheticStream

Progress = Callable[[str, int, int], None]
"""Called with the name of the network, the step and the number of steps."""


PAPER_RATIO = 15 * 2048 / (11 * 64 * 7 * 7)
"""Weights of the paper's finger layers for each weight of its region layers (section 3.3, widths of 2048): 0.89."""
NARROW_RATIO = 0.04
"""The same ratio for a network whose finger layers are a bottleneck."""


@dataclass(frozen=True)
class Scale:
    """Sizes of networks, training and test.

    Attributes:
        name: "tiny" (an hour on one core), "small" (some hours), "full" (a GPU).
        init_steps: optimiser steps of Init-CNN.
        refine_steps: optimiser steps of each variant.
        batch: samples per step.
        channels: of the backbone's three levels.
        width: outputs of a region's layer; the finger layers' width follows from the ratio of their weights.
        init_widths: widths of the layers of Init-CNN.
        chunk, reuse: see `TrainConfig`.
        test_frames: number of test frames, of subjects that are not used in training.
        seeds: number of random seeds; everything is trained once per seed.
    """

    name: str
    init_steps: int
    refine_steps: int
    batch: int
    channels: tuple[int, int, int]
    width: int
    init_widths: tuple[int, int]
    chunk: int
    reuse: int
    test_frames: int
    seeds: int

    def widths(self, ratio: float = PAPER_RATIO) -> tuple[int, int]:
        """Widths of the region and finger layers with this ratio of finger weights to region weights."""
        return self.width, max(1, round(ratio * 11 * 7 * 7 * self.channels[2] / 15))


SCALES = {
    scale.name: scale
    for scale in (
        Scale("tiny", 150, 200, 32, (8, 16, 24), 32, (64, 64), 512, 8, 1024, 8),
        Scale("small", 1000, 1200, 32, (8, 16, 32), 48, (96, 128), 2048, 8, 1024, 8),
        Scale("full", 60000, 60000, 128, (16, 32, 64), 2048, (2048, 2048), 16384, 4, 8192, 3),
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
        head: function that creates the configuration from skeleton, widths and channels.
        stages: number of stages in training.
        from_mean: training starts from the mean pose instead of Init-CNN's.
        ratio: weights of the finger layers for each weight of the region layers.
    """

    head: Callable[[Skeleton, tuple[int, int], int], HeadConfig]
    stages: int = 3
    from_mean: bool = False
    ratio: float = PAPER_RATIO


def _pose_ren(skeleton: Skeleton, widths: tuple[int, int], channels: int) -> HeadConfig:
    return HeadConfig.pose_ren(skeleton, widths=widths, channels=channels)


def _without_structure(skeleton: Skeleton, widths: tuple[int, int], channels: int) -> HeadConfig:
    return HeadConfig.without_structure(skeleton, widths=same_weights(skeleton, widths, channels), channels=channels)


VARIANTS: dict[str, Variant] = {
    "Pose-REN": Variant(_pose_ren),
    "w/o structure": Variant(_without_structure),
    "Pose-REN, narrow": Variant(_pose_ren, ratio=NARROW_RATIO),
    "w/o structure, narrow": Variant(_without_structure, ratio=NARROW_RATIO),
    "REN-4x6x6": Variant(lambda s, w, c: HeadConfig.ren_4x6x6(s, widths=w, channels=c), stages=1),
    "REN-9x6x6": Variant(lambda s, w, c: HeadConfig.ren_9x6x6(s, widths=w, channels=c), stages=1),
    "guided-4x6x6": Variant(lambda s, w, c: HeadConfig.guided_4x6x6(s, widths=w, channels=c), stages=1),
    "guided-9x6x6": Variant(lambda s, w, c: HeadConfig.guided_9x6x6(s, widths=w, channels=c), stages=1),
    "mean-pose training": Variant(_pose_ren, from_mean=True),
}


class Lab:
    """Models of one scale, skeleton and seed, trained on first use and saved in a folder.

    Args:
        scale: sizes of networks and training.
        skeleton: skeleton of the joints, key of `SKELETONS`.
        seed: random seed of weights, training frames and their order; the test frames are always the same.
        folder: folder of the models; a later run loads them.
        progress: called during training.
        device: compute device.
    """

    def __init__(
        self, scale: Scale, skeleton: str, seed: int, folder: Path, progress: Progress, device: str = "cpu"
    ) -> None:
        self.scale, self.seed, self.progress = scale, seed, progress
        self.skeleton = SKELETONS[skeleton]
        self.device = torch.device(device)
        self.folder = folder / f"{scale.name}-{skeleton}-seed{seed}"

    @cached_property
    def _training(self) -> TrainConfig:
        """The compact recipe at this scale; both phases warm up over 4 % of their steps."""
        scale = self.scale
        return TrainConfig(
            seed=self.seed,
            skeleton=self.skeleton.name,
            batch=scale.batch,
            chunk=scale.chunk,
            reuse=scale.reuse,
            init_steps=scale.init_steps,
            refine_steps=scale.refine_steps,
            warmup=max(1, scale.refine_steps // 25),
        )

    @cached_property
    def _stream(self) -> SyntheticStream:
        return SyntheticStream(self._training)

    def _config(self, head: HeadConfig) -> ModelConfig:
        scale = self.scale
        init = HeadConfig.init_cnn(self.skeleton, widths=scale.init_widths, channels=scale.channels[2])
        return ModelConfig(
            self.skeleton.name,
            "right",
            150.0,
            96,
            scale.channels,
            replace(init, dropout=0.0, map_dropout=0.0),
            replace(head, dropout=0.0, map_dropout=0.0),
        )

    def _build(self, variant: Variant) -> PoseREN:
        torch.manual_seed(self.seed)
        model = PoseREN.build(
            self._config(variant.head(self.skeleton, self.scale.widths(variant.ratio), self.scale.channels[2]))
        )
        initialize(model, fully_connected="he")
        return self._placed(model)

    def _placed(self, model: PoseREN) -> PoseREN:
        # Channels last doubles the speed of the convolutions on a CPU.
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
        return self.folder / f"{name.replace('/', '').replace(',', '').replace(' ', '-')}.safetensors"

    def _train(self, models: dict[str, PoseREN]) -> dict[str, PoseREN]:
        """Init-CNN once, then all variants side by side on the same batches."""
        start = self._init()
        for model in models.values():
            model.init.load_state_dict(start.init.state_dict())
            model.mean_pose.copy_(start.mean_pose)
            model.start_from_init()
        learners = {
            name: _Learner(self._training, "refine", model.train(), [model.backbone, model.head])
            for name, model in models.items()
        }
        for step in range(self.scale.refine_steps):
            crop, truth = self._batch(self.scale.init_steps + step)
            with torch.no_grad():
                initial = start.init(crop)
            for name, model in models.items():
                variant = VARIANTS[name]
                pose = start.mean_pose.expand_as(initial) if variant.from_mean else initial
                learners[name].learn(model(crop, pose, variant.stages, detach=True)[1:], truth)
            self.progress(", ".join(models), step + 1, self.scale.refine_steps)
        for name, model in models.items():
            save(model.eval(), self._path(name))
        return models

    def _init(self) -> PoseREN:
        """A model whose Init-CNN and mean pose are trained; its head is untrained."""
        path = self._path("Init-CNN")
        if path.exists():
            return self._placed(load(path))
        model = self._build(VARIANTS["Pose-REN"])
        learner = _Learner(self._training, "init", model.train(), [model.init])
        for step in range(self.scale.init_steps):
            crop, truth = self._batch(step)
            learner.learn(model.init(crop)[None], truth)
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
        """The test frames, of subjects that are not used in training."""
        return SyntheticTest(self.skeleton, self.scale.test_frames, self.device)

    def initial(self, init_error: float) -> dict[str, JointEstimator]:
        """Simulated poses of methods that are not available; `init_error` as in `simulated`."""
        return simulated(self.test.uvd, self.test.camera, self.seed, init_error)


class _Learner:
    """A phase of the compact recipe for one network: its optimiser, schedule, loss and clipping.

    Args:
        config: the recipe.
        phase: "init" or "refine".
        model: the model, in training mode.
        modules: the parts of the model that are trained.
    """

    def __init__(self, config: TrainConfig, phase: Phase, model: PoseREN, modules: Sequence[nn.Module]) -> None:
        self.config, self.model, self.done = config, model, 0
        self.steps = config.init_steps if phase == "init" else config.refine_steps
        self.parameters = [parameter for module in modules for parameter in module.parameters()]
        self.optimizer = make_optimizer(config, phase, modules, captured=False)

    def learn(self, stages: Tensor, truth: Tensor) -> None:
        """One step: poses of the stages [T, B, J, 3] against the truth [B, J, 3], normalised."""
        set_rates(self.config, self.optimizer, self.done, self.steps)
        self.optimizer.zero_grad()
        F.smooth_l1_loss(stages, truth.expand_as(stages), beta=self.config.loss_beta).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters, self.config.clip)
        self.optimizer.step()
        self.done += 1
