# SPDX-License-Identifier: MIT
"""The joints of a frame do not depend on its batch, and an estimator computes what its model computes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.drawn_hand import DRAWN_CAMERA as CAMERA
from helpers.drawn_hand import hand
from torch import nn

from poseren_ext import Estimator, refine
from poseren_ext.models import load_model

pytestmark = pytest.mark.usefixtures("surface_detection")


@pytest.fixture(scope="module")
def estimator() -> Estimator:
    """With the default model, which chooses between two networks for every frame."""
    return Estimator(camera=CAMERA)


def test_a_frames_joints_do_not_depend_on_its_batch(estimator, frames):
    batch = estimator(frames).joints
    for order in ([3, 1, 0, 2], [2, 0], [1], [0, 0, 3]):
        np.testing.assert_allclose(estimator(frames[order]).joints, batch[order], atol=1e-3)


def test_results_are_ordinary_tensors(estimator, frames):
    pose = estimator(torch.from_numpy(frames), return_stages=True)
    for tensor in (pose.joints, pose.uvd, pose.center, pose.stages):
        assert not tensor.is_inference()
    pose.joints[..., 1].mul_(-1)
    nn.Linear(63, 1)(pose.joints.flatten(1)).sum().backward()
    assert estimator(torch.from_numpy(frames)).joints.requires_grad_().requires_grad


def test_the_hand_is_the_models_own(frames):
    model = load_model("demo")
    model.config = replace(model.config, hand="left")
    own = refine(frames, model, camera=CAMERA)
    assert set(own.hand) == {"left"}
    np.testing.assert_array_equal(own.joints, refine(frames, model, camera=CAMERA, hand="left").joints)
    assert set(refine(frames[:1], camera=CAMERA).hand) == {"right"}


def _hook(model):
    model.backbone.register_forward_hook(lambda module, inputs, output: output * 0.5)


def _padding(model):
    model.backbone.conv1.padding_mode = "circular"


def _forward(model):
    model.head.forward = lambda features, pose=None: pose


def _other_layer(model):
    model.init.backbone.conv0 = nn.Sequential(model.init.backbone.conv0)


@pytest.mark.parametrize("change", [_hook, _padding, _forward, _other_layer])
def test_refuses_a_model_that_computes_something_else(change):
    model = load_model("demo")
    change(model)
    with pytest.raises(ValueError, match="which an Estimator would ignore"):
        Estimator(model, camera=CAMERA)


def test_an_estimator_is_a_snapshot_of_its_model():
    model = load_model("demo")
    estimator = Estimator(model, camera=CAMERA)
    before = estimator(hand()).joints
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.05)
    np.testing.assert_array_equal(estimator(hand()).joints, before)
    assert np.abs(Estimator(model, camera=CAMERA)(hand()).joints - before).max() > 1


@pytest.mark.parametrize("kind", ["half", "bfloat16", "double"])
def test_models_of_other_types_work(kind):
    expected = refine(hand(), "demo", camera=CAMERA).joints
    joints = refine(hand(), getattr(load_model("demo"), kind)(), camera=CAMERA).joints
    np.testing.assert_allclose(joints, expected, atol=15 if kind == "bfloat16" else 0.5)


def test_a_channel_axis_of_one_is_one_frame(estimator):
    expected = estimator(hand())
    np.testing.assert_array_equal(estimator(hand()[..., None]).joints, expected.joints)


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32, torch.int64, torch.uint16, torch.float64])
def test_depth_of_every_width_is_read(estimator, dtype):
    expected = estimator(hand()).joints
    stored = torch.from_numpy(hand()).to(dtype)
    np.testing.assert_allclose(estimator(stored).joints, expected, atol=1e-3)
    np.testing.assert_allclose(estimator(stored.numpy()).joints, expected, atol=1e-3)


def test_frames_of_several_sizes_are_one_batch(estimator):
    frames = [hand(), hand()[:200], hand(u=140)[:, :300]]
    pose = estimator(frames, return_stages=True)
    assert pose.stages.shape == (4, 3, 21, 3)
    assert len(pose.hand) == 3
    for i, frame in enumerate(frames):
        np.testing.assert_allclose(pose.joints[i], estimator(frame).joints, atol=1e-3)
    again = estimator(frames, center=pose.center, init_pose=pose.uvd)
    np.testing.assert_array_equal(again.center, pose.center)
    with pytest.raises(ValueError, match="for 3 frames"):
        estimator(frames, center=pose.center[:2])


def test_a_device_is_where_the_work_is_done():
    assert Estimator(camera=CAMERA, device="cpu").device == torch.device("cpu")
    assert refine(hand(), camera=CAMERA, device="cpu").joints.shape == (21, 3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_autocast_changes_nothing(estimator, dtype, kind):
    expected = estimator(kind(hand())).joints
    with torch.autocast("cpu", dtype=dtype):
        result = estimator(kind(hand())).joints
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result, expected)
