# SPDX-License-Identifier: MIT
"""Errors of the published predictions, which are known to four decimals."""

import pytest
from helpers.published_data import ERROR_2D, ERROR_3D, PUBLISHED, SKELETON_OF, needs_published_data

from poseren_ext.evaluation.metrics import Evaluation, evaluate
from poseren_ext.geometry.camera import CAMERAS
from poseren_ext.geometry.skeleton import SKELETONS
from poseren_ext.io.pose_files import read_poses, require_uvd

pytestmark = needs_published_data

THRESHOLDS = (5, 10, 20, 30, 40, 50, 80)
# Percent of frames (max, mean) and of joints within each threshold, published Pose-REN.
SUCCESS = {
    ("nyu", "max"): (0.751, 17.184, 48.691, 69.304, 79.775, 85.640, 96.886),
    ("nyu", "mean"): (17.632, 52.533, 86.937, 96.171, 98.316, 98.921, 100),
    ("nyu", "joint"): (27.332, 60.155, 86.615, 93.537, 96.112, 97.557, 99.458),
    ("icvl", "max"): (0, 37.343, 77.694, 90.163, 95.301, 97.243, 99.687),
    ("icvl", "mean"): (27.632, 89.160, 99.812, 100, 100, 100, 100),
    ("icvl", "joint"): (41.393, 86.172, 97.533, 99.111, 99.589, 99.781, 99.980),
}
NYU_PER_JOINT = (
    *(14.847, 9.380, 13.382, 8.151, 14.449, 8.668, 16.843),
    *(10.927, 13.945, 11.292, 10.668, 11.450, 13.935, 7.418),
)


def run(dataset: str, system: str) -> Evaluation:
    folder, skeleton, camera = PUBLISHED / dataset, SKELETONS[SKELETON_OF[dataset]], CAMERAS[dataset]
    labels = read_poses(folder / "test_groundtruth_uvd.txt", joints=skeleton.num_joints)
    file = folder / "predictions" / f"{system}.txt"
    prediction = read_poses(file, joints=skeleton.num_joints, frames=len(labels))
    require_uvd(file, prediction, camera.width, camera.height)
    return evaluate(prediction, labels, camera, skeleton=skeleton, name=system)


@pytest.mark.parametrize(("dataset", "system"), ERROR_3D, ids="-".join)
def test_published_errors(dataset, system):
    result = run(dataset, system)
    assert result.frames == {"nyu": 8252, "icvl": 1596}[dataset]
    assert result.mean_3d == pytest.approx(ERROR_3D[dataset, system], abs=1e-4)
    assert sum(result.per_joint) / len(result.per_joint) == pytest.approx(result.mean_3d, abs=1e-9)
    if (dataset, system) in ERROR_2D:
        assert result.mean_2d == pytest.approx(ERROR_2D[dataset, system], abs=0.01)


def test_every_published_file_is_in_the_oracle():
    files = {(f.parts[-3], f.stem) for f in PUBLISHED.glob("*/predictions/*.txt")}
    assert files == set(ERROR_3D)


@pytest.mark.parametrize("dataset", ["nyu", "icvl"])
def test_published_success_rates(dataset):
    result = run(dataset, "Pose-REN")
    for over in ("max", "mean", "joint"):
        rates = [result.success(t, over) for t in THRESHOLDS]
        assert rates == pytest.approx(SUCCESS[dataset, over], abs=1e-3)


def test_published_per_joint_errors_and_2d():
    result = run("nyu", "Pose-REN")
    assert result.per_joint == pytest.approx(NYU_PER_JOINT, abs=1e-3)
    assert result.mean_2d == pytest.approx(5.5279, abs=1e-4)
