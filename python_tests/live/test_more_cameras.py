# SPDX-License-Identifier: MIT
"""Orbbec, OAK-D and Record3D: stand-ins have the names and signatures that the libraries have and we call."""

from __future__ import annotations

import datetime
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from poseren_ext.live import SourceLost, cameras, open_source
from poseren_ext.live.oak import OakSource
from poseren_ext.live.orbbec import OrbbecSource
from poseren_ext.live.record3d import Record3DSource

DEPTH = np.random.default_rng(0).integers(1, 900, (12, 16)).astype(np.uint16)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cameras, "FRAME_TIMEOUT_S", 0.05)


class Orbbec(SimpleNamespace):
    """As much of pyorbbecsdk2 as we call; `frames` are delivered, then None."""

    def __init__(self, frames: int = 3, devices: int = 1, k1: float = 0.0) -> None:
        super().__init__(left=frames, stopped=0, started=[], played="")
        self.OBPlaybackStatus = SimpleNamespace(STOPPED="stopped")
        self.OBSensorType = SimpleNamespace(DEPTH_SENSOR="depth sensor")
        self.Context = lambda: SimpleNamespace(
            query_devices=lambda: SimpleNamespace(
                get_count=lambda: devices, get_device_by_index=lambda i: f"device {i}"
            )
        )
        self.PlaybackDevice = self._play
        self.Config = lambda: SimpleNamespace(enable_stream=self.started.append)
        bent = {"model": "OBCameraDistortionModel.BROWN_CONRADY", "k1": k1}
        bent |= dict.fromkeys(("k2", "k3", "k4", "k5", "k6", "p1", "p2"), 0.0)
        profile = SimpleNamespace(
            get_intrinsic=lambda: SimpleNamespace(fx=16.0, fy=16.5, cx=7.5, cy=5.5, width=16, height=12),
            get_distortion=lambda: SimpleNamespace(**bent),
        )
        profiles = SimpleNamespace(get_default_video_stream_profile=lambda: profile)
        self.Pipeline = lambda device: SimpleNamespace(
            get_stream_profile_list=lambda sensor: {"depth sensor": profiles}[sensor],
            start=lambda config: self.started.append(device),
            stop=self._stop,
            wait_for_frames=self._wait,
        )

    def _play(self, file: str) -> Any:
        self.played = file
        return SimpleNamespace(get_playback_status=lambda: "playing" if self.left else "stopped")

    def _wait(self, milliseconds: int) -> Any:
        if self.left == 0:
            return None
        self.left -= 1
        frame = SimpleNamespace(
            get_data=lambda: DEPTH.view(np.uint8).reshape(-1),
            get_width=lambda: 16,
            get_height=lambda: 12,
            get_index=lambda: 10 - self.left,
            get_depth_scale=lambda: 0.10000000149011612,
        )
        return SimpleNamespace(get_depth_frame=lambda: frame)

    def _stop(self) -> None:
        self.stopped += 1


