# SPDX-License-Identifier: MIT
"""The compiled ops as typed functions: each validates its arguments and calls its native op.

They run on CPU and CUDA tensors, under autograd, autocast, torch.compile, torch.export and torch.func.vmap. Every
tensor leads with a batch axis; left out of all arguments, it is left out of the results. Numpy arrays and others that
speak DLPack do as well as tensors, and then such arrays come back. The same functions in plain PyTorch are in
``poseren_ext.reference``.
"""

from poseren_ext._utils.arrays import takes_arrays
from poseren_ext.ops import _registrations, cascade, image, roi
from poseren_ext.ops.cascade import PackedHead, pack_head

_registrations.register("poseren")

cascade_refine = takes_arrays(cascade.cascade_refine)
denormalize_pose = takes_arrays(image.denormalize_pose)
depth_crop = takes_arrays(image.depth_crop)
hand_center = takes_arrays(image.hand_center)
normalize_pose = takes_arrays(image.normalize_pose)
pose_roi_pool = takes_arrays(roi.pose_roi_pool)
roi_windows = takes_arrays(roi.roi_windows)
run_grid = takes_arrays(cascade.run_grid)

__all__ = [
    "PackedHead",
    "cascade_refine",
    "denormalize_pose",
    "depth_crop",
    "hand_center",
    "normalize_pose",
    "pack_head",
    "pose_roi_pool",
    "roi_windows",
    "run_grid",
]
