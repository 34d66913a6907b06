# SPDX-License-Identifier: MIT
"""cascade_refine: skipping unchanged work gives the poses of the plain loop; NaN; invalid input; the contract."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from helpers.heads import NYU, alone, head_at_rest, narrow_config, random_head, scene
from helpers.op_contract import Arguments, OpContract, assert_same_bits
from helpers.published_data import PUBLISHED, SKELETON_OF, needs_published_data
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from poseren_ext import ops, reference
from poseren_ext.geometry.camera import CAMERAS
from poseren_ext.geometry.skeleton import SKELETONS
from poseren_ext.io.pose_files import read_poses
from poseren_ext.models import HeadConfig, RegionEnsemble
from poseren_ext.reference.cascade_refine import moved_windows


def assert_is_the_plain_loop(features: Tensor, pose: Tensor, head: RegionEnsemble, stages: int) -> Tensor:
    """Poses within 1e-5, windows and counts identical. Gives what moved: [T, B, M]."""
    poses, stages_run = ops.cascade_refine(features, pose, head, stages=stages)
    expected, expected_run = reference.cascade_refine(features, pose, head, stages=stages)
    torch.testing.assert_close(poses, expected, rtol=0, atol=1e-5, equal_nan=True)
    moved = moved_windows(poses, head.config)
    assert torch.equal(moved, moved_windows(expected, head.config))
    assert torch.equal(stages_run, expected_run)
    return moved


@pytest.mark.parametrize("batch", [1, 2, 7, 64])
@pytest.mark.parametrize("stages", [0, 1, 3, 10])
@pytest.mark.parametrize(("step", "least", "most"), [(0.004, 0.0, 0.4), (0.02, 0.1, 0.9), (0.05, 0.5, 1.0)])
def test_random_weights(device: str, batch: int, stages: int, step: float, least: float, most: float) -> None:
    head = random_head(step=step).to(device)
    features, pose = (part.to(device) for part in scene(batch, head.config))
    moved = assert_is_the_plain_loop(features, pose, head, stages)
    if stages == 10 and batch == 64:  # the case is what it says
        share = moved[1:].float().mean().item()
        assert least < share < most


@pytest.mark.parametrize("batch", [1, 64])
def test_nothing_moves_after_the_first_stage(device: str, batch: int) -> None:
    features, pose = (part.to(device) for part in scene(batch, narrow_config()))
    pose[:] = pose[:1]
    head = head_at_rest(pose[0].cpu()).to(device)
    moved = assert_is_the_plain_loop(features, pose, head, 10)
    assert moved[0].all()
    assert not moved[1:].any()
    _, stages_run = ops.cascade_refine(features, pose, head, stages=10)
    assert stages_run.tolist() == [1] * batch


def test_everything_moves_in_every_stage(device: str) -> None:
    # All joints jump between two corners: the pose is minus the sign of the brightness that they look at.
    config = replace(narrow_config(widths=(2, 2), channels=1))
    head = random_head(config).to(device)
    for parameter in head.parameters():
        parameter.zero_()
    head.region_weight[:, 0] = 1
    head.finger_weight[:, 0] = 1
    head.pose_weight[:] = -1
    head.pose_bias.fill_(1)
    features = torch.zeros(3, 1, 12, 12, device=device)
    features[:, :, 7:, 7:] = 1
    pose = torch.full((3, 14, 3), -1.0, device=device)
    moved = assert_is_the_plain_loop(features, pose, head, 10)
    assert moved.all()


@needs_published_data
@pytest.mark.parametrize("dataset", ["nyu", "icvl"])
@pytest.mark.parametrize("batch", [1, 17, 64])
def test_published_initial_poses(device: str, dataset: str, batch: int) -> None:
    skeleton = SKELETONS[SKELETON_OF[dataset]]
    uvd = torch.from_numpy(np.asarray(read_poses(PUBLISHED / dataset / "predictions" / "Init-CNN.txt"))).float()
    center = torch.from_numpy(np.loadtxt(PUBLISHED / dataset / "test_centers_uvd.txt")).float()
    chosen = torch.arange(batch) * (len(uvd) // batch)
    pose = ops.normalize_pose(uvd[chosen], center[chosen], CAMERAS[dataset]).to(device)
    head = random_head(HeadConfig.pose_ren(skeleton, widths=(48, 40), channels=8), step=0.01).to(device)
    features, _ = scene(batch, head.config)
    moved = assert_is_the_plain_loop(features.to(device), pose, head, 5)
    assert 0.05 < moved[1:].float().mean() < 0.95


@st.composite
def cascades(draw: Any) -> tuple[HeadConfig, int, int]:
    """Any number of joints, regions, fingers and widths; regions in several fingers or in none; odd sizes."""
    num_joints, regions = draw(st.integers(1, 6)), draw(st.integers(1, 8))
    joints = tuple(draw(st.lists(st.integers(0, num_joints - 1), min_size=regions, max_size=regions)))
    members, fingers = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    finger = st.tuples(*[st.integers(0, regions - 1)] * members)
    tree = tuple(draw(st.lists(finger, min_size=fingers, max_size=fingers)))
    widths = (draw(st.integers(1, 40)), draw(st.integers(1, 40)))
    cells, roi = draw(st.sampled_from([(7, 48), (6, 40), (3, 48), (5, 9)]))
    config = HeadConfig(
        num_joints, joints, (), cells, roi, tree, widths, draw(st.integers(1, 5)), draw(st.sampled_from([64, 96])),
    )  # fmt: skip
    return config, draw(st.sampled_from([1, 2, 5, 13])), draw(st.integers(1, 5))


@settings(max_examples=40, deadline=None)
@given(cascades(), st.sampled_from([0.05, 0.3]), st.integers(0, 99))
def test_any_head(cascade: tuple[HeadConfig, int, int], step: float, seed: int) -> None:
    config, batch, stages = cascade
    head = random_head(config, step=step, seed=seed)
    assert_is_the_plain_loop(*scene(batch, config, seed), head, stages)


@settings(max_examples=15, deadline=None)
@given(cascades(), st.integers(0, 99))
def test_any_head_of_mode_align(cascade: tuple[HeadConfig, int, int], seed: int) -> None:
    # A stage follows its pose continuously: rounding may grow from stage to stage, so each is compared separately.
    config, batch, stages = cascade
    head = random_head(replace(config, mode="align"), step=0.05, seed=seed)
    features, pose = scene(batch, config, seed)
    poses, stages_run = ops.cascade_refine(features, pose, head, stages=stages)
    assert stages_run.tolist() == [stages] * batch
    for before, after in pairwise(poses):
        expected, _ = reference.cascade_refine(features, before, head, stages=1)
        torch.testing.assert_close(after, expected[1], rtol=1e-5, atol=1e-5, equal_nan=True)


def test_more_samples_than_are_taken_at_once(device: str) -> None:
    head = random_head().to(device)
    features, pose = (part.to(device) for part in scene(600, head.config))
    assert_is_the_plain_loop(features, pose, head, 3)


def test_128_regions_of_a_joint_each(device: str) -> None:
    tree = tuple((region, (region + 1) % 128) for region in range(128))
    config = HeadConfig(128, tuple(range(128)), (), 7, 48, tree, (3, 5), 2)
    head = random_head(config).to(device)
    features, pose = (part.to(device) for part in scene(2, config))
    assert_is_the_plain_loop(features, pose, head, 3)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e7])
def test_an_invalid_joint_spoils_its_sample_alone(device: str, bad: float) -> None:
    head = random_head().to(device)
    features, pose = (part.to(device) for part in scene(5, head.config))
    clean, clean_run = ops.cascade_refine(features, pose, head, stages=4)
    pose[2, NYU.guided[3], 0] = bad
    assert_is_the_plain_loop(features, pose, head, 4)
    poses, stages_run = ops.cascade_refine(features, pose, head, stages=4)
    assert poses[1:, 2].isnan().all()
    others = [0, 1, 3, 4]
    assert_same_bits([poses[:, others], stages_run[others]], [clean[:, others], clean_run[others]])


def test_nan_features_spoil_their_sample_alone(device: str) -> None:
    head = random_head().to(device)
    features, pose = (part.to(device) for part in scene(4, head.config))
    clean, _ = ops.cascade_refine(features, pose, head)
    features[1] = math.nan
    poses, _ = ops.cascade_refine(features, pose, head)
    assert poses[1:, 1].isnan().all()
    assert_same_bits([poses[:, [0, 2, 3]]], [clean[:, [0, 2, 3]]])


def test_a_nan_depth_or_unguided_joint_is_not_looked_at(device: str) -> None:
    config = replace(narrow_config(), joints=tuple(range(11)), tree=((0, 1), (2, 10)))
    head = random_head(config).to(device)
    features, pose = (part.to(device) for part in scene(2, config))
    expected, _ = ops.cascade_refine(features, pose, head, stages=1)
    pose[:, 13] = math.nan
    pose[:, 0, 2] = math.nan
    poses, _ = ops.cascade_refine(features, pose, head, stages=1)
    assert_same_bits([poses[1]], [expected[1]])


@pytest.mark.parametrize("batch", [2, 9, 64])
def test_a_sample_has_the_same_bits_in_any_batch(device: str, batch: int) -> None:
    head = random_head(narrow_config(widths=(40, 33))).to(device)
    features, pose = (part.to(device) for part in scene(batch, head.config))
    together, _ = ops.cascade_refine(features, pose, head, stages=4)
    for sample in (0, batch - 1):
        assert_same_bits([together[:, sample]], [alone(features[sample], pose[sample], head, 4, like=batch)])


@pytest.mark.parametrize("batch", [4, 12])
def test_sums_are_as_precise_as_float32(device: str, batch: int) -> None:
    """At the network's depth, where tensor cores that cut sums off would lose digits."""
    head = random_head(narrow_config(channels=64, widths=(40, 33)), step=0.1)
    features, pose = scene(batch, head.config)
    exact = deepcopy(head).double()(features.double(), pose)
    poses, _ = ops.cascade_refine(features.to(device), pose.to(device), head.to(device), stages=1)
    torch.testing.assert_close(poses[1].cpu().double(), exact, rtol=0, atol=2e-6)


