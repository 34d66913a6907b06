# SPDX-License-Identifier: MIT
"""The error head: what it measures, and that files and packed models keep it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.small_models import frames, small_config, small_model

from poseren_ext import ops
from poseren_ext.geometry.skeleton import SKELETONS
from poseren_ext.inference.estimator import Estimator
from poseren_ext.models import ErrorHead, ErrorHeadConfig, PackedPoseREN, PoseREN, load, round_to_bytes, save
from poseren_ext.training.initial_poses import load_start

SMALL = ErrorHeadConfig(channels=6, width=8)


@pytest.fixture
def model() -> PoseREN:
    torch.manual_seed(3)
    return small_model(small_config("msra21", error=SMALL), spread=0.5)


@pytest.mark.parametrize("skeleton", sorted(SKELETONS))
def test_the_surface_map_holds_the_distance_to_the_nearest_bone(skeleton: str) -> None:
    """Against the distance to the nearest of many points along each bone."""
    torch.manual_seed(0)
    joints, head = SKELETONS[skeleton], ErrorHead(SMALL, SKELETONS[skeleton], 8, 96)
    pose = 0.5 * torch.randn(1, len(joints.joints), 3)
    crop = 0.6 * torch.rand(1, 1, 96, 96) - 0.3
    surface = head.inputs(crop, pose, pose)[0][0]
    cells = crop[0, 0].view(24, 4, 24, 4).amin((1, 3))
    start, end = (pose[0, list(ends)] for ends in zip(*joints.bones, strict=True))
    along = torch.linspace(0, 1, 201)[:, None, None]
    points = ((1 - along) * start + along * end).flatten(0, 1)
    assert torch.equal(surface[0], cells)
    for row, column in ((0, 0), (5, 20), (12, 11), (23, 9)):
        cell = torch.tensor([(column + 0.5) / 12 - 1, (row + 0.5) / 12 - 1, float(cells[row, column])])
        offset = points - cell
        distance, nearest = offset.norm(dim=1).min(0)
        assert float(surface[2:, row, column].max()) == pytest.approx(max(0.0, 1 - 3 * float(distance)), abs=0.01)
        behind = max(-0.5, min(0.5, float(offset[nearest, 2])))
        assert float(surface[1, row, column]) == pytest.approx(3 * behind, abs=0.03)


def test_gaps_are_depths_of_joints_behind_the_surface() -> None:
    head = ErrorHead(SMALL, SKELETONS["msra21"], 8, 96)
    pose = torch.zeros(1, 21, 3)
    pose[..., 2] = torch.linspace(-0.4, 0.4, 21)
    comparisons = head.inputs(torch.full((1, 1, 96, 96), 0.25), pose, pose)[1][0]
    gaps = comparisons[7 * 21 : 10 * 21].view(3, 21)
    torch.testing.assert_close(gaps, (pose[0, :, 2] - 0.25).expand(3, 21))


def test_an_error_is_within_bounds_and_nan_stays_with_its_frame(model: PoseREN) -> None:
    depth, center, camera = frames(3, dtype=torch.float32)
    crop = ops.depth_crop(depth, center, camera)
    packed = PackedPoseREN(model)
    with torch.inference_mode():
        _, _, whole = packed.refine(crop, None, 3)
        crop[1] = torch.nan
        _, _, error = packed.refine(crop, None, 3)
    assert error is not None
    assert whole is not None
    assert error.isnan().tolist() == [False, True, False]
    torch.testing.assert_close(error[[0, 2]], whole[[0, 2]])
    assert bool(((whole > 0) & (whole < 150)).all())


def test_a_file_keeps_the_error_head_of_a_rounded_model(model: PoseREN, tmp_path: Path) -> None:
    round_to_bytes(model)
    model.config = replace(model.config, weight_dtype="int8")
    save(model, tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors")
    assert again.config.error == SMALL
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_training_starts_from_a_model_with_an_error_head_without_it(model: PoseREN, tmp_path: Path) -> None:
    save(model, tmp_path / "start.safetensors")
    fresh = PoseREN.build(replace(model.config, error=None))
    load_start(fresh, str(tmp_path / "start.safetensors"))
    assert torch.equal(fresh.head.pose_weight, model.head.pose_weight)


def test_an_estimator_gives_each_frame_its_error(model: PoseREN) -> None:
    depth, center, camera = frames(2)
    estimator = Estimator(model, camera=camera[0].tolist(), hand="auto")
    pose = estimator(depth, center=center)
    sides = [Estimator(model, camera=camera[0].tolist(), hand=side)(depth, center=center) for side in ("right", "left")]
    smaller = torch.minimum(*(torch.as_tensor(side.error_mm) for side in sides))
    torch.testing.assert_close(torch.as_tensor(pose.error_mm), smaller, rtol=1e-4, atol=1e-3)
    assert "error_mm" in pose.to_dict()["frames"][0]
