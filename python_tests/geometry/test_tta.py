# SPDX-License-Identifier: MIT
"""Test-time augmentation: transforms and their inverses; the estimator averages the poses of all views."""

from __future__ import annotations

import pytest
import torch
from helpers.small_models import small_model

from poseren_ext import CAMERAS, Estimator, ops
from poseren_ext.geometry.crop_transforms import mean_of_views, move_pose, restore_pose, turned_views
from poseren_ext.synthetic import SyntheticHands

CAMERA = CAMERAS["sr305"]


def scene(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Depth [N, 480, 640] and centres [N, 3]."""
    frames = SyntheticHands(3, "test").frames(torch.arange(count))
    return frames.depth, frames.center


def test_views_divide_the_circle_evenly() -> None:
    torch.testing.assert_close(turned_views(1)[0], torch.tensor([[1.0, 0, 0], [0, 1, 0]]), rtol=0, atol=0)
    quarter = turned_views(4)[1]
    torch.testing.assert_close(quarter, torch.tensor([[0.0, -1, 0], [1, 0, 0]]), rtol=0, atol=0)
    third = turned_views(3)[2, :, :2]
    torch.testing.assert_close(third @ third @ third, torch.eye(2))
    mirrored = turned_views(2, mirrored=True)
    torch.testing.assert_close(mirrored[0], torch.tensor([[-1.0, 0, 0], [0, 1, 0]]), rtol=0, atol=0)
    assert torch.all(torch.linalg.det(mirrored[..., :2]) < 0)


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_mean_is_taken_where_the_views_came_from(mirrored: bool) -> None:
    views, poses = turned_views(5, mirrored=mirrored), torch.rand(3, 2, 4, 3) - 0.5  # 3 stages, 2 samples, 4 joints
    seen = torch.cat([torch.stack([move_pose(stage, view.expand(2, 2, 3)) for stage in poses]) for view in views], 1)
    torch.testing.assert_close(mean_of_views(seen, views), poses)


@pytest.mark.parametrize("hand", ["right", "left"])
def test_the_estimator_gives_the_mean_of_its_views(hand: str) -> None:
    depth, center = scene(2)
    model = small_model("msra21", spread=0.5).eval()
    estimator = Estimator(model, camera=CAMERA, hand=hand, tta=3)  # type: ignore[arg-type]
    got = estimator(depth, center=center, return_stages=True)
    stages = []
    for view in turned_views(3, mirrored=hand == "left"):
        moved = view.expand(2, 2, 3)
        with torch.inference_mode():
            poses = model(ops.depth_crop(depth, center, CAMERA, transform=moved))
        stages.append(torch.stack([restore_pose(pose, moved) for pose in poses]))
    wanted = torch.stack([ops.denormalize_pose(pose, center, CAMERA) for pose in torch.stack(stages).mean(0)])
    torch.testing.assert_close(got.stages, wanted, rtol=0, atol=2e-2)  # pixels and mm
    assert got.stages_run.shape == (2,)


def test_given_poses_are_rotated_with_the_view() -> None:
    depth, center = scene(2)
    initial = center[:, None] + torch.randn(2, 21, 3)
    model = small_model("msra21", spread=0.5)
    still = Estimator(model, camera=CAMERA, tta=4, stages=0)(depth, center=center, init_pose=initial)
    torch.testing.assert_close(still.uvd, initial, rtol=0, atol=1e-2)
    mean = Estimator(model, camera=CAMERA, tta=2)(depth, center=center, init_pose="mean")
    assert torch.isfinite(mean.joints).all()


@pytest.mark.parametrize("tta", [0, -1, 1.5, "2"])
def test_tta_below_one_is_rejected(tta: object) -> None:
    with pytest.raises(ValueError, match=r"tta is .*; expected a whole number, 1 or more"):
        Estimator(small_model("msra21", spread=0.5), camera=CAMERA, tta=tta)  # type: ignore[arg-type]


def test_four_rotations_lower_the_error_of_the_bundled_model() -> None:
    frames = SyntheticHands(21, "test").frames(torch.arange(48))
    errors = []
    for tta in (1, 4):
        pose = Estimator("demo", camera=CAMERA, tta=tta)(frames.depth, center=frames.center)
        errors.append(float((torch.as_tensor(pose.joints) - frames.xyz).norm(dim=-1).mean()))
    assert errors[1] < 0.95 * errors[0]