def test_refuses_gradients_clearly() -> None:
    head = random_head().requires_grad_()
    poses, _ = ops.cascade_refine(*scene(1, head.config), head)
    with pytest.raises(RuntimeError, match=r"cascade_refine has no derivative: .*PoseREN"):
        poses.sum().backward()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"stages": -1}, ValueError, r"stages is -1; expected 0 to"),
        ({"stages": 2.5}, TypeError, r"stages is of type float"),
        ({"pose": torch.zeros(2, 13, 3)}, ValueError, r"pose has shape \(2, 13, 3\); expected \[B, 14, 3\]"),
        ({"pose": torch.zeros(3, 14, 3)}, ValueError, r"features have shape .* and pose has shape .* of one B"),
        ({"pose": torch.zeros(14, 3)}, ValueError, r"features have shape .* and pose has shape .* of one B"),
        ({"features": torch.zeros(2, 5, 12, 12)}, ValueError, r"expected \[B, 4, H, W\]: the head's channels"),
        ({"head": torch.nn.Linear(3, 3)}, TypeError, r"head is a Linear without config, .*expected a RegionEnsemble"),
        ({"head": random_head(HeadConfig.ren_9x6x6(NYU, widths=(4, 4), channels=4))}, ValueError, r"grid regions"),
        ({"head": random_head().double()}, TypeError, r"torch.float64 weights; .* pack_head"),
    ],
)
def test_refuses_what_makes_no_cascade(change: dict[str, Any], error: type[Exception], words: str) -> None:
    arguments = {"features": torch.zeros(2, 4, 12, 12), "pose": torch.zeros(2, 14, 3), "head": random_head()}
    with pytest.raises(error, match=words):
        ops.cascade_refine(**{**arguments, **change})


class TestContract(OpContract):
    name = "cascade_refine"
    main = "features"
    dtypes = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
    batched = ("features", "pose")
    output_axes = (1, 0)
    tolerance: ClassVar[dict[torch.dtype, float]] = {torch.float32: 1e-5}

    def reference(self, **arguments: Any) -> Any:
        return super().reference(**{**arguments, "features": arguments["features"].float()})

    def arguments(self, device: str, dtype: torch.dtype, batch: int = 3) -> Arguments:
        features, pose = scene(batch, narrow_config(), seed=int(torch.randint(1000, ())))
        head = random_head().to(device)
        return {"features": features.to(device, dtype), "pose": pose.to(device), "head": head, "stages": 3}

    def native_arguments(self, arguments: Arguments) -> tuple[Any, ...]:
        head = arguments["head"]
        config = head.config
        tree = [region for finger in config.tree for region in finger]
        layers = [
            tensor
            for layer in ("region", "finger", "pose")
            for tensor in (getattr(head, f"{layer}_weight"), None, getattr(head, f"{layer}_bias"))
        ]
        features, pose = arguments["features"].float(), arguments["pose"]
        return features, pose, list(config.joints), tree, *layers, 7, 96, 48, 0.125, False, 2, 3
