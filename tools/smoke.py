# SPDX-License-Identifier: MIT
"""Compares every compiled op with the reference; tools/test_wheel.py runs it in the environment of a wheel."""

from __future__ import annotations

import argparse
from importlib import metadata

import torch

import poseren_ext
from poseren_ext import CAMERAS, ops, reference
from poseren_ext.ops import _native
from poseren_ext.synthetic import SyntheticHands


def main() -> None:
    """Check versions and build, then compare on every device."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("version")
    variant = parser.add_mutually_exclusive_group(required=True)
    variant.add_argument("--cuda", action="store_true")
    variant.add_argument("--cpu", action="store_true")
    arguments = parser.parse_args()
    assert arguments.version == metadata.version("poseren_ext") == poseren_ext.__version__
    built = _native.build_info()
    assert bool(built["cuda_architectures"]) == arguments.cuda, built
    for device in ["cpu", *(["cuda"] if arguments.cuda and torch.cuda.is_available() else [])]:
        compare(torch.device(device))
    print(f"torch {torch.__version__}: the ops of {built} agree with the reference")


def compare(device: torch.device) -> None:
    """Fail if a compiled op and the reference differ."""
    torch.manual_seed(0)
    model = poseren_ext.load_model("demo").to(device)
    frames = SyntheticHands(seed=1, split="test").frames(torch.arange(2))
    depth, camera, joints = frames.depth.to(device), CAMERAS["sr305"], model.head.config.joints
    with torch.inference_mode():
        center, _ = reference.hand_center(depth, near=1, far=900, iterations=2, camera=camera)
        pose = reference.normalize_pose(frames.uvd.to(device), center, camera)
        features = model.backbone(reference.depth_crop(depth, center, camera))
        results = [
            [
                *which.hand_center(depth, near=1, far=900, iterations=2, camera=camera),
                which.depth_crop(depth, center, camera),
                which.normalize_pose(frames.uvd.to(device), center, camera),
                which.denormalize_pose(pose, center, camera),
                which.roi_windows(pose, joints),
                which.pose_roi_pool(features, pose, joints, mode="max"),
                which.pose_roi_pool(features, pose, joints, mode="align"),
                *which.cascade_refine(features, pose, model.head),
            ]
            for which in (ops, reference)
        ]
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-3)


if __name__ == "__main__":
    main()
