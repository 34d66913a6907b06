# SPDX-License-Identifier: MIT
"""Pinhole cameras: intrinsics of the datasets and conversions between pixels and millimetres.

Camera frame: x right, y down, z forward, in millimetres. Pixel frame: u right, v down, with (0, 0) at the centre of the
top-left pixel; d is z. ``u = x * fx / z + cx``, ``v = y * fy / z + cy``, ``d = z``.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from poseren_ext._utils.arrays import as_tensor, is_array, like

Points = TypeVar("Points", Tensor, npt.NDArray[Any])

_DISTORTION = ("D", "d", "distortion_coefficients", "dist_coeffs", "coeffs")


@dataclass(frozen=True)
class Camera:
    """Intrinsics of a pinhole camera whose y axis points down.

    Attributes:
        fx: focal length along u, pixels; positive.
        fy: focal length along v, pixels; positive (a file with a negative fy has y up: convert with ``y_up``).
        cx: principal point, pixels.
        cy: principal point, pixels.
        width: columns of the frames that the camera gives, where known.
        height: rows of the frames that the camera gives, where known.

    Raises:
        ValueError: A focal length or size is not positive, or a number is not finite.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    width: int | None = None
    height: int | None = None

    def __post_init__(self) -> None:
        for name in ("fx", "fy", "cx", "cy"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"camera {name} is {getattr(self, name)}; expected a finite number of pixels")
        for name in ("fx", "fy"):
            if getattr(self, name) <= 0:
                raise ValueError(
                    f"camera {name} is {getattr(self, name)}; expected a positive focal length in pixels. "
                    "If your file has a negative fy, give its absolute value and convert points with y_up=True"
                )
        for name in ("width", "height"):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise ValueError(f"camera {name} is {getattr(self, name)}; expected a positive number of pixels")

    def tensor(self, device: torch.device | str | None = None) -> Tensor:
        """The intrinsics fx, fy, cx, cy as a float32 tensor [4], pixels."""
        return torch.tensor([self.fx, self.fy, self.cx, self.cy], dtype=torch.float32, device=device)

    @staticmethod
    def parse(text: str) -> Camera:
        """A camera from ``"fx,fy,cx,cy"`` (pixels) or from a dataset's name (a key of ``CAMERAS``).

        Raises:
            ValueError: neither a known name nor four numbers.
        """
        known = CAMERAS.get(text.strip().lower())
        if known is not None:
            return known
        try:
            fx, fy, cx, cy = (float(part) for part in text.split(","))
        except ValueError:
            raise ValueError(
                f"camera {text!r} is not known; give four numbers fx,fy,cx,cy in pixels or one of {', '.join(CAMERAS)}"
            ) from None
        return Camera(fx, fy, cx, cy)


CameraLike: TypeAlias = Camera | Sequence[float] | Tensor
"""What the ops take as a camera: a Camera, four numbers fx, fy, cx, cy, or a tensor [4] or [B, 4]."""

CAMERAS: dict[str, Camera] = {
    "nyu": Camera(588.03, 587.07, 320.0, 240.0, 640, 480),
    "icvl": Camera(240.99, 240.96, 160.0, 120.0, 320, 240),
    "msra": Camera(241.42, 241.42, 160.0, 120.0, 320, 240),
    "hands17": Camera(475.065948, 475.065857, 315.944855, 245.287079, 640, 480),
    "sr305": Camera(476.007, 476.007, 313.683, 242.755, 640, 480),
}
"""Intrinsics of each dataset's depth camera (SR305: of the sample recordings)."""


