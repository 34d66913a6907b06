# SPDX-License-Identifier: MIT
"""Training batches of a pack: shuffled, augmented, cropped; those of a step depend on the seed and the step alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from poseren_ext.data.augmentation import Augmentation, move_pose
from poseren_ext.data.packed import PackedDataset
from poseren_ext.data.resident import ResidentPack
from poseren_ext.ops import depth_crop, normalize_pose

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
        self._orders: dict[int, Tensor] = {}

    def batch(self, step: int, share: slice = slice(None)) -> CropBatch:
        """The batch of a step, or a share of it."""
        number = torch.arange(step * self.size_of_batch, (step + 1) * self.size_of_batch)[share]
        epoch, position = number // len(self.frames), number % len(self.frames)
        index = torch.empty_like(number)
        for each in sorted(set(epoch.tolist())):
            index[epoch == each] = self._order(each)[position[epoch == each]]
        regions = self.frames.regions(index)
        device = regions.depth.device
        transform = self.augmentation.transform(
            index.to(device), seed=self.seed, epoch=epoch.to(device), size=self.size
        )
        camera = self.frames.camera
        crop = depth_crop(
            regions.depth,
            regions.center,
            camera,
            cube=self.cube,
            size=self.size,
            transform=transform,
            depth_unit=self.frames.info.unit,
        )
        pose = normalize_pose(regions.uvd, regions.frame_center, camera, cube=self.cube)
        return CropBatch(crop, move_pose(pose, transform), index, transform)

    def _order(self, epoch: int) -> Tensor:
        """The order in which an epoch shows the frames: int64 [N]."""
        if epoch not in self._orders:
            generator = torch.Generator().manual_seed(self.seed * _EPOCH_PRIME + epoch)
            # A batch sees two epochs at most, unless there are hardly any frames.
            self._orders = {kept: self._orders[kept] for kept in self._orders if kept >= epoch - 1}
            self._orders[epoch] = torch.randperm(len(self.frames), generator=generator)
        return self._orders[epoch]
