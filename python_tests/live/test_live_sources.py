# SPDX-License-Identifier: MIT
"""Recordings and cameras with the same interface; stand-ins replace the libraries of the cameras."""

import json
import sys
import time
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from poseren_ext.geometry.camera import Camera
from poseren_ext.geometry.lens import Lens
from poseren_ext.live import RecordingSource, SourceLost, cameras, open_source
from poseren_ext.live.cameras import OpenNISource, RealSenseSource


def frame(value):
    return np.full((12, 16), value, np.uint16)


@pytest.fixture
def folder(tmp_path):
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.png"), frame(500 + i))
    return tmp_path


def test_folders_and_stacks(folder, tmp_path):
    np.savez(tmp_path / "stack.npz", depth=np.stack([frame(7), frame(8)]))
    source = open_source("npz", [tmp_path / "stack.npz"])
    assert [source.read().depth[0, 0] for _ in range(2)] == [7, 8]
    assert source.read() is None
    assert source.read() is None
    (tmp_path / "stack.npz").unlink()
    source = open_source("folder", [folder], loop=True)
    frames = [source.read() for _ in range(4)]
    assert [f.number for f in frames] == [0, 1, 2, 3]
    assert [f.depth[0, 0] for f in frames] == [500, 501, 502, 500]
    assert frames[1].name.endswith("1.png")
    assert (source.camera, source.depth_unit) == (None, None)


def test_a_broken_file_is_a_fault_and_the_next_is_read(folder):
    (folder / "1.png").write_bytes((folder / "1.png").read_bytes()[:-20])
    source = RecordingSource([folder])
    faults = [source.read().fault for _ in range(3)]
    assert (faults[0], faults[2]) == ("", "")
    assert "1.png" in faults[1]


def test_the_rate_is_kept(folder):
    source = RecordingSource([folder], rate=20, loop=True)
    began = time.perf_counter()
    for _ in range(5):
        source.read()
    assert 0.2 <= time.perf_counter() - began < 2
    with pytest.raises(ValueError, match="rate is 0"):
        RecordingSource([folder], rate=0)


def test_recorded_settings_must_be_whole(folder):
    (folder / "recording.json").write_text('{"camera": {"fx": 100}, "depth_unit": 1}')
    with pytest.raises(ValueError, match="not the settings of a recording"):
        RecordingSource([folder])


def test_given_and_recorded_lenses_undistort_the_frames(folder, monkeypatch):
    lens = Lens(
        Camera(16.0, 16.0, 7.5, 5.5, 16, 12), (0.5, 0.0, 0.0, 0.0)
    )  # the corners are outside of the stored frame
    expected = lens.undistort(frame(500))
    assert expected[0, 0] == 0
    source = open_source("folder", [folder], lens=lens)
    assert source.camera == lens.camera
    np.testing.assert_array_equal(source.read().depth, expected)
    camera = {"width": 16, "height": 12, "K": [16, 0, 7.5, 0, 16, 5.5, 0, 0, 1], "D": [0.5, 0, 0, 0]}
    (folder / "camera.json").write_text(json.dumps(camera))
    source = RecordingSource([folder])
    assert (source.camera, source.depth_unit) == (lens.camera, 1.0)
    np.testing.assert_array_equal(source.read().depth, expected)
    monkeypatch.setitem(sys.modules, "pyrealsense2", Realsense())
    source = open_source("realsense", lens=lens)
    assert (source.camera, source.depth_unit) == (lens.camera, 0.125)
    np.testing.assert_array_equal(source.read().depth, lens.undistort(frame(600)))
    source = open_source("realsense", lens=Lens(Camera(16.0, 16.0, 7.5, 5.5, 32, 24), (-0.5, 0.0, 0.0, 0.0)))
    assert "the frames are 16x12, the camera's are 32x24" in source.read().fault
    source.close()


@pytest.mark.parametrize(
    ("kind", "paths", "error", "message"),
    [
        ("webcam", [], ValueError, "expected one of realsense, orbbec, oak, record3d, kinect, folder, npz"),
        ("folder", [], ValueError, "needs a path"),
        ("kinect", ["x"], ValueError, "go with --source folder"),
        ("folder", ["nowhere"], FileNotFoundError, "no such file"),
    ],
)
def test_wrong_sources(kind, paths, error, message):
    with pytest.raises(error, match=message):
        open_source(kind, paths)


