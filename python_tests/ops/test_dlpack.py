# SPDX-License-Identifier: MIT
"""Arrays of other libraries: shared memory for inputs, results of the same kind."""

import array_api_strict
import numpy as np
import pytest
import torch
from helpers.small_models import frames, small_model

from poseren_ext import Camera, Estimator, ops, uvd_to_xyz, xyz_to_uvd
from poseren_ext._utils.arrays import as_tensor, like

CAMERA = Camera(475.0, 474.0, 160.0, 120.0)


class OnlyArray:
    """What numpy can read and nobody else: an image of a library of its own."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype, copy=copy)


KINDS = {
    "torch": (torch.as_tensor, torch.Tensor),
    "numpy": (np.asarray, np.ndarray),
    "dlpack": (array_api_strict.asarray, type(array_api_strict.asarray(0))),
    "array": (OnlyArray, np.ndarray),  # nothing to make such a thing of again: numpy
}


@pytest.fixture(params=KINDS)
def kind(request):
    """Make an array of a kind from a numpy one; the class that comes back."""
    return KINDS[request.param]


def address(array):
    return getattr(array, "_array", array).ctypes.data  # array_api_strict keeps numpy's array in it


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float16", "float32", "float64", "bool"])
@pytest.mark.parametrize("name", ["numpy", "dlpack", "array"])
def test_same_memory(name, dtype):
    if (name, dtype) == ("dlpack", "float16"):
        dtype = "int16"  # the array API standard, which this kind keeps to, has no float16
    make, _ = KINDS[name]
    values = np.arange(24).reshape(4, 6).astype(dtype)
    tensor = as_tensor(make(values))
    assert tensor.data_ptr() == values.ctypes.data
    np.testing.assert_array_equal(tensor.numpy(), values)


def test_views_keep_their_memory():
    values = np.arange(240, dtype=np.float32).reshape(4, 6, 10)
    view = values[1:, ::2, 3:].transpose(2, 0, 1)
    assert as_tensor(view).data_ptr() == view.ctypes.data
    assert as_tensor(view).stride() == tuple(stride // 4 for stride in view.strides)


@pytest.mark.filterwarnings("error")
def test_memory_that_must_not_be_written_to(tmp_path):
    np.save(tmp_path / "frames.npy", np.arange(24, dtype=np.uint16).reshape(2, 3, 4))
    mapped = np.load(tmp_path / "frames.npy", mmap_mode="r")
    assert as_tensor(mapped).data_ptr() == mapped.ctypes.data


def test_copies_where_torch_has_no_such_memory():
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    for awkward in (values[::-1], values.astype(">f4")):
        np.testing.assert_array_equal(as_tensor(awkward).numpy(), awkward)


def test_results_share_memory():
    result = torch.arange(6.0)
    for given in (np.zeros(1), array_api_strict.zeros(1)):
        assert address(like(result, given)) == result.data_ptr()
    assert like(result, torch.zeros(1)) is result


def test_ops_take_and_give_every_kind(kind):
    make, cls = kind
    depth, center, _ = frames(2, 60, 80)
    arrays = make(depth.numpy()), make(center.numpy())
    crop = ops.depth_crop(arrays[0], arrays[1], CAMERA)
    assert isinstance(crop, cls)
    torch.testing.assert_close(as_tensor(crop), ops.depth_crop(depth, center, CAMERA), rtol=0, atol=0)
    found, count = ops.hand_center(arrays[0], near=400, far=1000, mask=make(depth.numpy() > 500))
    assert isinstance(found, cls)
    assert isinstance(count, cls)
    pose = ops.normalize_pose(make(np.full((2, 5, 3), 600, np.float32)), arrays[1], CAMERA)
    assert isinstance(ops.denormalize_pose(pose, arrays[1], CAMERA), cls)


def test_regions_and_cascade_of_every_kind(kind):
    make, cls = kind
    head = small_model().head
    features, pose = torch.randn(2, head.config.channels, 12, 12), torch.rand(2, 14, 3) - 0.5
    arrays = make(features.numpy()), make(pose.numpy())
    regions = ops.pose_roi_pool(*arrays, np.array(head.config.joints))
    assert isinstance(regions, cls)
    torch.testing.assert_close(as_tensor(regions), ops.pose_roi_pool(features, pose, head.config.joints))
    with torch.inference_mode():
        poses, run = ops.cascade_refine(*arrays, head, stages=2)
    assert isinstance(poses, cls)
    assert isinstance(run, cls)
    assert isinstance(ops.roi_windows(arrays[1], (1, 2)), cls)


def test_scalars_stay_numbers():
    depth, center, _ = frames(1, 60, 80)
    crop = ops.depth_crop(depth.numpy(), center.numpy(), np.array([475.0, 474, 40, 30]), cube=np.float32(150))
    assert isinstance(crop, np.ndarray)


def test_camera_takes_and_gives_every_kind(kind):
    make, cls = kind
    uvd = np.array([[100.0, 50.0, 600.0], [10.0, 20.0, 800.0]], np.float32)
    xyz = uvd_to_xyz(make(uvd), CAMERA)
    assert isinstance(xyz, cls)
    np.testing.assert_allclose(as_tensor(xyz_to_uvd(xyz, CAMERA)).numpy(), uvd, rtol=1e-6)


def test_estimator_takes_and_gives_every_kind(kind):
    make, cls = kind
    estimator = Estimator(small_model(), camera=CAMERA)
    depth, center, _ = frames(2, dtype=torch.uint16)
    expected = estimator(depth, center=center, return_stages=True)
    result = estimator(make(depth.numpy()), center=make(center.numpy()), return_stages=True)
    for name in ("joints", "uvd", "center", "stages", "stages_run"):
        ours = getattr(result, name)
        assert isinstance(ours, cls)
        torch.testing.assert_close(as_tensor(ours), getattr(expected, name), rtol=0, atol=0)
    again = estimator(make(depth.numpy()), center=make(center.numpy()), init_pose=like(expected.stages[0], result.uvd))
    torch.testing.assert_close(as_tensor(again.uvd), expected.uvd, rtol=0, atol=1e-2)
    single = estimator(make(depth[0].numpy()), center=make(center[0].numpy()))
    assert isinstance(single.joints, cls)
    assert single.joints.shape == (14, 3)
