# SPDX-License-Identifier: MIT
"""Frames as people have them, and the mistakes that people make: each is named, with what to change."""

import numpy as np
import pytest
import torch

from poseren_ext.geometry.camera import Camera
from poseren_ext.inference.input_frames import check_camera, check_units, read_frames

CPU = torch.device("cpu")


def frame(dtype: type = np.uint16, value: float = 600) -> np.ndarray:
    return np.full((6, 8), value, dtype)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float16, np.float32])
def test_reads_numpy_on_its_own_memory(dtype):
    depth = frame(dtype)
    frames = read_frames(depth, CPU)
    assert frames.depth.shape == (1, 6, 8)
    assert frames.depth.data_ptr() == depth.ctypes.data
    assert not frames.batched
    assert isinstance(frames.given, np.ndarray)


@pytest.mark.parametrize(("dtype", "read"), [(np.float64, torch.float32), (np.int16, torch.int32)])
def test_converts_what_the_ops_do_not_read(dtype, read):
    frames = read_frames(frame(dtype), CPU)
    assert frames.depth.dtype == read
    assert frames.depth[0, 0, 0] == 600


@pytest.mark.parametrize("dtype", [np.int64, np.uint32, np.uint64])
@pytest.mark.parametrize("as_tensor", [False, True])
def test_integers_beyond_32_bits_do_not_become_depths(dtype, as_tensor):
    beyond = 2**32 + 600 if dtype != np.uint32 else 2**31 + 600  # 600 and -2147483048 in 32 bits
    depth = np.array([[600, beyond], [0, np.iinfo(dtype).max]], dtype)
    read = read_frames(torch.from_numpy(depth) if as_tensor else depth, CPU).depth[0].tolist()
    assert read[0] == [600, 2**31 - 1]
    assert read[1][0] == 0
    assert read[1][1] < 0 or read[1][1] == 2**31 - 1  # no depth, or too far for a hand


def test_reads_foreign_byte_order_and_negative_strides():
    big = read_frames(frame().astype(">u2"), CPU)
    assert big.depth[0, 0, 0].item() == 600
    flipped = np.arange(48, dtype=np.float32).reshape(6, 8)[::-1]
    assert read_frames(flipped, CPU).depth[0, 0, 0] == 40


def test_reads_tensors_and_lists():
    tensor = torch.full((2, 6, 8), 600.0)
    assert read_frames(tensor, CPU).depth.data_ptr() == tensor.data_ptr()
    listed = read_frames([frame(), frame(value=700)], CPU)
    assert listed.depth.shape == (2, 6, 8)
    assert listed.batched
    assert isinstance(listed.given, np.ndarray)
    assert isinstance(read_frames([torch.zeros(6, 8)], CPU).given, torch.Tensor)


def test_gives_back_what_came():
    result = torch.zeros(1, 21, 3)
    assert isinstance(read_frames(frame(), CPU).like(result), np.ndarray)
    assert read_frames(frame(), CPU).like(result).shape == (21, 3)
    assert read_frames(torch.ones(1, 6, 8), CPU).like(result).shape == (1, 21, 3)


@pytest.mark.parametrize(
    ("depth", "error", "says"),
    [
        (frame(np.uint8, 200), TypeError, "8-bit images are no depth frames"),
        (frame(np.complex64), TypeError, "complex64"),
        (np.array([["a"]]), TypeError, "dtype"),
        ("frame.png", TypeError, "str"),
        (None, TypeError, "NoneType"),
        (np.zeros((6, 8, 3), np.uint16)[None], ValueError, r"\[H, W\] or \[B, H, W\]"),
        (np.zeros(7, np.uint16), ValueError, r"\[H, W\]"),
        (np.zeros((0, 6, 8), np.uint16), ValueError, "at least one frame"),
        (np.zeros((0, 8), np.uint16), ValueError, "one pixel"),
        ([], ValueError, "empty list"),
        ([frame(), frame()[:3]], ValueError, "one size"),
        ([frame(), "b"], TypeError, "list of"),
    ],
)
def test_refuses(depth, error, says):
    with pytest.raises(error, match=says):
        read_frames(depth, CPU)


def test_camera_of_another_size():
    frames = read_frames(frame(), CPU)
    check_camera(Camera(10.0, 10.0, 4.0, 3.0, 8, 6), frames)
    with pytest.raises(ValueError, match=r"8x6: .*belong to about 640x480"):
        check_camera(Camera(10.0, 10.0, 4.0, 3.0, 640, 480), frames)
    with pytest.raises(ValueError, match=r"8x6: .*belong to about 641x481"):
        check_camera(Camera(588.0, 588.0, 320.0, 240.0), frames)


def test_units():
    check_units(read_frames(frame(), CPU), 1.0)
    check_units(read_frames(frame(value=4800), CPU), 0.125)
    check_units(read_frames(frame(np.float32, 0.6), CPU), 1000.0)
    with pytest.raises(ValueError, match="looks like metres"):
        check_units(read_frames(frame(np.float32, 0.6), CPU), 1.0)
    with pytest.raises(ValueError, match=r"micrometres\. Pass depth_unit=0\.001"):
        check_units(read_frames(frame(np.int32, 600_000), CPU), 1.0)


@pytest.mark.parametrize("value", [0, -1, np.nan, np.inf])
def test_empty_frame(value):
    depth = np.stack([frame(np.float32), frame(np.float32, value)])
    with pytest.raises(ValueError, match="frame 1 has no depth"):
        check_units(read_frames(depth, CPU), 1.0)
