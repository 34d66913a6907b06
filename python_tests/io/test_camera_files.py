# SPDX-License-Identifier: MIT
"""Camera files of other software: by its own writer where it installs, else as documented."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from poseren_ext.geometry.camera import Camera
from poseren_ext.io.camera_files import CameraFileError, read_camera

MATRIX = [[385.5, 0.0, 320.25], [0.0, 384.5, 241.75], [0.0, 0.0, 1.0]]
D = [0.1, -0.2, 0.001, -0.002, 0.05]
CAMERA = Camera(385.5, 384.5, 320.25, 241.75)
SIZED = Camera(385.5, 384.5, 320.25, 241.75, 640, 480)
FLAT = [value for row in MATRIX for value in row]
BY_COLUMNS = [row[column] for column in range(3) for row in MATRIX]


def test_opencv_writes_yaml_xml_and_json(tmp_path: Path) -> None:
    for suffix in (".yml", ".yaml", ".xml", ".json"):
        path = tmp_path / f"calibration{suffix}"
        storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
        storage.write("calibration_time", "today")
        storage.write("image_width", 640)
        storage.write("image_height", 480)
        storage.write("camera_matrix", np.array(MATRIX))
        storage.write("distortion_coefficients", np.array([D]).T)
        storage.release()
        lens = read_camera(path)
        assert lens.camera == SIZED, suffix
        assert lens.distortion == pytest.approx(tuple(D)), suffix
        assert not lens.fisheye


def test_opencv_yaml_needs_no_pyyaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = cv2.FileStorage(str(tmp_path / "k.yml"), cv2.FILE_STORAGE_WRITE)
    storage.write("K", np.array(MATRIX))
    storage.release()
    (tmp_path / "ros.yaml").write_text(yaml.safe_dump({"k": FLAT}))
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert read_camera(tmp_path / "k.yml").camera == CAMERA
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'poseren_ext\[yaml\]'"):
        read_camera(tmp_path / "ros.yaml")


ROS_1 = {
    "image_width": 640,
    "image_height": 480,
    "camera_name": "depth",
    "camera_matrix": {"rows": 3, "cols": 3, "data": FLAT},
    "distortion_model": "plumb_bob",
    "distortion_coefficients": {"rows": 1, "cols": 5, "data": D},
    "rectification_matrix": {"rows": 3, "cols": 3, "data": [1.0, 0, 0, 0, 1, 0, 0, 0, 1]},
    "projection_matrix": {"rows": 3, "cols": 4, "data": [1.0] * 12},
}
ROS_2 = {
    "header": {"stamp": {"sec": 1, "nanosec": 2}, "frame_id": "camera_depth_optical_frame"},
    "height": 480,
    "width": 640,
    "distortion_model": "plumb_bob",
    "d": D,
    "k": FLAT,
    "r": [1.0, 0, 0, 0, 1, 0, 0, 0, 1],
    "p": [1.0] * 12,
    "binning_x": 0,
    "roi": {"x_offset": 0, "do_rectify": False},
}
OPEN3D = {"width": 640, "height": 480, "intrinsic_matrix": BY_COLUMNS}
REALSENSE = {"width": 640, "height": 480, "fx": 385.5, "fy": 384.5, "ppx": 320.25, "ppy": 241.75}
REALSENSE |= {"model": "distortion.brown_conrady", "coeffs": D}


@pytest.mark.parametrize(
    ("text", "camera", "distortion"),
    [
        (yaml.safe_dump(ROS_1), SIZED, D),
        (yaml.safe_dump(ROS_2, default_flow_style=False) + "---\n", SIZED, D),
        (json.dumps(ROS_2), SIZED, D),
        (json.dumps({**ROS_2, "d": [0.0] * 5}), SIZED, []),
        (json.dumps(OPEN3D), SIZED, []),
        (
            json.dumps({"class_name": "PinholeCameraParameters", "extrinsic": [0.0] * 16, "intrinsic": OPEN3D}),
            SIZED,
            [],
        ),
        (json.dumps({**OPEN3D, "depth_scale": 1000.0, "serial_number": "1"}), SIZED, []),
        (json.dumps(REALSENSE), SIZED, D),
        (json.dumps({"color": {**REALSENSE, "fx": 1.0}, "depth": {"intrinsics": REALSENSE}}), SIZED, D),
        (json.dumps({"fx": 385.5, "fy": 384.5, "cx": 320.25, "cy": 241.75}), CAMERA, []),
        (json.dumps({"K": MATRIX, "dist": {"k1": 0.1, "k2": -0.2, "p1": 0.001, "p2": -0.002, "k3": 0.05}}), CAMERA, D),
        (json.dumps(MATRIX), CAMERA, []),
        ("385.5 384.5 320.25 241.75\n", CAMERA, []),
        ("385.5, 384.5, 320.25, 241.75", CAMERA, []),
        ("# K of the depth camera\n385.5 0 320.25\n0 384.5 241.75\n0 0 1\n", CAMERA, []),
        ("[385.5, 0, 320.25]\n[0, 384.5, 241.75]\n[0, 0, 1]\n", CAMERA, []),
        ("3.855e+02,0,3.2025e+02\n0,3.845e+02,2.4175e+02\n0,0,1\n", CAMERA, []),
    ],
)
def test_forms_of_intrinsics(tmp_path: Path, text: str, camera: Camera, distortion: list[float]) -> None:
    (tmp_path / "camera_file").write_text(text)
    lens = read_camera(tmp_path / "camera_file")
    assert lens.camera == camera
    assert lens.distortion == tuple(distortion)


def test_numpy_matrix(tmp_path: Path) -> None:
    np.save(tmp_path / "k.npy", np.array(MATRIX, np.float32))
    np.save(tmp_path / "t.npy", np.array(MATRIX).T)
    assert read_camera(tmp_path / "k.npy").camera == CAMERA
    assert read_camera(tmp_path / "t.npy").camera == CAMERA


def test_fisheye_lenses(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(
        json.dumps({**ROS_2, "distortion_model": "equidistant", "d": [0.1, 0.0, 0.0, 0.0]})
    )
    lens = read_camera(tmp_path / "a.json")
    assert (lens.fisheye, lens.distortion, lens.distorts) == (True, (0.1, 0.0, 0.0, 0.0), True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected four numbers fx fy cx cy"),
        ("1 2 3", "3 numbers; expected four"),
        ("hello", "expected four numbers"),
        (b"\xff\xfe\xfd", "expected four numbers"),
        ("{", "expected four numbers"),
        ("a: [", "not YAML"),
        ('{"fx": 1, "fy": 1}', "neither cx, cy nor ppx, ppy"),
        ('{"fx": "wide", "fy": 1, "cx": 0, "cy": 0}', "expected four numbers"),
        ("-1 2 3 4", "positive focal length"),
        ('{"name": "camera"}', "no intrinsics under name"),
        (json.dumps({"left": REALSENSE, "right": REALSENSE}), "holds 2 cameras: left, right"),
        (json.dumps({**REALSENSE, "model": "distortion.inverse_brown_conrady"}), "not one of OpenCV's"),
        (json.dumps({**REALSENSE, "coeffs": [0.1, 0.2]}), "2 distortion coefficients"),
        ("1 2 3\n0 4 5\n0 0 1", r"expected \[\[fx, 0, cx\]"),
        ('{"CalibrationInformation": {}}', "give the .mkv recording"),
    ],
)
def test_files_without_a_usable_camera(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "camera.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CameraFileError, match=message) as caught:
        read_camera(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_camera(tmp_path / "k.txt")