def test_orbbec(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Orbbec(devices=2)
    monkeypatch.setitem(sys.modules, "pyorbbecsdk", library)
    source = open_source("orbbec", device=1)
    assert library.started[1] == "device 1"
    assert source.camera is not None
    assert (source.camera.fy, source.camera.height, source.depth_unit) == (16.5, 12, 0.1)
    frames = [source.read() for _ in range(3)]
    assert [frame.number for frame in frames if frame] == [8, 9, 10]
    assert frames[2] is not None
    np.testing.assert_array_equal(frames[2].depth, DEPTH)
    with pytest.raises(SourceLost, match="is it plugged in"):
        source.read()
    source.close()
    source.close()
    assert library.stopped == 1


def test_orbbec_recordings_end(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Orbbec(k1=3.0)
    monkeypatch.setitem(sys.modules, "pyorbbecsdk", library)
    source = open_source("orbbec", ["session.bag"])
    assert library.played == "session.bag"
    frame = source.read()
    assert frame is not None
    assert (frame.depth != DEPTH).any()  # undistorted
    assert [source.read() is None for _ in range(3)] == [False, False, True]


def test_orbbec_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyorbbecsdk", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'poseren_ext\[orbbec\]'"):
        OrbbecSource()
    monkeypatch.setitem(sys.modules, "pyorbbecsdk", Orbbec(devices=0))
    with pytest.raises(SourceLost, match="0 found"):
        OrbbecSource()
    monkeypatch.setitem(sys.modules, "pyorbbecsdk", Orbbec(frames=0))
    with pytest.raises(SourceLost, match="no frame"):
        OrbbecSource()


class Depthai(SimpleNamespace):
    """As much of depthai 3 as we call."""

    def __init__(self, frames: int = 2, devices: int = 1) -> None:
        super().__init__(left=frames, stopped=0, links=[], device="")
        self.Device = self._device
        found = [f"info {i}" for i in range(devices)]
        # mypy knows no attributes of functions; depthai's Device is a class.
        self.Device.getAllAvailableDevices = lambda: found  # type: ignore[attr-defined]
        self.CameraBoardSocket = SimpleNamespace(CAM_B="left eye", CAM_C="right eye")
        self.node = SimpleNamespace(StereoDepth="stereo", Camera="camera")
        self.Pipeline = lambda device: SimpleNamespace(create=self._create, start=lambda: None, stop=self._stop)

    @property
    def _device(self) -> Any:
        def device(info: str) -> str:
            self.device = info
            return info

        return device

    def _create(self, kind: str) -> Any:
        if kind == "camera":
            return SimpleNamespace(
                build=lambda socket: SimpleNamespace(
                    requestOutput=lambda size, fps: SimpleNamespace(
                        link=lambda place: self.links.append((socket, size, fps, place))
                    )
                )
            )
        switches = ("setRectification", "setLeftRightCheck", "setExtendedDisparity")
        queue = SimpleNamespace(get=self._get)
        return SimpleNamespace(
            left="left",
            right="right",
            depth=SimpleNamespace(createOutputQueue=lambda maxSize, blocking: queue),
            **{name: lambda on: None for name in switches},
        )

    def _get(self, timeout: datetime.timedelta) -> Any:
        if self.left == 0:
            return None
        self.left -= 1
        matrix = [[16.0, 0, 7.5], [0, 16.5, 5.5], [0, 0, 1]]
        number = 20 - self.left
        return SimpleNamespace(
            getFrame=lambda: DEPTH,
            getSequenceNum=lambda: number,
            getTransformation=lambda: SimpleNamespace(getIntrinsicMatrix=lambda: matrix),
        )

    def _stop(self) -> None:
        self.stopped += 1


def test_oak(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Depthai()
    monkeypatch.setitem(sys.modules, "depthai", library)
    source = open_source("oak")
    assert library.device == "info 0"
    assert library.links == [("left eye", (640, 400), 30.0, "left"), ("right eye", (640, 400), 30.0, "right")]
    assert source.camera is not None
    assert (source.camera.fx, source.camera.cy, source.camera.width, source.depth_unit) == (16.0, 5.5, 16, 1.0)
    frames = [source.read() for _ in range(2)]
    assert [frame.number for frame in frames if frame] == [19, 20]
    with pytest.raises(SourceLost, match="is it plugged in"):
        source.read()
    source.close()
    source.close()
    assert library.stopped == 1


def test_oak_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "depthai", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'poseren_ext\[oak\]'"):
        OakSource()
    monkeypatch.setitem(sys.modules, "depthai", Depthai(devices=0))
    with pytest.raises(SourceLost, match="0 found"):
        OakSource()


class Stream:
    """record3d's stream: calls back once for every frame that is asked for."""

    devices = 1

    def __init__(self) -> None:
        self.on_new_frame: Any = None
        self.on_stream_stopped: Any = None
        self.connected = 0
        self.left = 3

    @classmethod
    def get_connected_devices(cls) -> list[str]:
        return [f"phone {i}" for i in range(cls.devices)]

    def connect(self, device: str) -> bool:
        self.connected += 1
        self.on_new_frame()
        return True

    def disconnect(self) -> None:
        self.connected -= 1

    def get_depth_frame(self) -> Any:
        self.left -= 1
        if self.left:
            self.on_new_frame()
        return DEPTH.astype(np.float32) / 1000

    def get_rgb_frame(self) -> Any:
        return np.zeros((48, 64, 3), np.uint8)

    def get_intrinsic_mat(self) -> Any:
        return SimpleNamespace(fx=64.0, fy=66.0, tx=31.5, ty=23.5)


def test_record3d(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "record3d", SimpleNamespace(Record3DStream=Stream))
    source = open_source("record3d")
    camera = source.camera
    assert camera is not None
    assert (camera.fx, camera.fy, camera.cx, camera.cy, camera.width) == (16.0, 16.5, 7.5, 5.5, 16)
    assert source.depth_unit == 1000.0
    frames = [source.read() for _ in range(3)]
    assert len({frame.number for frame in frames if frame}) == 3
    with pytest.raises(SourceLost, match="is it plugged in"):
        source.read()
    source.close()


def test_record3d_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "record3d", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'poseren_ext\[record3d\]'"):
        Record3DSource()
    monkeypatch.setattr(Stream, "devices", 0)
    monkeypatch.setitem(sys.modules, "record3d", SimpleNamespace(Record3DStream=Stream))
    with pytest.raises(SourceLost, match="0 found"):
        Record3DSource()
