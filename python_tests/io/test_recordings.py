# SPDX-License-Identifier: MIT
"""Recordings of other software: written by that software's libraries, or by hand in the documented format."""

from __future__ import annotations

import json
import struct
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import cv2
import lzfse
import numpy as np
import pytest
from helpers.matroska_files import azure_kinect_file
from helpers.ros_bags import Messages, write_bag

from poseren_ext.geometry.camera import Camera
from poseren_ext.geometry.lens import Lens
from poseren_ext.io.depth_files import FrameError, find_frames, read_depth
from poseren_ext.io.matroska_recordings import azure_kinect_lens
from poseren_ext.io.recordings import is_recording, open_recording
from poseren_ext.io.ros_recordings import RosRecording

FRAMES = [np.random.default_rng(i).integers(300, 900, (12, 16)).astype(np.uint16) for i in range(9)]
K = [16.0, 0, 7.5, 0, 16.5, 5.5, 0, 0, 1]
CAMERA = Camera(16.0, 16.5, 7.5, 5.5, 16, 12)


def check(path: Path, expected: list[Any] = FRAMES) -> None:
    """Every frame, in order and by its number."""
    found = find_frames([path])
    assert len(found) == len(expected)
    for frame, depth in zip(found, expected, strict=True):
        np.testing.assert_array_equal(frame.read(), depth)
    order = [*range(len(expected))] * 2
    Random(0).shuffle(order)
    for index in order:
        np.testing.assert_array_equal(read_depth(path, index), expected[index])


@pytest.mark.parametrize(
    ("ros", "name", "storage"), [(1, "a.bag", ""), (2, "a", "MCAP"), (2, "a", "SQLITE3"), (2, "a/a.mcap", "MCAP")]
)
def test_ros_bags(tmp_path: Path, ros: int, name: str, storage: str) -> None:
    messages = Messages(ros)
    topics = {
        "/camera/color/image_raw": [messages.image(np.zeros((4, 5, 3), np.uint8)[..., 0], "mono8")],
        "/camera/infra1/image_rect_raw": [messages.image(FRAMES[0], "mono16")],
        "/camera/color/camera_info": [messages.camera_info((12, 16), [1.0] * 9)],
        "/camera/depth/image_raw": [messages.image(frame, "16UC1", padding=6) for frame in FRAMES],
        "/camera/depth/camera_info": [messages.camera_info((12, 16), K, [0.1, 0, 0, 0, 0])],
        "/camera/aligned_depth_to_color/image_raw": [messages.image(FRAMES[1], "16UC1")],
    }
    write_bag(tmp_path / name.split("/")[0], messages, topics, storage)
    path = tmp_path / name
    assert is_recording(path)
    check(path)
    recording = open_recording(path)
    assert (recording.lens, recording.depth_unit) == (Lens(CAMERA, (0.1, 0, 0, 0, 0)), 1.0)
    assert isinstance(recording, RosRecording)
    assert recording.topic == "/camera/depth/image_raw"


def test_metres_big_endian_and_rectified(tmp_path: Path) -> None:
    messages = Messages(2)
    metres = [(frame / 1000).astype(np.float32) for frame in FRAMES]
    p = [20.0, 0, 8.0, 0, 0, 20.0, 6.0, 0, 0, 0, 1, 0]
    topics = {
        "/depth/image_rect": [messages.image(frame, "32FC1", big=True) for frame in metres],
        "/depth/camera_info": [messages.camera_info((12, 16), K, [0.1, 0, 0, 0, 0], p)],
    }
    path = write_bag(tmp_path / "a", messages, topics)
    check(path, metres)
    recording = open_recording(path)
    assert (recording.lens, recording.depth_unit) == (Lens(Camera(20.0, 20.0, 8.0, 6.0, 16, 12)), 1000.0)


def test_realsense_bags_have_their_unit(tmp_path: Path) -> None:
    messages, sensor = Messages(1), "/device_0/sensor_0"
    topics = {
        f"{sensor}/option/Depth_Units/value": [messages.number(0.000125)],
        f"{sensor}/Depth_0/info/camera_info": [messages.camera_info((12, 16), K, [0.0] * 5)],
        f"{sensor}/Depth_0/image/data": [messages.image(frame, "mono16") for frame in FRAMES],
        f"{sensor}/Infrared_1/image/data": [messages.image(FRAMES[0].astype(np.uint8), "mono8")],
    }
    path = write_bag(tmp_path / "a.bag", messages, topics)
    check(path)
    recording = open_recording(path)
    assert (recording.lens, recording.depth_unit) == (Lens(CAMERA), 0.125)


