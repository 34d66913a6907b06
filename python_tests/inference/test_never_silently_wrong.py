# SPDX-License-Identifier: MIT
"""What is given is checked, a frame's answer is its own, and an estimator computes what its model computes."""

import pickle
import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.drawn_hand import hand
from torch import nn

from poseren_ext import CAMERAS, Camera, Estimator, HandDistanceError, NoHandError, find_hands, refine
from poseren_ext.geometry.camera import as_camera
from poseren_ext.inference.camera_check import reordered
from poseren_ext.inference.diagnosis import check_intrinsics
from poseren_ext.models import load_model

pytestmark = pytest.mark.usefixtures("surface_detection")

CAMERA = Camera(240, 240, 159.5, 119.5)


@pytest.fixture(scope="module")
def estimator() -> Estimator:
    return Estimator(camera=CAMERA)


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return np.stack([hand(u=130 + 20 * i, wall=1500 * (i % 2)) for i in range(4)])


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


@pytest.mark.parametrize(
    ("center", "says"),
    [
        ((5000, 5000, 500), "outside the 320x240 frame"),
        ((-30, 100, 500), "outside"),
        ((20, 20, 500), "no depth is in the cube"),
        ((160, 110, 1500), "no depth is in the cube"),
        ((160, 110, 0.5), "looks like metres"),
        ((1.0, -17.0, 500), "looks like x, y, z in mm"),
    ],
)
def test_refuses_centres_that_are_not_at_a_hand(estimator, center, says):
    with pytest.raises(ValueError, match=says):
        estimator(hand(), center=center)


def test_takes_the_centre_of_a_hand_that_the_border_cuts(estimator):
    frame = hand(u=5)
    assert np.isfinite(estimator(frame, center=(-6.0, 110.0, 500.0)).joints).all()


def test_a_cube_without_depth_gives_nan_where_that_is_asked_for(estimator):
    frames = np.stack([hand(), hand()])
    centers = np.float32([[160, 110, 500], [20, 20, 500]])
    joints = estimator(frames, center=centers, missing="nan").joints
    assert np.isfinite(joints[0]).all()
    assert np.isnan(joints[1]).all()
    with pytest.raises(ValueError, match="outside"):
        estimator(frames, center=centers + np.float32([9000, 0, 0]), missing="nan")


def test_refuses_initial_poses_in_another_space_or_unit(estimator):
    pose = estimator(hand())
    estimator(hand(), init_pose=pose.uvd)
    estimator(hand(), init_pose=pose.joints, init_space="xyz")
    for wrong in (pose.joints, pose.uvd * [1, 1, -1], pose.uvd * [1, 1, 1e-3], pose.uvd + np.float32([300, 0, 0])):
        with pytest.raises(ValueError, match="init_pose of frames"):
            estimator(hand(), init_pose=wrong.astype(np.float32))


@pytest.mark.parametrize(("stored", "unit"), [(8, "0.125"), (10, "0.1"), (4, "0.25")])
def test_a_hand_metres_away_is_an_error_that_names_the_unit(estimator, stored, unit):
    with pytest.raises(HandDistanceError, match=rf"\b{unit} \("):
        estimator(hand(mm=600) * stored, center=(160, 110, 600.0 * stored))


def test_a_frame_without_a_hand_raises_or_gives_nan(estimator, frames):
    wall = np.full_like(frames[0], 900)
    mixed = np.stack([frames[0], wall, frames[1]])
    with pytest.raises(NoHandError, match=r"no hand in frames \[1\]") as caught:
        estimator(mixed)
    assert caught.value.frames == (1,)
    joints = estimator(mixed, missing="nan").joints
    assert np.isnan(joints[1]).all()
    np.testing.assert_allclose(joints[[0, 2]], estimator(frames[:2]).joints, atol=1e-3)
    with pytest.raises(ValueError, match="missing is 'none'"):
        estimator(mixed, missing="none")


EMPTY = {
    "no depth": lambda frame: frame * 0,
    "only NaN": lambda frame: frame * np.float32(np.nan),
    "a wall": lambda frame: np.full_like(frame, 900),
    "a hand 3 m away": lambda frame: hand(mm=3000.0, radius=140.0),
    "a hand 60 mm away": lambda frame: hand(mm=60.0, radius=20.0),
}


@pytest.mark.parametrize("kind", EMPTY)
@pytest.mark.filterwarnings("ignore:the hand in frame")
def test_every_frame_without_a_usable_hand_raises_or_gives_nan(estimator, frames, kind):
    bad = EMPTY[kind](frames[1])
    mixed = np.stack([frames[0], bad, frames[2]])
    with pytest.raises(ValueError, match=r"frames? \[?1|frame 1"):
        estimator(mixed)
    joints = estimator(mixed, missing="nan").joints
    assert np.isnan(joints[1]).all()
    np.testing.assert_allclose(joints[[0, 2]], estimator(frames[[0, 2]]).joints, atol=1e-3)
    assert np.isnan(estimator(bad, missing="nan").joints).all()


