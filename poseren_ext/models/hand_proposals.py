# SPDX-License-Identifier: MIT
"""First stage of hand detection: a small network that maps a reduced depth frame to a heat map of hand centres."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CELL = 4
"""Pixels of the input per cell of the heat maps."""
_MULTIPLE = 16  # height and width of the input are multiples of this
_FARTHEST = 1500.0  # mm: farther surfaces look alike
_OUTPUTS = 4  # score of a hand; offsets across, down and in depth
_OFFSET = 100.0  # mm: unit of the network's offsets
_RELIEF = 40.0  # mm: unit of the relief
_EMPTY = 600.0  # mm: stands for the depth of cells without any


class Block(nn.Module):
    """Two 3x3 convolutions with a residual connection: [B, C, H, W] to [B, D, H / stride, W / stride]."""

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, out, 3, stride, 1)
        self.second = nn.Conv2d(out, out, 3, 1, 1)
        self.skip = nn.Conv2d(channels, out, 1, stride) if stride > 1 or channels != out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        return F.relu(self.skip(x) + self.second(F.relu(self.first(x))))


class ProposalNetwork(nn.Module):
    """Heat map of hand centres, with the offset and the depth of each.

    Args:
        channels: of the maps at 1/4, 1/8 and 1/16 of the input's size.
    """

    def __init__(self, channels: tuple[int, int, int] = (24, 48, 96)) -> None:
        super().__init__()
        quarter, eighth, sixteenth = channels
        self.channels = channels
        self.stem = nn.Sequential(nn.Conv2d(4, 16, 5, 2, 2), nn.ReLU())
        self.fine = Block(16, quarter, 2)
        self.middle = nn.Sequential(Block(quarter, eighth, 2), Block(eighth, eighth))
        self.coarse = nn.Sequential(Block(eighth, sixteenth, 2), Block(sixteenth, sixteenth))
        self.context = nn.Linear(sixteenth, sixteenth)
        self.up_middle = nn.Conv2d(sixteenth, eighth, 1)
        self.join_middle = Block(eighth, eighth)
        self.up_fine = nn.Conv2d(eighth, quarter, 1)
        self.join_fine = Block(quarter, quarter)
        self.head = nn.Conv2d(quarter, _OUTPUTS, 1)

    def forward(self, depth: Tensor, focal: Tensor) -> Tensor:
        """Maps [B, 4, H / 4, W / 4] of depth [B, H, W] (mm, 0 where there is none) and focal lengths [B] in pixels.

        The channels: logit of a hand's centre in the cell; offsets of the centre from the cell's middle, u and v, in
        cells; and the logarithm of its depth in metres.
        """
        surface = _cell_depth(depth)
        fine = self.fine(self.stem(_features(depth, focal, surface)))
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        coarse = coarse + self.context(coarse.mean((2, 3)))[:, :, None, None]
        middle = self.join_middle(middle + F.interpolate(self.up_middle(coarse), scale_factor=2.0))
        maps = self.head(self.join_fine(fine + F.interpolate(self.up_fine(middle), scale_factor=2.0)))
        # Offsets are learnt in mm from the surface in the cell, so that they are alike for near and far hands.
        cells = maps[:, 1:3] * (_OFFSET / CELL) * focal[:, None, None, None] / surface[:, None]
        return torch.cat([maps[:, :1], cells, (maps[:, 3] + torch.log(surface / 1000.0))[:, None]], 1)


def _features(depth: Tensor, focal: Tensor, surface: Tensor) -> Tensor:
    """Input of the network [B, 4, H, W]: depth, its logarithm relative to the focal length, relief, and known pixels.

    The logarithm of depth over focal length gives the size of a hand in pixels for any camera. The relief is the depth
    relative to that of the cells around: fingers are a few per cent of the range of depth.

    Args:
        depth: [B, H, W] mm.
        focal: [B] pixels.
        surface: of `_cell_depth`.
    """
    known = (depth > 0.0).to(depth.dtype)
    metres = depth.clamp(100.0, _FARTHEST) / 1000.0
    pitch = torch.log(metres * 100.0 / focal[:, None, None])
    around = F.avg_pool2d(surface, 3, 1, 1, count_include_pad=False)[:, None]
    relief = (depth - F.interpolate(around, scale_factor=float(CELL))[:, 0]) / _RELIEF
    return torch.stack([(metres - 0.6) * known, pitch * known, known, relief.clamp(-2.0, 2.0) * known], 1)


def _cell_depth(depth: Tensor) -> Tensor:
    """Mean depth of the surfaces in each cell, or around it where the cell has none: [B, H / 4, W / 4] mm."""
    known = F.avg_pool2d((depth > 0.0).to(depth.dtype), CELL)
    total = F.avg_pool2d(depth, CELL)
    around = F.avg_pool2d(torch.stack([known, total], 1), 3, 1, 1)
    filled = torch.where(around[:, 0] > 0.0, around[:, 1] / around[:, 0].clamp(min=1e-6), _EMPTY)
    return torch.where(known > 0.0, total / known.clamp(min=1e-6), filled).clamp(min=100.0)


def padded(depth: Tensor) -> Tensor:
    """Frames [B, H, W] with rows and columns without depth added, up to a size that the network takes."""
    height, width = depth.shape[1:]
    return F.pad(depth, (0, -width % _MULTIPLE, 0, -height % _MULTIPLE))
