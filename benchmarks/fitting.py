# SPDX-License-Identifier: MIT
"""Random heads whose last layer is fitted to poses, so that their stages move the pose as a trained model does.

With random weights alone the windows would not move after the first stage, which flatters an implementation that skips
unchanged work.
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
        head: the head; its last layer is replaced.
        features: [N, C, H, W] of the frames.
        poses: [T+2, N, J, 3], see ``Trajectories.targets``.
    """
    stage_windows = torch.stack([windows(pose, head.config) for pose in poses[:-1]])  # [T+1, N, M, 4]
    moved = torch.cat(
        [
            torch.ones_like(stage_windows[:1, :, 0, 0], dtype=torch.bool),
            (stage_windows[1:] != stage_windows[:-1]).flatten(2).any(2),
        ]
    )
    stage, frame = moved.nonzero(as_tuple=True)
    _fit(
        head, lambda rows: hidden(head, features[frame[rows]], poses[stage[rows], frame[rows]]), poses[stage + 1, frame]
    )


def fit_initial(head: RegionEnsemble, features: Tensor, poses: Tensor) -> None:
    """Fit an Init-CNN's head so that features [N, C, H, W] lead to poses [N, J, 3]."""
    _fit(head, lambda rows: hidden(head, features[rows], None), poses)


def hidden(head: RegionEnsemble, features: Tensor, pose: Tensor | None) -> Tensor:
    """Input of the last layer [B, F*W2]."""
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
    region_hidden = [F.relu(F.linear(regions[:, m].flatten(1), *layer)) for m, layer in _groups(head, "region")]
    fingers = [
        F.relu(F.linear(torch.cat([region_hidden[m] for m in config.tree[f]], 1), *layer))
        for f, layer in _groups(head, "finger")
    ]
    return torch.cat(fingers, 1)


def _groups(head: RegionEnsemble, layer: str) -> list[tuple[int, tuple[Tensor, Tensor]]]:
    pairs = zip(getattr(head, f"{layer}_weight"), getattr(head, f"{layer}_bias"), strict=True)
    return list(enumerate(pairs))


@torch.no_grad()
def _fit(head: RegionEnsemble, inputs_of: Callable[[Tensor], Tensor], poses: Tensor) -> None:
    """Ridge regression from the last layer's input to poses [R, J, 3], in its dual form because there are few rows."""
    rows = torch.split(torch.arange(len(poses)), _ROWS)
    inputs = torch.cat([inputs_of(part) for part in rows]).double()
    wanted = poses.flatten(1).double()
    mean_input, mean_wanted = inputs.mean(0), wanted.mean(0)
    inputs -= mean_input
    gram = inputs @ inputs.T
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    weight = torch.linalg.solve(gram, wanted - mean_wanted).T @ inputs
    head.pose_weight.copy_(weight)
    head.pose_bias.copy_(mean_wanted - weight @ mean_input)
