# SPDX-License-Identifier: MIT
"""Training and validation samples; the batch of a step depends on the configuration and the step alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from poseren_ext.data.synthetic import SyntheticHands, Tiles
from poseren_ext.data.synthetic.random import Counter
from poseren_ext.training.augment import Augmentation, sample_transform
from poseren_ext.training.config import TrainConfig

_RENDER_BATCH = 128
_SIZE = 96


@dataclass(frozen=True)
class Batch:
    """crop: [B, 1, 96, 96] in [-1, 1]; pose: [B, J, 3] normalised joints."""

    crop: torch.Tensor
    pose: torch.Tensor


@dataclass(frozen=True)
class Frames:
    """Rendered frames, ready to be cropped: normalised tiles [N, 1, S, S] and poses, centres and joints in mm."""

    tile: torch.Tensor
    pose: torch.Tensor
    center: torch.Tensor
    xyz: torch.Tensor


def render_frames(hands: SyntheticHands, first: int, count: int, *, size: int = _SIZE, margin: float = 1.0) -> Frames:
    """Frames first .. first+count-1, rendered in batches."""
    parts: list[list[torch.Tensor]] = [[], [], [], []]
    for start in range(first, first + count, _RENDER_BATCH):
        index = torch.arange(start, min(start + _RENDER_BATCH, first + count))
        tiles = hands.tiles(index, size=size, margin=margin)
        for part, value in zip(parts, (*_normalized(tiles, hands), tiles.center, tiles.xyz), strict=True):
            part.append(value)
    return Frames(*(torch.cat(part) for part in parts))


def _normalized(tiles: Tiles, hands: SyntheticHands) -> tuple[torch.Tensor, torch.Tensor]:
    z = tiles.center[:, 2, None, None]
    value = torch.where(tiles.depth > 0, (tiles.depth - z) / hands.cube, 1.0).clamp_(-1.5, 1.0)
    camera = hands.camera
    focal = z.new_tensor([camera.fx, camera.fy])
    xy = (tiles.uvd[..., :2] - tiles.center[:, None, :2]) * z / (focal * hands.cube)
    depth = (tiles.uvd[..., 2:] - z) / hands.cube
    return value[:, None].half(), torch.cat([xy, depth], -1)


class TrainStream:
    """Endless training batches: chunks of fresh frames, each frame shown `reuse` times under new augmentation."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.hands = SyntheticHands(config.seed, "train", config.difficulty, cube=config.cube)
        self._tile_size = 8 * round(1.42 * _SIZE / 8)
        self._margin = (self._tile_size - 1) / (_SIZE - 1)
        self._ranges = Augmentation(config.rotation, config.translation, config.scale, config.depth_shift)
        self._chunk: tuple[int, Frames] | None = None

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        config = self.config
        number = torch.arange(step * config.batch, (step + 1) * config.batch)
        shown = config.chunk * config.reuse
        parts = [self._samples(int(chunk), number[number // shown == chunk] % shown) for chunk in (number // shown).unique()]
        tile, pose = (torch.cat(column) for column in zip(*parts, strict=True))
        transform = sample_transform(Counter(config.seed ^ 0x41554700, number), self._ranges, _SIZE, config.cube)
        return Batch(transform.crop(tile.float(), self._margin, _SIZE), transform.pose(pose))

    def _samples(self, chunk: int, position: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        size = self.config.chunk
        if self._chunk is None or self._chunk[0] != chunk:
            self._chunk = None  # free the old frames before the new ones come
            frames = render_frames(self.hands, chunk * size, size, size=self._tile_size, margin=self._margin)
            self._chunk = (chunk, frames)
        frames = self._chunk[1]
        chosen = torch.empty_like(position)
        for turn in (position // size).unique():
            generator = torch.Generator().manual_seed((self.config.seed * 1000003 + chunk) * 64 + int(turn))
            here = position // size == turn
            chosen[here] = torch.randperm(size, generator=generator)[position[here] % size]
        return frames.tile[chosen], frames.pose[chosen]
