# SPDX-License-Identifier: MIT
"""Heads of random features whose last layer is fitted to poses: stages that move as a trained model's do.

Random weights alone would freeze the windows after the first stage and flatter whatever skips what has not moved.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.trajectory import windows
from poseren_ext import reference
from poseren_ext.models import RegionEnsemble

RIDGE = 1e-4
"""Regularisation, in units of the mean squared length of a (centred) feature vector."""
_ROWS = 256


def fit_cascade(head: RegionEnsemble, features: Tensor, poses: Tensor) -> None:
    """Fit a guided head so that each stage's pose leads to the next.

    Args:
        head: its last layer is set.
        features: [N, C, H, W] of the frames.
        poses: [T+2, N, J, 3], see ``Trajectories.targets``.
    """
    seen = torch.stack([windows(pose, head.config) for pose in poses[:-1]])  # [T+1, N, M, 4]
    moved = torch.cat([torch.ones_like(seen[:1, :, 0, 0], dtype=torch.bool), (seen[1:] != seen[:-1]).flatten(2).any(2)])
    stage, frame = moved.nonzero(as_tuple=True)
    _fit(
        head, lambda rows: hidden(head, features[frame[rows]], poses[stage[rows], frame[rows]]), poses[stage + 1, frame]
    )


def fit_initial(head: RegionEnsemble, features: Tensor, poses: Tensor) -> None:
    """Fit an Init-CNN's head so that features [N, C, H, W] lead to poses [N, J, 3]."""
    _fit(head, lambda rows: hidden(head, features[rows], None), poses)


def hidden(head: RegionEnsemble, features: Tensor, pose: Tensor | None) -> Tensor:
    """What the last layer sees [B, F*W2]."""
    config = head.config
    if pose is None:
        regions = head.regions(features)
    else:
        regions = reference.pose_roi_pool(
            features,
            pose,
            config.joints,
            output_size=config.cells,
            image_size=config.image_size,
            roi_size=config.roi_size,
        )
    looked = [F.relu(F.linear(regions[:, m].flatten(1), *layer)) for m, layer in _groups(head, "region")]
    fingers = [
        F.relu(F.linear(torch.cat([looked[m] for m in config.tree[f]], 1), *layer))
        for f, layer in _groups(head, "finger")
    ]
    return torch.cat(fingers, 1)


def _groups(head: RegionEnsemble, layer: str) -> list[tuple[int, tuple[Tensor, Tensor]]]:
    pairs = zip(getattr(head, f"{layer}_weight"), getattr(head, f"{layer}_bias"), strict=True)
    return list(enumerate(pairs))


@torch.no_grad()
def _fit(head: RegionEnsemble, see: Callable[[Tensor], Tensor], poses: Tensor) -> None:
    """Ridge regression from what the last layer sees to poses [R, J, 3], in its dual form: rows are few."""
    rows = torch.split(torch.arange(len(poses)), _ROWS)
    seen = torch.cat([see(part) for part in rows]).double()
    wanted = poses.flatten(1).double()
    mean_seen, mean_wanted = seen.mean(0), wanted.mean(0)
    seen -= mean_seen
    gram = seen @ seen.T
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    weight = torch.linalg.solve(gram, wanted - mean_wanted).T @ seen
    head.pose_weight.copy_(weight)
    head.pose_bias.copy_(mean_wanted - weight @ mean_seen)
