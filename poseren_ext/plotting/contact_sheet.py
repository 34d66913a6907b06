# SPDX-License-Identifier: MIT
"""Contact sheets of synthetic hands."""

from __future__ import annotations

from pathlib import Path

import torch

from poseren_ext.geometry.skeleton import SKELETONS
from poseren_ext.ops import depth_crop, normalize_pose
from poseren_ext.plotting import draw_crop, draw_skeleton, save
from poseren_ext.synthetic import SyntheticHands

_COLUMNS = 8


def contact_sheet(hands: SyntheticHands, path: Path, count: int) -> None:
    """Draw the crops of the first frames, every second one with its joints.

    Args:
        hands: the synthetic set.
        path: the picture to write.
        count: number of frames.

    Raises:
        ValueError: count is less than 1.
    """
    from matplotlib.figure import Figure

    if count < 1:
        raise ValueError(f"count is {count}; expected at least one frame")
    rows = -(-count // _COLUMNS)
    tiles = hands.tiles(torch.arange(count))
    crops = depth_crop(tiles.depth, tiles.center, tiles.camera, cube=hands.cube)[:, 0]
    poses = normalize_pose(tiles.uvd, tiles.center, tiles.camera, cube=hands.cube)
    figure = Figure(figsize=(1.3 * _COLUMNS, 1.3 * rows), layout="constrained")
    for k, axes in enumerate(figure.subplots(rows, _COLUMNS).flat):
        if k >= count:
            axes.axis("off")
            continue
        draw_crop(axes, crops[k].numpy())
        if k % 2:
            draw_skeleton(axes, poses[k].numpy(), SKELETONS[hands.skeleton], size=0.4)
    save(figure, path)
