# SPDX-License-Identifier: MIT
"""Hand detection without learning: connected near surfaces of a depth frame and the distance along them.

A depth frame consists of surfaces that are continuous in depth. The nearest one of a hand's width is taken, with all
that is connected with it, up to where it leaves the frame or joins something broader (a body, a table). The distance
along the surface from there tells arm from hand: the hand is the far end, whether it is nearer to the camera than the
elbow or, as in a camera worn on the head, farther away.

All of this is done on an image reduced to at most 160 pixels a side.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from poseren_ext.geometry.camera import Camera

Image = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

HAND_LENGTH = 175.0
"""How far along the surface a hand reaches, mm: an adult's from the wrist to the middle finger's tip."""
SLAB = 120.0
"""Depth that the nearest part of a hand or an arm spans, mm."""
STEP = 20.0
"""How far the slab moves at a time, mm."""
REACH = 500.0
"""Depth range of a hand and its arm, mm; an arm that goes farther is cut there."""
SMALLEST_AREA = 2500.0
"""Visible surface of the smallest hand that is searched for, a child's fist from the side, mm^2."""
RADII = ((22.0, 75.0), (10.0, 75.0))
"""Limits for the largest disc inside a hand's surface, mm: edges and clutter are narrower, a torso is broader. A hand
seen from its edge is narrow too: it is searched for when nothing broader is found."""
NARROWEST_ENTRY = 30.0
"""Width, mm, from which on a contact with the frame's border counts as an arm that enters, not as a fingertip."""
TYPICAL_AREA = 7000.0
"""Visible surface of an adult's hand, mm^2: detections with this much have the highest score."""
HAND_HALF_EDGE = 115.0
"""Half edge of the cube around a hand's centre that holds the hand without its forearm, mm."""
LONGEST_SIDE = 160
"""Pixels of the reduced image."""

FREE_HAND_LENGTH = 230.0
"""Length along the surface, mm, up to which one without an arm in sight is a hand altogether."""

LONGEST_ARM = 700.0
"""Extent, mm, beyond which a surface in one slab of depth is part of a wall or a table."""

TIP_LENGTH = 20.0
"""Length along the surface, mm, of a hand's tip, which is narrower than the stump of an arm."""

HIGHEST_EDGE = 70.0
"""Jump in depth, mm, up to which parts of a hand may hide each other."""

_BARRIER = 1e7  # mm; the cost of a step that leaves the surface
_ROUNDS = 6  # of eight passes each: paths turn a few times only


class SurfaceHand(NamedTuple):
    """A hand on the reduced image."""

    center: tuple[float, float, float]
    """u, v (pixels of the whole frame), d (mm)."""
    score: float
    masks: tuple[Mask, Mask]
    """The hand, and the surface that it is part of: [h, w]."""


def masks_around(
    center: tuple[float, float, float], frame: Image, camera: Camera, depth_unit: float
) -> tuple[Mask, Mask]:
    """The masks of the hand at a centre (u, v, d), on the reduced image: the hand, and the surface it is part of.

    The hand is what is connected within HAND_HALF_EDGE of the centre in all three axes.
    """
    search = _searched(frame, camera, depth_unit)
    rows, columns = (np.arange(size, dtype=np.float32) * search.stride for size in search.depth.shape)
    across = np.abs(columns - center[0])[None] * center[2] / camera.fx
    down = np.abs(rows - center[1])[:, None] * center[2] / camera.fy
    near: Mask = np.maximum(np.maximum(across, down), np.abs(search.free - center[2])) <= HAND_HALF_EDGE
    if not near.any():
        return near, near
    distance = np.where(near, across**2 + down**2, np.inf)
    seed = np.zeros_like(near)
    seed[np.unravel_index(int(distance.argmin()), near.shape)] = True
    hand = _connected(near, seed)
    surface, _ = search._grow(hand, float(search.free[hand].min()))
    return hand, surface | hand


