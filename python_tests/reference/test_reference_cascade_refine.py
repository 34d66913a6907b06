# SPDX-License-Identifier: MIT
from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from poseren_ext.geometry.camera import CAMERAS
from poseren_ext.geometry.skeleton import SKELETONS
from poseren_ext.models import HeadConfig, RegionEnsemble, initialize
from poseren_ext.reference import cascade_refine, moved_windows, normalize_pose, roi_windows

NYU = SKELETONS["nyu14"]
NAN = float("nan")


def narrow_head(config: HeadConfig | None = None, seed: int = 0) -> RegionEnsemble:
    """A head with which some samples stop changing after a few stages and some never do."""
    torch.manual_seed(seed)
    head = RegionEnsemble(config or HeadConfig.pose_ren(NYU, widths=(24, 16), channels=4)).eval()
    initialize(head, fully_connected="he")
    with torch.no_grad():
        head.pose_weight.normal_(0, 0.012)
    return head.requires_grad_(False)


def constant_head(pose: Tensor) -> RegionEnsemble:
    """A head that gives the same pose for any features."""
    head = narrow_head()
    head.pose_weight.zero_()
    head.pose_bias.copy_(pose.flatten())
    return head


def test_two_regions_worked_by_hand() -> None:
    config = HeadConfig(2, (1, 0), (), 1, 8, ((0, 1),), (1, 1), channels=1)  # windows of 2x2 cells, pooled to one
    head = RegionEnsemble(config).requires_grad_(False)
    head.region_weight[:, 0, 0] = torch.tensor([2.0, 3.0])
    head.region_bias[:, 0] = torch.tensor([1.0, -100.0])
    head.finger_weight[0, 0] = torch.tensor([0.5, 10.0])
    head.finger_bias[0, 0] = 0.25
    head.pose_weight[:, 0] = torch.arange(6.0)
    head.pose_bias.fill_(-1)
    features = torch.arange(144.0).reshape(1, 1, 12, 12)
    # joint 1 at pixel 18, 36 sees columns 2..3, rows 4..5: largest 63; joint 0 in the corner sees 0..1: largest 13
    pose = torch.tensor([[[-1.0, -1.0, 0.0], [18 / 48 - 1, 36 / 48 - 1, 0.0]]])
    assert roi_windows(pose, (1, 0), roi_size=8).tolist() == [[[2, 4, 3, 5], [0, 0, 1, 1]]]
    poses, stages_run = cascade_refine(features, pose, head, stages=1)
    finger = 0.5 * (2 * 63 + 1) + 10 * 0 + 0.25  # the second region: 3 * 13 - 100 is rectified to 0
    assert torch.equal(poses[0], pose)
    assert torch.equal(poses[1].flatten(), finger * torch.arange(6.0) - 1)
    assert stages_run.tolist() == [1]


@pytest.mark.parametrize(
    "kind", ["pose_ren", "without_structure", "ren_4x6x6", "ren_9x6x6", "guided_4x6x6", "guided_9x6x6", "init_cnn"]
)
@pytest.mark.parametrize("mode", ["max", "align"])
def test_equals_the_model_stage_by_stage(kind: str, mode: str) -> None:
    config = getattr(HeadConfig, kind)(NYU, widths=(24, 16), channels=4)
    head = narrow_head(replace(config, mode=mode))
    features, pose = torch.rand(5, 4, 12, 12), torch.rand(5, 14, 3) - 0.5
    poses, stages_run = cascade_refine(features, pose, head, stages=4)
    assert poses.shape == (5, 5, 14, 3)
    for before, after in pairwise(poses):
        torch.testing.assert_close(head(features, before), after, rtol=1e-5, atol=1e-5)
    if config.grid:
        assert stages_run.tolist() == [1] * 5
    elif mode == "align":
        assert stages_run.tolist() == [4] * 5


def test_stages_run_counts_until_the_fixed_point() -> None:
    fixed = torch.rand(14, 3) - 0.5
    features = torch.rand(3, 4, 12, 12)
    far = fixed.clone()
    far[NYU.guided[3], :2] += 0.5
    deeper = fixed + torch.tensor([0.0, 0.0, 0.3])  # other depths, the same windows
    start = torch.stack([fixed, far, deeper])
    poses, stages_run = cascade_refine(features, start, constant_head(fixed), stages=5)
    assert stages_run.dtype == torch.int32
    assert stages_run.tolist() == [1, 2, 1]
    torch.testing.assert_close(poses[1:], fixed.expand(5, 3, 14, 3))


def test_moved_windows_tells_which() -> None:
    fixed = torch.rand(14, 3) - 0.5
    far = fixed.clone()
    far[NYU.guided[3], :2] += 0.5
    far[11] += 1  # a wrist: no region of its own
    poses, _ = cascade_refine(torch.rand(1, 4, 12, 12), far[None], head := constant_head(fixed), stages=3)
    moved = moved_windows(poses, head.config)
    assert moved.shape == (3, 1, 11)
    assert moved[0].all()
    assert moved[1, 0].nonzero().flatten().tolist() == [3]
    assert not moved[2].any()


