# SPDX-License-Identifier: MIT
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.small_models import small_model

from poseren_ext.datasets.sample import FrameBatch
from poseren_ext.evaluation.methods import (
    FilePredictions,
    InitPose,
    JointEstimator,
    LiftedKeypoints,
    MeanPose,
    Refined,
)
from poseren_ext.evaluation.metrics import evaluate
from poseren_ext.geometry.skeleton import SKELETONS
from poseren_ext.io.pose_files import write_poses
from poseren_ext.synthetic import SyntheticHands


@pytest.fixture(scope="module")
def frames():
    return SyntheticHands(11, "test").tiles(torch.arange(5), size=96, margin=1.2)


@pytest.fixture(scope="module")
def model():
    model = small_model("msra21", spread=0.5)
    with torch.no_grad():
        model.mean_pose.uniform_(-0.3, 0.3, generator=torch.Generator().manual_seed(3))
    return model


def test_mean_pose_follows_the_cube(frames, model):
    uvd = MeanPose(model).estimate(frames)
    millimetres = (uvd[..., 2] - frames.center[:, None, 2]) / 150
    torch.testing.assert_close(millimetres, model.mean_pose[:, 2].expand(5, -1), rtol=1e-4, atol=1e-4)


def test_file_predictions_are_the_lines_of_the_frames(frames, tmp_path):
    poses = np.random.default_rng(0).uniform(50, 400, (9, 21, 3)).round(3)
    write_poses(tmp_path / "p.txt", poses)
    estimator = FilePredictions.read(tmp_path / "p.txt", joints=21, frames=9)
    chosen = replace(frames, index=torch.tensor([8, 0, 3, 3, 1]))
    np.testing.assert_allclose(estimator.estimate(chosen), poses[[8, 0, 3, 3, 1]], rtol=1e-6)
    beyond = replace(frames, index=torch.tensor([9, 0, 3, 3, 1]))
    with pytest.raises(IndexError, match="frame 9 asked for; the file has 9 lines"):
        estimator.estimate(beyond)


def test_init_cnn_is_the_cascade_without_stages(frames, model):
    initial = InitPose(model)
    stages = Refined(initial, model, stages=3).estimate_stages(frames)
    assert stages.shape == (4, 5, 21, 3)
    torch.testing.assert_close(stages[0], initial.estimate(frames), rtol=1e-5, atol=1e-3)
    with torch.no_grad():
        whole = torch.stack([frames.to_uvd(pose) for pose in model(frames.crop(96))])
    torch.testing.assert_close(stages, whole, rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(Refined(initial, model).estimate(frames), stages[-1])


def test_lifted_keypoints_lie_on_the_surface(frames):
    truth = frames.uvd[..., :2]
    lifted = LiftedKeypoints(lambda batch: truth).estimate(frames)
    torch.testing.assert_close(lifted[..., :2], truth)
    behind = frames.uvd[..., 2] - lifted[..., 2]
    visible = behind.abs() < 40  # other joints are hidden behind a finger in front
    assert visible.float().mean() > 0.6
    assert 2 < float(behind[visible].mean()) < 20  # a joint lies a finger's radius behind its surface


class Shifted:
    """An estimator of somebody else's: all it has is the method."""

    def __init__(self, uvd):
        self.uvd = uvd

    def estimate(self, frames: FrameBatch) -> torch.Tensor:
        return self.uvd + torch.tensor([0.0, 0.0, 7.0])


def test_anyone_can_plug_in(frames, model):
    other: JointEstimator = Shifted(frames.uvd)
    stages = Refined(other, model, stages=1).estimate_stages(frames)
    torch.testing.assert_close(stages[0], frames.uvd + torch.tensor([0.0, 0.0, 7.0]), rtol=1e-4, atol=2e-2)
    result = evaluate(other.estimate(frames), frames.uvd, frames.camera, skeleton=SKELETONS["msra21"])
    assert 7 <= result.mean_3d < 8  # a step in depth goes along the ray
