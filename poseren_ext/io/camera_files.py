# SPDX-License-Identifier: MIT
"""Camera intrinsics and lens distortion from the files that other software writes.

ROS camera_info (YAML, also what ``ros2 topic echo`` prints, or JSON), Open3D (PinholeCameraIntrinsic,
PinholeCameraParameters and the metadata of its recordings), OpenCV FileStorage (YAML, XML or JSON), RealSense
intrinsics (JSON), a 3x3 matrix (text, JSON, .npy), and four numbers fx fy cx cy.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from poseren_ext._utils.optional_libraries import import_library
from poseren_ext._utils.text_files import read_text
from poseren_ext.geometry.camera import Camera
from poseren_ext.geometry.lens import Lens, make_lens

MAX_FILE_BYTES = 2**22
"""Limit for a camera file, which is read as a whole."""

_MATRIX = ("k", "camera_matrix", "intrinsic_matrix", "cameramatrix", "intrinsics_matrix", "intrinsic", "intrinsics")
_DISTORTION = ("d", "distortion_coefficients", "dist_coeffs", "distcoeffs", "distortion", "distortion_coeffs", "coeffs")
_DISTORTION_SHORT = ("dist", "dist_coeff")
_MODEL = ("distortion_model", "model", "camera_model")
_WIDTH, _HEIGHT = ("width", "image_width", "w"), ("height", "image_height", "h")
_EXPECTED = "expected four numbers fx fy cx cy, a 3x3 matrix, or intrinsics of ROS, OpenCV, Open3D or RealSense"


class CameraFileError(ValueError):
    """A file without usable intrinsics; the message names the file, what it holds and what is expected."""


def read_camera(path: str | os.PathLike[str]) -> Lens:
    """The camera of a file: intrinsics in pixels, and the distortion of the lens where the file has it.

    Args:
        path: a file of one of the formats above; the content decides, not the ending.

    Raises:
        FileNotFoundError: There is no such file.
        ModuleNotFoundError: The file is YAML and PyYAML is not installed.
        CameraFileError: The file holds no intrinsics, those of several cameras, or a lens model that OpenCV lacks.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected a camera file")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise CameraFileError(f"{path}: {path.stat().st_size} bytes; a camera file has at most {MAX_FILE_BYTES}")
    try:
        return lens_of(_content(path))
    except CameraFileError as error:
        raise CameraFileError(f"{path}: {error}") from None
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError, cv2.error) as error:
        raise CameraFileError(f"{path}: {' '.join(str(error).split())}; {_EXPECTED}") from None


def lens_of(content: Any) -> Lens:
    """The camera in the content of a file: nested mappings, lists and arrays.

    Raises:
        CameraFileError: There are no intrinsics, or those of several cameras.
        ValueError: The numbers are not those of a pinhole camera, or the lens model is not one of OpenCV's.
    """
    if not isinstance(content, Mapping):
        return Lens(_camera_of_numbers(content))
    if "CalibrationInformation" in content:
        raise CameraFileError("an Azure Kinect calibration, which is valid for a depth mode; give the .mkv recording")
    found = dict(_mappings_with_intrinsics(content))
    if len(found) > 1:
        found = {name: one for name, one in found.items() if "depth" in name.lower()} or found
    if not found:
        raise CameraFileError(f"no intrinsics under {', '.join(map(str, content)) or 'nothing'}; {_EXPECTED}")
    if len(found) > 1:
        raise CameraFileError(f"holds {len(found)} cameras: {', '.join(found)}; save the depth camera's alone")
    return _lens_of_mapping(next(iter(found.values())))


def _content(path: Path) -> Any:
    """The parsed content: nested mappings and lists, or an array of numbers."""
    if path.suffix.lower() == ".npy":
        return np.load(path, allow_pickle=False)
    text = read_text(path)
    head = text.lstrip()[:200]
    if head.startswith("%YAML:1.0") or head.startswith("<"):
        return _opencv(text)
    if head.startswith(("{", "[")) and not re.match(r"\[[^\n{]*\]\s*\n\s*\[", head):
        return json.loads(text)
    numbers = re.sub(r"#.*", " ", text)
    if re.fullmatch(r"[\s\d.,;eE+\-\[\]()]*", numbers):
        values = [float(part) for part in re.split(r"[\s,;\[\]()]+", numbers) if part]
        return np.array(values)
    if re.search(r":(\s|$)", text):
        return _yaml(text)
    raise CameraFileError(_EXPECTED)


def _opencv(text: str) -> Any:
    storage = cv2.FileStorage(text, cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY)
    try:
        return _opencv_node(storage.root(), 0)
    finally:
        storage.release()


