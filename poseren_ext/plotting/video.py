# SPDX-License-Identifier: MIT
"""Videos of hands: MP4 (H.264, needs PyAV: the extra ``video``) and GIF."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt
from matplotlib.colors import to_rgb

from poseren_ext._utils.atomic_files import atomic_path
from poseren_ext._utils.optional_libraries import import_library
from poseren_ext.geometry.skeleton import Skeleton
from poseren_ext.plotting.hands import shade_depth
from poseren_ext.plotting.style import FINGER_COLORS, Array, as_array

VIDEOS = (".mp4", ".gif")
_REACH = 250.0  # mm around the hand that are shown
_COLORS = 64  # of a GIF's frame
_FINGERS = [tuple(round(255 * part) for part in to_rgb(color)) for color in FINGER_COLORS]
_SHIFT = 4  # OpenCV draws at 1/16 pixel

Picture = npt.NDArray[np.uint8]
"""RGB [H, W, 3]."""


class VideoWriter(Protocol):
    """Takes one picture after another, all of one size."""

    def write(self, picture: Picture) -> None:
        """Appends a picture."""


@contextmanager
def open_video(path: str | os.PathLike[str], rate: float = 30.0) -> Iterator[VideoWriter]:
    """Open a video file that appears when the block ends well.

    Args:
        path: FILE.mp4 or FILE.gif.
        rate: frames per second; a GIF's frames last a whole number of hundredths of a second.

    Raises:
        ValueError: The ending is another one.
        ModuleNotFoundError: An MP4 file is asked for, and PyAV is not installed.
        OSError: The file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in VIDEOS:
        raise ValueError(f"{path}: videos are written as {' or '.join(VIDEOS)}")
    kind = _Gif if path.suffix.lower() == ".gif" else _Mp4
    with atomic_path(path) as draft:
        video = kind(draft, rate)
        try:
            yield video
        finally:
            video.close()


class _Mp4:
    def __init__(self, path: Path, rate: float) -> None:
        av = import_library("av", "video", "MP4 files")
        self._av, self._rate = av, Fraction(rate).limit_denominator(1000)
        self._file = av.open(str(path), "w", options={"movflags": "faststart"})
        self._stream: Any = None

    def write(self, picture: Picture) -> None:
        height, width = picture.shape[:2]
        if self._stream is None:
            self._stream = self._file.add_stream("libx264", rate=self._rate, options={"crf": "20"})
            self._stream.width, self._stream.height = width + width % 2, height + height % 2
            self._stream.pix_fmt = "yuv420p"  # the one that every player knows; its sizes are even
        even = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        self._file.mux(self._stream.encode(self._av.VideoFrame.from_ndarray(even, format="rgb24")))

    def close(self) -> None:
        if self._stream is not None:
            self._file.mux(self._stream.encode(None))
        self._file.close()


class _Gif:
    def __init__(self, path: Path, rate: float) -> None:
        self._path, self._duration = path, max(2, round(100 / rate)) * 10  # players slow down what is shorter
        self._frames: list[Any] = []

    def write(self, picture: Picture) -> None:
        from PIL import Image

        self._frames.append(Image.fromarray(picture).quantize(_COLORS, dither=Image.Dither.NONE))

    def close(self) -> None:
        if self._frames:
            first, *others = self._frames
            first.save(self._path, save_all=True, append_images=others, duration=self._duration, loop=0)


def depth_picture(depth: Array, middle: float | None = None) -> Picture:
    """A depth frame as a picture: what is near the hand in grey, nearer is darker; white elsewhere.

    Args:
        depth: [H, W], mm; 0 and NaN are invalid.
        middle: depth of the hand, mm; None shows all valid depth.
    """
    depth = np.asarray(depth, np.float32)
    valid = np.isfinite(depth) & (depth > 0)
    low, high = (middle - _REACH, middle + _REACH) if middle is not None else (0.0, 0.0)
    if middle is None and valid.any():
        low, high = np.percentile(depth[valid], (0, 100))
    normalized = np.where(valid, 2 * (depth - low) / max(high - low, 1.0) - 1, 1.0)
    return grey_picture(np.where(normalized > 1, 1.0, np.minimum(normalized, 0.98 if middle is None else 1.0)))


