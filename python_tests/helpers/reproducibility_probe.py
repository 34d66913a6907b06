# SPDX-License-Identifier: MIT
"""Writes the results of each part for fixed input: with 1 thread, again, and with 2; run by test_reproducibility.py."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from helpers.depth_cases import CAMERA, rough_frames
from helpers.heads import narrow_config, random_head, scene
from helpers.tiny_training import TINY
from poseren_ext import Estimator, ops
from poseren_ext.training import Trainer, make_config

DEPTH = rough_frames(0, (3, 40, 60), torch.uint16)
CENTER = torch.tensor([[30.0, 20.0, 800.0]]).repeat(3, 1)
HEAD = random_head(narrow_config(widths=(40, 32)), step=0.005)
FEATURES, POSE = scene(9, HEAD.config)


def estimate() -> list[Tensor]:
    rows, columns = np.mgrid[:120, :160]
    depth = np.where((rows - 60) ** 2 + (columns - 75) ** 2 < 110, 500 + columns // 8, 0).astype(np.uint16)
    return [torch.as_tensor(Estimator("demo", camera=(120, 120, 80, 60))(depth).joints)]


def pool_gradient() -> list[Tensor]:
    maps = FEATURES.clone().requires_grad_()
    return list(torch.autograd.grad(ops.pose_roi_pool(maps, POSE, HEAD.config.joints).square().sum(), maps))


def crop_gradient() -> list[Tensor]:
    depth = DEPTH.float().requires_grad_()
    return list(torch.autograd.grad(ops.depth_crop(depth, CENTER, CAMERA, size=32).square().sum(), depth))


def train() -> list[Tensor]:
    with tempfile.TemporaryDirectory() as folder:
        Trainer(make_config(TINY), Path(folder)).run()
        return list(load_file(Path(folder) / "model.safetensors").values())


TRAINING = "training of 12 steps, weights"
PARTS: dict[str, Callable[[], list[Tensor]]] = {
    "hand_center": lambda: list(ops.hand_center(DEPTH, near=300, far=900, iterations=2, camera=CAMERA)),
    "depth_crop": lambda: [ops.depth_crop(DEPTH, CENTER, CAMERA, size=48)],
    "depth_crop, gradient": crop_gradient,
    "roi_windows": lambda: [ops.roi_windows(POSE, HEAD.config.joints)],
    "pose_roi_pool": lambda: [ops.pose_roi_pool(FEATURES, POSE, HEAD.config.joints)],
    "pose_roi_pool, gradient": pool_gradient,
    "cascade_refine": lambda: [ops.cascade_refine(FEATURES, POSE, HEAD)[0]],
    "Estimator, joints in mm": estimate,
    TRAINING: train,
}
RUNS = (("first", 1), ("again", 1), ("two threads", 2))


def measure(names: list[str], runs: Sequence[tuple[str, int]] = RUNS) -> dict[str, np.ndarray]:
    """ "part/run": all that the part gave in that run, one after the other."""
    found = {}
    for run, threads in runs:
        torch.set_num_threads(threads)
        for name in names:
            torch.manual_seed(0)
            found[f"{name}/{run}"] = np.concatenate([t.detach().double().numpy().ravel() for t in PARTS[name]()])
    return found


if __name__ == "__main__":
    whole = sys.argv[2] == "whole"  # else once, and without training, whose products are torch's
    names = [name for name in PARTS if whole or name != TRAINING]
    results = measure(names, RUNS if whole else RUNS[:1])
    np.savez(sys.argv[1], **{key.replace("/", "|"): value for key, value in results.items()})