def _opencv_node(node: Any, depth: int) -> Any:
    if depth > 16:
        raise ValueError("nested too deeply")
    if node.isMap():
        keys = node.keys()
        # A matrix is a map with the rows, the columns, the type "dt" and the data.
        if {"rows", "cols", "dt", "data"} <= set(keys):
            return node.mat()
        return {key: _opencv_node(node.getNode(key), depth + 1) for key in keys}
    if node.isSeq():
        return [_opencv_node(node.at(index), depth + 1) for index in range(node.size())]
    return node.string() if node.isString() else node.real()


def _yaml(text: str) -> Any:
    yaml = import_library("yaml", "yaml", "YAML camera files")
    try:
        return next(iter(yaml.safe_load_all(text)))  # `ros2 topic echo` ends each message with ---
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML ({' '.join(str(error).split())})") from None


def _mappings_with_intrinsics(content: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The innermost mappings that hold focal lengths or a matrix, and the path of keys to each."""
    if depth > 8 or not isinstance(content, Mapping):
        return
    keys = {str(key).lower(): key for key in content}
    if {"fx", "fy"} <= set(keys) or any(_is_matrix(content[keys[key]]) for key in _MATRIX if key in keys):
        yield name, content
        return
    for key, value in content.items():
        yield from _mappings_with_intrinsics(value, f"{name}.{key}" if name else str(key), depth + 1)


def _is_matrix(value: Any) -> bool:
    try:
        return _array(value).size in (4, 9)
    except (TypeError, ValueError, KeyError):
        return False


def _array(value: Any) -> npt.NDArray[np.float64]:
    """The numbers of a matrix: a list, nested lists, an array, or a mapping with `data`."""
    if isinstance(value, Mapping):
        value = value["data"]
    return np.asarray(value, np.float64)


def _lens_of_mapping(content: Mapping[str, Any]) -> Lens:
    fields = {str(key).lower(): value for key, value in content.items()}
    width, height = (
        next((int(fields[name]) for name in names if fields.get(name)), None) for names in (_WIDTH, _HEIGHT)
    )
    if {"fx", "fy"} <= set(fields):
        center = next(((x, y) for x, y in (("cx", "cy"), ("ppx", "ppy")) if x in fields and y in fields), None)
        if center is None:
            raise CameraFileError("has fx and fy, but neither cx, cy nor ppx, ppy")
        fx, fy, cx, cy = (float(fields[name]) for name in ("fx", "fy", *center))
        camera = Camera(fx, fy, cx, cy, width, height)
    else:
        matrix = next(fields[name] for name in _MATRIX if name in fields and _is_matrix(fields[name]))
        camera = _camera_of_numbers(_array(matrix), width, height)
    given = next((fields[name] for name in (*_DISTORTION, *_DISTORTION_SHORT) if fields.get(name) is not None), ())
    if isinstance(given, Mapping) and "data" not in given:
        given = _named_coefficients(given)
    model = next((str(fields[name]) for name in _MODEL if isinstance(fields.get(name), str)), "")
    return make_lens(camera, _array(given).reshape(-1).tolist(), model)


def _named_coefficients(given: Mapping[str, Any]) -> list[float]:
    """Coefficients by name, k1, k2, p1, p2, k3 to k6, in OpenCV's order."""
    names = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
    values = {str(key).lower(): float(value) for key, value in given.items() if str(key).lower() in names}
    ordered = [values.get(name, 0.0) for name in names]
    return ordered[:5] if not any(ordered[5:]) else ordered


def _camera_of_numbers(content: Any, width: int | None = None, height: int | None = None) -> Camera:
    """A camera from four numbers or a 3x3 matrix, by rows or (as Open3D and Record3D write it) by columns."""
    numbers = np.asarray(content, np.float64)
    if numbers.size == 4:
        fx, fy, cx, cy = numbers.reshape(4).tolist()
        return Camera(fx, fy, cx, cy, width, height)
    if numbers.size != 9:
        raise CameraFileError(f"{numbers.size} numbers; {_EXPECTED}")
    matrix = numbers.reshape(3, 3)
    if np.allclose(matrix[:, 2], (0, 0, 1)) and not np.allclose(matrix[2], (0, 0, 1)):
        matrix = matrix.T
    if matrix[0, 1] != 0 or matrix[1, 0] != 0 or not np.allclose(matrix[2], (0, 0, 1)):
        raise CameraFileError(f"the matrix is {matrix.tolist()}; expected [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]")
    fx, fy, cx, cy = matrix[[0, 1, 0, 1], [0, 1, 2, 2]].tolist()
    return Camera(fx, fy, cx, cy, width, height)
