# SPDX-License-Identifier: MIT
"""Contact sheets of synthetic hands and scenes."""

from __future__ import annotations

from pathlib import Path

import torch

from poseren_ext.geometry.skeleton import SKELETONS
from poseren_ext.ops import depth_crop, normalize_pose
from poseren_ext.plotting import draw_crop, draw_skeleton, save
from poseren_ext.synthetic import SyntheticHands
from poseren_ext.synthetic.scenes import LEFT, NO_HAND, RIGHT, SCENE_KINDS, SyntheticScenes

_COLUMNS = 8
_SCENE_COLUMNS = 6
SIDE_COLORS = {RIGHT: "#D55E00", LEFT: "#0072B2"}
_FARTHEST = 1500.0  # mm: the shade of what is farther is constant


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


def scene_sheet(scenes: SyntheticScenes, path: Path, count: int) -> None:
    """Draw the first frames with the joints of right hands in orange and of left hands in blue.

    Args:
        scenes: the set.
        path: the picture to write.
        count: number of frames.
    """
    from matplotlib.figure import Figure

    rows = -(-count // _SCENE_COLUMNS)
    frames = scenes.frames(torch.arange(count))
    height, width = frames.depth.shape[1:]
    figure = Figure(figsize=(2.0 * _SCENE_COLUMNS, (2.0 * height / width + 0.2) * rows), layout="constrained")
    for k, axes in enumerate(figure.subplots(rows, _SCENE_COLUMNS, squeeze=False).flat):
        axes.axis("off")
        if k >= count:
            continue
        depth = frames.depth[k]
        shade = torch.where(depth > 0, 0.35 + 0.6 * depth.clamp(max=_FARTHEST) / _FARTHEST, 1.0)
        axes.imshow(shade.numpy(), cmap="gray", vmin=0, vmax=1)
        axes.set_title(SCENE_KINDS[int(frames.kind[k])], fontsize=8, pad=2)
        for hand in (frames.side[k] != NO_HAND).nonzero()[:, 0]:
            u, v, _ = frames.uvd[k, hand].unbind(1)
            axes.scatter(u, v, s=3, c=SIDE_COLORS[int(frames.side[k, hand])])
        axes.set_xlim(-0.5, width - 0.5)
        axes.set_ylim(height - 0.5, -0.5)
    save(figure, path)
