# SPDX-License-Identifier: MIT
"""Where an experiment gets its networks and its frames: trained on synthetic hands, or given with a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from poseren_ext.evaluation.labelled_frames import LabelledFrames
from poseren_ext.evaluation.methods import JointEstimator
from poseren_ext.experiments.simulated_methods import SIMULATED
from poseren_ext.experiments.synthetic import Lab, Progress, Scale
from poseren_ext.models import PoseREN


class Models(Protocol):
    """Networks of one training, and the frames that they are measured on."""

    @property
    def test(self) -> LabelledFrames:
        """What everything is measured on."""
        ...

    def models(self, names: Sequence[str]) -> dict[str, PoseREN]:
        """The networks of these names, as far as they are to be had; never none."""
        ...

    def initial(self, init_error: float) -> dict[str, JointEstimator]:
        """Other methods' poses to start from, by name; `init_error` is the Init-CNN's own mean error, mm."""
        ...


class Bench(Protocol):
    """What the experiments share."""

    @property
    def heading(self) -> str:
        """The data in a word or two, for the titles of pictures."""
        ...

    @property
    def initial_note(self) -> str:
        """Where the other methods' initial poses come from."""
        ...

    def labs(self, skeleton: str = "nyu14") -> Sequence[Models]:
        """Networks for hands with these joints: one training a seed."""
        ...

    def source(self, skeleton: str = "nyu14") -> str:
        """What the results are of, in words."""
        ...


@dataclass(frozen=True)
class SyntheticBench:
    """Synthetic hands, and networks that are trained on them when they are first asked for.

    Attributes:
        scale: how much is trained.
        folder: where models are kept: a later run loads them.
        progress: told about training.
        device: where to train and test.
    """

    scale: Scale
    folder: Path
    progress: Progress
    device: str = "cpu"

    heading = "synthetic hands"
    initial_note = SIMULATED

    def labs(self, skeleton: str = "nyu14") -> list[Lab]:
        """One lab a seed."""
        seeds = range(1, self.scale.seeds + 1)
        return [Lab(self.scale, skeleton, seed, self.folder, self.progress, self.device) for seed in seeds]

    def source(self, skeleton: str = "nyu14") -> str:
        """What the results are of, in words."""
        scale = self.scale
        return (
            f"synthetic hands ({skeleton}), scale {scale.name}: {scale.init_steps} + {scale.refine_steps} steps of "
            f"{scale.batch} frames, backbone {scale.channels}, widths {scale.widths}, {scale.seeds} seed(s); tested on "
            f"{scale.test_frames} frames of subjects that no training has seen"
        )
