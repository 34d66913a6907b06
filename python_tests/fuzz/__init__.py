# SPDX-License-Identifier: MIT
"""Hostile input for every reader and every op: seeds, mutations, harnesses, and a driver (`python -m fuzz`)."""

READERS = (
    *("png", "bin", "npy", "npz", "labels", "continued labels", "table", "training toml", "model json", "model"),
    *("checkpoint", "pack", "caffemodel", "joints csv", "joints json", "joints npz"),
)
OPS = (
    *("hand_center", "depth_crop", "normalize_pose", "denormalize_pose", "roi_windows", "pose_roi_pool"),
    "cascade_refine",
)
NATIVE = (*OPS, "png to pose", "npy to pose")
"""Targets that enter the native code."""