class Realsense(SimpleNamespace):
    """As much of pyrealsense2 as we call: a camera that gives two frames and is then unplugged."""

    def __init__(self, devices=1):
        super().__init__(stopped=0, left=2)
        self.stream = SimpleNamespace(depth="depth")
        self.format = SimpleNamespace(z16="z16")
        self.camera_info = SimpleNamespace(serial_number="serial")
        named = [SimpleNamespace(get_info=lambda what, i=i: f"{what} {i}") for i in range(devices)]
        self.context = lambda: SimpleNamespace(query_devices=lambda: named)
        self.enabled = []
        self.config = lambda: SimpleNamespace(
            enable_device=self.enabled.append, enable_stream=lambda *what: self.enabled.append(what)
        )
        self.pipeline = lambda: SimpleNamespace(start=self._start, wait_for_frames=self._wait, stop=self._stop)

    def _start(self, config):
        lens = SimpleNamespace(fx=476.0, fy=477.0, ppx=313.0, ppy=242.0, width=640, height=480)
        video = SimpleNamespace(get_intrinsics=lambda: lens)
        return SimpleNamespace(
            get_device=lambda: SimpleNamespace(
                first_depth_sensor=lambda: SimpleNamespace(get_depth_scale=lambda: 0.000125)
            ),
            get_stream=lambda which: SimpleNamespace(as_video_stream_profile=lambda: video),
        )

    def _wait(self, milliseconds):
        if self.left == 0:
            raise RuntimeError("Frame didn't arrive within 1000")
        self.left -= 1
        depth = SimpleNamespace(get_data=lambda: frame(600), get_frame_number=lambda: 41 - self.left)
        return SimpleNamespace(get_depth_frame=lambda: depth)

    def _stop(self):
        self.stopped += 1


def test_realsense(monkeypatch):
    library = Realsense(devices=2)
    monkeypatch.setitem(sys.modules, "pyrealsense2", library)
    monkeypatch.setattr(cameras, "FRAME_TIMEOUT_S", 0.05)
    source = open_source("realsense", device=1)
    assert library.enabled == ["serial 1", ("depth", 640, 480, "z16", 30)]
    assert source.depth_unit == 0.125
    assert (source.camera.fx, source.camera.cy, source.camera.width) == (476.0, 242.0, 640)
    assert [source.read().number for _ in range(2)] == [40, 41]
    with pytest.raises(SourceLost, match="is it plugged in"):
        source.read()
    source.close()
    source.close()
    assert library.stopped == 1


def test_realsense_that_is_not_there(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyrealsense2", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'poseren_ext\[realsense\]'"):
        RealSenseSource()
    monkeypatch.setitem(sys.modules, "pyrealsense2", Realsense(devices=0))
    with pytest.raises(SourceLost, match="0 found"):
        RealSenseSource()
    library = Realsense()
    library._start = None
    library.pipeline = lambda: SimpleNamespace(start=_busy)
    monkeypatch.setitem(sys.modules, "pyrealsense2", library)
    with pytest.raises(SourceLost, match="Device or resource busy"):
        RealSenseSource()


def _busy(config):
    raise RuntimeError("Device or resource busy")


class Capture:
    """OpenCV's VideoCapture of an OpenNI2 device that gives two frames."""

    def __init__(self, device, api):
        assert api == cv2.CAP_OPENNI2
        self.left, self.device, self.released = 2, device, False

    def isOpened(self):  # noqa: N802
        return self.device == 0

    def get(self, name):
        return {
            cv2.CAP_OPENNI_DEPTH_GENERATOR_FOCAL_LENGTH: 575.8,
            cv2.CAP_PROP_FRAME_WIDTH: 640,
            cv2.CAP_PROP_FRAME_HEIGHT: 480,
        }[name]

    def grab(self):
        self.left -= 1
        return self.left >= 0

    def retrieve(self, flag):
        assert flag == cv2.CAP_OPENNI_DEPTH_MAP
        return True, frame(700)

    def release(self):
        self.released = True


def test_kinect(monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    monkeypatch.setattr(cameras, "FRAME_TIMEOUT_S", 0.05)
    source = open_source("kinect")
    assert (source.camera.fx, source.camera.cx, source.depth_unit) == (575.8, 319.5, 1.0)
    assert [source.read().number for _ in range(2)] == [1, 2]
    with pytest.raises(SourceLost, match="is it plugged in"):
        source.read()
    source.close()
    with pytest.raises(SourceLost, match="cannot be opened"):
        OpenNISource(1)
