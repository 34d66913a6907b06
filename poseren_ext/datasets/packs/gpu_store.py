# SPDX-License-Identifier: MIT
"""Packs held whole in a device's memory."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from poseren_ext.datasets.base import DatasetError
from poseren_ext.datasets.packs.dataset import REMEDY, PackedDataset
from poseren_ext.datasets.packs.tiles import EMPTY, KEPT, SIDE, Pixels
from poseren_ext.datasets.sample import FrameBatch

_WORDS = SIDE // 4  # a row of a tile in words of four pixels: torch gathers no uint16, and words are moved faster
_PART = 1 << 20  # tiles read and copied at a time


class ResidentPack:
    """A pack held whole in a device's memory: batches are gathered there, and nothing is copied from the host.

    Args:
        pack: what to hold; as recorded, not mirrored.
        device: where.

    Attributes:
        info: what was packed.
        camera: float32 [4] on the device.

    Raises:
        ValueError: the pack is mirrored.
        DatasetError: a frame does not match its checksum.
    """

    def __init__(self, pack: PackedDataset, device: torch.device | str) -> None:
        if pack.hand != pack.info.hand:
            raise ValueError("the pack is mirrored; open it as recorded (hand=None)")
        for index in pack.damaged():
            raise DatasetError(f"{pack.path}: frame {index} ({pack.names[index]}) is damaged: checksum. {REMEDY}")
        self.info = pack.info
        self.camera = pack.info.camera.tensor(device)
        arrays = pack.arrays()
        self._uvd, self._center = (torch.from_numpy(arrays[name]).to(device) for name in ("uvd", "center"))
        # On the host, where a batch's size is decided without waiting for the device.
        self._window = torch.from_numpy(arrays["window"].astype(np.int64))
        self._first_cell = torch.from_numpy(arrays["first"][:-1, 1].copy())
        self._tiles = _with_constant_tiles(arrays["tiles"], device)
        kinds = torch.from_numpy(np.append(arrays["kinds"], np.uint8(0))).to(device)  # one more: there is always one
        kept = kinds == KEPT
        self._tile_of = torch.where(kept, kept.cumsum(0, dtype=torch.int32) + 1, (kinds == EMPTY).to(torch.int32))

    def __len__(self) -> int:
        return self.info.frames

    def labels(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Joints uvd [B, J, 3] and centres [B, 3] of the frames at these positions, in the frames' pixels."""
        index = index.to(self._uvd.device)
        return self._uvd[index], self._center[index]

    def regions(self, index: Tensor) -> FrameBatch:
        """The parts of frames that crops look at, each wholly inside its frame: pixels behind the cube are 65535.

        Camera, centres and joints are those of the parts: in their own pixels.

        Args:
            index: int64 [B], on the CPU.

        Raises:
            IndexError: A position is outside the pack.
            ValueError: There are no positions.
        """
        if len(index) == 0:
            raise ValueError("no frames asked for; expected at least one position")
        if not 0 <= int(index.min()) <= int(index.max()) < len(self):
            raise IndexError(f"frames {int(index.min())}..{int(index.max())} asked for; there are {len(self)}")
        device = self._tiles.device
        window = self._window[index]  # [B, 4]: first tile row and column, rows, columns
        size = window[:, 2:].amax(0).clamp(min=1)
        frame = torch.tensor([self.info.camera.height or 0, self.info.camera.width or 0]) // SIDE
        # Moved inside the frame, so that a crop meets the frame's own rim, not that of the batch's largest window.
        first = torch.minimum(window[:, :2], frame - size)
        rows, columns = size.tolist()
        table = torch.cat([window, first, self._first_cell[index][:, None], index[:, None]], 1)
        # One copy: each waits for what the device does.
        window, first, cell, index = torch.split(table.to(device, non_blocking=True), [4, 2, 1, 1], 1)
        row = (first[:, :1] - window[:, :1] + torch.arange(rows, device=device))[:, :, None]
        column = (first[:, 1:] - window[:, 1:2] + torch.arange(columns, device=device))[:, None]
        height, width = window[:, 2, None, None], window[:, 3, None, None]
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)  # [B, rows, columns]
        tile = torch.where(inside, self._tile_of[torch.where(inside, cell[:, None] + row * width + column, 0)], 0)
        words = self._tiles.index_select(0, tile.flatten()).view(-1, rows, columns, SIDE, _WORDS)
        depth = words.transpose(2, 3).reshape(-1, rows * SIDE, columns * _WORDS).view(torch.uint16)
        uvd, center = self.labels(index[:, 0])
        corner = SIDE * first.flip(1)  # u, v of each part in its frame
        zero = torch.zeros_like(corner)
        to_frame = torch.cat([corner, zero[:, :1]], 1)
        return FrameBatch(
            depth,
            camera=self.camera - torch.cat([zero, corner], 1),
            center=center - to_frame,
            uvd=uvd - to_frame[:, None],
            index=index[:, 0],
            depth_unit=self.info.unit,
        )


def _with_constant_tiles(kept: Pixels, device: torch.device | str) -> Tensor:
    """Tile 0 is far, tile 1 empty, the kept ones follow: int64 [K + 2, 16], four pixels a word."""
    tiles = torch.empty(len(kept) + 2, SIDE * _WORDS, dtype=torch.int64, device=device)
    tiles[0], tiles[1] = -1, 0  # all bits set: four times 65535
    for start in range(0, len(kept), _PART):
        part = torch.from_numpy(np.array(kept[start : start + _PART]).reshape(-1, SIDE * SIDE).view(np.int64))
        tiles[2 + start : 2 + start + len(part)] = part.to(device)
    return tiles