def hand_picture(depth: Array, hands: Sequence[Any], skeleton: Skeleton) -> Picture:
    """A depth frame with the joints of its hands.

    Args:
        depth: [H, W], mm; 0 and NaN are invalid.
        hands: joints [J, 3] (pixels, pixels, mm) of each hand.
        skeleton: of the joints.
    """
    joints = [as_array(uvd) for uvd in hands]
    distances = [uvd[np.isfinite(uvd[:, 2]), 2] for uvd in joints]
    seen = np.concatenate([np.empty(0), *distances])
    picture = depth_picture(depth, float(np.median(seen)) if len(seen) else None)
    for uvd in joints:
        draw_pose(picture, uvd, skeleton, size=max(1.0, max(depth.shape) / 640))
    return picture


def grey_picture(crop: Array, size: int | None = None) -> Picture:
    """A depth crop [S, S] (-1 near, 1 background) as a picture, enlarged to `size` pixels."""
    grey = (255 * shade_depth(crop)).astype(np.uint8)
    if size is not None:
        grey = np.asarray(cv2.resize(grey, (size, size), interpolation=cv2.INTER_CUBIC), np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def draw_pose(picture: Picture, points: Any, skeleton: Skeleton, *, size: float = 1.0) -> None:
    """Draw bones and joints of one hand into a picture, each finger in its colour.

    Args:
        picture: changed in place.
        points: joints [J, 2 or 3], u, v in pixels; joints that are not finite are left out.
        skeleton: bones and finger groups.
        size: scale of lines and dots.
    """
    places = as_array(points)[:, :2]
    shown = np.asarray(np.isfinite(places).all(-1))
    corner = np.rint(np.clip(np.where(shown[:, None], places, 0), -(2**14), 2**14) * 2**_SHIFT).astype(int).tolist()
    width = max(1, round(2 * size))
    bones = [bone for bone in skeleton.bones if shown[list(bone)].all()]
    for color, thickness in ((255, 255, 255), width + 2), (None, width):
        for first, second in bones:
            own = color or _FINGERS[min(skeleton.finger_of[first], skeleton.finger_of[second])]
            cv2.line(picture, corner[first], corner[second], own, thickness, cv2.LINE_AA, _SHIFT)
    radius = round(3 * size * 2**_SHIFT)
    for joint in np.flatnonzero(shown):
        cv2.circle(picture, corner[joint], radius + 2**_SHIFT, (255, 255, 255), -1, cv2.LINE_AA, _SHIFT)
        cv2.circle(picture, corner[joint], radius, _FINGERS[skeleton.finger_of[joint]], -1, cv2.LINE_AA, _SHIFT)


def pose_panels(crop: Array, poses: Sequence[Any], titles: Sequence[str], skeleton: Skeleton) -> Picture:
    """A depth crop side by side with each of several poses.

    Args:
        crop: [S, S], -1 (near) to 1 (background).
        poses: normalised joints [J, 3] of each panel.
        titles: written into the panels.
        skeleton: of the joints.
    """
    side, panels = 240, []
    for pose, title in zip(poses, titles, strict=True):
        panel = grey_picture(crop, side)
        scale = (side - 1 / (len(crop) - 1)) / 2  # of normalised coordinates, whose ends are the corner pixels' centres
        draw_pose(panel, side / 2 - 0.5 + as_array(pose) * scale, skeleton)
        cv2.putText(panel, title, (8, side - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (34, 34, 34), 1, cv2.LINE_AA)
        panels.append(panel)
    return np.concatenate(panels, axis=1)
