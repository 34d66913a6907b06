# SPDX-License-Identifier: MIT
"""Training samples; the batch of a step depends on the configuration and the step alone."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch

from poseren_ext.data.synthetic import Frames, SyntheticHands
from poseren_ext.data.synthetic.random import Counter
from poseren_ext.ops import depth_crop, normalize_pose
from poseren_ext.training.augment import Augmentation, sample_transforms, transform_pose
from poseren_ext.training.config import TrainConfig

_RENDER_BATCH = 128
_SIZE = 96
_UNIT = 1 / 32  # mm per stored unit: 16 bits reach 2 m, and steps are below any camera's


@dataclass(frozen=True)
class Batch:
    """crop: [B, 1, 96, 96] in [-1, 1]; pose: [B, J, 3] normalised joints."""

    crop: torch.Tensor
    pose: torch.Tensor


@dataclass(frozen=True)
class Store:
    """N rendered frames in memory: depth uint16 [N, S, S] in 1/32 mm, the rest as in `Frames`."""

    depth: torch.Tensor
    camera: torch.Tensor
    center: torch.Tensor
    uvd: torch.Tensor
    xyz: torch.Tensor

    def __len__(self) -> int:
        return len(self.depth)

    def __getitem__(self, chosen: torch.Tensor | slice) -> Store:
        return Store(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def batch(self, cube: float, transform: torch.Tensor | None = None, lift: torch.Tensor | None = None) -> Batch:
        """All frames cropped, and their joints; moved by transforms [B, 2, 3] and lifts [B] (mm) where given."""
        center = self.center
        if lift is not None:
            center = torch.cat([center[:, :2], center[:, 2:] + lift[:, None]], 1)
        crop = depth_crop(self.depth, center, self.camera, cube=cube, size=_SIZE, transform=transform, depth_unit=_UNIT)
        pose = normalize_pose(self.uvd, center, self.camera, cube=cube)
        return Batch(crop, pose if transform is None else transform_pose(pose, transform))


def render_store(hands: SyntheticHands, first: int, count: int, *, size: int = _SIZE, margin: float = 1.0) -> Store:
    """Frames first .. first+count-1, windows around the hands only."""
    parts = []
    for start in range(first, first + count, _RENDER_BATCH):
        tiles = hands.tiles(torch.arange(start, min(start + _RENDER_BATCH, first + count)), size=size, margin=margin)
        parts.append(_stored(tiles))
    return Store(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Store)))


def _stored(frames: Frames) -> Store:
    depth = (frames.depth / _UNIT).round_().clamp_(max=65535).to(torch.int32).to(torch.uint16)
    return Store(depth, frames.camera, frames.center, frames.uvd, frames.xyz)


class TrainStream:
    """Endless training batches: chunks of fresh frames, each frame shown `reuse` times under new augmentation."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.hands = SyntheticHands(config.seed, "train", config.difficulty, config.skeleton, cube=config.cube)
        # Turned by 45 degrees, the crop's corners look sqrt(2) as far.
        self._tile_size = 8 * round(1.42 * _SIZE / 8)
        self._margin = (self._tile_size - 1) / (_SIZE - 1)
        self._ranges = Augmentation(config.rotation, config.translation, config.scale, config.depth_shift)
        self._chunk: tuple[int, Store] | None = None

    def batch(self, step: int, share: slice = slice(None)) -> Batch:
        """The batch of a step, or a share of it."""
        config = self.config
        number = torch.arange(step * config.batch, (step + 1) * config.batch)[share]
        shown = config.chunk * config.reuse
        chunk = number // shown
        parts = [self._frames(int(one), number[chunk == one] % shown) for one in torch.unique(chunk)]
        store = Store(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Store)))
        transform, lift = sample_transforms(Counter(config.seed ^ 0x41554700, number), self._ranges, _SIZE)
        return store.batch(config.cube, transform, lift)

    def mean_pose(self) -> torch.Tensor:
        """Normalised mean pose [J, 3] of the first chunk of frames."""
        return self._load(0).batch(self.config.cube).pose.mean(0)

    def _load(self, chunk: int) -> Store:
        if self._chunk is None or self._chunk[0] != chunk:
            self._chunk = None  # free the old frames before the new ones come
            size = self.config.chunk
            store = render_store(self.hands, chunk * size, size, size=self._tile_size, margin=self._margin)
            self._chunk = (chunk, store)
        return self._chunk[1]

    def _frames(self, chunk: int, position: torch.Tensor) -> Store:
        """Frames shown at the given positions of a chunk's time: each turn shows all of them in an order of its own."""
        size = self.config.chunk
        chosen = torch.empty_like(position)
        for turn in torch.unique(position // size):
            generator = torch.Generator().manual_seed((self.config.seed * 1000003 + chunk) * 64 + int(turn))
            here = position // size == turn
            chosen[here] = torch.randperm(size, generator=generator)[position[here] % size]
        return self._load(chunk)[chosen]
