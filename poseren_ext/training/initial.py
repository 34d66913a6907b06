# SPDX-License-Identifier: MIT
"""The poses that refining starts from in training (paper, section 3.4; section 4.3.4 for others than Init-CNN's)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import torch

from poseren_ext.data.augmentation import move_pose
from poseren_ext.data.batches import CropBatch
from poseren_ext.models import PoseREN
from poseren_ext.ops import normalize_pose
from poseren_ext.posefile import read_poses
from poseren_ext.training.config import TrainConfig
from poseren_ext.training.stream import PackStream, Stream

InitialPoses: TypeAlias = Callable[[CropBatch, torch.Tensor], torch.Tensor]
"""Normalised poses [B, J, 3] for a batch and its crops."""


def initial_poses(config: TrainConfig, model: PoseREN, stream: Stream) -> InitialPoses:
    """What the second phase's first stage is given, as `config.initial` says.

    Raises:
        FileNotFoundError: no such pose file.
        ValueError: a pose file with synthetic frames, or with another number of lines or joints than the pack.
    """
    if config.initial == "init":
        return lambda batch, crop: _predicted(model, crop)
    if config.initial == "mean":
        return lambda batch, crop: model.mean_pose.expand(len(crop), -1, -1)
    if not isinstance(stream, PackStream):
        raise ValueError(f"initial is {config.initial!r}; synthetic frames have no pose file: give 'init' or 'mean'")
    given = _from_file(Path(config.initial), stream)
    return lambda batch, crop: move_pose(given[batch.index.cpu()].to(crop.device), batch.transform)


@torch.no_grad()
def _predicted(model: PoseREN, crop: torch.Tensor) -> torch.Tensor:
    model.eval()
    pose: torch.Tensor = model.init(crop)
    return pose


def _from_file(path: Path, stream: PackStream) -> torch.Tensor:
    """Normalised poses [N, J, 3] of a file in the published format."""
    uvd, centers = stream.labels
    read = torch.from_numpy(read_poses(path, joints=uvd.shape[1], frames=len(uvd))).float()
    return normalize_pose(read, centers, stream.frames.info.camera, cube=stream.cube)