def reduction(shape: tuple[int, ...], longest: int = LONGEST_SIDE) -> int:
    """The stride at which a frame [H, W] is read so that no side is longer than ``longest``."""
    return max(1, -(-max(shape) // longest))


def surface_hands(frame: Image, camera: Camera, max_hands: int, depth_unit: float) -> Iterator[SurfaceHand]:
    """The hands of one frame [H, W], nearest first; arguments as those of `find_hands`."""
    search = _searched(frame, camera, depth_unit)
    for _ in range(max_hands):
        if (parts := search.next_hand()) is None:
            return
        hand, surface = parts
        yield SurfaceHand(search.center(hand), search.score(hand), parts)
        search.remove(surface)


def _searched(frame: Image, camera: Camera, depth_unit: float) -> _Search:
    stride = reduction(frame.shape)
    small = frame[::stride, ::stride].astype(np.float32) * np.float32(depth_unit)
    return _Search(np.where(np.isfinite(small) & (small > 0), small, np.inf), camera, stride)


class _Search:
    """The reduced frame, and the surfaces that are left in it.

    Args:
        depth: [h, w] mm, infinite where there is no depth.
        camera: intrinsics of the whole frame.
        stride: the reduction.
    """

    def __init__(self, depth: Image, camera: Camera, stride: int) -> None:
        self.camera, self.stride, self.depth = camera, stride, depth
        self.pitch = depth * np.float32(stride / np.sqrt(camera.fx * camera.fy))  # mm from pixel to pixel
        self.free: Image = np.where(self._joinable(), depth, np.inf)

    def _joinable(self) -> Mask:
        """The pixels of surfaces, without those that would join a hand with what is behind it.

        Surfaces at different depths are kept apart by leaving out the pixels just behind an edge. Edges inside a hand,
        where a finger hides another, are no such edges: they are low, and what is behind them is no broad surface.
        """
        depth, neighbours = self.depth, np.ones((3, 3), np.uint8)
        with np.errstate(invalid="ignore"):
            jump = depth - cv2.erode(depth, neighbours)
        tolerance = 10.0 + 4.0 * self.pitch  # of depth between neighbours on one surface
        smooth: Mask = np.isfinite(depth) & (jump <= tolerance)
        low: Mask = np.isfinite(depth) & (jump > tolerance) & (jump <= HIGHEST_EDGE)
        _, labels = cv2.connectedComponents(np.uint8(smooth), connectivity=8)
        broad = smooth & np.isin(labels, np.unique(labels[self._radii(smooth) > RADII[0][1]]))
        behind = cv2.dilate(np.uint8(broad), neighbours).astype(bool)
        joinable: Mask = smooth | (low & ~behind)
        return joinable

    def next_hand(self) -> tuple[Mask, Mask] | None:
        """The nearest hand and the surface that it is part of; None where there is none."""
        for radii in RADII:
            seed = self._nearest(radii)
            if seed is not None:
                surface, entries = self._grow(*seed)
                return self._far_end(surface, entries), surface
        return None

    def remove(self, surface: Mask) -> None:
        """Take a surface out of the search."""
        self.free = np.where(surface, np.inf, self.free)

    def center(self, hand: Mask) -> tuple[float, float, float]:
        """Mean u, v, d of a part of the surface: by its area, for what is nearer has more pixels."""
        rows, columns = np.nonzero(hand)
        depth = self.depth[hand].astype(np.float64)
        u, v, d = np.average([columns * self.stride, rows * self.stride, depth], axis=1, weights=depth**2)
        return float(u), float(v), float(d)

    def score(self, hand: Mask) -> float:
        """How much a surface looks like a whole hand: by its area, and by how little of it is at the frame's border."""
        area = float((self.pitch[hand] ** 2).sum())
        cut = float(_border(hand).sum()) / float(np.sqrt(hand.sum()))
        return min(1.0, area / TYPICAL_AREA) / (1.0 + cut)

    def _nearest(self, radii: tuple[float, float]) -> tuple[Mask, float] | None:
        """The nearest surface of a hand's width, and its nearest depth: a slab is moved away from the camera."""
        seen = np.sort(self.free[np.isfinite(self.free)])
        near = float(seen[0]) if len(seen) else np.inf
        while np.isfinite(near):
            seed = self._first_in_slab(near, radii)
            if seed is not None:
                # Stray pixels in front may have started the slab too early. What then proves broader than a hand was
                # the nearest part of a body.
                start = float(self.free[seed].min())
                surface = _connected((self.free >= start) & (self.free <= start + SLAB), seed)
                if self._radii(surface).max() <= radii[1]:
                    return surface, start
            # Straight to the next surface: the space between may be long.
            after = np.searchsorted(seen, near, side="right")
            near = max(near + STEP, float(seen[after])) if after < len(seen) else np.inf
        return None

    def _first_in_slab(self, near: float, radii: tuple[float, float]) -> Mask | None:
        """The nearest of the connected parts in a slab of depth that could be a hand or an arm."""
        mask = (self.free >= near) & (self.free <= near + SLAB)
        area = self.pitch**2
        if float(area[mask].sum()) < SMALLEST_AREA:
            return None
        count, labels = cv2.connectedComponents(np.uint8(mask), connectivity=8)
        sizes = np.bincount(labels[mask], weights=area[mask], minlength=count)
        inside = self._radii(mask)
        nearest, found = np.inf, None
        for part in np.nonzero(sizes >= SMALLEST_AREA)[0]:
            surface: Mask = labels == part
            distance = float(np.median(self.free[surface]))
            height, width = (float(np.ptp(np.flatnonzero(span))) for span in _spans(surface))
            if np.hypot(height, width) * float(np.median(self.pitch[surface])) > LONGEST_ARM:
                continue
            if radii[0] <= inside[surface].max() <= radii[1] and distance < nearest:
                nearest, found = distance, surface
        return found

    def _radii(self, mask: Mask) -> Image:
        """For each pixel the largest disc around it inside the mask, mm; 0 outside."""
        pixels = cv2.distanceTransform(np.uint8(mask), cv2.DIST_L2, 3)
        # A mask without an edge has no largest disc; the image's own size stands for it.
        pixels = np.minimum(pixels, max(mask.shape))
        radii: Image = pixels * np.where(mask, self.pitch, 0)
        return radii

    def _grow(self, seed: Mask, near: float) -> tuple[Mask, Mask]:
        """The surface around the seed (region growing), and the pixels where it continues beyond that.

        It ends at the frame's border, REACH behind its nearest point, and where it becomes broader than a hand.
        """
        reachable = np.isfinite(self.free)
        within = reachable & (self.free >= near - SLAB) & (self.free <= near + REACH)
        surface = _connected(within, seed)
        core = self._radii(surface) > RADII[0][1]
        if core.any():
            from_core = cv2.distanceTransform(np.uint8(~core), cv2.DIST_L2, 3) * np.where(surface, self.pitch, 0)
            narrow = surface & (from_core > RADII[0][1] + 10.0)
            surface = _connected(narrow, seed) if (narrow & seed).any() else seed
        elsewhere = cv2.dilate(np.uint8(reachable & ~surface), np.ones((3, 3), np.uint8)).astype(bool)
        return surface, surface & (elsewhere | _border(surface))

    def _far_end(self, surface: Mask, entries: Mask) -> Mask:
        """The last HAND_LENGTH of a surface, measured along it from where it enters."""
        rows, columns = (slice(int(part[0]), int(part[-1]) + 1) for part in map(np.flatnonzero, _spans(surface)))
        window = (rows, columns)
        paths = _Paths(surface[window], self.depth[window], self.pitch[window])
        entries = self._wide_parts(entries)[window]
        far = _last(paths.distances(entries)) if entries.any() else self._free_hand(paths, window)
        hand = np.zeros_like(surface)
        hand[window] = far
        return hand

    def _free_hand(self, paths: _Paths, window: tuple[slice, slice]) -> Mask:
        """The hand of a surface that lies in the frame on its own."""
        somewhere = np.zeros_like(paths.surface)
        somewhere[np.unravel_index(int(paths.surface.argmax()), somewhere.shape)] = True
        there = paths.distances(somewhere)
        first = there >= there.max()
        from_first = paths.distances(first)
        second = from_first >= from_first.max()
        if from_first.max() <= FREE_HAND_LENGTH:
            return paths.surface
        ends = (paths.distances(end) for end in (first, second))  # each is far from the other one
        return _last(max(ends, key=lambda distance: self._fingers(distance, window)))

    def _fingers(self, distance: Image, window: tuple[slice, slice]) -> float:
        """How much the far end of a surface looks like fingers rather than like the stump of an arm.

        Fingers have more outline (squared perimeter over area) and a narrower tip. On synthetic hands with a floating
        forearm the exponent 1/2 of the tip's area chooses the wrong end in 4.5 % of the frames, outline alone in 8 %.
        """
        end, pitch = _last(distance), self.pitch[window]
        outline = end & (cv2.erode(np.uint8(np.pad(end, 1)), np.ones((3, 3), np.uint8))[1:-1, 1:-1] == 0)
        tip = distance > distance.max() - TIP_LENGTH
        raggedness = pitch[outline].sum() ** 2 / (pitch[end] ** 2).sum()
        return float(raggedness / np.sqrt((pitch[tip] ** 2).sum()))

    def _wide_parts(self, entries: Mask) -> Mask:
        """Those of the connected parts of the entries that are as wide as an arm."""
        count, labels = cv2.connectedComponents(np.uint8(entries), connectivity=8)
        widths = np.bincount(labels[entries], weights=self.pitch[entries], minlength=count)
        wide: Mask = entries & (widths[labels] >= NARROWEST_ENTRY)
        return wide


class _Paths:
    """Lengths of paths on a surface, as steps between neighbouring pixels.

    Args:
        surface: the pixels [h, w].
        depth: mm, of each pixel.
        pitch: mm from each pixel to its neighbour, across.
    """

    def __init__(self, surface: Mask, depth: Image, pitch: Image) -> None:
        self.surface = surface
        # Noise would make paths longer: the depth is smoothed.
        weight = cv2.blur(np.float32(surface), (5, 5))
        smooth = cv2.blur(np.where(surface, depth, 0).astype(np.float32), (5, 5)) / np.maximum(weight, 1e-6)
        within, z, across = (np.pad(part, 1).ravel() for part in (surface, smooth, np.where(surface, pitch, 0)))
        width = surface.shape[1] + 2
        self._along: list[Image] = []  # for each direction, lengths of its paths from their first pixel
        for offset, diagonal in ((1, 1.0), (width, 1.0), (width + 1, 2**0.5), (width - 1, 2**0.5)):
            rows = -(-len(z) // offset)
            steps = np.full(rows * offset, _BARRIER)
            joined = within[offset:] & within[:-offset]
            sideways = diagonal * (across[offset:] + across[:-offset]) / 2
            # An edge inside the hand is no detour: a finger that is behind another is not longer for it.
            step = np.hypot(sideways, np.minimum(np.abs(z[offset:] - z[:-offset]), 2 * sideways))
            steps[offset : len(z)] = np.where(joined, step, _BARRIER)
            steps[:offset] = 0
            self._along.append(steps.reshape(rows, offset).cumsum(0))

    def distances(self, sources: Mask) -> Image:
        """Length of the shortest path to each pixel of the surface from any of the sources, mm; -inf elsewhere.

        Paths go to the eight neighbours. A pass relaxes all paths of one direction at once, as an accumulated minimum.
        """
        height, width = self.surface.shape
        distance: Image = np.pad(np.where(sources & self.surface, 0.0, _BARRIER), 1, constant_values=_BARRIER).ravel()
        for _ in range(_ROUNDS):
            before = distance.copy()
            for along in self._along:
                rows: Image = np.full(along.size, _BARRIER)
                rows[: len(distance)] = distance
                rows = rows.reshape(along.shape)
                down = np.minimum.accumulate(rows - along) + along
                up = np.minimum.accumulate((rows + along)[::-1])[::-1] - along
                distance = np.minimum(np.minimum(down, up), rows).ravel()[: len(distance)]
            if float((before - distance).max()) < 1.0:
                break
        distance = distance.reshape(height + 2, width + 2)[1:-1, 1:-1]
        return np.where(self.surface & (distance < _BARRIER / 2), distance, -np.inf)


def _last(distance: Image) -> Mask:
    """The pixels within HAND_LENGTH of the farthest ones; one or two outliers are no end."""
    third = min(3, distance.size)
    farthest = float(np.partition(distance, -third, axis=None)[-third])
    last: Mask = distance >= farthest - HAND_LENGTH
    return last


def _spans(mask: Mask) -> tuple[Mask, Mask]:
    return np.any(mask, 1), np.any(mask, 0)


def _border(mask: Mask) -> Mask:
    """The pixels of a mask at the image's border."""
    border = np.zeros_like(mask)
    border[0], border[-1], border[:, 0], border[:, -1] = mask[0], mask[-1], mask[:, 0], mask[:, -1]
    return border


def _connected(mask: Mask, seed: Mask) -> Mask:
    """What of the mask is connected with the seed."""
    _, labels = cv2.connectedComponents(np.uint8(mask), connectivity=8)
    connected: Mask = mask & np.isin(labels, np.unique(labels[seed & mask]))
    return connected
