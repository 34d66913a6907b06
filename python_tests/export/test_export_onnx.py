# SPDX-License-Identifier: MIT
"""The estimator as ONNX: standard operators, the same joints, no code of this package."""

import json
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from helpers.docs_blocks import block_not_run, changed, commands
from helpers.live_frames import CAMERA, moving
from helpers.small_models import frames, small_config, small_model
from torch import nn

from poseren_ext import Estimator, ops, reference
from poseren_ext.export import export_onnx
from poseren_ext.geometry.camera import Camera, uvd_to_xyz
from poseren_ext.inference.learnt_detection import LEAST_SCORE
from poseren_ext.models import ErrorHeadConfig, save
from poseren_ext.synthetic import SyntheticHands


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "estimator.onnx"
    model = small_model(small_config(error=ErrorHeadConfig(channels=6, width=8)))
    export_onnx(model, path, stages=2, opset=18)
    return model, path


def run(path, depth, center, camera):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs = {"depth": depth.numpy(), "center": center.numpy(), "camera": camera.numpy()}
    return session.run(["joints", "uvd"], inputs)


def expected(model, depth, center, camera):
    with torch.inference_mode():
        crop = reference.depth_crop(depth, center, camera, cube=model.config.cube)
        poses = model(crop, stages=2)
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


def test_onnxruntime_gives_the_same_predicted_error(exported):
    model, path = exported
    depth, center, camera = frames(3)
    center[1] = torch.nan
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs = {"depth": depth.numpy(), "center": center.numpy(), "camera": camera.numpy()}
    error = session.run(["error_mm"], inputs)[0]
    crop = reference.depth_crop(depth, center, camera, cube=model.config.cube)
    with torch.inference_mode():
        poses = model(crop, stages=2)
        theirs = model.error(crop, model.backbone(crop), poses[0], poses[-1])
    np.testing.assert_allclose(error, theirs, rtol=1e-4)
    assert np.isnan(error).tolist() == [False, True, False]


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


def test_an_invalid_joint_affects_its_frame_only(exported):
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


class OwnModule(nn.Module):
    """A network of somebody else: from whole frames to regions around the points that it estimates."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(1, 8, 8, 8)

    def forward(self, depth, camera):
        center, count = ops.hand_center(depth, near=500, far=700, iterations=3, camera=camera)
        crop = ops.depth_crop(depth, center, camera)
        features = self.layer(crop)
        pose = features.reshape(-1, 16, 9, 8)[..., :3, 0] * 2
        windows = ops.roi_windows(pose, [0, 5, 15])
        pools = [ops.pose_roi_pool(features, pose, [0, 5, 15], mode=mode) for mode in ("max", "align")]
        return center, count, crop, windows, *pools


def test_a_users_module_with_our_ops_exports_to_standard_operators(tmp_path, monkeypatch):
    """By the block of docs/guides/export.md; OpenVINO computes sampling positions in float32."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "module.onnx"
    module = OwnModule()
    depth, _, camera = frames(3)
    depth[2] = 0
    exec(
        block_not_run("guides/export.md", "onnx_decompositions"),
        {"module": module, "depth": depth, "camera": camera},
    )
    with torch.no_grad():
        theirs = [value.numpy() for value in module(depth, camera)]
    assert {node.domain for node in onnx.load(path).graph.node} == {""}
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    network = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    inputs = {"depth": depth.numpy(), "camera": camera.numpy()}
    for results, tolerance in ((session.run(None, inputs), 1e-5), (network(list(inputs.values())).values(), 2e-4)):
        for ours, their in zip(results, theirs, strict=True):
            np.testing.assert_allclose(ours, their, rtol=1e-6, atol=tolerance)
    assert np.isnan(theirs[-1][2]).all()


