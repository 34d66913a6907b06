# SPDX-License-Identifier: MIT
"""Pictures of a model's estimates: the worst frames of each test split above the labels, and recorded frames.

`python -m tools.pictures.answers worst` and, with POSEREN_TEST_DATA set, `python -m tools.pictures.answers recorded`.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from matplotlib.figure import Figure

from poseren_ext import Estimator
from poseren_ext.geometry.camera import CAMERAS, Camera, uvd_to_xyz
from poseren_ext.io.depth_files import find_frames
from poseren_ext.models import PoseREN
from poseren_ext.models.files import BOTH
from poseren_ext.ops import depth_crop, normalize_pose
from poseren_ext.plotting import draw_crop, draw_skeleton, save
from poseren_ext.plotting.style import new_figure
from poseren_ext.synthetic import SPLIT_KINDS, split_hands
from poseren_ext.synthetic.export import stored_depth
from tools.pictures.__main__ import FOLDER

_WORST = 12
_CELL = 1.3  # inches


def worst_frames(model: PoseREN | str, kind: str, count: int) -> Figure:
    """The twelve frames of a test split with the largest mean joint error: the estimate above, the labels below.

    Args:
        model: a model of right hands with MSRA's joints, or its name.
        kind: name of the split.
        count: how many frames the twelve are chosen from.
    """
    hands = split_hands(kind)  # type: ignore[arg-type]  # one of the names
    estimator = Estimator(model, camera=hands.camera, hand="right")
    skeleton = estimator.model.skeleton
    crops, estimates, labels, errors = [], [], [], []
    for first in range(0, count, 16):
        frames = hands.frames(torch.arange(first, min(first + 16, count)))
        depth = stored_depth(frames.depth)
        uvd = torch.as_tensor(estimator(depth, center=frames.center).uvd).float()
        error = (uvd_to_xyz(uvd.double(), hands.camera, check=False) - frames.xyz.double()).norm(dim=-1).mean(1)
        crops.append(depth_crop(frames.depth, frames.center, hands.camera)[:, 0])
        estimates.append(normalize_pose(uvd, frames.center, hands.camera))
        labels.append(normalize_pose(frames.uvd, frames.center, hands.camera))
        errors.append(error)
    error = torch.cat(errors)
    order = error.argsort(descending=True)[:_WORST]
    figure = new_figure(_CELL * len(order), 2 * _CELL)
    axes = figure.subplots(2, len(order), squeeze=False)
    for column, k in enumerate(order.tolist()):
        for row, poses in enumerate((estimates, labels)):
            draw_crop(axes[row, column], torch.cat(crops)[k].numpy())
            draw_skeleton(axes[row, column], torch.cat(poses)[k].numpy(), skeleton, size=0.5)
        axes[0, column].set_title(f"{float(error[k]):.0f} mm", fontsize=8)
    return figure


def recorded_frames(model: PoseREN | str, folder: Path, hand: Literal["right", "auto"] = "right") -> Figure:
    """The joints in frames of an SR305 camera and in one of NYU, in which the library detects the hand.

    Args:
        model: a model of right hands with MSRA's joints, or its name.
        folder: with `sr305/*/*.png` (1/8 mm) and `nyu/depth_1_0000001.png`; they show right hands.
        hand: the hand setting of the estimator.
    """
    shown: list[tuple[np.ndarray, Camera, float]] = []
    for path in sorted((folder / "sr305").glob("*")):
        shown += [(np.asarray(file.read()), CAMERAS["sr305"], 0.125) for file in find_frames([path])]
    nyu = find_frames([folder / "nyu" / "depth_1_0000001.png"])[0]
    shown.append((np.asarray(nyu.read()), CAMERAS["nyu"], 1.0))
    columns = 10
    rows = -(-len(shown) // columns)
    figure = new_figure(_CELL * columns, _CELL * rows)
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for one in axes:
        one.axis("off")
    for one, (depth, camera, unit) in zip(axes, shown, strict=False):
        estimator = Estimator(model, camera=camera, hand=hand, depth_unit=unit)
        result = estimator(depth)
        millimetres = torch.from_numpy(depth.astype(np.float32) * unit)[None]
        center, uvd = torch.as_tensor(result.center)[None], torch.as_tensor(result.uvd)[None]
        draw_crop(one, depth_crop(millimetres, center, camera)[0, 0].numpy())
        draw_skeleton(one, normalize_pose(uvd, center, camera)[0].numpy(), estimator.model.skeleton, size=0.5)
    return figure


def main() -> None:
    """Draws one kind of picture."""
    parser = argparse.ArgumentParser(prog="python -m tools.pictures.answers", description=__doc__)
    parser.add_argument("what", choices=("worst", "recorded"))
    parser.add_argument("--model", default=BOTH)
    parser.add_argument("--hand", choices=("right", "auto"), default="right", help="of the recorded frames")
    parser.add_argument("--frames", type=int, default=128, help="of each split, to choose the worst from")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    given = parser.parse_args()
    if given.what == "recorded":
        save(
            recorded_frames(given.model, Path(os.environ["POSEREN_TEST_DATA"]), given.hand),
            given.folder / "recorded.png",
        )
        return
    for kind in SPLIT_KINDS:
        save(worst_frames(given.model, kind, given.frames), given.folder / f"worst_{kind}.png")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
