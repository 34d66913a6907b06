# SPDX-License-Identifier: MIT
"""Training batches of a finite set: shuffled, augmented and cropped, as a function of seed and step only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from poseren_ext.datasets.augmentation import Augmentation
from poseren_ext.datasets.packs.dataset import PackedDataset
from poseren_ext.geometry.crop_transforms import move_pose
from poseren_ext.training.config import Phase, TrainConfig
from poseren_ext.training.training_sets import TrainingSet, mean_pose

SIZE = 96
"""Side of the crop, pixels."""
_EPOCH_PRIME = 1_000_003  # makes the orders of different seeds independent


@dataclass(frozen=True, eq=False)
class CropBatch:
    """Training samples.

    Attributes:
        crop: float32 [B, 1, S, S] in [-1, 1].
        pose: float32 [B, J, 3], normalised joints in the augmented crop.
        index: int64 [B], indices of the samples in the training set.
        transform: float32 [B, 2, 3] of the augmentation of crop and pose.
    """

    crop: Tensor
    pose: Tensor
    index: Tensor
    transform: Tensor


def epoch_slices(samples: range, size: int) -> Iterator[tuple[int, slice]]:
    """Samples of an endless sequence of epochs of this size, as epochs and positions in their orders."""
    first = samples.start
    while first < samples.stop:
        epoch, start = divmod(first, size)
        stop = min(size, start + samples.stop - first)
        yield epoch, slice(start, stop)
        first += stop - start


@dataclass(frozen=True, eq=False)
class _Epoch:
    """One epoch without its crops, created at once, because many small launches are slow on a GPU."""

    order: Tensor  # int64 [N], CPU: indices of the samples
    pose: Tensor  # [N, J, 3], in the augmented crops
    transform: Tensor  # [N, 2, 3]

    def part(self, positions: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Indices, poses and transforms of some of the samples."""
        return self.order[positions], self.pose[positions], self.transform[positions]


class EpochBatches:
    """Endless training batches of a finite set; consecutive epochs, each with every sample once, may share a batch.

    Any step, and any share of its batch, can be computed at any time. Therefore resumed and distributed runs use the
    same samples as one uninterrupted process.

    Args:
        frames: the set.
        batch: samples per step, of all processes together.
        seed: random seed of orders and augmentation.
        augmentation: augmentation of the samples.
        size: S, side of the crop, pixels.
        copies: number of samples per frame, each with different augmentation; sample k shows frame k mod N.

    Raises:
        ValueError: The batch or the number of copies is below 1.
    """

    def __init__(
        self,
        frames: TrainingSet,
        *,
        batch: int,
        seed: int,
        augmentation: Augmentation,
        size: int = SIZE,
        copies: int = 1,
    ) -> None:
        for name, value in (("batch", batch), ("copies", copies)):
            if value < 1:
                raise ValueError(f"{name} is {value}; expected at least 1")
        self.frames, self.samples = frames, len(frames) * copies
        self.size_of_batch, self.seed, self.augmentation, self.size = batch, seed, augmentation, size
        self._epochs: dict[int, _Epoch] = {}

    def batch(self, step: int, share: slice = slice(None)) -> CropBatch:
        """The batch of a step, or a share of it."""
        shown = range(step * self.size_of_batch, (step + 1) * self.size_of_batch)[share]
        parts = [self._epoch(epoch).part(positions) for epoch, positions in epoch_slices(shown, self.samples)]
        index, pose, transform = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        crop = self.frames[index % len(self.frames)].crop(self.size, transform)
        return CropBatch(crop, pose, index, transform)

    def mean_pose(self) -> Tensor:
        """Normalised mean pose [J, 3] of all frames."""
        return mean_pose(self.frames)

    def _epoch(self, epoch: int) -> _Epoch:
        if epoch not in self._epochs:
            # A batch spans at most two epochs, unless the set is very small.
            self._epochs = {kept: made for kept, made in self._epochs.items() if kept >= epoch - 1}
            self._epochs[epoch] = self._make_epoch(epoch)
        return self._epochs[epoch]

    def _make_epoch(self, epoch: int) -> _Epoch:
        generator = torch.Generator().manual_seed(self.seed * _EPOCH_PRIME + epoch)
        order = torch.randperm(self.samples, generator=generator)
        pose = self.frames.poses(order % len(self.frames))
        transform = self.augmentation.transform(order.to(pose.device), seed=self.seed, epoch=epoch, size=self.size)
        return _Epoch(order, move_pose(pose, transform), transform)


def open_pack(path: Path, config: TrainConfig) -> PackedDataset:
    """A pack that fits the configuration's model.

    Raises:
        ValueError: The joints or the hand of the pack differ from those of the configuration.
    """
    pack = PackedDataset(path)
    given, wanted = (pack.info.skeleton, pack.info.hand), (config.skeleton, config.hand)
    if given != wanted:
        raise ValueError(
            f"{path} shows {' '.join(given)}; the configuration says {' '.join(wanted)}: set skeleton, hand"
        )
    return pack


def augmentation_of(config: TrainConfig, phase: Phase) -> Augmentation:
    """The augmentation of a phase's samples."""
    translation = config.translation if phase == "init" else config.refine_translation
    return Augmentation(config.rotation, translation, config.scale)