def test_compressed_depth(tmp_path: Path) -> None:
    messages = Messages(2)
    png = [cv2.imencode(".png", frame)[1].tobytes() for frame in FRAMES]
    for form, prefix in (("16UC1; compressedDepth png", struct.pack("<iff", 1, 0, 0)), ("16UC1; png compressed ", b"")):
        topics = {"/depth/compressed": [messages.compressed(prefix + content, form) for content in png]}
        path = write_bag(tmp_path / ("a" if prefix else "b"), messages, topics)
        check(path)
        assert open_recording(path).lens is None
    scale, offset = 1000.0, -0.5
    header = struct.pack("<iff", 1, scale, offset)
    topics = {"/depth/compressedDepth": [messages.compressed(header + png[0], "32FC1; compressedDepth")]}
    path = write_bag(tmp_path / "c", messages, topics)
    np.testing.assert_allclose(read_depth(path, 0), scale / (FRAMES[0] - offset), rtol=1e-6)
    assert open_recording(path).depth_unit == 1000.0


def test_threads_read_ranges_at_once(tmp_path: Path) -> None:
    messages = Messages(2)
    frames = [np.full((12, 16), number, np.uint16) for number in range(1, 97)]
    path = write_bag(tmp_path / "a", messages, {"/depth": [messages.image(frame, "16UC1") for frame in frames]})

    def read(start: int) -> list[int]:
        return [int(read_depth(path, index)[0, 0]) for index in range(start, start + 16)]

    with ThreadPoolExecutor(4) as pool:
        found = [value for part in pool.map(read, range(0, 96, 16)) for value in part]
    assert found == list(range(1, 97))


def test_bags_without_one_depth_topic(tmp_path: Path) -> None:
    messages = Messages(2)
    colour = {"/color": [messages.image(np.zeros((4, 5), np.uint8), "mono8")]}
    with pytest.raises(FrameError, match=r"no topic of depth images .*/color \(sensor_msgs/msg/Image\)"):
        find_frames([write_bag(tmp_path / "a", messages, colour)])
    two = {f"/{side}/depth": [messages.image(FRAMES[0], "16UC1")] for side in ("left", "right")}
    with pytest.raises(FrameError, match="several topics of depth images: /left/depth, /right/depth"):
        find_frames([write_bag(tmp_path / "b", messages, two)])


PARAMETERS = [
    *(0.5, 0.51, 0.49, 0.495),  # cx, cy, fx, fy
    *(0.5, -2.6, 1.5, 0.4, -2.4, 1.4),  # k1 to k6
    *(0.0, 0.0, -0.0001, 0.0002),  # codx, cody, p2, p1
]
MODEL = {"ModelType": "CALIBRATION_LensDistortionModelBrownConrady", "ModelParameters": PARAMETERS}
CALIBRATION = {
    "CalibrationInformation": {
        "Cameras": [
            {"Location": "CALIBRATION_CameraLocationPV0", "Intrinsics": {}},
            {"Location": "CALIBRATION_CameraLocationD0", "Intrinsics": MODEL},
        ]
    }
}


