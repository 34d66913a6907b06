# SPDX-License-Identifier: MIT
"""Training and test of the paper's variants on synthetic hands, with the same frames, steps and Init-CNN for all."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from poseren_ext.evaluation.labelled_frames import SyntheticTest
from poseren_ext.evaluation.methods import JointEstimator
from poseren_ext.experiments.simulated_methods import simulated
from poseren_ext.geometry.skeleton import SKELETONS, Skeleton
from poseren_ext.models import HeadConfig, PoseREN, load, save
from poseren_ext.training import TrainConfig, Trainer
from poseren_ext.training.config import Phase, RefineHead

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
        head: `refine_head` of the training configuration.
        stages: number of stages in training.
        initial: `initial` of the training configuration: initial poses of Init-CNN ("init") or the mean pose ("mean").
        ratio: weights of the finger layers for each weight of the region layers.
    """

    head: RefineHead = "pose_ren"
    stages: int = 3
    initial: str = "init"
    ratio: float = PAPER_RATIO


VARIANTS: dict[str, Variant] = {
    "Pose-REN": Variant(),
    "w/o structure": Variant("without_structure"),
    "Pose-REN, narrow": Variant(ratio=NARROW_RATIO),
    "w/o structure, narrow": Variant("without_structure", ratio=NARROW_RATIO),
    "REN-4x6x6": Variant("ren_4x6x6", stages=1),
    "REN-9x6x6": Variant("ren_9x6x6", stages=1),
    "guided-4x6x6": Variant("guided_4x6x6", stages=1),
    "guided-9x6x6": Variant("guided_9x6x6", stages=1),
    "mean-pose training": Variant(initial="mean"),
}


class SyntheticTraining:
    """Models of one scale, skeleton and seed, trained on first use and saved in a folder.

    All variants have the same Init-CNN and are trained on the same batches.

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

    def config(self, variant: Variant) -> TrainConfig:
        """The compact recipe at this scale; both phases warm up over 4 % of the steps of the second."""
        scale = self.scale
        widths = scale.widths(variant.ratio)
        if variant.head == "without_structure":
            widths = same_weights(self.skeleton, widths, scale.channels[2])
        return TrainConfig(
            seed=self.seed,
            skeleton=self.skeleton.name,
            refine_head=variant.head,
            initial=variant.initial,
            stages=variant.stages,
            channels=scale.channels,
            init_widths=scale.init_widths,
            refine_widths=widths,
            weight_dtype="float32",
            batch=scale.batch,
            chunk=scale.chunk,
            reuse=scale.reuse,
            init_steps=scale.init_steps,
            refine_steps=scale.refine_steps,
            warmup=max(1, scale.refine_steps // 25),
            validate_every=0,
        )

    def models(self, names: Sequence[str]) -> dict[str, PoseREN]:
        """The variants of these names (keys of `VARIANTS`), all with the same Init-CNN."""
        init = self._trained("Init-CNN", Variant(), "init")
        return {name: self._trained(name, VARIANTS[name], "refine", init) for name in names}

    def _trained(self, name: str, variant: Variant, phase: Phase, init: PoseREN | None = None) -> PoseREN:
        """The model of this name, trained in one phase if there is no file; `init` has the Init-CNN to start from."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{name.replace('/', '').replace(',', '').replace(' ', '-')}.safetensors"
        if not path.exists():
            with tempfile.TemporaryDirectory() as run:
                trainer = Trainer(self.config(variant), Path(run), device=self.device)
                if init is not None:
                    trainer.model.init.load_state_dict(init.init.state_dict())
                    trainer.model.start_from_init()
                trainer.start_phase(phase)
                for step in range(trainer.plan.steps):
                    trainer.advance(1)
                    self.progress(name, step + 1, trainer.plan.steps)
                save(trainer.model.eval(), path)
        # Channels last doubles the speed of the convolutions on a CPU.
        model = load(path).to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model.eval()  # type: ignore[no-any-return]

    @cached_property
    def test(self) -> SyntheticTest:
        """The test frames, of subjects that are not used in training."""
        return SyntheticTest(self.skeleton, self.scale.test_frames, self.device)

    def initial(self, init_error: float) -> dict[str, JointEstimator]:
        """Simulated poses of methods that are not available; `init_error` as in `simulated`."""
        return simulated(self.test.uvd, self.test.camera, self.seed, init_error)