def test_a_hand_out_of_range_that_gives_nan_is_warned_of(estimator):
    center = np.float32([[160, 110, 500], [160, 110, 4800]])
    with pytest.warns(UserWarning, match=r"hand in frame 1 is 4800 mm away .*=0.125 \(.*; it has no joints"):
        pose = estimator(np.stack([hand(), hand(mm=4800.0, radius=450.0)]), center=center, missing="nan")
    assert np.isfinite(pose.joints[0]).all()
    assert np.isnan(pose.joints[1]).all()


@pytest.mark.parametrize("given", ["center", "init_pose"])
def test_nan_for_a_frame_that_is_given_raises_or_gives_nan(estimator, frames, given):
    pose = estimator(frames)
    values = {"center": pose.center, "init_pose": pose.uvd}[given].copy()
    values[2] = np.nan
    with pytest.raises(ValueError, match=r"NaN|finite"):
        estimator(frames, **{given: values})
    joints = estimator(frames, missing="nan", **{given: values}).joints
    assert np.isnan(joints).any((1, 2)).tolist() == [False, False, True, False]


@pytest.mark.parametrize("as_tensor", [False, True])
@pytest.mark.parametrize("kind", EMPTY)
@pytest.mark.filterwarnings("ignore:the hand in frame")
def test_skip_leaves_frames_without_a_usable_hand_out(estimator, frames, kind, as_tensor, tmp_path):
    mixed = np.stack([EMPTY[kind](frames[1]), frames[0], EMPTY[kind](frames[1]), frames[2]])
    pose = estimator(torch.from_numpy(mixed) if as_tensor else mixed, missing="skip", return_stages=True)
    assert isinstance(pose.frame, torch.Tensor if as_tensor else np.ndarray)
    assert pose.frame.tolist() == [1, 3]
    expected = estimator(frames[[0, 2]], return_stages=True)
    for name in ("joints", "uvd", "center", "stages", "stages_run"):
        np.testing.assert_allclose(getattr(pose, name), getattr(expected, name), atol=1e-3)
    assert len(pose.hand) == 2
    pose.save(tmp_path / "poses.csv")
    assert [line.split(",")[0] for line in (tmp_path / "poses.csv").read_text().splitlines()[1:]] == ["1", "3"]
    none = estimator(mixed[[0, 2]], missing="skip")
    assert none.joints.shape == (0, 21, 3)
    assert none.frame.tolist() == []


@pytest.mark.parametrize("given", ["center", "init_pose"])
def test_skip_leaves_frames_with_nan_out(estimator, frames, given):
    pose = estimator(frames)
    values = {"center": pose.center, "init_pose": pose.uvd}[given].copy()
    values[[0, 3]] = np.nan
    assert estimator(frames, missing="skip", **{given: values}).frame.tolist() == [1, 2]


def test_skip_among_frames_of_several_sizes(estimator, frames):
    smaller, empty = frames[1][:236, :316], frames[0] * 0
    pose = refine([frames[0], empty, smaller], camera=CAMERA, missing="skip")
    assert pose.frame.tolist() == [0, 2]
    assert pose.joints.shape == (2, 21, 3)
    with pytest.raises(NoHandError, match=r"^frame 1 of the list: ") as caught:
        refine([frames[0], np.full_like(smaller, 900)], camera=CAMERA)
    assert caught.value.frames == (1,)


def test_skip_needs_a_batch_and_a_known_word(estimator, frames):
    with pytest.raises(ValueError, match="expected a batch"):
        estimator(frames[0], missing="skip")
    for wrong in ("SKIP", None, True, "stop"):
        with pytest.raises(ValueError, match="missing is"):
            estimator(frames, missing=wrong)


@pytest.mark.parametrize("kind", EMPTY)
@pytest.mark.filterwarnings("ignore:the hand in frame")
def test_several_hands_of_frames_without_a_usable_one(frames, kind):
    mixed = np.stack([EMPTY[kind](frames[1]), frames[0]])
    hands = refine(mixed, camera=CAMERA, max_hands=2, missing="skip")
    assert [len(hands[i].hand) for i in range(len(hands))] == [0, 1]
    with pytest.raises(ValueError, match="has no rows"):
        refine(mixed, camera=CAMERA, max_hands=2, missing="nan")


