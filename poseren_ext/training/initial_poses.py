# SPDX-License-Identifier: MIT
"""Initial weights from another run, and initial poses for the refining phase.

The poses are those of Init-CNN (paper, section 3.4) or of another method (section 4.3.4).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import torch

from poseren_ext.geometry.crop_transforms import move_pose
from poseren_ext.io.pose_files import read_poses
from poseren_ext.models import ModelConfig, PoseREN, load
from poseren_ext.models.files import model_path
from poseren_ext.ops import normalize_pose
from poseren_ext.training.config import Precision, TrainConfig
from poseren_ext.training.pack_batches import SIZE, CropBatch
from poseren_ext.training.phases import autocast, features_of
from poseren_ext.training.streams import Stream
from poseren_ext.training.synthetic_batches import SyntheticStream
from poseren_ext.training.training_sets import PackFrames, TrainingSet

InitialPoses: TypeAlias = Callable[[CropBatch, torch.Tensor], torch.Tensor]
"""Normalised poses [B, J, 3] for a batch and its crops."""

_BATCH = 128
_CACHED = 16  # crops per batch: their feature maps fit a core's cache, which is 25 % faster than 64 at once


def load_start(model: PoseREN, start: str) -> None:
    """Copies weights and mean pose of a model, named as in `model_path`, to a model.

    Raises:
        FileNotFoundError: There is no such model.
        ValueError: The file is not a model file, or its layers, joints, hand or cube differ.
    """
    path = model_path(start)
    given = load(path)
    if _layers(given.config) != _layers(model.config):
        raise ValueError(
            f"start is {path}, a model of the configuration {_layers(given.config).to_json()}; this run trains "
            f"{_layers(model.config).to_json()}: set the same skeleton, hand, cube, heads, channels and widths"
        )
    given.error = None  # it predicts the errors of the weights that training changes
    model.load_state_dict(given.state_dict())


def _layers(config: ModelConfig) -> ModelConfig:
    """The fields that weights depend on: all except the stored type, dropout and the error head."""
    init, refine = (dataclasses.replace(head, dropout=0.0, map_dropout=0.0) for head in (config.init, config.refine))
    return dataclasses.replace(config, init=init, refine=refine, weight_dtype="float32", error=None)


def initial_poses(config: TrainConfig, model: PoseREN, stream: Stream, *, compiled: bool = False) -> InitialPoses:
    """Initial poses of the second phase according to `config.initial`; Init-CNN runs in the precision of training.

    Raises:
        FileNotFoundError: The pose file does not exist.
        ValueError: A pose file is given for synthetic frames, or its number of lines or joints differs from the pack.
    """
    if config.initial == "init":
        features = features_of(model.init.backbone, compiled=compiled)
        return lambda batch, crop: _predicted(model, features, crop, config.precision)
    if config.initial == "mean":
        return lambda batch, crop: model.mean_pose.expand(len(crop), -1, -1)
    frames = None if isinstance(stream, SyntheticStream) else stream.frames
    return stored_poses([_from_file(config, frames)])


def stored_poses(sets: Sequence[torch.Tensor]) -> InitialPoses:
    """Stored poses, transformed by the augmentation of each sample.

    Args:
        sets: normalised poses [N, J, 3] without augmentation; sample k starts from pose k mod N of set k div N.
    """
    given = torch.cat(list(sets))
    return lambda batch, crop: move_pose(given[batch.index.to(given.device)].to(crop.device), batch.transform)


def first_poses(config: TrainConfig, model: PoseREN, frames: TrainingSet) -> torch.Tensor:
    """P^0 of a training set, the initial poses of stage 1: normalised [N, J, 3] (paper, sections 3.4 and 4.3.4).

    Raises:
        FileNotFoundError: There is no such pose file.
        ValueError: The frames have no pose file, or it has another number of lines or joints than the pack.
    """
    if config.initial == "mean":
        return model.mean_pose.expand(len(frames), -1, -1).clone()
    if config.initial != "init":
        return _from_file(config, frames)
    return _predict(model, frames, lambda crop, part: model.init(crop))


def refined_poses(model: PoseREN, frames: TrainingSet, poses: torch.Tensor) -> torch.Tensor:
    """P^t = R^t(P^(t-1)): one stage of the network in evaluation mode, on crops without augmentation."""
    return _predict(model, frames, lambda crop, part: model(crop, poses[part], stages=1)[1])


@torch.no_grad()
def _predict(
    model: PoseREN, frames: TrainingSet, predict: Callable[[torch.Tensor, slice], torch.Tensor]
) -> torch.Tensor:
    model.eval()
    poses = []
    for start in range(0, len(frames), _BATCH):
        part = slice(start, min(start + _BATCH, len(frames)))
        crop = frames[torch.arange(part.start, part.stop)].crop(SIZE)
        crop = crop.to(model.mean_pose.device, memory_format=torch.channels_last)
        poses.append(predict(crop, part).float())
    return torch.cat(poses)


@torch.no_grad()
def _predicted(
    model: PoseREN, features: Callable[[torch.Tensor], torch.Tensor], crop: torch.Tensor, precision: Precision
) -> torch.Tensor:
    model.eval()
    parts = torch.split(crop, _CACHED if crop.device.type == "cpu" else len(crop))
    with autocast(crop.device, precision):
        return torch.cat([model.init.head(features(part)) for part in parts])


def _from_file(config: TrainConfig, frames: TrainingSet | None) -> torch.Tensor:
    """Normalised poses [N, J, 3] of a file in the published format."""
    if not isinstance(frames, PackFrames):
        raise ValueError(f"initial is {config.initial!r}; synthetic frames have no pose file: give 'init' or 'mean'")
    uvd, centers = frames.pack.labels(torch.arange(len(frames)))
    read = torch.from_numpy(read_poses(Path(config.initial), joints=uvd.shape[1], frames=len(uvd))).float()
    return normalize_pose(read.to(centers.device), centers, frames.pack.info.camera, cube=config.cube)
