# SPDX-License-Identifier: MIT
"""Lens distortion: depth frames of real lenses as a pinhole camera without distortion would see them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from poseren_ext.geometry.camera import Camera

_LENGTHS = {False: (0, 4, 5, 8, 12, 14), True: (0, 4)}
"""Numbers of coefficients of OpenCV's models: perspective (rational, thin prism, tilted) and fisheye."""


@dataclass(frozen=True)
class Lens:
    """A pinhole camera and the distortion of its lens, in OpenCV's models.

    Attributes:
        camera: intrinsics; they hold for the undistorted frames too.
        distortion: coefficients in OpenCV's order: k1, k2, p1, p2[, k3[, k4, k5, k6[, s1..s4[, tx, ty]]]], or k1..k4
            of a fisheye lens; empty or all 0 without distortion.
        fisheye: the coefficients are those of OpenCV's fisheye model (ROS: equidistant; Kannala and Brandt, 2006).

    Raises:
        ValueError: The number of coefficients is none of OpenCV's, or a coefficient is not finite.
    """

    camera: Camera
    distortion: tuple[float, ...] = ()
    fisheye: bool = False

    def __post_init__(self) -> None:
        if len(self.distortion) not in _LENGTHS[self.fisheye]:
            lengths, model = ", ".join(map(str, _LENGTHS[self.fisheye])), "fisheye" if self.fisheye else "perspective"
            raise ValueError(
                f"{len(self.distortion)} distortion coefficients; expected {lengths} of OpenCV's {model} model"
            )
        if not all(map(math.isfinite, self.distortion)):
            raise ValueError(f"distortion coefficients {list(self.distortion)}; expected finite numbers")

    @property
    def distorts(self) -> bool:
        """Whether frames differ from those of a pinhole camera."""
        # A fisheye lens distorts even where all coefficients are 0: its radius is the angle, not the tangent.
        return any(self.distortion) or (self.fisheye and len(self.distortion) > 0)

    def undistort(self, depth: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A depth frame as the pinhole camera sees it.

        Every pixel takes the nearest stored pixel of the same ray: values are never mixed across edges, and z does not
        change. Pixels whose ray is outside of the stored frame become 0, which means no depth.

        Args:
            depth: [H, W], any of the types of depth frames.

        Returns:
            [H, W] of the same type; the frame itself if the lens does not distort.

        Raises:
            ValueError: The frame has another rank, or another size than the camera.
        """
        if not self.distorts:
            return depth
        if depth.ndim != 2:
            raise ValueError(f"depth has shape {list(depth.shape)}; expected one frame [H, W]")
        height, width = depth.shape
        if self.camera.width is not None and (self.camera.width, self.camera.height) != (width, height):
            raise ValueError(
                f"the frames are {width}x{height}, the camera's are {self.camera.width}x{self.camera.height}; give the "
                "intrinsics of these frames"
            )
        source, outside = _stored_pixels(self, height, width)
        result: npt.NDArray[Any] = depth.reshape(-1)[source]
        result[outside] = 0
        return result.reshape(height, width)


def make_lens(camera: Camera, distortion: Sequence[float], model: str = "") -> Lens:
    """A lens from coefficients and the name of their model, as ROS and RealSense write them.

    Args:
        camera: intrinsics.
        distortion: coefficients in OpenCV's order.
        model: "plumb_bob", "rational_polynomial", "brown_conrady", "equidistant", "fisheye", "kannala_brandt4" or
            "none"; empty means OpenCV's perspective model.

    Raises:
        ValueError: The model is another one, and a coefficient is not 0.
    """
    values = tuple(float(value) for value in distortion)
    name = model.lower().rpartition(".")[2].replace("-", "_").replace(" ", "_")
    if name in ("equidistant", "fisheye", "kannala_brandt4", "kannala_brandt"):
        return Lens(camera, values[:4] if not any(values[4:]) else values, True)
    known = (
        "",
        "plumb_bob",
        "rational_polynomial",
        "brown_conrady",
        "brown_conrady_k6",
        "opencv",
        "radial_tangential",
        "radtan",
        "none",
    )
    if name not in known and any(values):
        raise ValueError(
            f"distortion model {model!r} with coefficients {list(values)} is not one of OpenCV's; expected "
            f"{', '.join(known[1:])} or equidistant. Undistort the frames with your camera's software"
        )
    if not any(values):
        return Lens(camera)
    return Lens(camera, values)


@lru_cache(maxsize=4)
def _stored_pixels(lens: Lens, height: int, width: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """For each pixel of the undistorted frame the index of the stored pixel on its ray, and which have none."""
    camera = lens.camera
    matrix = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])
    coefficients = np.array(lens.distortion)
    initialise = cv2.fisheye.initUndistortRectifyMap if lens.fisheye else cv2.initUndistortRectifyMap
    columns, rows = initialise(matrix, coefficients, np.eye(3), matrix, (width, height), cv2.CV_32FC1)
    with np.errstate(invalid="ignore"):
        inside = (columns >= -0.5) & (columns < width - 0.5) & (rows >= -0.5) & (rows < height - 0.5)
    column = np.floor(np.where(inside, columns, 0) + 0.5).astype(np.int64)
    row = np.floor(np.where(inside, rows, 0) + 0.5).astype(np.int64)
    return (row * width + column).reshape(-1), ~inside.reshape(-1)
