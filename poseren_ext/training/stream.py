# SPDX-License-Identifier: MIT
"""Training samples; the batch of a step depends on the configuration and the step alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeAlias

import torch

from poseren_ext.data.augmentation import Augmentation, move_pose
from poseren_ext.data.batches import CropBatch, PackBatches
from poseren_ext.data.packed import PackedDataset
from poseren_ext.data.synthetic import Frames, SyntheticHands
from poseren_ext.data.synthetic.random import Counter
from poseren_ext.data.synthetic.render import compiled_rendering
from poseren_ext.ops import depth_crop, normalize_pose
from poseren_ext.training.config import SYNTHETIC, Phase, TrainConfig

SIZE = 96
_RENDER_BATCH = {"cpu": 128, "cuda": 8192}
"""Frames that are rendered at once: what fits a CPU's caches, what fills a GPU."""
_UNIT = 1 / 32  # mm per stored unit: 16 bits reach 2 m, and steps are below any camera's
_LIFT_SALT = 0x4C494654


@dataclass(frozen=True)
class Store:
    """N frames in memory: depth int16 [N, S, S], 1/32 mm as unsigned bits; the rest as in `Frames`."""

    depth: torch.Tensor
    camera: torch.Tensor
    center: torch.Tensor
    uvd: torch.Tensor
    xyz: torch.Tensor

    def __len__(self) -> int:
        return len(self.depth)

    def __getitem__(self, chosen: torch.Tensor | slice) -> Store:
        return Store(*(getattr(self, field.name)[chosen] for field in fields(self)))

    @classmethod
    def joined(cls, parts: list[Store]) -> Store:
        """All the frames of several stores."""
        return cls(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    def crop(
        self, cube: float, center: torch.Tensor | None = None, transform: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Crops [N, 1, 96, 96], around other centres and moved by transforms where given."""
        depth = self.depth.view(torch.uint16)  # which torch can neither index nor gather
        center = self.center if center is None else center
        return depth_crop(depth, center, self.camera, cube=cube, size=SIZE, transform=transform, depth_unit=_UNIT)

    def pose(self, cube: float, center: torch.Tensor | None = None) -> torch.Tensor:
        """Normalised joints [N, J, 3]."""
        return normalize_pose(self.uvd, self.center if center is None else center, self.camera, cube=cube)


def render_store(
    hands: SyntheticHands,
    first: int,
    count: int,
    *,
    size: int = SIZE,
    margin: float = 1.0,
    device: torch.device | str = "cpu",
) -> Store:
    """Frames first .. first+count-1, windows around the hands only."""
    parts, together = [], _RENDER_BATCH[torch.device(device).type]
    for start in range(first, first + count, together):
        index = torch.arange(start, min(start + together, first + count), device=device)
        parts.append(_stored(hands.tiles(index, size=size, margin=margin)))
    return Store.joined(parts)


def _stored(frames: Frames) -> Store:
    units = (frames.depth / _UNIT).round_().clamp_(max=65535).to(torch.int32)
    return Store(units.to(torch.uint16).view(torch.int16), frames.camera, frames.center, frames.uvd, frames.xyz)


class SyntheticStream:
    """Endless synthetic batches: chunks of fresh frames, each frame shown `reuse` times under new augmentation.

    Args:
        config: the run.
        phase: "init" or "refine": they may be augmented differently.
        device: where frames are rendered and batches wanted.
    """

    def __init__(self, config: TrainConfig, phase: Phase = "init", device: torch.device | str = "cpu") -> None:
        self.config = config
        self.device = torch.device(device)
        self.hands = SyntheticHands(config.seed, "train", config.difficulty, config.skeleton, cube=config.cube)
        self._augmentation = _augmentation(config, phase)
        # Turned by 45 degrees, the crop's corners look sqrt(2) as far.
        self._tile_size = 8 * round(1.42 * SIZE / 8)
        self._margin = (self._tile_size - 1) / (SIZE - 1)
        self._chunk: tuple[int, Store] | None = None
        self._order: tuple[tuple[int, int], torch.Tensor] | None = None  # of the last turn

    def batch(self, step: int, share: slice = slice(None)) -> CropBatch:
        """The batch of a step, or a share of it."""
        config = self.config
        shown = range(step * config.batch, (step + 1) * config.batch)[share]
        store = Store.joined([self._turn(*part) for part in self._turns(shown.start, shown.stop)])
        # Made on the device: a copy from the host would wait for the step before.
        number = torch.arange(shown.start, shown.stop, device=self.device)
        transform = self._augmentation.transform(number, seed=config.seed, epoch=0, size=SIZE)
        lift = Counter(config.seed ^ _LIFT_SALT, number).uniform("lift", 1, -config.depth_shift, config.depth_shift)
        center = torch.cat([store.center[:, :2], store.center[:, 2:] + lift], 1)
        crop = store.crop(config.cube, center, transform)
        return CropBatch(crop, move_pose(store.pose(config.cube, center), transform), number, transform)

    def _turns(self, first: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """Samples first .. end-1 of the stream as chunk, turn, and positions from and to in the turn's order."""
        size, reuse = self.config.chunk, self.config.reuse
        while first < end:
            turn, start = divmod(first, size)
            stop = min(size, start + end - first)
            yield turn // reuse, turn % reuse, start, stop
            first += stop - start

    def mean_pose(self) -> torch.Tensor:
        """Normalised mean pose [J, 3] of the first chunk of frames."""
        return self._load(0).pose(self.config.cube).mean(0)

    def _load(self, chunk: int) -> Store:
        if self._chunk is None or self._chunk[0] != chunk:
            self._chunk = None  # free the old frames before the new ones come
            size, first = self.config.chunk, chunk * self.config.chunk
            compiled = self.config.compile and self.device.type == "cuda"
            with compiled_rendering(compiled):
                store = render_store(
                    self.hands, first, size, size=self._tile_size, margin=self._margin, device=self.device
                )
            self._chunk = (chunk, store)
        return self._chunk[1]

    def _turn(self, chunk: int, turn: int, start: int, stop: int) -> Store:
        """Frames of a chunk; each turn shows all of them, in an order of its own."""
        if self._order is None or self._order[0] != (chunk, turn):
            generator = torch.Generator().manual_seed((self.config.seed * 1000003 + chunk) * 64 + turn)
            order = torch.randperm(self.config.chunk, generator=generator)
            self._order = (chunk, turn), order.to(self.device)
        return self._load(chunk)[self._order[1][start:stop]]


class PackStream(PackBatches):
    """Endless batches of a packed dataset, as `SyntheticStream`'s."""

    def __init__(self, config: TrainConfig, phase: Phase = "init", device: torch.device | str = "cpu") -> None:
        pack = open_pack(Path(config.data), config)
        super().__init__(
            pack,
            batch=config.batch,
            seed=config.seed,
            augmentation=_augmentation(config, phase),
            cube=config.cube,
            size=SIZE,
            device=device,
        )
        self.labels = torch.from_numpy(pack.uvd.copy()), torch.from_numpy(pack.centers.copy())  # uvd, centres

    def mean_pose(self) -> torch.Tensor:
        """Normalised mean pose [J, 3] of all frames."""
        uvd, centers = self.labels
        return normalize_pose(uvd, centers, self.frames.info.camera, cube=self.cube).mean(0)


Stream: TypeAlias = SyntheticStream | PackStream


def open_stream(config: TrainConfig, phase: Phase, device: torch.device | str = "cpu") -> Stream:
    """The training batches that the configuration names.

    Raises:
        FileNotFoundError: no such pack.
        ValueError: a pack of other joints or another hand, or made for less augmentation.
    """
    kind = SyntheticStream if config.data == SYNTHETIC else PackStream
    return kind(config, phase, device)


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


def _augmentation(config: TrainConfig, phase: Phase) -> Augmentation:
    translation = config.translation if phase == "init" else config.refine_translation
    return Augmentation(config.rotation, translation, config.scale)
