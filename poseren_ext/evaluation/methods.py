# SPDX-License-Identifier: MIT
"""Methods that estimate joints of frames: one protocol, so that any method can be evaluated and refined by the cascade.

An estimator has one method, which takes frames and returns joints. This module has the mean pose, predictions from a
file, Init-CNN, 2D keypoints lifted with the depth, and the cascade started from any of them (paper, section 4.4.4).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from poseren_ext.datasets.sample import FrameBatch
from poseren_ext.evaluation.keypoint_lifting import lift_keypoints
from poseren_ext.io.pose_files import PathLike, read_poses
from poseren_ext.models import PoseREN


class JointEstimator(Protocol):
    """A method that estimates joints. Any object with this method can be evaluated and refined."""

    def estimate(self, frames: FrameBatch) -> Tensor:
        """Joints u, v, d [B, J, 3] of each frame."""
        ...


@dataclass(frozen=True)
class MeanPose:
    """The mean pose of the training set of a model, placed at the centre: the worst initial pose (figure 12)."""

    model: PoseREN

    def estimate(self, frames: FrameBatch) -> Tensor:
        """The same normalised pose in every cube."""
        return frames.to_uvd(self.model.mean_pose.expand(len(frames.depth), -1, 3).contiguous())


@dataclass(frozen=True)
class FilePredictions:
    """Predictions that another system wrote to a file.

    Attributes:
        poses: u, v, d [N, J, 3] of all frames of the dataset.
    """

    poses: Tensor

    @classmethod
    def read(cls, path: PathLike, *, joints: int, frames: int | None = None) -> FilePredictions:
        """Read a prediction file; raises the same errors as `read_poses`."""
        return cls(torch.from_numpy(read_poses(path, joints=joints, frames=frames).astype(np.float32)))

    def estimate(self, frames: FrameBatch) -> Tensor:
        """The predictions of these frames.

        Raises:
            IndexError: The file has no line for a frame.
        """
        if len(frames.index) and int(frames.index.max()) >= len(self.poses):
            raise IndexError(f"frame {int(frames.index.max())} asked for; the file has {len(self.poses)} lines")
        return self.poses[frames.index.cpu()].to(frames.depth.device)


@dataclass(frozen=True)
class InitPose:
    """The Init-CNN of a model (section 3.5)."""

    model: PoseREN

    def estimate(self, frames: FrameBatch) -> Tensor:
        """One pass of the network."""
        with torch.inference_mode():
            return frames.to_uvd(self.model.init(frames.crop(self.model.config.image_size)))


@dataclass(frozen=True)
class LiftedKeypoints:
    """A 2D detector whose keypoints are lifted with the depth image, as in the paper for Mask R-CNN (section 4.3).

    Attributes:
        detect: function from frames to keypoints u, v [B, J, 2].
    """

    detect: Callable[[FrameBatch], Tensor]

    def estimate(self, frames: FrameBatch) -> Tensor:
        """The lifted keypoints."""
        keypoints = self.detect(frames)
        return lift_keypoints(
            keypoints, frames.depth, frames.center, frames.camera, cube=frames.cube, depth_unit=frames.depth_unit
        )


@dataclass(frozen=True)
class Refined:
    """The cascade on top of any estimator: equation 1, T times.

    Attributes:
        initial: estimator of the initial poses.
        model: model whose backbone and head refine them; its Init-CNN is not used.
        stages: T, the number of stages.
    """

    initial: JointEstimator
    model: PoseREN
    stages: int = 3

    def estimate(self, frames: FrameBatch) -> Tensor:
        """The last stage's joints."""
        return self.estimate_stages(frames)[-1]

    def estimate_stages(self, frames: FrameBatch) -> Tensor:
        """The initial joints and those of every stage, u, v, d [T+1, B, J, 3]."""
        pose = frames.normalized(self.initial.estimate(frames))
        with torch.inference_mode():
            features = self.model.backbone(frames.crop(self.model.config.image_size))
            poses = self.model.refine_features(features, pose, self.stages)
        return torch.stack([frames.to_uvd(stage) for stage in poses])