def test_the_hand_is_the_models_own(frames):
    model = load_model("demo")
    model.config = replace(model.config, hand="left")
    own = refine(frames, model, camera=CAMERA)
    assert set(own.hand) == {"left"}
    np.testing.assert_array_equal(own.joints, refine(frames, model, camera=CAMERA, hand="left").joints)
    assert set(refine(frames[:1], camera=CAMERA).hand) == {"right"}


MATRIX = [[240, 0, 159.5], [0, 240, 119.5], [0, 0, 1]]


@pytest.mark.parametrize(
    "camera",
    [
        (240, 240, 159.5, 119.5),
        np.array([240, 240, 159.5, 119.5]),
        torch.tensor([240, 240, 159.5, 119.5]),
        "240,240,159.5,119.5",
        MATRIX,
        np.array(MATRIX),
        torch.tensor(MATRIX),
        {"fx": 240, "fy": 240, "cx": 159.5, "cy": 119.5},
        {"K": np.ravel(MATRIX).tolist()},
        {"camera_matrix": {"rows": 3, "cols": 3, "data": np.ravel(MATRIX).tolist()}},
        SimpleNamespace(fx=240, fy=240, ppx=159.5, ppy=119.5),
        SimpleNamespace(k=np.ravel(MATRIX)),
    ],
)
def test_every_usual_form_of_intrinsics_is_read(camera):
    assert as_camera(camera) == CAMERA


def test_names_sizes_and_what_is_not_a_camera():
    assert as_camera("sr305") is CAMERAS["sr305"]
    info = SimpleNamespace(fx=240, fy=240, ppx=159.5, ppy=119.5, width=320, height=240)
    assert as_camera(info) == Camera(240, 240, 159.5, 119.5, 320, 240)
    for wrong in (3, None, (1, 2, 3), np.eye(2), {"fx": 240}, object()):
        with pytest.raises(TypeError, match="camera is"):
            as_camera(wrong)
    with pytest.raises(ValueError, match="camera matrix"):
        as_camera(np.array([[240, 5, 159.5], [0, 240, 119.5], [0, 0, 1]]))


@pytest.mark.parametrize(
    "distortion",
    [
        {"D": [0.1, 0, 0, 0, 0]},
        {"d": np.array([0.0, 0.2])},
        {"distortion_coefficients": {"rows": 1, "cols": 5, "data": [0, 0, 0, 0, -0.3]}},
        {"coeffs": torch.tensor([0.1])},
    ],
)
def test_distortion_beside_intrinsics_is_not_ignored_silently(distortion):
    with pytest.warns(UserWarning, match=r"distortion coefficients .* are not used; undistort"):
        assert as_camera({"K": np.ravel(MATRIX).tolist(), **distortion}) == CAMERA


