# SPDX-License-Identifier: MIT
"""A depth frame reduced to the tiles that a crop around its hand can tell apart.

A crop clamps depth at the cube's back, so pixels behind it need not be kept, as long as no pixel before it is
interpolated with them. Kept is therefore every tile of 8x8 pixels with a pixel that is nearer than the back of the cube
(or that saw nothing: what stands for it is chosen later), or that touches one. All others count as far.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from poseren_ext.geometry.camera import Camera

SIDE = 8
"""Pixels along a tile."""
FAR, EMPTY, KEPT = 0, 1, 2
"""Kinds of tiles: behind the cube; nothing seen (all zero); kept."""

_SLACK = 1.0  # mm behind the cube that are kept as well, for rounding in float32
_LIMIT = 65535

Pixels = npt.NDArray[np.uint16]
Kinds = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class TiledFrame:
    """What is kept of one frame.

    Attributes:
        window: first tile row, first tile column, rows and columns of the part of the frame that has other tiles than
            far ones.
        kinds: uint8 [rows, columns], ``FAR``, ``EMPTY`` or ``KEPT``.
        tiles: uint16 [K, 8, 8], the kept ones in row-major order, in stored units.
        far: the frame's largest value, in stored units: what far pixels are given back as.
        rounding: largest difference between a kept pixel and the frame, mm.
    """

    window: tuple[int, int, int, int]
    kinds: Kinds
    tiles: Pixels
    far: int
    rounding: float


def tile_frame(
    depth: npt.NDArray[Any], center: npt.NDArray[np.float32], camera: Camera, *, cube: float, reach: float, unit: float
) -> TiledFrame:
    """Reduces a frame.

    Args:
        depth: [H, W] mm.
        center: [3] u, v (pixels), z (mm) of the crops that will be taken.
        camera: intrinsics of the frame.
        cube: half edge of their cube, mm.
        reach: how far they look from the centre, in half edges of the cube (``Augmentation.reach``).
        unit: mm per stored unit.

    Raises:
        ValueError: the frame holds NaN, infinity or negative depth, or its sides are not multiples of 8.
    """
    values = np.asarray(depth, np.float32)
    if values.shape[0] % SIDE or values.shape[1] % SIDE:
        raise ValueError(f"the frame has {values.shape[1]}x{values.shape[0]} pixels; expected multiples of {SIDE}")
    if not np.isfinite(values).all() or values.min() < 0:
        raise ValueError("the frame holds NaN, infinite or negative depth; expected mm from 0")
    stored = np.minimum(np.rint(values / unit), _LIMIT).astype(np.uint16)
    first_row, first_column, rows, columns = _window(depth.shape, center, camera, cube * reach)
    where = np.s_[first_row * SIDE : (first_row + rows) * SIDE, first_column * SIDE : (first_column + columns) * SIDE]
    seen, pixels = values[where], stored[where]
    near = (seen < center[2] + cube + _SLACK).astype(np.uint8)
    touching = cv2.dilate(near, np.ones((3, 3), np.uint8)) if near.size else near
    rounding = np.abs(pixels * np.float32(unit) - seen)[touching > 0].max(initial=0.0)

    tiles, kept = _split(pixels), _split(touching).any((2, 3))
    kinds = np.where(kept, np.where(tiles.any((2, 3)), KEPT, EMPTY), FAR).astype(np.uint8)
    top, left, kinds, tiles = _tight(kinds, tiles)
    window = (first_row + top, first_column + left, kinds.shape[0], kinds.shape[1])
    return TiledFrame(window, kinds, tiles[kinds == KEPT], int(stored.max(initial=0)), float(rounding))


def untile(kinds: Kinds, tiles: Pixels, far: int) -> Pixels:
    """The part of the frame that a window holds: uint16 [8 * rows, 8 * columns] in stored units.

    Args:
        kinds: [rows, columns].
        tiles: [K, 8, 8].
        far: what far pixels become.
    """
    rows, columns = kinds.shape
    blocks = np.full((rows, columns, SIDE, SIDE), far, np.uint16)
    blocks[kinds == EMPTY] = 0
    blocks[kinds == KEPT] = tiles
    return np.swapaxes(blocks, 1, 2).reshape(rows * SIDE, columns * SIDE)


def _window(
    shape: tuple[int, ...], center: npt.NDArray[np.float32], camera: Camera, half: float
) -> tuple[int, int, int, int]:
    """First tile row and column, rows and columns of what crops may read: with the taps beyond each pixel."""
    u, v, z = (float(value) for value in center)
    spans = []
    for middle, focal, size in ((v, camera.fy, shape[0]), (u, camera.fx, shape[1])):
        first = max(0, math.floor(middle - half * focal / z) - 1)
        last = min(size - 1, math.ceil(middle + half * focal / z) + 1)
        spans.append((first // SIDE, last // SIDE - first // SIDE + 1) if first <= last else (0, 0))
    (first_row, rows), (first_column, columns) = spans
    return (first_row, first_column, rows, columns) if rows and columns else (0, 0, 0, 0)


def _split(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Pixels [8 * rows, 8 * columns] as tiles [rows, columns, 8, 8]."""
    rows, columns = (size // SIDE for size in pixels.shape)
    return np.swapaxes(pixels.reshape(rows, SIDE, columns, SIDE), 1, 2)


def _tight(kinds: Kinds, tiles: npt.NDArray[Any]) -> tuple[int, int, Kinds, npt.NDArray[Any]]:
    """Without the outer rows and columns that are far throughout; first row and column that are left."""
    rows, columns = np.flatnonzero(kinds.any(1)), np.flatnonzero(kinds.any(0))
    if rows.size == 0:
        return 0, 0, kinds[:0, :0], tiles[:0, :0]
    where = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return int(rows[0]), int(columns[0]), kinds[where], tiles[where]
