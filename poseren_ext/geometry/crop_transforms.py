# SPDX-License-Identifier: MIT
"""One hand looked at several times, turned in the image plane: a network errs in another way each time."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from poseren_ext.datasets.augmentation import restore_pose


def turned_views(count: int, *, mirrored: bool = False, device: torch.device | str | None = None) -> Tensor:
    """Transforms of the crop [K, 2, 3]: ``count`` turns of equal size over the full circle, the first one none.

    Args:
        count: K.
        mirrored: left to right before the turn: one hand becomes the other.
        device: where they are wanted.
    """
    views = torch.zeros(count, 2, 3)
    for k in range(count):
        angle = 2 * math.pi * k / count
        c, s = round(math.cos(angle), 12), round(math.sin(angle), 12)  # a quarter is exact
        views[k, :, :2] = torch.tensor([[c, -s], [s, c]])
    if mirrored:
        views[:, :, 0] *= -1
    return views.to(device)


def mean_of_views(poses: Tensor, views: Tensor) -> Tensor:
    """The mean pose in the crop as it is.

    Args:
        poses: normalised [S, K * B, J, 3] of S stages, seen through view 0 for B samples, then through view 1, ...
        views: [K, 2, 3].

    Returns:
        [S, B, J, 3].
    """
    stages, K = poses.shape[0], len(views)
    rows = poses.view(stages, K, -1, 3).transpose(0, 1).flatten(1, 2)  # [K, S * B * J, 3]
    return restore_pose(rows, views).mean(0).view(stages, -1, *poses.shape[2:])
