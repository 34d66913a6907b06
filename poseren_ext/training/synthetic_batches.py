# SPDX-License-Identifier: MIT
"""Batches of synthetic training samples, as a function of configuration and step only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, TypeAlias

import torch

from poseren_ext._utils.arrays import joined
from poseren_ext._utils.counter_rng import Counter
from poseren_ext.datasets.sample import FrameBatch, taken
from poseren_ext.geometry.crop_transforms import move_pose
from poseren_ext.ops import normalize_pose
from poseren_ext.synthetic import SyntheticHands, TrainingHands
from poseren_ext.synthetic.render import compiled_rendering
from poseren_ext.training.config import Phase, TrainConfig
from poseren_ext.training.pack_batches import SIZE, CropBatch, augmentation_of, epoch_slices
from poseren_ext.training.training_sets import mean_pose

_RENDER_BATCH = {"cpu": 128, "cuda": 8192}
"""Number of frames rendered at once: fits the caches of a CPU, and fills a GPU."""
_UNIT = 1 / 32  # mm per stored unit: 16 bits reach 2 m, with finer steps than any camera
_LIFT_SALT = 0x4C494654

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the number of frames that are done and with the number of all."""


def render_tiles(
    hands: SyntheticHands,
    first: int,
    count: int,
    *,
    size: int = SIZE,
    margin: float = 1.0,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> FrameBatch:
    """Frames first .. first+count-1, only the windows around the hands; depth uint16 in steps of 1/32 mm.

    Args:
        hands: the frames by number.
        first: number of the first frame.
        count: number of frames.
        size: side of a stored frame, pixels.
        margin: the window's side in multiples of that of the crop.
        device: device of the frames.
        progress: called with the number of frames rendered and `count`, at the beginning and after each batch.
    """
    parts, together = [], _RENDER_BATCH[torch.device(device).type]
    for start in range(first, first + count, together):
        index = torch.arange(start, min(start + together, first + count), device=device)
        if progress is not None:
            progress(start - first, count)
        parts.append(_stored(hands.tiles(index, size=size, margin=margin)))
    if progress is not None:
        progress(count, count)
    return joined(parts)


def _stored(frames: FrameBatch) -> FrameBatch:
    depth = (frames.depth / _UNIT).round_().clamp_(max=65535).to(torch.int32).to(torch.uint16)
    return replace(frames, depth=depth, depth_unit=_UNIT)


@dataclass(frozen=True)
class _Turn:
    """One pass over a chunk: N samples in their order, without their crops."""

    chunk: int
    turn: int
    frame: torch.Tensor  # int64 [N], index in the chunk
    number: torch.Tensor  # int64 [N], index in the stream
    center: torch.Tensor  # [N, 3]
    camera: torch.Tensor  # [N, 4]
    uvd: torch.Tensor  # [N, J, 3]
    pose: torch.Tensor  # [N, J, 3], in the augmented crop
    transform: torch.Tensor  # [N, 2, 3]


def synthetic_hands(config: TrainConfig) -> SyntheticHands:
    """The training frames of a configuration: palms only, or the mixture of hands from every side."""
    given = (config.difficulty, config.skeleton)
    if config.palm_share == 1.0:
        return SyntheticHands(config.seed, "train", *given, cube=config.cube)
    return TrainingHands(config.seed, "train", *given, cube=config.cube, palm_share=config.palm_share)


class SyntheticStream:
    """Endless synthetic batches: chunks of new frames, each frame used `reuse` times with new augmentation.

    Args:
        config: the run.
        phase: "init" or "refine", which may have different augmentation.
        device: device of rendering and of the batches.
        progress: called while frames are rendered, see `render_tiles`.
    """

    TILE_SIZE: ClassVar[int] = 8 * round(1.42 * SIZE / 8)
    """Side of a stored frame, pixels: the corners of a crop that is rotated by 45 degrees reach sqrt(2) as far."""

    def __init__(
        self,
        config: TrainConfig,
        phase: Phase = "init",
        device: torch.device | str = "cpu",
        *,
        progress: Progress | None = None,
    ) -> None:
        self.config, self._progress = config, progress
        self.device = torch.device(device)
        self.hands = synthetic_hands(config)
        self._augmentation = augmentation_of(config, phase)
        self._margin = (self.TILE_SIZE - 1) / (SIZE - 1)
        self._chunk: tuple[int, FrameBatch] | None = None
        self._last: _Turn | None = None

    def batch(self, step: int, share: slice = slice(None)) -> CropBatch:
        """The batch of a step, or a share of it."""
        shown = range(step * self.config.batch, (step + 1) * self.config.batch)[share]
        parts = [self._part(*part) for part in epoch_slices(shown, self.config.chunk)]
        return parts[0] if len(parts) == 1 else joined(parts)

    def _part(self, turn: int, shown: slice) -> CropBatch:
        made = self._turn(*divmod(turn, self.config.reuse))
        # The only work per step, because small launches on a GPU cost more than their computation.
        tiles = self._load(made.chunk)
        frames = FrameBatch(
            taken(tiles.depth, made.frame[shown]),
            camera=made.camera[shown],
            center=made.center[shown],
            uvd=made.uvd[shown],
            index=made.number[shown],
            cube=tiles.cube,
            depth_unit=tiles.depth_unit,
        )
        crop = frames.crop(SIZE, made.transform[shown])
        return CropBatch(crop, made.pose[shown], made.number[shown], made.transform[shown])

    def mean_pose(self) -> torch.Tensor:
        """Normalised mean pose [J, 3] of the first chunk of frames."""
        return mean_pose(self._load(0))

    def _load(self, chunk: int) -> FrameBatch:
        if self._chunk is None or self._chunk[0] != chunk:
            self._chunk = None  # free the old frames before rendering new ones
            size, first = self.config.chunk, chunk * self.config.chunk
            compiled = self.config.compile and self.device.type == "cuda"
            with compiled_rendering(compiled):
                tiles = render_tiles(
                    self.hands,
                    first,
                    size,
                    size=self.TILE_SIZE,
                    margin=self._margin,
                    device=self.device,
                    progress=self._progress,
                )
            self._chunk = (chunk, tiles)
        return self._chunk[1]

    def _turn(self, chunk: int, turn: int) -> _Turn:
        """One pass over all frames of a chunk, with a new order and new augmentation."""
        if self._last is None or (self._last.chunk, self._last.turn) != (chunk, turn):
            self._last = self._make_turn(chunk, turn)
        return self._last

    def _make_turn(self, chunk: int, turn: int) -> _Turn:
        config, tiles = self.config, self._load(chunk)
        generator = torch.Generator().manual_seed((config.seed * 1000003 + chunk) * 64 + turn)
        frame = torch.randperm(config.chunk, generator=generator).to(self.device)
        first = (chunk * config.reuse + turn) * config.chunk
        number = torch.arange(first, first + config.chunk, device=self.device)
        transform = self._augmentation.transform(number, seed=config.seed, epoch=0, size=SIZE)
        lift = Counter(config.seed ^ _LIFT_SALT, number).uniform("lift", 1, -config.depth_shift, config.depth_shift)
        camera, center, uvd = (taken(value, frame) for value in (tiles.camera, tiles.center, tiles.uvd))
        center = torch.cat([center[:, :2], center[:, 2:] + lift], 1)
        pose = move_pose(normalize_pose(uvd, center, camera, cube=config.cube), transform)
        return _Turn(chunk, turn, frame, number, center, camera, uvd, pose, transform)
