# SPDX-License-Identifier: MIT
import numpy as np
import pytest

from poseren_ext.geometry.camera import CAMERAS, uvd_to_xyz
from poseren_ext.io.pose_conventions import AxesConvention, parse_order, reorder, require_plausible, xyz_file_to_uvd
from poseren_ext.io.pose_files import PoseFileError

CAMERA = CAMERAS["msra"]
UVD = np.random.default_rng(0).uniform((60, 40, 300), (260, 200, 600), (40, 21, 3))
XYZ = uvd_to_xyz(UVD, CAMERA)


@pytest.mark.parametrize(
    ("text", "file"),
    [
        ("x,y,z", XYZ),
        ("x,-y,z", XYZ * (1, -1, 1)),
        ("x, -Y, -z", XYZ * (1, -1, -1)),
        ("y,x,z", XYZ[..., [1, 0, 2]]),
        ("-z,+x,y", np.stack([XYZ[..., 1], XYZ[..., 2], -XYZ[..., 0]], -1)),
    ],
)
def test_axes_lead_to_the_camera_frame(text, file):
    axes = AxesConvention.parse(text)
    np.testing.assert_array_equal(axes.apply(file), XYZ)
    np.testing.assert_allclose(xyz_file_to_uvd("f", file, CAMERA, axes), UVD, rtol=1e-12)


@pytest.mark.parametrize("text", ["", "x,y", "x,x,z", "x,y,w", "x,--y,z", "x,y,z,z", "1,2,3"])
def test_bad_axes(text):
    with pytest.raises(ValueError, match="expected x, y and z, each once"):
        AxesConvention.parse(text)


def test_wrong_conventions_are_seen():
    plain = AxesConvention()
    with pytest.raises(PoseFileError, match=r"f\.txt: 840 joints lie behind the camera.*add --axes x,-y,-z"):
        xyz_file_to_uvd("f.txt", XYZ * (1, -1, -1), CAMERA, plain)
    with pytest.raises(PoseFileError, match="relative to the hand"):
        xyz_file_to_uvd("f.txt", XYZ - (0, 0, 400), CAMERA, plain)
    with pytest.raises(PoseFileError, match="look like metres"):
        xyz_file_to_uvd("f.txt", XYZ / 1000, CAMERA, plain)


def test_another_convention_that_fits_is_named():
    close = UVD + np.array([1.0, 1.0, 5.0])
    as_xyz = xyz_file_to_uvd("f.txt", close, CAMERA, AxesConvention())
    with pytest.raises(
        PoseFileError, match=r"f\.txt: the mean error is \d+ mm as it was read, but [\d.]+ mm with --format uvd"
    ):
        require_plausible("f.txt", close, as_xyz, UVD, CAMERA)
    stored = uvd_to_xyz(close, CAMERA) * (1, -1, 1)
    with pytest.raises(PoseFileError, match=r"with --format xyz --axes x,-y,z"):
        require_plausible("f.txt", stored, np.abs(stored), UVD, CAMERA)
    require_plausible("f.txt", close, close, UVD, CAMERA)
    shuffled = UVD[::-1].copy()  # wrong, but no convention makes it right: that is for the errors to show
    require_plausible("f.txt", shuffled, shuffled, UVD, CAMERA)


def test_order():
    poses = np.arange(2 * 4 * 3, dtype=float).reshape(2, 4, 3)
    order = parse_order("3, 0,1,2", 4)
    np.testing.assert_array_equal(reorder("f", poses, order)[:, 0], poses[:, 3])
    np.testing.assert_array_equal(reorder("f", poses, order)[:, 3], poses[:, 2])
    for bad in ("0,1,2", "0,1,2,2", "-1,2,3,4", "a,b,c,d", ""):
        with pytest.raises(ValueError, match="4 different indices"):
            parse_order(bad, 4)
    with pytest.raises(PoseFileError, match="f: 4 joints; --order names joint 7"):
        reorder("f", poses, parse_order("0,1,2,7", 4))
