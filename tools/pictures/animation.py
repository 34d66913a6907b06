# SPDX-License-Identifier: MIT
"""The moving picture of the README: hands that move, and the joints that the bundled model estimates in each frame.

`python -m tools.pictures.animation` writes docs/pictures/hands.gif.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from poseren_ext import Estimator
from poseren_ext.ops import depth_crop, normalize_pose
from poseren_ext.plotting import draw_crop, draw_skeleton
from poseren_ext.plotting.style import new_figure
from poseren_ext.synthetic import SyntheticSequence
from tools.pictures.__main__ import FOLDER

SEQUENCES = (7, 3, 12)
FRAMES, FRAMES_PER_SECOND, COLORS = 30, 12, 48
LARGEST = 1_000_000  # bytes


def main() -> None:
    """Draw and write the GIF."""
    path = FOLDER / "hands.gif"
    pictures = [Image.fromarray(picture) for picture in draw()]
    # One palette for all: the background does not flicker, and every finger keeps its colour.
    palette = pictures[len(pictures) // 2].quantize(COLORS, kmeans=3)
    first, *others = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    first.save(path, save_all=True, append_images=others, duration=1000 // FRAMES_PER_SECOND, loop=0, optimize=True)
    size = Path(path).stat().st_size
    print(f"{path.name}: {size / 1000:.0f} kB")
    if size > LARGEST:
        raise SystemExit(f"{path} has {size} bytes; expected at most {LARGEST}")


def draw() -> list[np.ndarray]:
    """The pictures, uint8 [H, W, 3], forwards and backwards so that the end meets the start."""
    hands = []
    for number in SEQUENCES:
        sequence = SyntheticSequence(seed=7, split="test", number=number)
        estimator = Estimator(camera=sequence.camera)
        depth = sequence.frames(torch.arange(FRAMES)).depth
        pose = estimator(depth)
        uvd = torch.as_tensor(pose.uvd)
        center = uvd.mean(1)  # the centre of the detection may jump between two frames
        crops = depth_crop(depth, center, sequence.camera)[:, 0].numpy()
        hands.append((crops, normalize_pose(uvd, center, sequence.camera).numpy(), pose.skeleton))
    pictures = []
    for frame in range(FRAMES):
        figure = new_figure(2.2 * len(hands), 2.2)
        for axes, (crops, poses, skeleton) in zip(figure.subplots(1, len(hands)), hands, strict=True):
            draw_crop(axes, crops[frame])
            draw_skeleton(axes, poses[frame], skeleton)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        pictures.append(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    return pictures + pictures[-2:0:-1]


if __name__ == "__main__":
    main()
