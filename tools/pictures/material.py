# SPDX-License-Identifier: MIT
"""Inputs of the pictures: a moving synthetic hand, and the results of the bundled model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from poseren_ext import PoseREN, Skeleton, load_model, ops
from poseren_ext.datasets.sample import FrameBatch
from poseren_ext.plotting.style import FINGER_COLORS, new_figure
from poseren_ext.synthetic import SyntheticSequence

SEED, SEQUENCE, FRAME = 7, 7, 20
STAGES = 3
CELLS, CELL = 12, 8  # the feature map's side, and a cell's, in pixels of the crop


@dataclass(frozen=True)
class Material:
    """A few frames [N, H, W] of a hand, and all results; pictures of a single frame show frame 0.

    Attributes:
        model: the bundled model.
        frames: depth, camera, centre and true joints.
        far: depth of the far end of the forearm of frame 0, mm.
        crop: [N, 1, 96, 96].
        truth: normalised joints [N, J, 3].
        features: [N, C, 12, 12].
        stages: normalised poses [T+1, N, J, 3].
    """

    model: PoseREN
    frames: FrameBatch
    far: float
    crop: Tensor
    truth: Tensor
    features: Tensor
    stages: Tensor

    @classmethod
    def make(cls) -> Material:
        """Render the frames and run the model on them."""
        model = load_model("demo")
        sequence = SyntheticSequence(SEED, "test", number=SEQUENCE)
        frames = sequence.frames(torch.arange(FRAME, FRAME + 6))
        far = float(sequence.farthest(frames.index[:1]))
        crop = frames.crop(96)
        truth = frames.normalized(frames.uvd)
        with torch.inference_mode():
            features = model.backbone(crop)
            stages, _ = ops.cascade_refine(features, model.init(crop), model.head, stages=STAGES)
        return cls(model, frames, far, crop, truth, features, stages)

    @property
    def skeleton(self) -> Skeleton:
        """Skeleton of the model."""
        return self.model.skeleton

    @property
    def guided(self) -> tuple[int, ...]:
        """The guided joints."""
        return self.model.head.config.joints

    def color(self, joint: int) -> str:
        """The colour of a joint's finger."""
        return FINGER_COLORS[self.skeleton.finger_of[joint]]


def canvas(width: float, height: float) -> Figure:
    """An empty figure for square pictures with titles; size in inches."""
    figure = new_figure(width, height)
    figure.set_layout_engine("compressed")
    return figure


def to_normalized(pixel: float) -> float:
    """Crop pixels to the normalised coordinate of `draw_crop`'s axes."""
    return 2 * pixel / (CELLS * CELL - 1) - 1


def draw_cells(axes: Any) -> None:
    """Draw the borders of the feature cells over a crop."""
    for edge in range(CELLS + 1):
        place = to_normalized(edge * CELL - 0.5)
        axes.axvline(place, color="#0072B2", linewidth=0.4, alpha=0.35, zorder=1)
        axes.axhline(place, color="#0072B2", linewidth=0.4, alpha=0.35, zorder=1)


def draw_window(axes: Any, window: Any, color: str, **style: Any) -> None:
    """Draw a window of cells (first column, first row, last column, last row) over a crop."""
    left, top, right, bottom = (
        to_normalized(cell * CELL - 0.5) for cell in (*window[:2], window[2] + 1, window[3] + 1)
    )
    style = {"fill": False, "linewidth": 1.6, "alpha": 0.85, "zorder": 2, **style}
    axes.add_patch(Rectangle((left, top), right - left, bottom - top, edgecolor=color, **style))


def plain(axes: Any, title: str = "") -> None:
    """Remove the ticks and set a title."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color("#BBBBBB")
    if title:
        axes.set_title(title, fontsize=11, color="#222222")


def as_grey(depth: Any) -> Any:
    """A frame in mm for `imshow`, where missing depth is white."""
    frame = np.asarray(depth, dtype=float)
    return np.where(frame > 0, frame, np.nan)
