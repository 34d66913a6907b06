# SPDX-License-Identifier: MIT
"""The public function with a small untrained model: inputs, outputs and errors."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import poseren_ext
from poseren_ext import Estimator, ops, refine
from poseren_ext.geometry.camera import CAMERAS, Camera, uvd_to_xyz
from poseren_ext.geometry.skeleton import SKELETONS
from poseren_ext.inference.hand_detection import find_hands, presumed_hand
from poseren_ext.models import HeadConfig, ModelConfig, PoseREN, initialize, save
from poseren_ext.models.packed import PackedPoseREN

pytestmark = pytest.mark.usefixtures("surface_detection")

CAMERA = Camera(300.0, 300.0, 159.5, 119.5, 320, 240)


@pytest.fixture(scope="module")
def model() -> PoseREN:
    skeleton = SKELETONS["msra21"]
    model = PoseREN.build(
        ModelConfig(
            skeleton.name,
            "right",
            150.0,
            96,
            (8, 16, 16),
            HeadConfig.init_cnn(skeleton, widths=(32, 32), channels=16),
            HeadConfig.pose_ren(skeleton, widths=(32, 32), channels=16),
        )
    )
    generator = torch.Generator().manual_seed(5)
    initialize(model, fully_connected="he", generator=generator)
    with torch.no_grad():
        model.mean_pose.copy_(torch.rand(21, 3, generator=generator) - 0.5)
    return model.eval()


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    """Three uint16 frames, each with an uneven object of a hand's size before a wall."""
    row, column = np.mgrid[0:240, 0:320]
    depth = np.full((3, 240, 320), 1500, np.uint16)
    for i, (u, v, z) in enumerate([(150, 110, 500), (200, 140, 620), (120, 90, 450)]):
        radius = 45 * CAMERA.fx / z
        inside = ((column - u) / 1.3) ** 2 + (row - v) ** 2 < radius**2
        depth[i][inside] = (z + 0.3 * (column - u) - 0.2 * (row - v))[inside]
    return depth


def test_result(model, frames):
    result = refine(frames, model, camera=CAMERA, return_stages=True)
    assert result.joints.shape == result.uvd.shape == (3, 21, 3)
    assert result.stages.shape == (4, 3, 21, 3)
    assert result.stages_run.shape == (3,)
    assert result.hand == ("right",) * 3
    assert result.skeleton is SKELETONS["msra21"]
    np.testing.assert_allclose(result.joints, uvd_to_xyz(result.uvd, CAMERA), rtol=1e-6)
    np.testing.assert_array_equal(result.stages[-1], result.uvd)
    np.testing.assert_allclose(result.center[:, :2], [(150, 110), (200, 140), (120, 90)], atol=2)


def test_a_frame_of_the_hand_alone_is_centered_in_its_cube(model, frames):
    alone = np.where(frames < 1500, frames, 0)
    found = refine(alone, model, camera=CAMERA, center="cube").center
    expected = [(150, 110, 500), (200, 140, 620), (120, 90, 450)]
    np.testing.assert_allclose(found, expected, atol=2)
    alone[:, :20, :20] = 1500  # something small and far does not move it: the cube leaves it out
    np.testing.assert_allclose(refine(alone, model, camera=CAMERA, center="cube").center, expected, atol=2)


def test_is_the_ops_in_a_row(model, frames):
    depth = torch.from_numpy(frames)
    center = torch.tensor([[150.0, 110, 500], [200, 140, 620], [120, 90, 450]])
    result = refine(depth, model, camera=CAMERA, center=center, stages=2, return_stages=True)
    with torch.inference_mode():
        crop = ops.depth_crop(depth, center, CAMERA)
        poses = model(crop, stages=2)
        expected = torch.stack([ops.denormalize_pose(pose, center, CAMERA) for pose in poses])
    torch.testing.assert_close(result.stages, expected, rtol=0, atol=2e-3)


def test_gives_back_what_came(model, frames):
    batch = refine(frames, model, camera=CAMERA)
    one = refine(frames[1], model, camera=CAMERA, return_stages=True)
    assert one.joints.shape == (21, 3)
    assert one.stages.shape == (4, 21, 3)
    np.testing.assert_allclose(one.joints, batch.joints[1], atol=1e-3)
    tensors = refine(torch.from_numpy(frames), model, camera=CAMERA)
    assert isinstance(tensors.joints, torch.Tensor)
    np.testing.assert_array_equal(tensors.joints.numpy(), batch.joints)
    listed = refine(list(frames), model, camera=CAMERA)
    np.testing.assert_array_equal(listed.joints, batch.joints)


