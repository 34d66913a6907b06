# SPDX-License-Identifier: MIT
"""The published size, 2048 outputs per layer: the cascade against the reference, with any number of threads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from poseren_ext import SKELETONS, HeadConfig, ops, reference
from poseren_ext.models import RegionEnsemble
from poseren_ext.reference.cascade_refine import moved_windows

STAGES = 3


@pytest.fixture(scope="module")
def head() -> RegionEnsemble:
    """A head of random weights whose poses leave the centre and move from stage to stage."""
    torch.manual_seed(0)
    with torch.device("meta"):
        head = RegionEnsemble(HeadConfig.pose_ren(SKELETONS["nyu14"])).eval()
    head = head.to_empty(device="cpu")
    with torch.no_grad():
        for name, parameter in head.named_parameters():
            reach = (6 / parameter.shape[-1]) ** 0.5 if "weight" in name else 0.1
            parameter.uniform_(-reach, reach)
        head.pose_weight.mul_(0.2)
    return head


@pytest.fixture(params=(1, 2), ids=lambda threads: f"{threads} threads")
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@torch.inference_mode()
def test_gives_the_poses_of_the_reference(head: RegionEnsemble, threads: int) -> None:
    features, pose = torch.rand(2, 64, 12, 12), 0.5 * torch.randn(2, 14, 3)
    poses, run = ops.cascade_refine(features, pose, head, stages=STAGES)
    expected, expected_run = reference.cascade_refine(features, pose, head, stages=STAGES)
    assert bool(moved_windows(poses, head.config)[1:].any()), "no window moved after the first stage: nothing is tested"
    torch.testing.assert_close(poses, expected, rtol=0, atol=1e-5)
    assert torch.equal(run, expected_run)
    alone = torch.cat(
        [ops.cascade_refine(features[i : i + 1], pose[i : i + 1], head, stages=STAGES)[0] for i in (0, 1)], 1
    )
    assert torch.equal(alone, poses)
