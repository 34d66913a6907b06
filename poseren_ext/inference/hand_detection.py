# SPDX-License-Identifier: MIT
"""Where the hand is in a depth image, when nobody says: the nearest object that is large enough to be a hand.

The paper takes the centre of mass of the hand region (section 3.5) and each dataset has depth thresholds of its own for
that region. Without thresholds, a slab of depth is moved away from the camera until it holds a connected surface of a
hand's size; the hand is the part of it that fits in the cube.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from poseren_ext.geometry.camera import Camera

Image = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

SLAB = 120.0
"""Depth that a hand's visible surface spans, mm."""
STEP = 10.0
"""How far the slab moves at a time, mm."""
SMALLEST_AREA = 2500.0
"""Visible surface of the smallest hand that is looked for, a child's fist from the side, mm^2."""
RADII = ((22.0, 75.0), (10.0, 75.0))
"""Of the largest disc inside a hand's surface, mm: edges and clutter are narrower, a torso is broader. A hand seen from
its edge is narrow too: it is looked for when nothing broader is there."""
LONGEST_SIDE = 160
"""Pixels of the reduced image that is searched."""


def find_hand(depth: Image, camera: Camera) -> tuple[Mask, float, float] | None:
    """The nearest surface large enough to be a hand.

    Args:
        depth: one frame [H, W], mm; 0, NaN and infinity are no surface.
        camera: intrinsics of the frame.

    Returns:
        The surface's pixels as a mask [H, W], and its nearest and farthest depth, mm; None where no surface is large
        enough.
    """
    height, width = depth.shape
    stride = max(1, -(-max(height, width) // LONGEST_SIDE))
    small = np.asarray(depth[::stride, ::stride], np.float32)
    small = np.where(np.isfinite(small) & (small > 0), small, np.inf)
    area = (stride * small) ** 2 / (camera.fx * camera.fy)  # mm^2 that a pixel sees, facing the camera
    for radii in RADII:
        found = _search(small, area, radii)
        if found is not None:
            surface, near = found
            mask = cv2.resize(np.uint8(surface), (width, height), interpolation=cv2.INTER_NEAREST)
            return mask.astype(np.bool_), near, near + SLAB
    return None


def _search(small: Image, area: Image, radii: tuple[float, float]) -> tuple[Mask, float] | None:
    """The first surface that a slab meets on its way from the camera, and its nearest depth."""
    seen = small[np.isfinite(small)]
    near = float(seen.min(initial=np.inf))
    while np.isfinite(near):
        first = _nearest_surface((small >= near) & (small <= near + SLAB), small, area, radii)
        if first is not None:
            # Stray pixels in front may have started the slab too early: begin again where this surface does. What then
            # proves broader than a hand was the nearest part of a body.
            start = float(small[first].min())
            surface = _connected((small >= start) & (small <= start + SLAB), first)
            if _radii(surface, area).max() <= radii[1]:
                return surface, start
        # Straight to the next surface: the space between may be long.
        near = max(near + STEP, float(seen[seen > near].min(initial=np.inf)))
    return None


def _nearest_surface(mask: Mask, small: Image, area: Image, radii: tuple[float, float]) -> Mask | None:
    """The nearest of the mask's connected parts that could be a hand; small: depth, area: mm^2, of each pixel."""
    count, labels = cv2.connectedComponents(np.uint8(mask), connectivity=8)
    sizes = np.bincount(labels[mask], weights=area[mask], minlength=count)
    inside = _radii(mask, area)
    nearest, found = np.inf, None
    for part in np.nonzero(sizes >= SMALLEST_AREA)[0]:
        surface: Mask = labels == part
        distance = float(np.median(small[surface]))
        if radii[0] <= inside[surface].max() <= radii[1] and distance < nearest:
            nearest, found = distance, surface
    return found


def _radii(mask: Mask, area: Image) -> Image:
    """For each pixel the largest disc around it inside the mask, mm; 0 outside."""
    pixels = cv2.distanceTransform(np.uint8(mask), cv2.DIST_L2, 3)
    # A mask without an edge has no largest disc; the image's own size stands for it.
    pixels = np.minimum(pixels, max(mask.shape))
    radii: Image = pixels * np.sqrt(np.where(mask, area, 0))
    return radii


def _connected(mask: Mask, seed: Mask) -> Mask:
    """What of the mask is connected with the seed."""
    _, labels = cv2.connectedComponents(np.uint8(mask), connectivity=8)
    connected: Mask = mask & np.isin(labels, np.unique(labels[seed & mask]))
    return connected
