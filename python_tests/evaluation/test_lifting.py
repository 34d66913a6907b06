# SPDX-License-Identifier: MIT
import pytest
import torch

from poseren_ext.evaluation.keypoint_lifting import lift_keypoints
from poseren_ext.geometry.camera import Camera

CAMERA = Camera(100.0, 110.0, 40.0, 30.0)
CENTER = torch.tensor([[40.0, 30.0, 500.0]])


def lift(keypoints, depth, center=CENTER, **options):
    return lift_keypoints(torch.tensor([keypoints]), depth[None], center, CAMERA, **options)[0]


def test_planes_are_found_exactly():
    depth = torch.full((60, 80), 512.0)
    lifted = lift([[40.0, 30.0], [20.2, 12.7], [65.0, 50.0]], depth)
    torch.testing.assert_close(lifted, torch.tensor([[40.0, 30.0, 512.0], [20.2, 12.7, 512.0], [65.0, 50.0, 512.0]]))
    slanted = depth + 0.5 * (torch.arange(80.0) - 40) - 0.25 * (torch.arange(60.0)[:, None] - 30)
    assert lift([[44.0, 38.0]], slanted)[0, 2] == pytest.approx(512 + 2 - 2)


def test_nine_neighbours_are_averaged():
    depth = torch.zeros(60, 80)
    depth[29:32, 39:42] = torch.arange(9.0).reshape(3, 3) * 3 + 480
    assert lift([[40.0, 30.0]], depth)[0, 2] == pytest.approx(492)
    depth[29, 39:42] = 0  # holes do not count
    assert lift([[40.0, 30.0]], depth)[0, 2] == pytest.approx(480 + 3 * (3 + 4 + 5 + 6 + 7 + 8) / 6)
    depth[31, 39] = torch.nan
    assert lift([[40.4, 29.6]], depth)[0, 2] == pytest.approx(480 + 3 * (3 + 4 + 5 + 7 + 8) / 5)


def test_depth_outside_the_cube_does_not_count():
    depth = torch.full((60, 80), 700.0)  # a wall behind the hand
    depth[30, 40:42] = 520.0
    depth[29, 40] = 349.0  # something in front
    assert lift([[40.0, 30.0]], depth)[0, 2] == 520
    assert lift([[40.0, 30.0]], depth, cube=300.0)[0, 2] == pytest.approx((6 * 700 + 2 * 520 + 349) / 9)
    # 500 mm away the cube of 150 mm ends 30 pixels from its centre: the same depth farther out is not the hand's.
    flat = torch.full((60, 80), 500.0)
    flat[:, 72:] = 510.0
    assert lift([[75.0, 30.0]], flat)[0, 2] == 500  # no neighbour is inside: the centre's depth


def test_the_nearest_ring_fills_a_hole():
    depth = torch.full((60, 80), 540.0)
    depth[27:34, 37:44] = 0
    depth[26, 40] = 480.0
    mean = lift([[40.0, 30.0]], depth)[0, 2]
    assert mean == pytest.approx((31 * 540 + 480) / 32)


def test_a_sphere_within_a_pixel():
    rows, columns = torch.meshgrid(torch.arange(60.0), torch.arange(80.0), indexing="ij")
    x, y = (columns - 40) / 100, (rows - 30) / 110
    # |t (x, y, 1) - (0, 0, 500)| = 60, the first intersection
    a, b, c = x * x + y * y + 1, -2 * 500.0, 500.0**2 - 60.0**2
    root = b * b - 4 * a * c
    depth = torch.where(root > 0, (-b - root.clamp(min=0).sqrt()) / (2 * a), 0.0)
    lifted = lift([[40.0, 30.0], [45.0, 27.0]], depth)
    for u, v, d in lifted.tolist():
        assert d == pytest.approx(float(depth[int(v), int(u)]), abs=1.5)


def test_units_batches_and_types():
    depth = torch.full((2, 60, 80), 4000, dtype=torch.int32)
    depth[1] = 4400
    keypoints = torch.tensor([[[40.0, 30.0, 1.0]], [[20.0, 20.0, 1.0]]])
    center = torch.tensor([[40.0, 30.0, 500.0], [40.0, 30.0, 520.0]])
    lifted = lift_keypoints(keypoints, depth, center, CAMERA, depth_unit=0.125)
    assert lifted[:, 0, 2].tolist() == [500.0, 550.0]
    assert lifted.shape == (2, 1, 3)


def test_invalid_keypoints():
    depth = torch.full((60, 80), 500.0)
    lifted = lift([[-5000.0, 1e30], [torch.nan, 3.0], [-1.0, 0.0]], depth)
    assert lifted[0, 2] == 500  # the centre's
    assert torch.isnan(lifted[1, 2])
    assert lifted[2, 2] == 500
    with pytest.raises(ValueError, match=r"expected \[B, J, 2\]"):
        lift_keypoints(torch.zeros(3, 2), depth[None], CENTER, CAMERA)
    with pytest.raises(ValueError, match="of the same B"):
        lift_keypoints(torch.zeros(2, 3, 2), depth[None], CENTER, CAMERA)
