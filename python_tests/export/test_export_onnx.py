# SPDX-License-Identifier: MIT
"""The estimator as ONNX: standard operators, the same joints, no code of this package."""

import json
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from helpers.small_models import frames, small_model

from poseren_ext import reference
from poseren_ext.export import export_onnx
from poseren_ext.export.graph import GatheringHead
from poseren_ext.geometry.camera import uvd_to_xyz


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "estimator.onnx"
    model = small_model()
    export_onnx(model, path, stages=3, opset=18)
    return model, path


def run(path, depth, center, camera):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs = {"depth": depth.numpy(), "center": center.numpy(), "camera": camera.numpy()}
    return session.run(["joints", "uvd"], inputs)


def expected(model, depth, center, camera):
    with torch.inference_mode():
        crop = reference.depth_crop(depth, center, camera, cube=model.config.cube)
        poses = model(crop, stages=3)
        uvd = reference.denormalize_pose(poses[-1], center, camera, cube=model.config.cube)
    return poses, uvd_to_xyz(uvd, camera).numpy(), uvd.numpy()


def assert_same_joints(ours, theirs):
    """Equal within 1e-4 in normalised coordinates (150 mm), and nearly to the precision of float32 in mm."""
    np.testing.assert_allclose(ours / 150, theirs / 150, rtol=0, atol=1e-4)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize("size", [(240, 320), (97, 61)])
@pytest.mark.parametrize("batch", [1, 7])
def test_onnxruntime_gives_the_same_joints(exported, batch, size):
    model, path = exported
    depth, center, camera = frames(batch, *size)
    joints, uvd = run(path, depth, center, camera)
    poses, their_joints, their_uvd = expected(model, depth, center, camera)
    assert (poses[1:] - poses[:-1]).abs().amax((1, 2, 3)).min() > 0.05, "idle stages show nothing"
    assert_same_joints(joints, their_joints)
    assert_same_joints(uvd, their_uvd)


def test_only_standard_operators(exported):
    _, path = exported
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    assert {node.domain for node in model.graph.node} == {""}
    assert not model.functions
    assert not [tensor.name for tensor in model.graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]


def test_metadata_says_what_comes_out(exported):
    model, path = exported
    about = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert json.loads(about["joint_names"]) == list(model.skeleton.joints)
    assert about["hand"] == "right"
    assert about["cube_half_edge_mm"] == "150.0"


def test_nowhere_stays_with_its_frame(exported):
    model, path = exported
    depth, center, camera = frames(3)
    center[1] = torch.nan
    joints, _ = run(path, depth, center, camera)
    keep = [0, 2]
    _, theirs, _ = expected(model, depth[keep], center[keep], camera[keep])
    assert np.isnan(joints[1]).all()
    assert_same_joints(joints[keep], theirs)


ALONE = """
import sys
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
inputs = dict(np.load(sys.argv[2]))
np.save(sys.argv[3], session.run(["joints"], inputs)[0])
assert not {"torch", "poseren_ext"} & set(sys.modules)
"""


def test_loads_without_our_code(exported, tmp_path):
    model, path = exported
    depth, center, camera = frames(2)
    np.savez(tmp_path / "in.npz", depth=depth.numpy(), center=center.numpy(), camera=camera.numpy())
    output = tmp_path / "out.npy"
    subprocess.run([sys.executable, "-I", "-c", ALONE, path, tmp_path / "in.npz", output], check=True, timeout=60)
    assert_same_joints(np.load(output), expected(model, depth, center, camera)[1])


def test_gathered_regions_equal_the_reference():
    """Windows of 6, 7 and 8 cells, at an edge, outside, and of invalid joints."""
    model = small_model()
    features = torch.randn(200, 16, 12, 12)
    pose = torch.empty(200, 14, 3).uniform_(-1.4, 1.4)
    pose[:100] = (pose[:100] * 24).round() / 24 + torch.tensor([0.0, 1e-7, -1e-7])[torch.randint(0, 3, (100, 14, 1))]
    pose[7, 13] = torch.nan
    ours = GatheringHead(model.head).regions(features, pose)
    theirs = reference.pose_roi_pool(features, pose, model.head.config.joints)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


def test_refusals(tmp_path):
    model = small_model()
    with pytest.raises(ValueError, match="opset is 17; expected 18 or later"):
        export_onnx(model, tmp_path / "a.onnx", opset=17)
    with pytest.raises(ValueError, match="stages is -1"):
        export_onnx(model, tmp_path / "a.onnx", stages=-1)
    with pytest.raises(FileNotFoundError, match="no folder"):
        export_onnx(model, tmp_path / "nowhere" / "a.onnx")