def test_depth_units(model, frames):
    in_mm = refine(frames, model, camera=CAMERA)
    in_metres = refine(frames.astype(np.float32) / 1000, model, camera=CAMERA, depth_unit=1000.0)
    np.testing.assert_allclose(in_metres.joints, in_mm.joints, atol=0.05)
    in_eighths = refine(frames * 8, model, camera=CAMERA, depth_unit=0.125)
    np.testing.assert_allclose(in_eighths.joints, in_mm.joints, atol=1e-3)


def test_a_mirrored_frame_shows_the_other_hand(model, frames):
    right = refine(frames, model, camera=CAMERA, hand="right")
    flipped = np.ascontiguousarray(frames[:, :, ::-1])
    # Detection samples every few columns, counted from the left, so the centre is given.
    center = np.array([2 * CAMERA.cx, 0, 0], np.float32) + right.center * np.array([-1, 1, 1], np.float32)
    left = refine(flipped, model, camera=CAMERA, hand="left", center=center)
    assert left.hand == ("left",) * 3
    np.testing.assert_allclose(left.joints * [-1, 1, 1], right.joints, atol=0.05)


def test_auto_takes_one_hand_for_each_frame(model, frames):
    both = {hand: refine(frames, model, camera=CAMERA, hand=hand) for hand in ("right", "left")}
    auto = refine(frames, model, camera=CAMERA, hand="auto")
    for i, hand in enumerate(auto.hand):
        np.testing.assert_array_equal(auto.uvd[i], both[hand].uvd[i])


def test_auto_goes_by_the_side_that_the_detector_names(model, frames, monkeypatch):
    for named in ("left", "right"):

        def found(frame, camera, unit, named=named):
            return replace(presumed_hand(frame, camera, unit), side=named)

        monkeypatch.setattr("poseren_ext.inference.estimator.presumed_hand", found)
        assert refine(frames, model, camera=CAMERA, hand="auto").hand == (named,) * 3

        def several(frames, *args, named=named, **settings):
            return [[replace(hand, side=named) for hand in hands] for hands in find_hands(frames, *args, **settings)]

        monkeypatch.setattr("poseren_ext.inference.frame_hands.find_hands", several)
        hands = refine(frames, model, camera=CAMERA, hand="auto", max_hands=2)
        assert set(hands.pose.hand) == {named}


def test_initial_poses(model, frames):
    mean = refine(frames, model, camera=CAMERA, init_pose="mean", stages=0, return_stages=True)
    center = torch.from_numpy(mean.center)
    expected = ops.denormalize_pose(model.mean_pose.expand(3, -1, 3), center, CAMERA)
    np.testing.assert_allclose(mean.uvd, expected, rtol=1e-5)
    given = refine(frames, model, camera=CAMERA, init_pose=mean.uvd, return_stages=True)
    np.testing.assert_allclose(given.stages[0], mean.uvd, rtol=1e-5)
    from_xyz = refine(frames, model, camera=CAMERA, init_pose=mean.joints, init_space="xyz", return_stages=True)
    np.testing.assert_allclose(from_xyz.stages, given.stages, atol=0.02)
    one = refine(frames[0], model, camera=CAMERA, init_pose=mean.uvd[0])
    np.testing.assert_allclose(one.uvd, given.uvd[0], atol=1e-3)


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_narrow_weights_stay_near(model, frames, precision):
    full = refine(frames, model, camera=CAMERA, stages=1)
    narrow = refine(frames, model, camera=CAMERA, stages=1, precision=precision)
    assert 0 < np.abs(narrow.joints - full.joints).max() < 5


def test_estimator_answers_frame_after_frame(model, frames):
    estimator = Estimator(model, camera=CAMERA)
    batch = estimator(frames)
    for i, frame in enumerate(frames):
        np.testing.assert_allclose(estimator(frame).joints, batch.joints[i], atol=1e-3)


def test_loads_a_model_by_its_path(model, frames, tmp_path: Path):
    path = tmp_path / "model.safetensors"
    save(model, path)
    np.testing.assert_array_equal(
        refine(frames, path, camera=CAMERA).joints, refine(frames, model, camera=CAMERA).joints
    )


def bad(error: type[Exception], says: str, **changes: object):
    return pytest.param(changes, error, says, id=says[:40])


