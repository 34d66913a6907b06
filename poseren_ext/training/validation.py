# SPDX-License-Identifier: MIT
"""The error of a model in mm on frames that are not used in training."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import torch

from poseren_ext.datasets.packs.gpu_store import ResidentPack
from poseren_ext.datasets.sample import FrameBatch
from poseren_ext.evaluation.metrics import joint_errors
from poseren_ext.geometry.camera import uvd_to_xyz
from poseren_ext.models import PoseREN
from poseren_ext.synthetic import SyntheticHands
from poseren_ext.training.config import SYNTHETIC, TrainConfig
from poseren_ext.training.pack_batches import SIZE, open_pack
from poseren_ext.training.synthetic_batches import Progress, render_tiles
from poseren_ext.training.training_sets import PackFrames, TrainingSet

VALIDATION_SEED = 90_001
_BATCH = 128


@torch.no_grad()
def stage_poses(
    model: PoseREN, crop: torch.Tensor, initial: torch.Tensor | None = None, *, stages: int = 3
) -> torch.Tensor:
    """Normalised initial pose and that of every stage: [T+1, N, J, 3]."""
    model.eval()
    poses = []
    for start in range(0, len(crop), _BATCH):
        part = slice(start, start + _BATCH)
        given = None if initial is None else initial[part]
        poses.append(model(crop[part].contiguous(memory_format=torch.channels_last), given, stages=stages))
    return torch.cat(poses, 1)


def stage_errors(poses: torch.Tensor, frames: FrameBatch) -> torch.Tensor:
    """Joint errors of normalised poses [T, N, J, 3]: float64 [T, N, J], mm."""
    camera = frames.camera.double()
    truth = uvd_to_xyz(frames.uvd.double(), camera, check=False)
    stages = [uvd_to_xyz(frames.to_uvd(pose.double()), camera, check=False) for pose in poses]
    return torch.stack([joint_errors(stage, truth) for stage in stages])


def check_validation(config: TrainConfig) -> None:
    """Checks that there are validation frames.

    Raises:
        FileNotFoundError: The pack does not exist.
        ValueError: No frames are configured, or the pack has other joints or another hand.
    """
    if (config.validation_data or config.data) == SYNTHETIC:
        return
    if not config.validation_data:
        raise ValueError("validation_data is empty; name a pack, or 'synthetic', or set validate_every to 0")
    open_pack(Path(config.validation_data), config)


class Validation:
    """Mean joint error in mm of the initial pose and of each stage, on the same unseen frames at every call.

    Args:
        config: the run.
        device: device of the model.
        progress: called while synthetic frames are rendered, see `render_tiles`.

    Raises:
        ValueError: There are no validation frames.
    """

    def __init__(
        self, config: TrainConfig, device: torch.device | str = "cpu", *, progress: Progress | None = None
    ) -> None:
        self.frames: TrainingSet
        if (config.validation_data or config.data) == SYNTHETIC:
            hands = SyntheticHands(VALIDATION_SEED, "validation", 1.0, config.skeleton, cube=config.cube)
            self.frames = render_tiles(hands, 0, config.validation_frames, device=device, progress=progress)
        else:
            check_validation(config)
            self.frames = PackFrames(ResidentPack(open_pack(Path(config.validation_data), config), device), config.cube)

    def parts(self) -> Iterator[FrameBatch]:
        """The frames, in batches."""
        for index in torch.split(torch.arange(len(self.frames)), _BATCH):
            yield self.frames[index]

    def __call__(self, model: PoseREN, *, stages: int, mean_initial: bool = False) -> list[float]:
        """[T+1] errors, from the Init-CNN's pose or from the mean pose; NaN if a pose is NaN or infinite."""
        errors = []
        for frames in self.parts():
            initial = model.mean_pose.expand(len(frames), -1, -1) if mean_initial else None
            poses = stage_poses(model, frames.crop(SIZE), initial, stages=stages)
            if not bool(torch.isfinite(poses).all()):
                return [math.nan] * len(poses)
            errors.append(stage_errors(poses, frames))
        return [float(error) for error in torch.cat(errors, 1).mean((1, 2))]
