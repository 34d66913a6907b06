# SPDX-License-Identifier: MIT
"""The data and networks that the experiments share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from poseren_ext.evaluation.labelled_frames import LabelledFrames
from poseren_ext.evaluation.methods import JointEstimator
from poseren_ext.experiments.simulated_methods import SIMULATED
from poseren_ext.experiments.synthetic import Progress, Scale, SyntheticTraining
from poseren_ext.models import PoseREN


class Models(Protocol):
    """Networks of one training, and the frames that they are evaluated on."""

    @property
    def test(self) -> LabelledFrames:
        """The frames that all networks are evaluated on."""
        ...

    def models(self, names: Sequence[str]) -> dict[str, PoseREN]:
        """The networks of these names that are available; at least one."""
        ...

    def initial(self, init_error: float) -> dict[str, JointEstimator]:
        """Initial poses of other methods, by name; `init_error` is the mean error of the Init-CNN, mm."""
        ...


class Bench(Protocol):
    """Data and networks that the experiments share."""

    @property
    def heading(self) -> str:
        """Short name of the data, for the titles of pictures."""
        ...

    @property
    def initial_note(self) -> str:
        """Source of the initial poses of other methods."""
        ...

    def trainings(self, skeleton: str = "nyu14") -> Sequence[Models]:
        """Networks for hands with these joints: one training per seed."""
        ...

    def source(self, skeleton: str = "nyu14") -> str:
        """What the results are of, in words."""
        ...


@dataclass(frozen=True)
class SyntheticBench:
    """Synthetic hands, and networks that are trained on them on first use.

    Attributes:
        scale: size of networks and training.
        folder: folder of trained models; a later run loads them.
        progress: called during training.
        device: compute device.
    """

    scale: Scale
    folder: Path
    progress: Progress
    device: str = "cpu"

    heading = "synthetic hands"
    initial_note = SIMULATED

    def trainings(self, skeleton: str = "nyu14") -> list[SyntheticTraining]:
        """One training per seed."""
        seeds = range(1, self.scale.seeds + 1)
        return [
            SyntheticTraining(self.scale, skeleton, seed, self.folder, self.progress, self.device) for seed in seeds
        ]

    def source(self, skeleton: str = "nyu14") -> str:
        """What the results are of, in words."""
        scale = self.scale
        return (
            f"synthetic hands ({skeleton}), scale {scale.name}: {scale.init_steps} + {scale.refine_steps} steps of "
            f"{scale.batch} frames, backbone {scale.channels}, widths {scale.widths()}, {scale.seeds} seed(s); tested "
            f"on {scale.test_frames} frames of subjects that no training has seen"
        )
