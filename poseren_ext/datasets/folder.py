# SPDX-License-Identifier: MIT
"""A folder of one's own frames: what ``poseren render`` and ``poseren live --record`` write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from poseren_ext._utils.text_files import read_text
from poseren_ext.datasets.base import DatasetError, DepthDataset, PathLike
from poseren_ext.datasets.centers import Centers
from poseren_ext.datasets.info import DatasetInfo
from poseren_ext.datasets.sample import Hand
from poseren_ext.geometry.camera import Camera, as_camera
from poseren_ext.geometry.lens import Lens
from poseren_ext.geometry.skeleton import SKELETONS
from poseren_ext.io.camera_files import CameraFileError, read_camera
from poseren_ext.io.depth_files import DepthFrame, read_depth
from poseren_ext.io.number_tables import read_lines
from poseren_ext.io.pose_files import read_poses

RECORDING, POSES = "recording.json", "poses.jsonl"
CAMERA, LABELS, CENTERS, LIST, DEPTH = "camera.txt", "labels.txt", "centers.txt", "list.txt", "depth"
CAMERA_FILES = (CAMERA, *(f"{n}{e}" for n in ("camera", "camera_info") for e in (".yaml", ".yml", ".json", ".xml")))
"""Names of camera files next to frames, in the order of the search."""
_NEAR_FAR = (1.0, 650.0)  # mm: a hand before a camera on a desk
_SKELETONS = {14: "nyu14", 16: "icvl16", 21: "msra21"}


class Folder(DepthDataset):
    """Frames with a camera file, with labels where there are any.

    Either a camera file (``camera.txt`` with fx fy cx cy, or one of ``CAMERA_FILES``), frames in ``depth/`` or named by
    ``list.txt``, ``labels.txt`` (one line u v d per frame) and ``centers.txt``. Or a recording: ``recording.json``,
    frames and ``poses.jsonl``; every hand is a sample, and its labels are the pose that was estimated.

    Args:
        root: the folder.
        split: any name; a folder is not split.
        centers: "image" takes ``centers.txt`` where it exists, else the region between 1 and 650 mm; or a ``Path`` or
            an array [N, 3].
        hand: the other hand than the recorded one mirrors the frames.
        skeleton: key of ``SKELETONS``; None tells it from the number of joints (21: MSRA's).
        strict: look for every frame now.

    Attributes:
        depth_unit: mm per stored unit.

    Raises:
        FileNotFoundError: The folder, its camera file or a frame is missing.
        DatasetError: A file is damaged, or labels do not fit the frames.
    """

    name = "folder"

    def __init__(
        self,
        root: PathLike,
        split: str = "all",
        *,
        centers: Centers = "image",
        hand: Hand | None = None,
        skeleton: str | None = None,
        strict: bool = True,
    ) -> None:
        root = Path(root)
        lens, self.depth_unit = read_settings(root)
        if lens.distorts:
            raise DatasetError(f"{root}: the camera file has distortion coefficients; expected undistorted frames")
        camera = lens.camera
        names, uvd, labels = _recorded(root) if (root / RECORDING).is_file() else _exported(root)
        if not names:
            raise DatasetError(f"{root}: no frames with labels; expected {DEPTH}/*.png, or a recording with poses")
        joints = SKELETONS[skeleton].num_joints if skeleton is not None and uvd is None else None
        if uvd is None:
            uvd = np.full((len(names), joints or 21, 3), np.nan)
        name = skeleton or _SKELETONS.get(uvd.shape[1], "")
        if name not in SKELETONS or SKELETONS[name].num_joints != uvd.shape[1]:
            raise DatasetError(f"{labels}: {uvd.shape[1]} joints; expected those of one of {', '.join(SKELETONS)}")
        height, width = read_depth(root / names[0]).shape
        if (camera.width or width, camera.height or height) != (width, height):
            raise DatasetError(
                f"{root / names[0]}: {width}x{height} pixels; the camera file says {camera.width}x{camera.height}"
            )
        self.info = DatasetInfo(
            name=self.name,
            camera=Camera(camera.fx, camera.fy, camera.cx, camera.cy, width, height),
            skeleton=SKELETONS[name],
            thresholds=_NEAR_FAR,
            splits={"all": ()},
            marks=(CAMERA, RECORDING),
        )
        if isinstance(centers, str) and centers == "image" and (root / CENTERS).is_file():
            centers = root / CENTERS
        super().__init__(root, names, uvd, [""] * len(names), centers=centers, hand=hand, strict=strict, labels=labels)

    def read(self, index: int) -> DepthFrame:
        """The depth of a frame, [H, W] mm."""
        frame = super().read(index)
        return frame if self.depth_unit == 1.0 else np.asarray(frame * np.float32(self.depth_unit), np.float32)

    def strays(self) -> tuple[list[str], list[str]]:
        """Labelled frames without a file; frames without a label are not part of the dataset."""
        return [name for name in self.names if not (self.folder / name).is_file()], []


def is_folder(root: Path) -> bool:
    """Whether a folder has a camera file, and frames or labels beside it."""
    if (root / RECORDING).is_file():
        return True
    return has_settings(root) and any((root / name).exists() for name in (DEPTH, LIST, LABELS))


def has_settings(root: Path) -> bool:
    """Whether a folder says which camera its frames are from."""
    return any((root / name).is_file() for name in (RECORDING, *CAMERA_FILES))


def read_settings(root: Path) -> tuple[Lens, float]:
    """Camera and depth unit (mm) of a folder's frames.

    Raises:
        FileNotFoundError: Neither ``recording.json`` nor a camera file is there.
        DatasetError: The file is damaged.
    """
    if (root / RECORDING).is_file():
        try:
            settings = json.loads(read_text(root / RECORDING))
            return Lens(as_camera(settings["camera"])), float(settings["depth_unit"])
        except (ValueError, TypeError, KeyError) as error:
            raise DatasetError(
                f"{root / RECORDING}: not the settings of a recording ({error}); expected a mapping with camera "
                "(fx, fy, cx, cy) and depth_unit in mm"
            ) from None
    path = next((root / name for name in CAMERA_FILES if (root / name).is_file()), None)
    if path is None:
        raise FileNotFoundError(
            f"{root / CAMERA}: no such file; expected fx fy cx cy in pixels, another camera file or {RECORDING}"
        )
    try:
        return read_camera(path), 1.0
    except CameraFileError as error:
        raise DatasetError(str(error)) from None


def _exported(root: Path) -> tuple[list[str], npt.NDArray[Any] | None, Path]:
    """Names of frames, joints [N, J, 3] and the label file of what `poseren render` writes."""
    if (root / LIST).is_file():
        names = [line.strip().replace("\\", "/") for line in read_lines(root / LIST, "frame names", DatasetError)]
        for name in names:
            if name.startswith("/") or ".." in name.split("/"):
                raise DatasetError(f"{root / LIST}: {name!r} is outside the folder; expected a name within it")
    else:
        frames = root / DEPTH if (root / DEPTH).is_dir() else root
        found = sorted(path for path in frames.glob("*.png") if not path.name.startswith("."))
        names = [path.relative_to(root).as_posix() for path in found]
    labels = root / LABELS
    if not labels.is_file():
        return names, None, labels
    uvd = read_poses(labels)
    if len(uvd) != len(names):
        raise DatasetError(f"{labels}: {len(uvd)} lines for {len(names)} frames; expected one line per frame")
    return names, uvd, labels


def _recorded(root: Path) -> tuple[list[str], npt.NDArray[Any] | None, Path]:
    """The same of a recording: one sample per hand; all frames where none has a hand."""
    path = root / POSES
    names, poses = [], []
    lines = read_lines(path, "one JSON object per frame", DatasetError) if path.is_file() else []
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            for hand in entry["hands"] if "file" in entry else ():
                names.append(Path(str(entry["file"])).name)
                poses.append(np.asarray(hand["uvd"], np.float64).reshape(-1, 3))
        except (ValueError, TypeError, KeyError) as error:
            raise DatasetError(f"{path}, line {number}: not the result of a frame ({error})") from None
    if not poses:
        found = sorted(one for one in root.iterdir() if one.suffix in (".png", ".npy") and one.name[0] != ".")
        return [one.name for one in found], None, path
    if len({pose.shape for pose in poses}) > 1:
        raise DatasetError(f"{path}: poses with different numbers of joints; expected one model's")
    return names, np.stack(poses), path
