# SPDX-License-Identifier: MIT
"""Training batches of a pack: shuffled, augmented, cropped; those of a step depend on the seed and the step alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from poseren_ext.datasets.augmentation import Augmentation
from poseren_ext.datasets.packs.dataset import PackedDataset
from poseren_ext.datasets.packs.gpu_store import ResidentPack
from poseren_ext.geometry.crop_transforms import move_pose
from poseren_ext.ops import depth_crop, normalize_pose
from poseren_ext.training.config import Phase, TrainConfig

SIZE = 96
"""Side of the crop, pixels."""
_EPOCH_PRIME = 1_000_003  # keeps the orders of different seeds apart


@dataclass(frozen=True, eq=False)
class CropBatch:
    """What a network is trained on.

    Attributes:
        crop: float32 [B, 1, S, S] in [-1, 1].
        pose: float32 [B, J, 3], normalised joints where the crop shows them.
        index: int64 [B], positions in the pack.
        transform: float32 [B, 2, 3] that crop and pose were moved by.
    """

    crop: Tensor
    pose: Tensor
    index: Tensor
    transform: Tensor


@dataclass(frozen=True, eq=False)
class _Epoch:
    """Once through N frames, all but the crops: made at once, for a step's small launches cost a GPU most."""

    order: Tensor  # int64 [N], CPU
    pose: Tensor  # [N, J, 3], where the crops show it
    transform: Tensor  # [N, 2, 3]

    def part(self, positions: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Positions in the pack, poses and transforms of some of them."""
        return self.order[positions], self.pose[positions], self.transform[positions]


class PackBatches:
    """Endless training batches: epochs follow each other without a gap, each shows every frame once.

    Any step can be asked for at any time, and any share of its batch: a training that resumes, and processes that train
    together, see what one uninterrupted process sees.

    Args:
        pack: the frames; they are held whole in the device's memory.
        batch: samples a step, of all processes together.
        seed: draws orders and augmentation.
        augmentation: how samples are moved; the pack must have been made for it.
        cube: half edge of the crop's cube, mm; by default the pack's.
        size: S, side of the crop, pixels.
        device: where the batches are wanted.

    Raises:
        ValueError: a batch below 1, or crops that the pack does not hold.
        DatasetError: a frame does not match its checksum.
    """

    def __init__(
        self,
        pack: PackedDataset,
        *,
        batch: int,
        seed: int,
        augmentation: Augmentation,
        cube: float | None = None,
        size: int = 96,
        device: torch.device | str = "cpu",
    ) -> None:
        if batch < 1:
            raise ValueError(f"batch is {batch}; expected at least 1 sample")
        self.cube = pack.info.cube if cube is None else cube
        pack.require(augmentation, self.cube)
        self.frames = ResidentPack(pack, device)
        self.size_of_batch, self.seed, self.augmentation, self.size = batch, seed, augmentation, size
        self._epochs: dict[int, _Epoch] = {}

    def batch(self, step: int, share: slice = slice(None)) -> CropBatch:
        """The batch of a step, or a share of it."""
        shown = range(step * self.size_of_batch, (step + 1) * self.size_of_batch)[share]
        parts = [self._epoch(epoch).part(positions) for epoch, positions in self._spans(shown.start, shown.stop)]
        index, pose, transform = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        regions = self.frames.regions(index)
        crop = depth_crop(
            regions.depth,
            regions.center,
            self.frames.camera,
            cube=self.cube,
            size=self.size,
            transform=transform,
            depth_unit=self.frames.info.unit,
        )
        return CropBatch(crop, pose, index, transform)

    def _spans(self, first: int, end: int) -> Iterator[tuple[int, slice]]:
        """Samples first .. end-1 of the endless row of epochs as epochs and positions in their orders."""
        size = len(self.frames)
        while first < end:
            epoch, start = divmod(first, size)
            stop = min(size, start + end - first)
            yield epoch, slice(start, stop)
            first += stop - start

    def _epoch(self, epoch: int) -> _Epoch:
        if epoch not in self._epochs:
            # A batch sees two epochs at most, unless there are hardly any frames.
            self._epochs = {kept: made for kept, made in self._epochs.items() if kept >= epoch - 1}
            self._epochs[epoch] = self._make_epoch(epoch)
        return self._epochs[epoch]

    def _make_epoch(self, epoch: int) -> _Epoch:
        generator = torch.Generator().manual_seed(self.seed * _EPOCH_PRIME + epoch)
        order = torch.randperm(len(self.frames), generator=generator)
        uvd, center = self.frames.labels(order)
        transform = self.augmentation.transform(order.to(center.device), seed=self.seed, epoch=epoch, size=self.size)
        pose = normalize_pose(uvd, center, self.frames.camera, cube=self.cube)
        return _Epoch(order, move_pose(pose, transform), transform)


class PackStream(PackBatches):
    """Endless batches of a packed dataset, with the settings of a training run."""

    def __init__(self, config: TrainConfig, phase: Phase = "init", device: torch.device | str = "cpu") -> None:
        pack = open_pack(Path(config.data), config)
        super().__init__(
            pack,
            batch=config.batch,
            seed=config.seed,
            augmentation=augmentation_of(config, phase),
            cube=config.cube,
            size=SIZE,
            device=device,
        )
        self.labels = torch.from_numpy(pack.uvd.copy()), torch.from_numpy(pack.centers.copy())  # uvd, centres

    def mean_pose(self) -> torch.Tensor:
        """Normalised mean pose [J, 3] of all frames."""
        uvd, centers = self.labels
        return normalize_pose(uvd, centers, self.frames.info.camera, cube=self.cube).mean(0)


def open_pack(path: Path, config: TrainConfig) -> PackedDataset:
    """A pack that fits the configuration's model.

    Raises:
        ValueError: a pack of other joints or another hand.
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
