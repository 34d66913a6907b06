# SPDX-License-Identifier: MIT
"""Labelled frames for evaluation, from synthetic hands or from a dataset."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from poseren_ext.datasets.base import DepthDataset
from poseren_ext.datasets.sample import FrameBatch, collate
from poseren_ext.evaluation.methods import JointEstimator, Refined
from poseren_ext.evaluation.metrics import Evaluation, evaluate, joint_errors
from poseren_ext.geometry.camera import uvd_to_xyz
from poseren_ext.geometry.skeleton import SKELETONS, Skeleton
from poseren_ext.synthetic import SyntheticHands

TEST_SEED = 60_001
_TEST_BATCH = 64


class LabelledFrames(Protocol):
    """Labelled frames that estimators are evaluated on."""

    @property
    def skeleton(self) -> Skeleton:
        """The joints' convention."""
        ...

    @property
    def uvd(self) -> Tensor:
        """Labels [N, J, 3]."""
        ...

    @property
    def camera(self) -> Tensor:
        """Each frame's camera [N, 4]."""
        ...

    def batches(self) -> Iterator[FrameBatch]:
        """All frames, in order."""
        ...

    def some(self, count: int) -> tuple[FrameBatch, Tensor]:
        """A few frames to show, spread evenly, and their labels."""
        ...


def measure(test: LabelledFrames, name: str, estimator: JointEstimator) -> Evaluation:
    """Run an estimator on all frames and evaluate its joints."""
    return _evaluate(test, name, torch.cat([estimator.estimate(batch).cpu() for batch in test.batches()]))


def measure_stages(test: LabelledFrames, name: str, cascade: Refined) -> list[Evaluation]:
    """Evaluate the initial pose and every stage: T+1 results."""
    stages = torch.cat([cascade.estimate_stages(batch).cpu() for batch in test.batches()], 1)
    return [_evaluate(test, name, stage) for stage in stages]


def frame_errors(uvd: Tensor, truth: Tensor, camera: Tensor) -> Tensor:
    """Mean joint error of each frame, mm: float64 [B], for joints and labels u, v, d [B, J, 3]."""
    return joint_errors(*(uvd_to_xyz(joints.double(), camera) for joints in (uvd, truth))).mean(1)


def _evaluate(test: LabelledFrames, name: str, uvd: Tensor) -> Evaluation:
    viewpoint = "middle mcp" in test.skeleton.joints
    return evaluate(uvd, test.uvd, test.camera, skeleton=test.skeleton, name=name, viewpoint=viewpoint)


@dataclass(frozen=True)
class SyntheticTest:
    """Synthetic hands of test subjects: windows around the hands, each with its own camera.

    Attributes:
        skeleton: skeleton of the joints.
        count: number of frames.
        device: device of the frames.
    """

    skeleton: Skeleton
    count: int
    device: torch.device

    @property
    def _frames(self) -> tuple[FrameBatch, ...]:
        return _rendered(self.skeleton.name, self.count)

    @property
    def uvd(self) -> Tensor:
        """Labels [N, J, 3]."""
        return torch.cat([part.uvd for part in self._frames])

    @property
    def camera(self) -> Tensor:
        """Each frame's camera [N, 4]."""
        return torch.cat([part.camera for part in self._frames])

    def batches(self) -> Iterator[FrameBatch]:
        """All frames, in order."""
        return (part.to(self.device) for part in self._frames)

    def some(self, count: int) -> tuple[FrameBatch, Tensor]:
        """A few frames of the first batch, and their labels."""
        first = self._frames[0]
        shown = first[torch.linspace(0, len(first) - 1, count).long()]
        return shown.to(self.device), shown.uvd


@lru_cache(maxsize=2)
def _rendered(skeleton: str, count: int) -> tuple[FrameBatch, ...]:
    hands = SyntheticHands(TEST_SEED, "test", skeleton=skeleton)
    starts = range(0, count, _TEST_BATCH)
    return tuple(hands.tiles(torch.arange(a, min(a + _TEST_BATCH, count))) for a in starts)


@dataclass(frozen=True)
class DatasetTest:
    """The frames of one split of a dataset, decoded on demand.

    Attributes:
        dataset: a dataset in which all frames have labels.
        cube: half edge of the cubes, mm.
        device: device of the frames.
    """

    dataset: DepthDataset
    cube: float
    device: torch.device

    @property
    def skeleton(self) -> Skeleton:
        """The dataset's joints."""
        return SKELETONS[self.dataset.skeleton.name]

    @property
    def uvd(self) -> Tensor:
        """Labels [N, J, 3], mirrored if the frames are mirrored."""
        uvd = torch.from_numpy(self.dataset.uvd)
        return mirrored_uvd(uvd, self.dataset) if is_mirrored(self.dataset) else uvd

    @property
    def camera(self) -> Tensor:
        """Each frame's camera [N, 4]."""
        return self.dataset[0].camera.tensor().expand(len(self.dataset), 4)

    def batches(self) -> Iterator[FrameBatch]:
        """All frames, in order."""
        loader = DataLoader(self.dataset, batch_size=_TEST_BATCH, collate_fn=collate)
        return map(self._batch, loader)

    def some(self, count: int) -> tuple[FrameBatch, Tensor]:
        """A few frames spread over the whole dataset, and their labels."""
        chosen = torch.linspace(0, len(self.dataset) - 1, min(count, len(self.dataset))).long().tolist()
        samples = collate([Subset(self.dataset, chosen)[i] for i in range(len(chosen))])
        return self._batch(samples), samples.uvd

    def _batch(self, samples: FrameBatch) -> FrameBatch:
        return replace(samples.to(self.device), cube=self.cube)


def is_mirrored(dataset: DepthDataset) -> bool:
    """Whether the samples are mirrored recordings."""
    return dataset.hand != dataset.skeleton.hand


def mirrored_uvd(uvd: Tensor, dataset: DepthDataset) -> Tensor:
    """Joints [N, J, 3] of recorded frames as those of the mirrored ones."""
    width = dataset.camera.width
    assert width is not None, "every dataset's camera says how wide its frames are"
    return torch.cat([width - 1 - uvd[..., :1], uvd[..., 1:]], -1)
