# SPDX-License-Identifier: MIT
"""Objects that the values of options stand for: cameras, devices and layouts of joints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from poseren_ext.cli.options import CoordinateFrame, LengthUnit, Order, Space

if TYPE_CHECKING:
    import torch

    from poseren_ext.geometry import camera as cameras
    from poseren_ext.geometry import lens as lenses
    from poseren_ext.io.joint_layout import JointLayout


def joint_layout(
    default: Space,
    space: Space | None,
    unit: LengthUnit,
    frame: CoordinateFrame | None,
    extrinsics: Path | None,
    order: Order | None,
) -> JointLayout:
    """The layout of joints from the options; `default` are the coordinates where no option asks for others.

    Raises:
        ValueError: Options exclude each other, or the extrinsics are not a rotation and a translation.
        FileNotFoundError: The file of extrinsics does not exist.
    """
    from poseren_ext.io.joint_layout import JointLayout, read_extrinsics

    if frame == "world" and extrinsics is None:
        raise ValueError("--frame world needs --extrinsics: a file of the 4x4 matrix from camera to world")
    if frame is None:
        frame = "camera" if extrinsics is None else "world"
    if frame != "world" and extrinsics is not None:
        raise ValueError(f"--extrinsics lead to the world, but --frame is {frame}; leave one of them out")
    metric = frame != "camera" or unit != "mm"
    if space is None:
        space = "xyz" if metric else default
    if space == "uvd" and metric:
        given = f"--frame {frame}" if frame != "camera" else f"--output-unit {unit}"
        raise ValueError(f"{given} needs --space xyz: uvd are pixels, pixels and mm of the camera")
    matrix = None if extrinsics is None else read_extrinsics(extrinsics)
    return JointLayout(space, unit, frame, order, matrix)


def compute_device(text: str) -> torch.device:
    """The device of --device.

    Raises:
        ValueError: this machine, or this build of PyTorch, does not have it.
    """
    import torch

    device = torch.device(text)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            built = "" if torch.version.cuda else " (this PyTorch is built without CUDA)"
            there = f"PyTorch finds {count} CUDA devices{built}"
            raise ValueError(f"--device {text} is not available: {there}; use --device cpu")
    return device


_CAMERA_ENDINGS = (".txt", ".json", ".yaml", ".yml", ".xml")


def recorded_settings(inputs: Sequence[Path]) -> tuple[lenses.Lens | None, float | None]:
    """Camera and depth unit of recorded frames: in the recording, or next to it (recording.json or a camera file).

    Raises:
        ValueError: The file is damaged.
    """
    from poseren_ext.datasets.folder import has_settings, read_settings
    from poseren_ext.io.recordings import is_recording, open_recording

    for path in inputs:
        if is_recording(path):
            recording = open_recording(path)
            if recording.lens is not None or recording.depth_unit is not None:
                return recording.lens, recording.depth_unit
        for folder in (path, path.parent, *((path.parent.parent,) if path.is_file() else ())):
            if has_settings(folder):
                return read_settings(folder)
    return None, None


def parse_lens(text: str) -> lenses.Lens:
    """The camera of --camera: four numbers, a name, or a file, with the distortion that the file has.

    Raises:
        ValueError: the camera is unknown or its file damaged.
        ModuleNotFoundError: the file is YAML and PyYAML is not installed.
    """
    from poseren_ext.geometry.camera import Camera
    from poseren_ext.geometry.lens import Lens
    from poseren_ext.io.camera_files import read_camera

    # A path is tried last: four numbers may be longer than a file's name can be.
    try:
        return Lens(Camera.parse(text))
    except ValueError:
        if len(text) <= 255 and Path(text).suffix.lower() in _CAMERA_ENDINGS and not Path(text).exists():
            raise FileNotFoundError(f"{text}: no such file; expected a camera file") from None
        if len(text) > 255 or not Path(text).is_file():
            raise
    return read_camera(text)


def parse_camera(text: str) -> cameras.Camera:
    """The camera of --camera where there are no frames to undistort.

    Raises:
        ValueError: the camera is unknown, its file damaged, or its lens distorts.
    """
    lens = parse_lens(text)
    if lens.distorts:
        raise ValueError(f"{text} has distortion coefficients; this command needs the camera of undistorted frames")
    return lens.camera


def resolve_camera(camera: str | None, depth_unit: float | None, inputs: Sequence[Path]) -> tuple[lenses.Lens, float]:
    """The camera and the depth unit: as given, else as recorded next to the inputs (default unit: 1).

    Raises:
        ValueError: the camera is unknown or its file damaged.
        typer.BadParameter: no camera is given and none is recorded.
    """
    recorded, unit = (None, None) if camera is not None and depth_unit is not None else recorded_settings(inputs)
    if camera is not None:
        chosen = parse_lens(camera)
    elif recorded is not None:
        chosen = recorded
    else:
        raise typer.BadParameter(
            "required: neither recording.json nor a camera file (camera.txt, .yaml, .json, .xml) is next to the "
            "frames. Give fx,fy,cx,cy in pixels, a camera's name, or a camera file",
            param_hint="--camera",
        )
    return chosen, depth_unit if depth_unit is not None else unit or 1.0
