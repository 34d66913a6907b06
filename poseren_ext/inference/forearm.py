# SPDX-License-Identifier: MIT
"""Whether a surface is a forearm without its hand: a strip of about one width that leaves the frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from poseren_ext.inference.surface_detection import NARROWEST_ENTRY

if TYPE_CHECKING:
    from poseren_ext.inference.diagnosis import Image, Region

_STEP = 10.0  # mm along the surface, for each of which its width is measured
_SHORTEST, _SLIMMEST, _MOST_UNEVEN = 130.0, 2.0, 1.35  # length in mm and in widths; widest over narrowest part


def forearm_remark(region: Region) -> str:
    """What to know of a surface whose form is that of a forearm; empty for other surfaces.

    A fist at the end of an arm can have the same form, so the remark names both.

    Args:
        region: where the hand was found.
    """
    mm = region.center[2] / region.camera.fx
    widths = _widths(region.mask, mm)
    length = _STEP * len(widths)
    border = np.concatenate([region.mask[0], region.mask[-1], region.mask[:, 0], region.mask[:, -1]])
    if length < _SHORTEST or border.sum() * mm < NARROWEST_ENTRY:
        return ""
    narrow, middle, wide = np.percentile(widths[1:-1], (20, 50, 90))  # the ends may be cut obliquely
    if wide > _MOST_UNEVEN * narrow or length < _SLIMMEST * middle:
        return ""
    return (
        f"the surface is {middle:.0f} mm wide along {length:.0f} mm and leaves the frame: only a forearm is in view, "
        "or a fist; move the whole hand into the frame"
    )


def _widths(mask: Image, mm: float) -> Image:
    """Widths of the largest connected surface, mm, at every `_STEP` mm along its longer axis."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(np.uint8(mask), connectivity=8)
    rows, columns = np.nonzero(labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA])))
    points = np.stack([columns, rows], 1) * mm
    points -= points.mean(0)
    across, along = (points @ np.linalg.eigh(points.T @ points)[1]).T  # by rising variance
    steps = ((along - along.min()) / _STEP).astype(int)
    low, high = np.full(steps.max() + 1, np.inf), np.full(steps.max() + 1, -np.inf)
    np.minimum.at(low, steps, across)
    np.maximum.at(high, steps, across)
    filled = np.isfinite(low)
    return (high - low)[filled] + mm
