# SPDX-License-Identifier: MIT
"""Synthetic hands with the fingers up, as in NYU's recordings, in memory and as a folder in NYU's format."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import torch
from scipy.io import savemat

from helpers.dataset_trees import EVALUATED, nyu_encoded
from poseren_ext.datasets.sample import FrameBatch
from poseren_ext.geometry.camera import CAMERAS
from poseren_ext.synthetic import SyntheticHands
from poseren_ext.synthetic.export import stored_depth
from poseren_ext.synthetic.scene import Scene
from poseren_ext.training.synthetic_batches import SyntheticStream, render_tiles

JOINTS = 36  # in NYU's label files
_BATCH = 16


class UprightHands(SyntheticHands):
    """Synthetic hands that are not rotated in the image plane, 650 to 1000 mm away."""

    tilt: ClassVar[float] = 1.0
    """Factor of the rotation out of the image plane, which is up to 60 degrees."""

    def scenes(self, index: torch.Tensor) -> Scene:
        scene = super().scenes(index)
        turn = torch.cat([torch.zeros_like(scene.turn[:, :1]), self.tilt * scene.turn[:, 1:]], 1)
        return dataclasses.replace(scene, turn=turn, depth=650.0 + (scene.depth - 350.0) * 350.0 / 650.0)


class FrontalHands(UprightHands):
    """Upright hands whose palms are up to 36 degrees from the camera."""

    tilt: ClassVar[float] = 0.6


def training_frames(count: int, kind: type[UprightHands] = UprightHands) -> FrameBatch:
    """A training set of upright hands with NYU's joints."""
    size = SyntheticStream.TILE_SIZE
    hands = kind(3, "train", 1.0, "nyu14")
    return render_tiles(hands, 0, count, size=size, margin=(size - 1) / 95)


def unseen_frames(count: int, kind: type[UprightHands] = UprightHands) -> FrameBatch:
    """Upright hands of other subjects."""
    return render_tiles(kind(4, "validation", 1.0, "nyu14"), 0, count)


def write_nyu(root: Path, frames: dict[str, int]) -> None:
    """Writes upright hands in NYU's format.

    Args:
        root: the dataset's folder.
        frames: split ("train" or "test") -> number of frames.
    """
    for seed, (split, count) in enumerate(frames.items()):
        (root / split).mkdir(parents=True)
        hands = UprightHands(seed, "train" if split == "train" else "test", 1.0, "nyu14", CAMERAS["nyu"])
        uvd, xyz = np.zeros((count, JOINTS, 3)), np.zeros((count, JOINTS, 3))
        for first in range(0, count, _BATCH):
            index = torch.arange(first, min(first + _BATCH, count))
            batch, fars = hands.frames(index), hands.farthest(index).tolist()
            uvd[index[:, None], EVALUATED], xyz[index[:, None], EVALUATED] = batch.uvd.numpy(), batch.xyz.numpy()
            for number, depth, far in zip(index.tolist(), stored_depth(batch.depth), fars, strict=True):
                near = np.where(depth <= far, depth, 0).astype(np.uint16)
                for name, image in (("depth", depth), ("synthdepth", near)):
                    assert cv2.imwrite(str(root / split / f"{name}_1_{number + 1:07d}.png"), nyu_encoded(image))
        # Camera 1 of three; y points up in the file.
        labels = {"joint_uvd": np.stack([uvd] * 3), "joint_xyz": np.stack([xyz * [1, -1, 1]] * 3)}
        savemat(root / split / "joint_data.mat", labels)
