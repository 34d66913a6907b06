# SPDX-License-Identifier: MIT
"""A web page that shows the hand in an uploaded depth image: `python examples/gradio_demo.py`.

Needs `pip install gradio`.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch

from poseren_ext import Estimator, NoHandError
from poseren_ext.ops import depth_crop, normalize_pose
from poseren_ext.plotting import draw_crop, draw_skeleton
from poseren_ext.plotting.style import new_figure


def estimate(file: str, camera: str, depth_unit: float, hand: str) -> tuple[np.ndarray | None, list[list[object]], str]:
    """A picture of the crop with the joints, a table of the joints in mm, and a message."""
    depth = cv2.imread(file, cv2.IMREAD_UNCHANGED)
    if depth is None or depth.dtype != np.uint16 or depth.ndim != 2:
        return None, [], "Expected a 16-bit depth image with one channel (PNG or TIFF)."
    try:
        estimator = Estimator(camera=camera, hand=hand, depth_unit=depth_unit)
        pose = estimator(depth)
    except (NoHandError, ValueError) as error:
        return None, [], str(error)
    millimetres = torch.from_numpy(depth * np.float32(depth_unit))[None]
    center, uvd = torch.from_numpy(pose.center)[None], torch.from_numpy(pose.uvd)[None]
    figure = new_figure(4, 4)
    axes = figure.subplots()
    draw_crop(axes, depth_crop(millimetres, center, estimator.camera)[0, 0].numpy())
    draw_skeleton(axes, normalize_pose(uvd, center, estimator.camera)[0].numpy(), pose.skeleton)
    figure.canvas.draw()
    picture = np.asarray(figure.canvas.buffer_rgba())[..., :3]
    rows = [[name, *map(float, xyz.round(1))] for name, xyz in zip(pose.skeleton.joints, pose.joints, strict=True)]
    return picture, rows, f"{pose.hand[0]} hand at {pose.center[2]:.0f} mm"


def main() -> None:
    import gradio

    gradio.Interface(
        estimate,
        inputs=[
            gradio.File(label="16-bit depth image", type="filepath"),
            gradio.Textbox("sr305", label="camera: a name or fx,fy,cx,cy in pixels"),
            gradio.Number(1.0, label="mm per stored unit"),
            gradio.Radio(["right", "left", "auto"], value="right", label="hand"),
        ],
        outputs=[gradio.Image(), gradio.Dataframe(headers=["joint", "x", "y", "z"]), gradio.Textbox(label="result")],
        title="Hand joints from one depth image",
        flagging_mode="never",
    ).launch()


if __name__ == "__main__":
    main()
