# SPDX-License-Identifier: MIT
"""`python -m poseren_ext.synthetic`: synthetic frames as files, or as a contact sheet."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from poseren_ext.geometry.skeleton import SKELETONS
from poseren_ext.ops import depth_crop, normalize_pose
from poseren_ext.plotting import draw_crop, draw_skeleton, save
from poseren_ext.synthetic import SyntheticHands
from poseren_ext.synthetic.export import export_frames
from poseren_ext.synthetic.scene import SUBJECTS

_COLUMNS = 8


def contact_sheet(hands: SyntheticHands, path: Path, count: int) -> None:
    """A picture of the first frames' crops, every other one with its joints.

    Raises:
        ValueError: fewer than one frame.
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


def main() -> None:
    """Writes frames or a contact sheet."""
    parser = argparse.ArgumentParser(prog="python -m poseren_ext.synthetic", description=__doc__)
    parser.add_argument("target", type=Path, help="a folder; with --sheet a picture")
    parser.add_argument("--sheet", action="store_true", help="a contact sheet of the crops instead of files")
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--split", choices=tuple(SUBJECTS), default="train")
    parser.add_argument("--skeleton", choices=tuple(SKELETONS), default="msra21")
    given = parser.parse_args()
    hands = SyntheticHands(given.seed, given.split, skeleton=given.skeleton)
    if given.sheet:
        contact_sheet(hands, given.target, given.frames)
    else:
        export_frames(hands, given.target, given.frames)


if __name__ == "__main__":
    main()