def test_realsense_intrinsics_warn_of_distortion_only_where_there_is_some():
    inner = SimpleNamespace(fx=240, fy=240, ppx=159.5, ppy=119.5, coeffs=[0.0] * 5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert as_camera(inner) == CAMERA
    inner.coeffs[2] = 0.01
    with pytest.warns(UserWarning, match="distortion coefficients"):
        as_camera(inner)


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


@pytest.mark.parametrize(
    ("camera", "says"),
    [
        ((159.5, 119.5, 240, 240), "in the order cx, cy, fx, fy"),
        ((240, 159.5, 240, 119.5), "in the order fx, cx, fy, cy"),
        ((240, 240, 119.5, 159.5), "landscape camera, for portrait"),
    ],
)
def test_intrinsics_in_another_order_are_recognised(camera, says):
    with pytest.raises(ValueError, match=says) as caught:
        refine(hand(), camera=camera)
    assert "fx,fy,cx,cy = 240,240,159.5,119.5" in str(caught.value)
    finding, usable = check_intrinsics(Camera(*camera), (240, 320))
    assert finding.kind == "fault"
    assert says in finding.text
    assert usable == CAMERA


@pytest.mark.parametrize("camera", [CAMERA, Camera(240, 240, 150, 100), Camera(475, 470, 160, 120)])
def test_plausible_intrinsics_are_not_called_reordered(camera):
    assert reordered(camera, (240, 320)) is None


@pytest.mark.parametrize("scale", [0.25, 0.5, 0.75, 1.25, 2.0, 4.0])
def test_intrinsics_of_another_size_are_refused_with_those_that_fit(scale):
    camera = Camera(*(scale * value for value in (240, 240, 160, 120)))
    with pytest.raises(ValueError, match=r"does not fit the frames: .*frames resized from there have 2[34]") as caught:
        refine(hand(), camera=camera)
    assert f"belong to about {2 * camera.cx + 1:.0f}x{2 * camera.cy + 1:.0f}" in str(caught.value)


@pytest.mark.parametrize("focal", [0.19, 1.93, 4.0])
def test_focal_lengths_in_millimetres_are_refused(focal):
    with pytest.raises(ValueError, match="in pixels, not in millimetres"):
        refine(hand(), camera=(focal, focal, 159.5, 119.5))


@pytest.mark.parametrize("camera", [(240, 240, 90, 119.5), (1200, 1200, 159.5, 119.5), (240, 240, 175, 110)])
def test_intrinsics_of_frames_that_were_cut_out_are_taken(camera):
    assert np.isfinite(refine(hand() if camera[0] == 240 else hand(mm=2000, radius=45 * 5), camera=camera).joints).all()


@pytest.mark.parametrize(("true", "given"), [(1, 0.125), (1, 10), (0.25, 1), (0.1, 1), (10, 1), (0.125, 1)])
def test_no_hand_in_a_wrong_unit_names_the_unit(true, given):
    frame = hand(mm=560) / np.float32(true)
    with pytest.raises(ValueError, match="depth_unit=") as caught:
        refine(frame, camera=CAMERA, depth_unit=given)
    assert f"depth_unit={true:g} (" in str(caught.value) or f" or {true:g} (" in str(caught.value)


@pytest.mark.parametrize(
    ("camera", "says"),
    [
        (np.eye(3), "cx and cy are 0"),
        (np.diag([240.0, 240.0, 1.0]), "cx and cy are 0"),
        ((240.0, 240.0, 0.0, 0.0), "cx and cy are 0"),
        ((2.0, 2.0, 100.0, 60.0), "fx, fy in pixels"),
        ((20.0, 20.0, 300.0, 20.0), "fx, fy in pixels"),
    ],
)
def test_intrinsics_without_principal_point_or_focal_length_are_refused(camera, says):
    with pytest.raises(ValueError, match=says):
        refine(hand(), camera=camera)


@pytest.mark.parametrize("cube", [0.15, 15, 29.9, 501, 1e6, True, np.float32(0.3)])
def test_cubes_that_hold_no_hand_are_refused(cube):
    with pytest.raises(ValueError, match="cube is"):
        Estimator(camera=CAMERA, cube=cube)


@pytest.mark.parametrize("setting", ["stages", "tta", "depth_unit", "cube"])
def test_settings_are_numbers_of_any_kind_but_truth_values(setting):
    value = {"stages": 2, "tta": 1, "depth_unit": 1, "cube": 150}[setting]
    for kind in (np.int32, np.int64, np.uint8):
        assert getattr(Estimator(camera=CAMERA, **{setting: kind(value)}), setting) == value
    for wrong in (True, "1", None, 1j, [1]):
        with pytest.raises(ValueError, match=f"{setting} is"):
            Estimator(camera=CAMERA, **{setting: wrong})


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_autocast_changes_nothing(estimator, dtype, kind):
    expected = estimator(kind(hand())).joints
    with torch.autocast("cpu", dtype=dtype):
        result = estimator(kind(hand())).joints
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result, expected)


NO_FRAME = {
    "meta": lambda: torch.empty(240, 320, device="meta"),
    "sparse_coo": lambda: torch.zeros(240, 320).to_sparse(),
    "sparse_csr": lambda: torch.zeros(240, 320).to_sparse_csr(),
    "dense": lambda: torch.nested.nested_tensor([torch.zeros(240, 320)]),
    "3 channels": lambda: np.zeros((240, 320, 3), np.uint16),
    "2 channels": lambda: np.zeros((240, 320, 2), np.float32),
    "4 channels": lambda: torch.zeros(240, 320, 4),
}


@pytest.mark.parametrize("says", NO_FRAME)
@pytest.mark.filterwarnings("ignore:Sparse CSR", "ignore:The PyTorch API of nested")
def test_what_holds_no_frame_is_named(estimator, says):
    with pytest.raises((TypeError, ValueError), match=rf"^depth has .*{says}"):
        estimator(NO_FRAME[says]())


@pytest.mark.parametrize("center", [["160", "110", "500"], np.array([160, None, 500]), {"u": 1}, [[1, 2], [3]]])
def test_centres_that_are_no_numbers_are_named(estimator, center):
    with pytest.raises((TypeError, ValueError), match=r"center (is|has)"):
        estimator(hand(), center=center)


@pytest.mark.parametrize("count", [0, -1, 1.5, "2", None, True])
def test_numbers_of_hands_that_are_none_are_refused(count):
    with pytest.raises(ValueError, match="max_hands is"):
        find_hands(hand(), CAMERA, count)


def test_errors_reach_the_parent_of_a_process():
    copy = pickle.loads(pickle.dumps(NoHandError("no hand", [1, 2])))
    assert (str(copy), copy.frames) == ("no hand", (1, 2))
    assert str(pickle.loads(pickle.dumps(HandDistanceError("far")))) == "far"