def intrinsics(
    camera: CameraLike, *, device: torch.device | str | None = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """A camera in any accepted form, as a tensor of fx, fy, cx, cy in pixels.

    Args:
        camera: a ``Camera``, four numbers, or a tensor [4] or [B, 4]. The values of a tensor are not checked: that
            would wait for the device.
        device: where the result is to live; by default a tensor stays where it is.
        dtype: floating type of the result.

    Returns:
        [4] or [B, 4].

    Raises:
        TypeError: The camera is of another type, or a tensor that is not floating-point.
        ValueError: There are not four intrinsics, or a camera cannot have these values.
    """
    if isinstance(camera, Tensor):
        if not camera.is_floating_point():
            raise TypeError(f"camera tensor has dtype {camera.dtype}; expected a floating-point [4] or [B, 4]")
        if camera.layout != torch.strided:
            raise TypeError(f"camera tensor has layout {camera.layout}; expected a dense tensor: .to_dense() converts")
        if camera.dim() not in (1, 2) or camera.shape[-1] != 4:
            raise ValueError(f"camera tensor has shape {tuple(camera.shape)}; expected [4] or [B, 4] = fx, fy, cx, cy")
        return camera.to(device=device, dtype=dtype)
    if not isinstance(camera, Camera):
        if isinstance(camera, str) or not isinstance(camera, Sequence | np.ndarray):
            raise TypeError(
                f"camera is a {type(camera).__name__}; expected a Camera, four numbers fx, fy, cx, cy or a tensor "
                "(Camera.parse reads text)"
            )
        if len(camera) != 4:
            raise ValueError(f"camera has {len(camera)} numbers; expected four: fx, fy, cx, cy in pixels")
        fx, fy, cx, cy = (float(value) for value in camera)
        camera = Camera(fx, fy, cx, cy)
    values = [camera.fx, camera.fy, camera.cx, camera.cy]
    if device is None or torch.device(device).type == "cpu":
        return torch.tensor(values, dtype=dtype, device=device)
    # Filled where they are needed: a copy from the host waits for a GPU, and cannot be captured in a CUDA graph.
    return torch.stack([torch.full((), value, dtype=dtype, device=device) for value in values])


def as_camera(camera: object) -> Camera:
    """A camera from any of the usual forms of intrinsics.

    Args:
        camera: a ``Camera``; a dataset's name or "fx,fy,cx,cy"; four numbers fx, fy, cx, cy or a 3x3 matrix as nested
            sequences, array or tensor; a mapping with fx, fy, cx, cy or with K (nine numbers, as in ROS's camera_info),
            and optionally width and height; an object with fx, fy, ppx, ppy (RealSense) or with k or K. Distortion
            coefficients beside them are not used, with a warning where one is not 0.

    Raises:
        TypeError: The camera has another form.
        ValueError: The numbers are not those of a pinhole camera without skew.
    """
    if isinstance(camera, Camera):
        return camera
    if isinstance(camera, str):
        return Camera.parse(camera)
    size: dict[str, int] = {}
    values: Any = camera
    if not isinstance(camera, Tensor | np.ndarray | Sequence):
        fields = camera if isinstance(camera, Mapping) else _attributes(camera)
        size = {name: int(fields[name]) for name in ("width", "height") if fields.get(name)}
        _warn_of_distortion(fields)
        for names in (("fx", "fy", "cx", "cy"), ("fx", "fy", "ppx", "ppy")):
            if all(name in fields for name in names):
                values = [fields[name] for name in names]
        for name in ("K", "k", "camera_matrix"):
            if name in fields:
                matrix = fields[name]
                values = matrix["data"] if isinstance(matrix, Mapping) and "data" in matrix else matrix
    values = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
    try:
        numbers = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if numbers.shape == (9,):
        numbers = numbers.reshape(3, 3)
    if numbers.shape == (3, 3):
        if numbers[0, 1] != 0 or numbers[1, 0] != 0 or not np.allclose(numbers[2], (0, 0, 1)):
            raise ValueError(f"camera matrix is {numbers.tolist()}; expected [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]")
        numbers = numbers[[0, 1, 0, 1], [0, 1, 2, 2]]
    if numbers.shape != (4,):
        raise TypeError(
            f"camera is {camera!r}; expected a Camera, a name, four numbers fx, fy, cx, cy in pixels, a 3x3 matrix, or "
            "an object with these"
        )
    fx, fy, cx, cy = numbers.tolist()
    return Camera(fx, fy, cx, cy, size.get("width"), size.get("height"))


def _attributes(camera: object) -> dict[str, Any]:
    names = ("fx", "fy", "cx", "cy", "ppx", "ppy", "K", "k", "width", "height", *_DISTORTION)
    return {name: getattr(camera, name) for name in names if hasattr(camera, name)}


def _warn_of_distortion(fields: Mapping[str, Any]) -> None:
    """Warn that distortion coefficients beside the intrinsics are not used."""
    given: Any = next((fields[name] for name in _DISTORTION if fields.get(name) is not None), ())
    given = given["data"] if isinstance(given, Mapping) and "data" in given else given
    if any(value != 0 for value in np.ravel(given).tolist()):
        warnings.warn(
            f"the camera has distortion coefficients {np.ravel(given).tolist()}, which are not used; undistort the "
            "frames first (poseren_ext.geometry.lens.Lens.undistort), or ignore this if they are undistorted",
            stacklevel=3,
        )


def uvd_to_xyz(uvd: Points, camera: CameraLike, *, y_up: bool = False, check: bool = True) -> Points:
    """Pixels and depth to camera millimetres.

    Args:
        uvd: [..., 3] = u, v in pixels, d in mm; a floating-point tensor or array.
        camera: a ``Camera``, four numbers, or a tensor [4] or [B, 4] (then uvd is [B, ..., 3]).
        y_up: give back y pointing up (the convention of files made with a negative fy, such as NYU's).
        check: refuse depths that are not positive and finite; without it such points become NaN, with no wait for the
            device.

    Returns:
        Points: xyz [..., 3] in mm: of the same kind, dtype and device as uvd.

    Raises:
        TypeError: uvd is no floating-point tensor or array.
        ValueError: the last axis is not 3, the cameras do not match the batch, or a depth is not positive and finite.
    """
    points = _points(uvd, "uvd", check)
    fx, fy, cx, cy = _per_point(camera, points)
    u, v, d = points.unbind(-1)
    y = (v - cy) * d / fy
    return like(torch.stack([(u - cx) * d / fx, -y if y_up else y, d], -1), uvd)


def xyz_to_uvd(xyz: Points, camera: CameraLike, *, y_up: bool = False, check: bool = True) -> Points:
    """Camera millimetres to pixels and depth: the inverse of :func:`uvd_to_xyz`, with the same arguments and errors.

    Args:
        xyz: [..., 3] in mm; a floating-point tensor or array.
        camera: a ``Camera``, four numbers, or a tensor [4] or [B, 4] (then xyz is [B, ..., 3]).
        y_up: the given y points up.
        check: refuse depths that are not positive and finite; without it such points become NaN.

    Returns:
        Points: uvd [..., 3]: pixels, pixels, mm; of the same kind, dtype and device as xyz.

    Raises:
        TypeError: xyz is no floating-point tensor or array.
        ValueError: the last axis is not 3, the cameras do not match the batch, or a depth is not positive and finite.
    """
    points = _points(xyz, "xyz", check)
    fx, fy, cx, cy = _per_point(camera, points)
    x, y, z = points.unbind(-1)
    return like(torch.stack([x * fx / z + cx, (-y if y_up else y) * fy / z + cy, z], -1), xyz)


def _points(points: Tensor | npt.NDArray[Any], name: str, check: bool) -> Tensor:
    """The points as a tensor [..., 3]; those without a positive finite depth raise (check) or become NaN."""
    tensor = as_tensor(points) if isinstance(points, Tensor) or is_array(points) else None
    if tensor is None or not tensor.is_floating_point():
        kind = f"{type(points).__name__} of {points.dtype}" if hasattr(points, "dtype") else type(points).__name__
        raise TypeError(f"{name} is a {kind}; expected a floating-point tensor or numpy array [..., 3]")
    if tensor.dim() == 0 or tensor.shape[-1] != 3:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}; expected [..., 3]")
    depth = tensor[..., 2:]
    usable = (depth > 0) & torch.isfinite(depth)
    if not check:
        return torch.where(usable, tensor, torch.nan)
    if not bool(usable.all()):
        first = (~usable[..., 0]).nonzero()[0].tolist()
        raise ValueError(
            f"{name} has {int((~usable).sum())} points whose depth is not positive and finite, the first at {first}; "
            "expected millimetres in front of the camera. Drop these points, or pass check=False to get NaN for them"
        )
    return tensor


def _per_point(camera: CameraLike, points: Tensor) -> tuple[Tensor, ...]:
    """fx, fy, cx, cy shaped to broadcast with points [..., 3] without their last axis."""
    values = intrinsics(camera, device=points.device, dtype=points.dtype)
    if values.dim() == 2:
        if points.dim() < 2 or points.shape[0] != values.shape[0]:
            raise ValueError(
                f"{values.shape[0]} cameras for points of shape {tuple(points.shape)}; expected one camera, or one for "
                "each entry of the first axis"
            )
        values = values.reshape(-1, *[1] * (points.dim() - 2), 4)
    return values.unbind(-1)
