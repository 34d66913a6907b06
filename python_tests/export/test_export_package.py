# SPDX-License-Identifier: MIT
"""The estimator as an AOTInductor package: the same joints in Python and in a C++ program without Python."""

import os
import re
import subprocess
import sysconfig

import numpy as np
import pytest
import torch
from helpers.docs_blocks import ROOT, block_not_run, commands
from helpers.live_frames import CAMERA, moving
from helpers.small_models import frames, small_model

from poseren_ext import Estimator
from poseren_ext.export import EstimatorGraph, FrameGraph, export_package
from poseren_ext.inference.learnt_detection import LEAST_SCORE

RANGE = 500, 700  # mm
INTRINSICS = CAMERA.fx, CAMERA.fy, CAMERA.cx, CAMERA.cy
TOOLS = os.environ | {"PATH": f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    path = tmp_path_factory.mktemp("package") / "estimator.pt2"
    export_package(small_model(), path, hand="left", detect=(250, 330))
    return path


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """examples/cpp, built by the commands of docs/guides/export.md."""
    folder = tmp_path_factory.mktemp("estimate")
    export, *build, estimate = commands(block_not_run("guides/export.md", "examples/cpp"))
    assert (export.split()[:3], estimate.split()[:2]) == (
        ["poseren", "export", "hand.pt2"],
        ["build/estimate/estimate", "hand.pt2"],
    )
    for command in build:
        line = command.replace("build/estimate", str(folder))
        done = subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, env=TOOLS, timeout=500)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "estimate"


def hands(count):
    """Frames of a hand in a larger image, the last one empty: uint16 [count, 250, 330]."""
    depth = np.pad(moving(count), ((0, 0), (0, 10), (0, 10)))
    depth[-1] = 0
    return torch.from_numpy(depth)


def refined(depth):
    return Estimator(small_model(), camera=INTRINSICS, hand="left")(depth, missing="nan")


def test_package_equals_python(package):
    depth = hands(4)
    camera = torch.tensor([INTRINSICS]).repeat(4, 1)
    joints, uvd, center, score = torch._inductor.aoti_load_package(str(package))(depth, camera)
    pose = refined(depth)
    assert pose.joints.isnan().all((1, 2)).tolist() == [False, False, False, True]
    for ours, theirs in ((joints, pose.joints), (uvd, pose.uvd), (center, pose.center)):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-2, equal_nan=True)
    assert (score >= LEAST_SCORE).tolist() == [True, True, True, False]


def test_program_takes_raw_frames_and_equals_python(package, program, tmp_path):
    depth = hands(3)
    files = [tmp_path / f"{i}.pgm" for i in range(3)]
    for file, frame in zip(files, depth.numpy(), strict=True):
        file.write_bytes(b"P5\n330 250\n65535\n" + frame.astype(">u2").tobytes())
    command = [program, package, ",".join(map(str, INTRINSICS)), *files]
    done = subprocess.run(command, capture_output=True, text=True, env={}, timeout=60)
    assert done.returncode == 0, done.stderr
    joints = np.array([line.split() for line in done.stdout.splitlines()], np.float32).reshape(3, 14, 3)
    np.testing.assert_allclose(joints, refined(depth).joints, rtol=1e-5, atol=1e-2)


def test_program_knows_no_python(program):
    direct = subprocess.run(["readelf", "-d", program], capture_output=True, text=True, check=True).stdout
    needed = set(re.findall(r"NEEDED.*\[(lib\w+)", direct))
    assert needed - {"libstdc", "libgcc_s", "libc", "libm"} == {"libposeren_ops", "libtorch", "libtorch_cpu", "libc10"}
    everything = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    assert "not found" not in everything
    assert not re.search(r"^\s*lib(torch_)?python", everything, re.MULTILINE)


def test_program_refuses(package, program, tmp_path):
    image = tmp_path / "a.pgm"
    image.write_bytes(b"P5\n320 240\n255\n")
    for arguments, message in (
        ([package, "475,474,160,120", image], "no 16-bit graymap"),
        ([package, "475,474", image], "expected 4 numbers"),
    ):
        done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60)
        assert done.returncode == 1
        assert message in done.stderr
    assert subprocess.run([program], capture_output=True, timeout=60).returncode == 2


def test_refusals(tmp_path):
    model = small_model()
    with pytest.raises(ValueError, match=r"ends in \.pt2"):
        export_package(model, tmp_path / "a.onnx")
    with pytest.raises(FileNotFoundError, match="no folder"):
        export_package(model, tmp_path / "nowhere" / "a.pt2")
    with pytest.raises(ValueError, match="near is 700 and far 700; expected 0 < near < far"):
        export_package(model, tmp_path / "a.pt2", depth_range=(700, 700))
    with pytest.raises(ValueError, match="hand is 'both'; expected 'left', 'right', 'auto'"):
        export_package(model, tmp_path / "a.pt2", hand="both")


@pytest.mark.parametrize("training", [True, False])
def test_a_graph_evaluates_and_leaves_the_mode_of_the_model(training):
    model = small_model().train(training)
    model.backbone.eval()
    modes = [module.training for module in model.modules()]
    graph = EstimatorGraph(model)
    assert [module.training for module in model.modules()] == modes
    assert not any(module.training for module in graph.modules())
    with torch.inference_mode():
        first, second = graph(*frames(2)), graph(*frames(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_a_graph_shares_the_weights_of_its_model():
    model = small_model()
    graph = EstimatorGraph(model)
    with torch.inference_mode():
        before = graph(*frames(1))[0]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
    with torch.inference_mode():
        after = graph(*frames(1))[0]
    assert {id(p) for p in graph.parameters()} == {id(p) for p in model.parameters()}
    assert (before - after).abs().max() > 1e-2


@pytest.mark.parametrize("hand", ["left", "right"])
def test_a_frame_graph_finds_the_centre_and_the_hand_as_the_estimator_does(hand):
    """Pixels outside the range count as missing; a frame without any other has no joints."""
    depth, _, camera = frames(2)
    depth[1] = 900
    near, far = RANGE
    graph = FrameGraph(small_model(), hand=hand, near=near, far=far)
    with torch.inference_mode():
        joints, uvd, center = graph(depth, camera)
    within = torch.where((depth[:1] >= near) & (depth[:1] <= far), depth[:1], 0)
    center_of_range = Estimator(small_model(), camera=camera[0])(within, center="cube").center
    pose = Estimator(small_model(), camera=camera[0], hand=hand)(depth[:1], center=center_of_range)
    torch.testing.assert_close(center[:1], center_of_range)
    torch.testing.assert_close(joints[:1], pose.joints, rtol=0, atol=1e-2)
    torch.testing.assert_close(uvd[:1], pose.uvd, rtol=0, atol=1e-2)
    assert joints[1].isnan().all()
