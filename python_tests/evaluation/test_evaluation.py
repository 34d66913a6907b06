# SPDX-License-Identifier: MIT
import math
import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from poseren_ext.evaluation.metrics import (
    Evaluation,
    MeanError2D,
    MeanError3D,
    PerJointError,
    SuccessAUC,
    SuccessRate,
    evaluate,
    joint_errors,
)
from poseren_ext.evaluation.viewpoint import ViewpointError, hand_angles
from poseren_ext.geometry.camera import CAMERAS, xyz_to_uvd
from poseren_ext.geometry.skeleton import SKELETONS


def offsets(errors):
    """Prediction and target [B, J, 3] whose joints are apart by `errors` [B][J] mm, each along another axis."""
    error = torch.tensor(errors, dtype=torch.float64)
    target = torch.arange(error.numel() * 3, dtype=torch.float64).reshape(*error.shape, 3)
    axis = torch.eye(3, dtype=torch.float64)[torch.arange(error.numel()) % 3].reshape(*error.shape, 3)
    return target + axis * error[..., None], target


HAND_WORKED = offsets([[1.0, 3.0], [5.0, 7.0], [2.0, 10.0], [0.0, 0.0]])


def run(metric, prediction, target):
    metric.update(prediction, target)
    return metric.compute()


def test_hand_worked_means():
    assert run(MeanError3D(), *HAND_WORKED) == pytest.approx(28 / 8)
    assert run(PerJointError(2), *HAND_WORKED).tolist() == pytest.approx([8 / 4, 20 / 4])


def test_2d_error_ignores_depth():
    prediction = torch.tensor([[[3.0, 4.0, 900.0], [0.0, 0.0, 1.0]]])
    assert run(MeanError2D(), prediction, torch.zeros_like(prediction)) == pytest.approx(2.5)
    assert run(MeanError2D(), prediction[..., :2], torch.zeros(1, 2, 2)) == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("over", "expected"),
    [
        ("max", [1 / 4, 2 / 4, 3 / 4, 1]),  # frame maxima 3, 7, 10, 0; a threshold that is met counts
        ("mean", [2 / 4, 2 / 4, 1, 1]),  # frame means 2, 6, 6, 0
        ("joint", [4 / 8, 5 / 8, 7 / 8, 1]),
    ],
)
def test_hand_worked_success_rates(over, expected):
    thresholds = [2, 3, 7, 10]
    assert run(SuccessRate(over, thresholds), *HAND_WORKED).tolist() == expected


def test_auc_is_the_integral_of_the_success_curve():
    prediction, target = offsets(torch.rand(50, 4, generator=torch.Generator().manual_seed(0)).mul(100).tolist())
    steps = np.linspace(0, 80, 80001)
    for over in ("max", "mean", "joint"):
        curve = run(SuccessRate(over, steps), prediction, target)
        integral = float(torch.trapezoid(curve, torch.tensor(steps))) / 80
        assert float(run(SuccessAUC(over), prediction, target)) == pytest.approx(integral, abs=1e-4)


def test_auc_of_a_part_of_the_curve():
    auc = SuccessAUC(low=2, high=10)  # maxima 3, 7, 10, 0 leave 7, 3, 0 and 8 of 8
    assert float(run(auc, *HAND_WORKED)) == pytest.approx((7 + 3 + 0 + 8) / 32)


@given(st.integers(1, 40), st.integers(1, 21), st.integers(1, 7), st.integers(0, 2**31))
@settings(deadline=None, max_examples=25)
def test_batches_do_not_matter(frames, joints, batch, seed):
    generator = torch.Generator().manual_seed(seed)
    prediction = torch.randn(frames, joints, 3, generator=generator) * 50
    target = torch.randn(frames, joints, 3, generator=generator) * 50
    for make in (MeanError3D, MeanError2D, lambda: PerJointError(joints), SuccessRate, SuccessAUC):
        whole, parts = make(), make()
        whole.update(prediction, target)
        for p, t in zip(prediction.split(batch), target.split(batch), strict=True):
            parts.update(p, t)
        torch.testing.assert_close(whole.compute(), parts.compute(), rtol=1e-12, atol=1e-12)


def test_sums_stay_in_float64_after_half():
    metric = MeanError3D().half().to("cpu")
    metric.update(torch.full((3, 2, 3), 1000.0), torch.zeros(3, 2, 3))
    assert metric.compute().dtype == torch.float64
    assert float(metric.compute()) == pytest.approx(1000 * math.sqrt(3), abs=1e-9)


def _rank(rank, folder, prediction, target):
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    metrics = [MeanError3D(), PerJointError(21), SuccessRate(), SuccessAUC(), ViewpointError(SKELETONS["msra21"])]
    results = []
    for metric in metrics:
        metric.update(prediction[rank::2], target[rank::2])
        results.append(metric.compute())
    torch.save(results, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_processes_sum_their_states(tmp_path):
    generator = torch.Generator().manual_seed(1)
    target = torch.randn(9, 21, 3, generator=generator) * 60
    prediction = target + torch.randn(9, 21, 3, generator=generator) * 10
    torch.multiprocessing.spawn(_rank, (str(tmp_path), prediction, target), nprocs=2)
    metrics = [MeanError3D(), PerJointError(21), SuccessRate(), SuccessAUC(), ViewpointError(SKELETONS["msra21"])]
    whole = [run(metric, prediction, target) for metric in metrics]
    for rank in range(2):
        parts = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-12, equal_nan=True)


