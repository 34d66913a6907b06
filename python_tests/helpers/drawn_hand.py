# SPDX-License-Identifier: MIT
"""A depth frame of a schematic hand."""

import numpy as np

from poseren_ext import Camera

DRAWN_CAMERA = Camera(240, 240, 159.5, 119.5)


def hand(mm=500.0, u=160, v=120, wall=0.0, radius=45.0):
    """320x240 pixels: a disc of a palm's size with five fingers, mm away, before a wall or nothing."""
    rows, columns = np.mgrid[:240, :320]
    x, y = (columns - u) * mm / 240, (rows - v) * mm / 240
    shape = x**2 + y**2 < radius**2
    for angle in np.radians((-160, -120, -90, -60, -30)):
        along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        shape |= (np.abs(across) < 9) & (along > 0) & (along < 2 * radius)
    return np.where(shape, mm, wall).astype(np.float32)
