# SPDX-License-Identifier: MIT
"""The error of a model in mm on frames that are not used in training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch

from poseren_ext.datasets.packs.gpu_store import ResidentPack
from poseren_ext.evaluation.metrics import joint_errors
from poseren_ext.geometry.camera import intrinsics, uvd_to_xyz
from poseren_ext.models import PoseREN
from poseren_ext.ops import denormalize_pose, depth_crop
from poseren_ext.synthetic import SyntheticHands
from poseren_ext.training.config import SYNTHETIC, TrainConfig
from poseren_ext.training.pack_batches import SIZE, open_pack
from poseren_ext.training.synthetic_batches import Progress, Store, render_store

VALIDATION_SEED = 90_001
_BATCH = 128


@dataclass(frozen=True)
class LabelledCrops:
    """N crops [N, 1, S, S] with centres, cameras and true joints.

    Attributes:
        crop: crops in [-1, 1]; center, camera: [N, 3] and [N, 4], in pixels of the same image; xyz: [N, J, 3] mm.
    """

    crop: torch.Tensor
    center: torch.Tensor
    camera: torch.Tensor
    xyz: torch.Tensor


def label_store(store: Store, cube: float) -> LabelledCrops:
    """Synthetic frames, cropped."""
    return LabelledCrops(store.crops(torch.arange(len(store)), cube), store.center, store.camera, store.xyz)


def label_pack(pack: ResidentPack, cube: float) -> LabelledCrops:
    """All the frames of a pack, cropped."""
    crops, centers, joints = [], [], []
    for start in range(0, len(pack), _BATCH):
        part = pack.regions(torch.arange(start, min(start + _BATCH, len(pack))))
        crops.append(depth_crop(part.depth, part.center, pack.camera, cube=cube, size=SIZE, depth_unit=pack.info.unit))
        centers.append(part.frame_center)
        joints.append(uvd_to_xyz(part.uvd.double(), pack.info.camera, check=False))
    camera = intrinsics(pack.camera).expand(len(pack), 4)
    return LabelledCrops(torch.cat(crops), torch.cat(centers), camera, torch.cat(joints))


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


def stage_errors(poses: torch.Tensor, labels: LabelledCrops, cube: float) -> torch.Tensor:
    """Joint errors of normalised poses [T, N, J, 3]: float64 [T, N, J], mm."""
    camera = labels.camera.double()
    uvd = [denormalize_pose(pose.double(), labels.center, labels.camera, cube=cube) for pose in poses]
    xyz = torch.stack([uvd_to_xyz(stage, camera, check=False) for stage in uvd])
    truth = labels.xyz.double().expand_as(xyz)
    return joint_errors(xyz.flatten(0, 1), truth.flatten(0, 1)).view(xyz.shape[:-1])


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
        progress: called while synthetic frames are rendered, see `render_store`.

    Raises:
        ValueError: There are no validation frames.
    """

    def __init__(
        self, config: TrainConfig, device: torch.device | str = "cpu", *, progress: Progress | None = None
    ) -> None:
        self.cube = config.cube
        if (config.validation_data or config.data) == SYNTHETIC:
            hands = SyntheticHands(VALIDATION_SEED, "validation", 1.0, config.skeleton, cube=config.cube)
            store = render_store(hands, 0, config.validation_frames, device=device, progress=progress)
            self.labels = label_store(store, config.cube)
        else:
            check_validation(config)
            pack = open_pack(Path(config.validation_data), config)
            self.labels = label_pack(ResidentPack(pack, device), config.cube)

    def __call__(self, model: PoseREN, *, stages: int, mean_initial: bool = False) -> list[float]:
        """[T+1] errors, from the Init-CNN's pose or from the mean pose; NaN if a pose is NaN or infinite."""
        initial = model.mean_pose.expand(len(self.labels.crop), -1, -1) if mean_initial else None
        poses = stage_poses(model, self.labels.crop, initial, stages=stages)
        if not bool(torch.isfinite(poses).all()):
            return [math.nan] * len(poses)
        return [float(error) for error in stage_errors(poses, self.labels, self.cube).mean((1, 2))]