def test_what_has_not_moved_need_not_be_computed() -> None:
    """Memoisation is exact: a stage whose windows are those of the stage before gives the same pose."""
    features, pose = torch.rand(64, 4, 12, 12), torch.rand(64, 14, 3) - 0.5
    poses, stages_run = cascade_refine(features, pose, head := narrow_head(), stages=10)
    moved = moved_windows(poses, head.config)
    assert 0.02 < moved[1:].double().mean() < 0.9  # some move and some do not
    still = ~moved.any(-1)  # [T, B]
    assert 0.1 < still[-1].double().mean() < 0.9
    for stage in range(1, 10):
        torch.testing.assert_close(poses[stage + 1][still[stage]], poses[stage][still[stage]], rtol=0, atol=1e-6)
        assert not (still[stage - 1] & ~still[stage]).any()  # a fixed point is never left
    assert torch.equal(stages_run.long(), (~still).sum(0))


def test_a_pose_that_is_nan_leaves_its_neighbours_alone() -> None:
    features, pose = torch.rand(3, 4, 12, 12), torch.rand(3, 14, 3) - 0.5
    head = narrow_head()
    expected, _ = cascade_refine(features[::2], pose[::2], head)
    pose[1, NYU.guided[4], 0] = NAN
    poses, stages_run = cascade_refine(features, pose, head)
    assert poses[1:, 1].isnan().all()
    torch.testing.assert_close(poses[:, ::2], expected, rtol=0, atol=1e-6)
    assert stages_run[1] == 2  # stage 1, and the one in which the other windows went nowhere
    pose[1] = NAN
    assert cascade_refine(features, pose, head)[1][1] == 1


def test_no_stage_no_batch_and_no_samples() -> None:
    features, pose = torch.rand(2, 4, 12, 12), torch.rand(2, 14, 3) - 0.5
    head = narrow_head()
    poses, stages_run = cascade_refine(features, pose, head, stages=0)
    assert torch.equal(poses, pose[None])
    assert stages_run.tolist() == [0, 0]
    alone, one = cascade_refine(features[1], pose[1], head)
    both, two = cascade_refine(features, pose, head)
    torch.testing.assert_close(alone, both[:, 1])
    assert (alone.shape, one.shape, one) == ((4, 14, 3), (), two[1])
    poses, stages_run = cascade_refine(features[:0], pose[:0], head)
    assert (poses.shape, stages_run.shape) == ((4, 0, 14, 3), (0,))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_narrow_features_and_weights_are_computed_in_float32(dtype: torch.dtype) -> None:
    features, pose = torch.rand(2, 4, 12, 12).to(dtype), torch.rand(2, 14, 3) - 0.5
    head = narrow_head().to(dtype)
    poses, _ = cascade_refine(features, pose, head)
    expected, _ = cascade_refine(features.double(), pose.double(), head.double())
    assert poses.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(poses[1].double(), expected[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"stages": -1}, ValueError, "stages is -1; expected 0 or more"),
        ({"pose": torch.ones(2, 16, 3)}, ValueError, r"\(2, 16, 3\); expected \[B, 14, 3\]: the head's joints"),
        ({"pose": torch.ones(3, 14, 3)}, ValueError, "features hold 2 samples and pose 3"),
        ({"pose": torch.ones(14, 3)}, ValueError, r"pose has shape \(14, 3\)"),
    ],
)
def test_bad_arguments(changes: dict[str, object], error: type[Exception], message: str) -> None:
    arguments = {"features": torch.ones(2, 4, 12, 12), "pose": torch.ones(2, 14, 3), "head": narrow_head()} | changes
    with pytest.raises(error, match=message):
        cascade_refine(**arguments)


@pytest.mark.parametrize(("dataset", "share"), [("nyu", 0.23), ("icvl", 0.20)])
def test_windows_that_differ_between_published_poses(test_data: Path, dataset: str, share: float) -> None:
    """From the Init-CNN's published poses to Pose-REN's, about a fifth of all joints' windows moved."""
    folder = test_data / dataset
    centers = torch.from_numpy(np.loadtxt(folder / "test_centers_uvd.txt"))
    files = [folder / "predictions" / f"{method}.txt" for method in ("Init-CNN", "Pose-REN")]
    poses = [torch.from_numpy(np.loadtxt(file)).unflatten(1, (-1, 3)) for file in files]
    normalized = torch.stack([normalize_pose(uvd, centers, CAMERAS[dataset]) for uvd in poses])
    config = HeadConfig.pose_ren(SKELETONS["nyu14" if dataset == "nyu" else "icvl16"])
    config = replace(config, joints=tuple(range(config.num_joints)))
    moved = moved_windows(torch.cat([normalized, normalized[1:]]), config)
    assert moved[1].double().mean().item() == pytest.approx(share, abs=0.005)