POSE = np.ones((3, 21, 3), np.float32)
NAN = np.full((3, 21, 3), np.nan, np.float32)


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        bad(TypeError, "8-bit images are no depth", depth=np.ones((240, 320), np.uint8)),
        bad(ValueError, r"expected \[H, W\] or \[B, H, W\]", depth=np.ones((1, 240, 320, 3), np.uint16)),
        bad(ValueError, "at least one frame", depth=np.ones((0, 240, 320), np.uint16)),
        bad(ValueError, "frame 0 has no depth", depth=np.zeros((240, 320), np.uint16)),
        bad(ValueError, "looks like metres", depth=np.full((240, 320), 0.7, np.float32)),
        bad(ValueError, "no hand in frames", depth=np.full((240, 320), 900, np.uint16)),
        bad(ValueError, "camera fx is -300", camera=(-300, 300, 160, 120)),
        bad(ValueError, "camera fy is 0", camera=(300, 0, 160, 120)),
        bad(TypeError, "four numbers", camera=(300, 160, 120)),
        bad(ValueError, "principal point", camera=(300, 300, 1600, 120)),
        bad(ValueError, "belong to about 640x480", camera=CAMERAS["nyu"]),
        bad(ValueError, "hand is 'both'", hand="both"),
        bad(ValueError, "stages is -1", stages=-1),
        bad(ValueError, "cube is 0", cube=0),
        bad(ValueError, "depth_unit is nan", depth_unit=float("nan")),
        bad(ValueError, "init_pose has shape", init_pose=POSE[:, :20]),
        bad(ValueError, "init_pose has NaN", init_pose=NAN),
        bad(ValueError, "init_pose is 'median'", init_pose="median"),
        bad(ValueError, "init_space is 'xy'", init_pose=POSE, init_space="xy"),
        bad(ValueError, "center is 'middle'; expected None", center="middle"),
        bad(ValueError, r"center has shape \(2, 3\)", center=np.ones((2, 3))),
        bad(ValueError, r"center of frames \[0\]", center=np.array([[np.nan, 1, 1], [1, 1, 1], [1, 1, 1]])),
        bad(ValueError, "precision", precision="int4"),
        bad(FileNotFoundError, "no model at 'nowhere'", model="nowhere"),
        bad(TypeError, "model is of type int", model=3),
    ],
)
def test_refuses(model, frames, changes, error, says):
    arguments = {"depth": frames, "model": model, "camera": CAMERA} | changes
    with pytest.raises(error, match=says):
        refine(**arguments)


def test_public_names():
    for name in poseren_ext.__all__:
        assert hasattr(poseren_ext, name)


def test_auto_takes_the_hand_with_the_smaller_predicted_error(model, frames, monkeypatch):
    """The networks see both hands of all frames as one batch: first those seen as right hands, then the mirrored."""
    refine_once = PackedPoseREN.refine
    expected = torch.tensor([4.0, 40.0, 9.0, 7.0, 10.0, float("nan")])

    def predicting(self, crop, pose, stages):
        return *refine_once(self, crop, pose, stages)[:2], expected[: len(crop)]

    monkeypatch.setattr(PackedPoseREN, "refine", predicting)
    center = refine(frames, model, camera=CAMERA).center
    auto = refine(frames, model, camera=CAMERA, hand="auto", center=center)
    assert auto.hand == ("right", "left", "right")
    np.testing.assert_array_equal(auto.error_mm, [4.0, 10.0, 9.0])
    estimator = Estimator(model, camera=CAMERA, hand="auto")
    for sides, errors in (((None, "left", "left"), [4, 10, np.nan]), (("left", "right", None), [7, 40, 9])):
        known = estimator(frames, center=center, sides=sides)
        assert known.hand == tuple(side or "right" for side in sides)
        np.testing.assert_array_equal(known.error_mm, errors)
    for sides in (("left", "right"), ("left", "right", "both")):
        with pytest.raises(ValueError, match="expected 'left', 'right' or None for each of 3 frames"):
            estimator(frames, center=center, sides=sides)
    sizes = [frames[0], frames[1][:, :-1]]
    with pytest.raises(ValueError, match="for each of 2 frames"):
        estimator(sizes, center=center[:2], sides=(None,) * 3)
    with pytest.raises(ValueError, match="sides are given, but hand is 'right'"):
        Estimator(model, camera=CAMERA)(frames, center=center, sides=(None,) * 3)
    assert refine(frames[0], model, camera=CAMERA).error_mm == 4.0
    joined = refine(list(frames), model, camera=CAMERA, tta=2)
    assert joined.error_mm.shape == (3,)