def test_raw_frames_of_either_hand_give_the_joints_of_refine_in_onnxruntime_and_openvino(tmp_path):
    """With detection, centre, both hands and predicted error in the file; the last frame is empty."""
    path = tmp_path / "frames.onnx"
    model = small_model(small_config(error=ErrorHeadConfig(channels=6, width=8)), spread=1.0)
    export_onnx(model, path, hand="auto", detect=(240, 320), stages=1)
    depth = torch.from_numpy(moving(7, step=9).astype(np.float32))
    depth[3:6], depth[6] = depth[:3].flip(2), 0
    camera = torch.tensor([[CAMERA.fx, CAMERA.fy, CAMERA.cx, CAMERA.cy]]).repeat(7, 1)
    pose = Estimator(model, camera=CAMERA, hand="auto", stages=1)(depth, missing="nan")
    left = [side == "left" for side in pose.hand]
    assert set(left[:6]) == {False, True}, "one side only shows nothing"
    assert pose.joints.isnan().all((1, 2)).tolist() == [False] * 6 + [True]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    network = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    inputs = {"depth": depth.numpy(), "camera": camera.numpy()}
    assert [output.name for output in session.get_outputs()] == [
        "joints",
        "uvd",
        "center",
        "score",
        "error_mm",
        "left",
    ]
    for results, tolerance in ((session.run(None, inputs), 1e-2), (network(list(inputs.values())).values(), 0.1)):
        joints, uvd, center, score, error, side = results
        theirs = pose.joints, pose.uvd, pose.center, pose.error_mm
        for ours, their in zip((joints, uvd, center, error), theirs, strict=True):
            np.testing.assert_allclose(ours, their, rtol=1e-5, atol=tolerance)
        assert side[:6].tolist() == left[:6]
        assert (score >= LEAST_SCORE).tolist() == [True] * 6 + [False]
    about = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert about["hand"] == "auto"
    assert float(about["least_score"]) == LEAST_SCORE


def test_the_blocks_of_the_pages(tmp_path, monkeypatch, poseren):
    """docs/guides/export.md and tensorrt.md: one frame of the exported size, with a small model."""
    monkeypatch.chdir(tmp_path)
    save(small_model(small_config(error=ErrorHeadConfig(channels=6, width=8)), spread=1.0), "small.safetensors")
    page = "guides/export.md"
    export, trtexec = commands(block_not_run("guides/tensorrt.md", "trtexec"))
    assert [export] == commands(block_not_run(page, "poseren export hand.onnx"))
    assert poseren(*changed(export, "--model", "small.safetensors", "--stages", "1")[1:]).code == 0
    hands = SyntheticHands(1, "test", camera=Camera(475.0, 475.0, 320.0, 240.0, 640, 480))
    depth = hands.frames(torch.arange(1)).depth[0].round().numpy().astype(np.uint16)
    scope = {"depth": depth, "camera": np.array([[475, 475, 320, 240]], np.float32)}
    results = []
    for text in ("onnxruntime", "openvino"):
        exec(block_not_run(page, text), scope)
        results.append([scope[name] for name in ("joints", "uvd", "center", "score", "error_mm")])
    for ours, theirs in zip(*results, strict=True):
        assert np.isfinite(ours).all()
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=0.1)

    # No TensorRT here: the shapes that its command names are those of the file, and the file takes several frames.
    options = dict(word.removeprefix("--").split("=") for word in changed(trtexec)[1:])
    inputs = {one.name: one.shape for one in onnxruntime.InferenceSession("hand.onnx").get_inputs()}
    assert options["onnx"] == "hand.onnx"
    for which, count in (("min", 1), ("opt", 1), ("max", 8)):
        shapes = dict(shape.split(":") for shape in options[f"{which}Shapes"].split(","))
        assert shapes.keys() == inputs.keys()
        for name, shape in shapes.items():
            batch, *rest = map(int, shape.split("x"))
            assert isinstance(inputs[name][0], str), "the batch size is fixed"
            assert (batch, rest) == (count, inputs[name][1:])


def test_refusals(tmp_path):
    model = small_model()
    with pytest.raises(ValueError, match="opset is 17; expected 18 or later"):
        export_onnx(model, tmp_path / "a.onnx", opset=17)
    with pytest.raises(ValueError, match="stages is -1"):
        export_onnx(model, tmp_path / "a.onnx", stages=-1)
    with pytest.raises(ValueError, match="detect with a depth_range; pass one of them"):
        export_onnx(model, tmp_path / "a.onnx", depth_range=(200, 700), detect=(480, 640))
    with pytest.raises(FileNotFoundError, match="no folder"):
        export_onnx(model, tmp_path / "nowhere" / "a.onnx")
