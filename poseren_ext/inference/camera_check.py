# SPDX-License-Identifier: MIT
"""Whether intrinsics can belong to frames of a given size."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from poseren_ext.geometry.camera import Camera

_WIDEST, _NARROWEST = 120.0, 30.0  # degrees across the frame
_OPEN = 150.0  # degrees; parts that were cut out of frames see less too


@dataclass(frozen=True)
class CameraVerdict:
    """What intrinsics are to frames.

    Attributes:
        kind: "fine"; "note": unusual; "fault": they cannot be of these frames.
        text: why, and what to give instead.
        camera: the intrinsics for the checks that follow: the given ones, or those that fit the frames.
        narrow: the only fault is a narrow angle of view.
    """

    kind: Literal["fine", "note", "fault"]
    text: str
    camera: Camera
    narrow: bool = False


def judge_camera(camera: Camera, shape: tuple[int, ...]) -> CameraVerdict:
    """Can frames of this size come from this camera?

    Args:
        camera: the intrinsics.
        shape: rows and columns of the frames.
    """
    height, width = shape
    if (found := reordered(camera, (height, width))) is not None:
        return CameraVerdict("fault", *found)
    # The principal point of a depth camera is near the middle of its image: twice that is the size it belongs to.
    own = (camera.width or 2 * camera.cx + 1, camera.height or 2 * camera.cy + 1)
    scale = (width / own[0], height / own[1]) if min(own) > 0 else (math.nan, math.nan)
    angle = 2 * math.degrees(math.atan(width / 2 / camera.fx))
    text = f"{camera.fx:g},{camera.fy:g},{camera.cx:g},{camera.cy:g} on {width}x{height}: {angle:.0f} degrees across"
    known = camera.width is not None
    if all(abs(value - 1) < (1e-6 if known else 0.15) for value in scale):
        if not _NARROWEST <= angle <= _WIDEST:
            advice = "depth cameras see 30 to 120; give fx, fy in pixels, not in millimetres"
            return CameraVerdict("fault", f"{text}; {advice}", camera, angle < _NARROWEST)
        if not 0.9 < camera.fx / camera.fy < 1.1:
            return CameraVerdict("note", f"{text}; fx and fy differ: pixels that are no squares?", camera)
        return CameraVerdict("fine", text, camera)
    if math.isfinite(scale[0]) and abs(scale[0] / scale[1] - 1) < 0.15:
        scaled = resized(camera, width, height, scale)
        numbers = ",".join(f"{value:.6g}" for value in (scaled.fx, scaled.fy, scaled.cx, scaled.cy))
        advice = f"these belong to about {own[0]:.0f}x{own[1]:.0f} pixels; frames resized from there have {numbers}"
        return CameraVerdict("fault", f"{text}; {advice}", scaled)
    centered = replace(camera, cx=(width - 1) / 2, cy=(height - 1) / 2, width=None, height=None)
    advice = "the principal point is far from the middle; of frames that were cut out, subtract the corner from cx, cy"
    if camera.cx == camera.cy == 0:
        advice = "cx and cy are 0: the principal point is missing; it is near the middle of the image"
    elif angle > _OPEN:
        advice = "depth cameras see 30 to 120 degrees; give fx, fy in pixels"
    elif 0 <= camera.cx < width and 0 <= camera.cy < height and not known:
        return CameraVerdict("note", f"{text}; {advice}", camera)
    return CameraVerdict("fault", f"{text}; {advice}", centered)


def resized(camera: Camera, width: int, height: int, scale: tuple[float, float]) -> Camera:
    """The intrinsics of frames that were resized by a factor in u and in v; the corner (-0.5, -0.5) stays."""
    return Camera(
        camera.fx * scale[0],
        camera.fy * scale[1],
        (camera.cx + 0.5) * scale[0] - 0.5,
        (camera.cy + 0.5) * scale[1] - 0.5,
        width,
        height,
    )


def reordered(camera: Camera, shape: tuple[int, ...]) -> tuple[str, Camera] | None:
    """Recognise intrinsics in another order, or of frames that were turned by a quarter.

    Args:
        camera: intrinsics of unknown frame size.
        shape: rows and columns of the frames.

    Returns:
        What is wrong, and the camera that fits these frames; None where the intrinsics fit, or no other order does.
    """
    given = (camera.fx, camera.fy, camera.cx, camera.cy)
    if camera.width is not None or _fits(given, shape, 0.15):
        return None
    fx, fy, cx, cy = given
    orders = {
        "cx, cy, fx, fy": (cx, cy, fx, fy),
        "fx, cx, fy, cy": (fx, cx, fy, cy),
        "of a landscape camera, for portrait frames, or the reverse": (fy, fx, cy, cx),
    }
    for name, values in orders.items():
        if min(values) > 0 and _fits(values, shape, 0.05):
            numbers = ",".join(f"{value:g}" for value in values)
            what = "in the order " * ("fx" in name) + name
            return f"the intrinsics look as if they were {what}; these frames fit fx,fy,cx,cy = {numbers}", Camera(
                *values
            )
    return None


def _fits(values: tuple[float, ...], shape: tuple[int, ...], tolerance: float) -> bool:
    """Whether pixels are about square and the principal point is near the middle, as a share of the frame's size."""
    fx, fy, cx, cy = values
    height, width = shape
    off = max(abs(cx - (width - 1) / 2) / width, abs(cy - (height - 1) / 2) / height)
    return abs(fx / fy - 1) < 2 * tolerance and off < tolerance
