# SPDX-License-Identifier: MIT
"""The compiled ops as typed functions: each validates its arguments and calls its native op.

They run on CPU and CUDA tensors, under autograd, autocast, torch.compile, torch.export and torch.func.vmap. Every
tensor leads with a batch axis; left out of all arguments, it is left out of the results. The same functions in plain
PyTorch are in ``poseren_ext.reference``.
"""

from poseren_ext.ops import _native  # noqa: F401  loads the compiled ops
from poseren_ext.ops.cascade import PackedHead, cascade_refine, pack_head
from poseren_ext.ops.image import denormalize_pose, depth_crop, hand_center, normalize_pose
from poseren_ext.ops.roi import pose_roi_pool, roi_windows

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
]
