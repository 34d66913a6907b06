# SPDX-License-Identifier: MIT
"""Options that several commands share, each typed once, and the rules that all commands keep.

A command uses an alias as a parameter's type and states the default itself: ``camera: Camera = None``. Choices are
literals, so that the help shows them and the shell completes them.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

STDOUT = Path("-")
"""As an output file: standard output."""

Hand: TypeAlias = Literal["right", "left", "auto"]
Precision: TypeAlias = Literal["float32", "bfloat16", "int8"]
Dataset: TypeAlias = Literal["nyu", "icvl", "msra", "hands17", "folder"]
Skeleton: TypeAlias = Literal["msra21", "nyu14", "icvl16", "hands17"]
Missing: TypeAlias = Literal["skip", "nan", "stop"]
Format: TypeAlias = Literal["txt", "csv", "json", "npz", "parquet"]
Space: TypeAlias = Literal["uvd", "xyz"]
LengthUnit: TypeAlias = Literal["mm", "m"]
CoordinateFrame: TypeAlias = Literal["camera", "palm", "world"]
Order: TypeAlias = Literal["mediapipe", "mano", "openxr26", "msra21", "nyu14", "icvl16", "hands17"]

CAMERA_HELP = (
    "Intrinsics fx,fy,cx,cy in pixels, a camera's name (nyu, icvl, msra, hands17, sr305), or a file: ROS camera_info, "
    "OpenCV, Open3D or RealSense intrinsics, or a 3x3 matrix. Frames are undistorted if it has distortion."
)


def _positive(value: float | None) -> float | None:
    if value is not None and not 0 < value < math.inf:
        raise typer.BadParameter(f"{value:g}; expected a positive number")
    return value


def _cube(value: float) -> float:
    """A cube that holds a hand: 30 to 500 mm from its middle to its faces."""
    low, high = 30.0, 500.0
    if low <= value <= high:
        return value
    others = {"m": value * 1000, "cm": value * 10}
    meant = next((f"; {value:g} {unit} are {mm:g} mm" for unit, mm in others.items() if low <= mm <= high), "")
    raise typer.BadParameter(f"{value:g}; expected {low:g} to {high:g} mm{meant}")


def _device(text: str) -> str:
    if not re.fullmatch(r"cpu|cuda(:\d+)?", text):
        raise typer.BadParameter(f"{text!r}; expected cpu, cuda, or cuda and a number such as cuda:1")
    return text


# Inputs ---------------------------------------------------------------------------------------------------------------
Inputs: TypeAlias = Annotated[
    list[Path], typer.Argument(help="Depth files (.png, .tif, .pgm, .exr, .bin, .npy, .npz) or their folders.")
]
Pattern: TypeAlias = Annotated[
    str, typer.Option("--pattern", help="Which files of a folder to read, such as 'depth_1_*'.")
]
Camera: TypeAlias = Annotated[
    str | None,
    typer.Option("--camera", help=f"{CAMERA_HELP} Default: from the recording.", show_default=False),
]
DepthUnit: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--depth-unit",
        "--unit",
        callback=_positive,
        help="Millimetres per stored unit: 1 for mm, 1000 for metres, 0.1 for D405, 0.125 for SR300 and SR305, 0.25 "
        "for L515. Default: from the recording, or 1.",
        show_default=False,
    ),
]
Centers: TypeAlias = Annotated[
    Path | None,
    typer.Option("--centers", help="File of hand centres: one line u v d per frame. Default: detect the hand."),
]

# The model and how it runs --------------------------------------------------------------------------------------------
Model: TypeAlias = Annotated[
    str,
    typer.Option(
        "--model",
        help="A safetensors file, a training run's folder, user/name on the Hugging Face Hub, or one of demo (palms), "
        "any_view (hands from every side) and both (bundled).",
    ),
]
HandOption: TypeAlias = Annotated[
    Hand | None,
    typer.Option(
        "--hand",
        case_sensitive=False,
        help="Which hand the frames show; auto chooses for each frame. Default: the model's own hand.",
        show_default=False,
    ),
]
MaxHands: TypeAlias = Annotated[
    int, typer.Option("--max-hands", min=1, max=2, help="Largest number of hands per frame.")
]
Stages: TypeAlias = Annotated[
    int, typer.Option("--stages", min=0, help="Number of refinement stages; 0 gives the initial pose.")
]
Cube: TypeAlias = Annotated[
    float, typer.Option("--cube", callback=_cube, help="Half edge of the cube around the hand, mm (30 to 500).")
]
PrecisionOption: TypeAlias = Annotated[
    Precision, typer.Option("--precision", case_sensitive=False, help="Precision of the fully connected weights.")
]
Tta: TypeAlias = Annotated[int, typer.Option("--tta", min=1, help="Test-time augmentation: average N rotated crops.")]
Device: TypeAlias = Annotated[
    str, typer.Option("--device", callback=_device, help="Compute device: cpu, cuda, or cuda:1 and so on.")
]
CameraIndex: TypeAlias = Annotated[
    int, typer.Option("--camera-index", min=0, help="Which camera, where several are connected.")
]
Workers: TypeAlias = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Threads. Default: one per processor core.", show_default=False),
]
Seed: TypeAlias = Annotated[int, typer.Option("--seed", help="Random seed.")]

# Datasets -------------------------------------------------------------------------------------------------------------
DatasetOption: TypeAlias = Annotated[
    Dataset | None,
    typer.Option(
        "--dataset", case_sensitive=False, help="Dataset. Default: recognised by its files.", show_default=False
    ),
]
SkeletonOption: TypeAlias = Annotated[
    Skeleton, typer.Option("--skeleton", case_sensitive=False, help="Which dataset's joints.")
]

# Joints as they are written -------------------------------------------------------------------------------------------
MissingOption: TypeAlias = Annotated[
    Missing,
    typer.Option(
        "--missing", case_sensitive=False, help="Frames without a result: leave out, write nan, or stop the run."
    ),
]
FormatOption: TypeAlias = Annotated[
    Format | None,
    typer.Option(
        "--format", case_sensitive=False, help="File format. Default: by the ending of --out.", show_default=False
    ),
]
SpaceOption: TypeAlias = Annotated[
    Space | None,
    typer.Option(
        "--space",
        case_sensitive=False,
        help="uvd: pixels, pixels, mm; xyz: lengths in --frame. Default: uvd in text files, else xyz.",
        show_default=False,
    ),
]
OutputUnit: TypeAlias = Annotated[
    LengthUnit, typer.Option("--output-unit", case_sensitive=False, help="Unit of xyz: millimetres or metres.")
]
FrameOption: TypeAlias = Annotated[
    CoordinateFrame | None,
    typer.Option(
        "--frame",
        case_sensitive=False,
        help="Coordinate frame of xyz; palm: origin at the wrist. Default: world with --extrinsics, else camera.",
        show_default=False,
    ),
]
Extrinsics: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--extrinsics", help="File of a 4x4 matrix from camera to world (text, .json, .npy), in --output-unit."
    ),
]
OrderOption: TypeAlias = Annotated[
    Order | None,
    typer.Option("--order", case_sensitive=False, help="Joint order. Default: the model's own.", show_default=False),
]

VideoRate: TypeAlias = Annotated[float, typer.Option("--fps", callback=_positive, help="Frames per second of a video.")]
RerunOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--rerun", help="Log frames and hands for rerun.io: FILE.rrd, or viewer.", show_default=False),
]


# Outputs --------------------------------------------------------------------------------------------------------------
Json: TypeAlias = Annotated[
    Path | None, typer.Option("--json", help="Also write the numbers as JSON; - for standard output, and nothing else.")
]
Overwrite: TypeAlias = Annotated[bool, typer.Option("--overwrite", help="Replace output files that exist.")]
Resume: TypeAlias = Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")]


def rerun_file(target: str | None) -> Path | None:
    """The file that --rerun names; None for the viewer.

    Raises:
        typer.BadParameter: the name does not end in .rrd.
    """
    if target is None or target == "viewer":
        return None
    if not target.endswith(".rrd"):
        raise typer.BadParameter(f"{target!r}; expected FILE.rrd or viewer", param_hint="--rerun")
    return Path(target)


def check_outputs(*paths: Path | None, overwrite: bool, resume: bool | None = None, make_folder: bool = False) -> None:
    """Refuse to write over files that exist, before any work is done: the one rule of all commands.

    Args:
        paths: the files that the command will write; None and - are left out.
        overwrite: the user allows it.
        resume: the user wants to continue; None where the command cannot.
        make_folder: the command makes the folders of its files.

    Raises:
        FileExistsError: a file exists and the user allowed neither.
        FileNotFoundError: the folder of a file does not exist.
        IsADirectoryError: The path is a folder.
    """
    for path in paths:
        if path is None or path == STDOUT:
            continue
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a folder; give the name of a file")
        if path.exists() and not path.is_file():
            raise FileExistsError(f"{path} is not a regular file; give the name of a file, or - for standard output")
        if not make_folder and not path.parent.is_dir():
            raise FileNotFoundError(f"cannot write {path}: there is no folder {path.parent}; create it first")
        if path.exists() and not overwrite and not resume:
            ways = "--overwrite replaces it" if resume is None else "--resume continues it, --overwrite replaces it"
            raise FileExistsError(f"{path} exists; {ways}, or choose another name")
