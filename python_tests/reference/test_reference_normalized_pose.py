# SPDX-License-Identifier: MIT
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from poseren_ext.geometry.camera import CAMERAS, Camera
from poseren_ext.reference import denormalize_pose, depth_crop, normalize_pose

CAMERA = Camera(500.0, 400.0, 320.0, 240.0)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), batch=st.integers(0, 4), joints=st.integers(1, 21), wide=st.booleans())
def test_the_directions_are_inverses(seed: int, batch: int, joints: int, wide: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    dtype = torch.float64 if wide else torch.float32
    pose = 2 * torch.rand(batch, joints, 3, generator=generator, dtype=dtype) - 1
    center = torch.tensor([320.0, 240.0, 700.0]) + 100 * torch.randn(batch, 3, generator=generator)
    camera = torch.tensor([500.0, 400.0, 320.0, 240.0]) * (1 + 0.1 * torch.rand(batch, 4, generator=generator))
    cube = 100 + 100 * torch.rand(batch, 3, generator=generator)
    uvd = denormalize_pose(pose, center, camera, cube=cube)
    assert uvd.dtype == dtype
    back = normalize_pose(uvd, center, camera, cube=cube)
    torch.testing.assert_close(back, pose, rtol=0, atol=1e-12 if wide else 1e-5)


def test_a_joint_lies_in_the_crop_where_its_pixel_does() -> None:
    depth = torch.zeros(480, 640)
    depth[200, 330] = 760
    center = torch.tensor([325.0, 205.0, 800.0])
    crop = depth_crop(depth, center, CAMERA, cube=20.0, size=96)
    row, column = divmod(int(crop.argmin()), 96)
    pose = normalize_pose(torch.tensor([[330.0, 200.0, 760.0]]), center, CAMERA, cube=20.0)
    place = (pose[0, :2] + 1) * 95 / 2
    # The pixel is as large as a few of the crop's: its middle is found to within half of one.
    assert (place - torch.tensor([column, row])).abs().max() <= 1


def test_the_gradient_of_one_direction_undoes_that_of_the_other() -> None:
    center = torch.tensor([100.0, 80.0, 1000.0])
    scale = torch.autograd.functional.jacobian(lambda p: denormalize_pose(p, center, CAMERA), torch.zeros(1, 3))
    inverse = torch.autograd.functional.jacobian(lambda p: normalize_pose(p, center, CAMERA), torch.zeros(1, 3))
    torch.testing.assert_close(scale[0, :, 0] @ inverse[0, :, 0], torch.eye(3))


def test_half_types_are_widened() -> None:
    assert normalize_pose(torch.ones(2, 3).half(), torch.ones(3), CAMERA).dtype == torch.float32


@pytest.mark.parametrize(
    ("pose", "center", "error", "message"),
    [
        (torch.ones(2, 3, dtype=torch.int64), torch.ones(3), TypeError, "torch.int64; expected a floating-point"),
        ([[1.0, 2.0, 3.0]], torch.ones(3), TypeError, "list"),
        (torch.ones(2, 4, 2), torch.ones(2, 3), ValueError, r"\(2, 4, 2\); expected \[B, J, 3\]"),
        (torch.ones(2, 4, 3), torch.ones(3), ValueError, r"center has shape \(3,\); expected \[2, 3\]"),
    ],
)
def test_bad_arguments(pose: object, center: torch.Tensor, error: type[Exception], message: str) -> None:
    for convert in (normalize_pose, denormalize_pose):
        with pytest.raises(error, match=message):
            convert(pose, center, CAMERA)


@pytest.mark.parametrize("dataset", ["nyu", "icvl"])
def test_published_labels_there_and_back(test_data: Path, dataset: str) -> None:
    folder = test_data / dataset
    labels = torch.from_numpy(np.loadtxt(folder / "test_groundtruth_uvd.txt", max_rows=500)).unflatten(1, (-1, 3))
    centers = torch.from_numpy(np.loadtxt(folder / "test_centers_uvd.txt", max_rows=500))
    pose = normalize_pose(labels, centers, CAMERAS[dataset])
    torch.testing.assert_close(denormalize_pose(pose, centers, CAMERAS[dataset]), labels, rtol=0, atol=1e-9)
    assert (pose.abs() <= 1).double().mean() > 0.95  # the centres are the hands' own
    narrow = normalize_pose(labels.float(), centers.float(), CAMERAS[dataset])
    back = denormalize_pose(narrow, centers.float(), CAMERAS[dataset])
    torch.testing.assert_close(back.double(), labels, rtol=0, atol=1e-3)