def test_azure_kinect_recordings(tmp_path: Path) -> None:
    frames = [np.random.default_rng(i).integers(0, 4000, (288, 320)).astype(np.uint16) for i in range(4)]
    tracks = {"DEPTH": frames, "IR": [frame // 2 for frame in frames]}
    tags = {"K4A_DEPTH_MODE": "NFOV_2X2BINNED"}
    path = azure_kinect_file(tmp_path / "a.mkv", tracks, tags, CALIBRATION)
    check(path, frames)
    recording = open_recording(path)
    assert recording.depth_unit == 1.0
    lens = recording.lens
    assert lens is not None
    assert lens.camera == Camera(0.49 * 512, 0.495 * 512, 256 - 96.5, 0.51 * 512 - 90.5, 320, 288)
    assert lens.distortion == (0.5, -2.6, 0.0002, -0.0001, 1.5, 0.4, -2.4, 1.4)
    bare = azure_kinect_file(tmp_path / "b.mkv", {"depth": frames}, {})
    check(bare, frames)
    assert (open_recording(bare).lens, open_recording(bare).depth_unit) == (None, None)


def test_azure_kinect_modes() -> None:
    wide = azure_kinect_lens(CALIBRATION, "WFOV_UNBINNED", (1024, 1024)).camera
    narrow = azure_kinect_lens(CALIBRATION, "NFOV_UNBINNED", (640, 576)).camera
    assert (wide.fx, wide.cx - narrow.cx, wide.cy - narrow.cy) == (narrow.fx, 192, 180)
    with pytest.raises(FrameError, match="depth mode PASSIVE_IR"):
        azure_kinect_lens(CALIBRATION, "PASSIVE_IR", (1024, 1024))
    with pytest.raises(FrameError, match="not the calibration"):
        azure_kinect_lens({}, "NFOV_UNBINNED", (640, 576))


def test_16_bit_video_that_pyav_writes(tmp_path: Path) -> None:
    import av

    frames = [np.random.default_rng(i).integers(0, 4000, (48, 64)).astype(np.uint16) for i in range(5)]
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "gray16le"
        for depth in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(depth, format="gray16le")))
        container.mux(stream.encode(None))
    check(path, frames)


def r3d(path: Path, frames: list[Any], **metadata: Any) -> Path:
    about = {"w": 720, "h": 960, "K": [700.0, 0, 0, 0, 701.0, 0, 360.0, 480.0, 1], **metadata}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata", json.dumps(about))
        for number, frame in enumerate(frames):
            archive.writestr(f"rgbd/{number}.depth", lzfse.compress(frame.astype("<f4").tobytes()))
            archive.writestr(f"rgbd/{number}.jpg", b"")
    return path


@pytest.mark.parametrize("sizes", [{}, {"dw": 192, "dh": 256}])
def test_record3d_recordings(tmp_path: Path, sizes: dict[str, int]) -> None:
    frames = [np.random.default_rng(i).random((256, 192)).astype(np.float32) for i in range(12)]
    path = r3d(tmp_path / "a.r3d", frames, **sizes)
    check(path, frames)
    recording = open_recording(path)
    assert recording.depth_unit == 1000.0
    lens = recording.lens
    assert lens is not None
    camera = lens.camera
    assert (camera.width, camera.height) == (192, 256)
    assert (camera.fx, camera.fy) == pytest.approx((700 * 192 / 720, 701 * 256 / 960))
    assert (camera.cx, camera.cy) == pytest.approx((360.5 * 192 / 720 - 0.5, 480.5 * 256 / 960 - 0.5))


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [("a.bag", "rosbags.highlevel", "ros"), ("a.mkv", "av", "video"), ("a.r3d", "lzfse", "record3d")],
)
def test_a_missing_library_and_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str, extra: str
) -> None:
    (tmp_path / name).write_bytes(b"x")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=rf"pip install 'poseren_ext\[{extra}\]'"):
        find_frames([tmp_path / name])


@pytest.mark.parametrize("name", ["a.bag", "a.mcap", "a.db3", "a.mkv", "a.r3d"])
@pytest.mark.parametrize("content", [b"", b"not a recording", bytes(5000)])
def test_damaged_recordings(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FrameError, match=name) as caught:
        find_frames([tmp_path / name])
    assert "\n" not in str(caught.value)


def test_a_truncated_recording_ends_with_an_error(tmp_path: Path) -> None:
    frames = [np.random.default_rng(i).integers(0, 4000, (288, 320)).astype(np.uint16) for i in range(4)]
    whole = azure_kinect_file(tmp_path / "a.mkv", {"DEPTH": frames}, {}).read_bytes()
    (tmp_path / "a.mkv").write_bytes(whole[: len(whole) * 3 // 5])
    found = find_frames([tmp_path / "a.mkv"])
    assert 1 <= len(found) < 4
    np.testing.assert_array_equal(found[0].read(), frames[0])
    with pytest.raises(FrameError, match="there is no frame 7"):
        read_depth(tmp_path / "a.mkv", 7)