def msra_hand(up, across):
    """A palm at 500 mm whose middle finger's root lies `up` and whose pinky's root lies `across` from the wrist."""
    joints = torch.zeros(1, 21, 3, dtype=torch.float64)
    joints[..., 2] = 500
    names = SKELETONS["msra21"].joints
    joints[0, names.index("middle mcp")] += torch.tensor(up, dtype=torch.float64)
    joints[0, names.index("pinky mcp")] += torch.tensor(across, dtype=torch.float64)
    return joints


def test_viewpoint_of_known_palms():
    degrees = math.radians(30)
    palm = [SKELETONS["msra21"].joints.index(name) for name in ("wrist", "middle mcp", "pinky mcp")]
    up, towards, sideways = (0, -80, 0), (0, -math.cos(degrees), -math.sin(degrees)), (0.5, -math.cos(degrees), 0)
    for direction, yaw, pitch in ((up, 0, 0), (towards, 0, 30), (sideways, 30, 0)):
        angles = hand_angles(msra_hand(direction, (-30, -60, 3)), *palm)
        assert [float(a) for a in angles] == pytest.approx([yaw, pitch], abs=1e-9)
    straight_at_the_camera = hand_angles(msra_hand((0, 0, -70), (-30, 0, -60)), *palm)
    assert float(straight_at_the_camera[1]) == pytest.approx(90)
    assert not torch.isnan(straight_at_the_camera[0]).any()


@pytest.mark.parametrize(
    ("degrees", "point"),
    [(30.0, 30.0), (30.9, 30.0), (31.1, 32.0), (-9.5, -10.0), (-10.9, -10.0), (89.2, 90.0), (-11.2, None)],
)
def test_angles_are_counted_at_the_nearest_even_degree(degrees, point):
    angle = math.radians(degrees)
    target = msra_hand((0, -math.cos(angle), -math.sin(angle)), (-30, -60, 3)).repeat(2, 1, 1)
    invalid = torch.zeros(1, 21, 3, dtype=torch.float64)
    target = torch.cat([target, invalid])
    metric = ViewpointError(SKELETONS["msra21"])
    metric.update(target + torch.tensor([3.0, 0.0, 4.0]), target)
    yaw, pitch = metric.curves()["yaw"], metric.curves()["pitch"]
    assert yaw.centers == tuple(float(point) for point in range(-40, 41, 2))  # 41 points
    assert pitch.centers == tuple(float(point) for point in range(-10, 91, 2))  # 51 points
    expected = [2 * (center == point) for center in pitch.centers]
    assert list(pitch.frames) == expected
    assert list(pitch.error) == [pytest.approx(5) if count else None for count in expected]
    assert pitch.outside == (1 if point is not None else 3)


def test_viewpoint_needs_a_palm():
    with pytest.raises(ValueError, match="nyu14 has no wrist"):
        ViewpointError(SKELETONS["nyu14"])


def hands(frames=6, joints=21, seed=0):
    generator = torch.Generator().manual_seed(seed)
    xyz = torch.randn(frames, joints, 3, generator=generator, dtype=torch.float64) * 40
    xyz[..., 2] += 500
    return xyz


def test_evaluate_from_uvd_and_json_round_trip():
    camera, target = CAMERAS["msra"], hands()
    shift = torch.tensor([3.0, -4.0, 12.0], dtype=torch.float64)
    result = evaluate(
        xyz_to_uvd(target + shift, camera).numpy()[::-1],  # a view with a negative stride is an array like any other
        xyz_to_uvd(target, camera).flip(0),
        camera,
        skeleton=SKELETONS["msra21"],
        name="shifted",
        viewpoint=True,
    )
    assert result.mean_3d == pytest.approx(13)
    assert result.per_joint == pytest.approx([13] * 21)
    assert result.joints[0] == "wrist"
    assert result.success(12) == 0
    assert result.success(14) == 100
    assert result.auc == pytest.approx(100 * (80 - 13) / 80)
    assert Evaluation.from_json(result.to_json()) == result


@pytest.mark.parametrize("text", ["[]", "{}", '{"viewpoint": null}', '{"viewpoint": {"yaw": {"a": 1}}, "name": "x"}'])
def test_foreign_json_is_refused(text):
    with pytest.raises(ValueError, match="not an evaluation"):
        Evaluation.from_json(text)


def test_bad_input():
    camera, uvd = CAMERAS["msra"], xyz_to_uvd(hands(), CAMERAS["msra"])
    with pytest.raises(TypeError, match=r"float16.*convert it first"):
        joint_errors(uvd.half(), uvd)
    with pytest.raises(TypeError, match="int64"):
        evaluate(uvd.long(), uvd, camera)
    with pytest.raises(ValueError, match=r"\[5, 21, 3\].*\[6, 21, 3\]"):
        evaluate(uvd[1:], uvd, camera)
    broken = uvd.clone()
    broken[4, 2, 1] = torch.nan
    with pytest.raises(ValueError, match="prediction: joint 2 of frame 4 is NaN"):
        evaluate(broken, uvd, camera)
    with pytest.raises(ValueError, match="no frames"):
        evaluate(uvd[:0], uvd[:0], camera)
    with pytest.raises(ValueError, match="21 joints a frame given; nyu14 has 14"):
        evaluate(uvd, uvd, camera, skeleton=SKELETONS["nyu14"])
    with pytest.raises(ValueError, match="needs the skeleton"):
        evaluate(uvd, uvd, camera, viewpoint=True)
    with pytest.raises(ValueError, match="over='median'"):
        SuccessRate("median")
    with pytest.raises(ValueError, match="low < high"):
        SuccessAUC(low=80, high=20)
    with pytest.raises(ValueError, match="21 joints given; this metric was made for 14"):
        PerJointError(14).update(uvd, uvd)
    with pytest.raises(ValueError, match="not among"):
        evaluate(uvd, uvd, camera).success(33.3)
