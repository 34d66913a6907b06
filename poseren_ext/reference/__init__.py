# SPDX-License-Identifier: MIT
"""The ops in plain PyTorch: slow, and simple to read.

The tests compare the compiled ops with them, the benchmarks use them as a baseline, and they run wherever torch does.
The names, signatures and results are those of ``poseren_ext.ops``; gradients come from autograd.
"""

from poseren_ext.reference.cascade_refine import cascade_refine, moved_windows
from poseren_ext.reference.depth_crop import depth_crop
from poseren_ext.reference.hand_center import hand_center
from poseren_ext.reference.normalized_pose import denormalize_pose, normalize_pose
from poseren_ext.reference.pose_roi_pool import pose_roi_pool, roi_windows

__all__ = [
    "cascade_refine",
    "denormalize_pose",
    "depth_crop",
    "hand_center",
    "moved_windows",
    "normalize_pose",
    "pose_roi_pool",
    "roi_windows",
]
