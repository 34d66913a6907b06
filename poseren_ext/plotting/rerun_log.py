# SPDX-License-Identifier: MIT
"""Frames and hands for the rerun viewer (rerun.io): needs rerun-sdk, the extra ``rerun``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb

from poseren_ext._utils.optional_libraries import import_library
from poseren_ext.geometry.camera import Camera
from poseren_ext.geometry.skeleton import Skeleton
from poseren_ext.plotting.style import FINGER_COLORS, Array, as_array

VIEWER = "viewer"
_APPLICATION = "poseren"


class RerunLog:
    """A recording for the rerun viewer: the depth camera, its frames, and the joints of hands.

    Entities: ``camera`` (pinhole, x right, y down, z forward), ``camera/depth``, and for each hand ``hands/N`` (3D, m)
    and ``camera/hands/N`` (2D, pixels). Timelines: ``frame`` and ``time``.

    Args:
        target: FILE.rrd, or "viewer" to open the viewer and show the frames as they come.
        camera: of the frames.
        skeleton: of the joints; its bones are drawn, each finger in its colour.

    Raises:
        ModuleNotFoundError: rerun-sdk is not installed.
    """

    def __init__(self, target: str | Path, camera: Camera, skeleton: Skeleton) -> None:
        rerun = import_library("rerun", "rerun", "rerun recordings")
        self._rerun, self._camera, self._skeleton = rerun, camera, skeleton
        self._stream = rerun.RecordingStream(_APPLICATION)
        if str(target) == VIEWER:
            self._stream.spawn()
        else:
            self._stream.save(target)
        self._hands: set[int] = set()
        self._stream.log("/", rerun.ViewCoordinates.RDF, static=True)
        colors = [[round(255 * part) for part in to_rgb(color)] for color in FINGER_COLORS]
        keypoints = [
            rerun.AnnotationInfo(id=joint, label=name, color=colors[skeleton.finger_of[joint]])
            for joint, name in enumerate(skeleton.joints)
        ]
        hand = rerun.ClassDescription(
            info=rerun.AnnotationInfo(id=0, label="hand"),
            keypoint_annotations=keypoints,
            keypoint_connections=list(skeleton.bones),
        )
        self._stream.log("/", rerun.AnnotationContext(hand), static=True)

    def write(self, index: int, time: float, depth: Array | None, hands: Sequence[tuple[int, Any, Any]]) -> None:
        """Adds a frame; hands that it does not have are removed from the view.

        Args:
            index: of the frame.
            time: seconds since the first frame.
            depth: [H, W], mm; None for an invalid frame.
            hands: number, joints xyz [J, 3] in mm, and joints uvd [J, 3] of each hand.
        """
        rerun, stream = self._rerun, self._stream
        stream.set_time("frame", sequence=index)
        stream.set_time("time", duration=time)
        if depth is not None:
            camera, (height, width) = self._camera, depth.shape
            stream.log(
                "camera",
                rerun.Pinhole(
                    focal_length=(camera.fx, camera.fy),
                    principal_point=(camera.cx, camera.cy),
                    resolution=(width, height),
                    camera_xyz=rerun.ViewCoordinates.RDF,
                ),
            )
            stored = np.clip(np.nan_to_num(np.asarray(depth, np.float32)), 0, 2**16 - 1).round().astype(np.uint16)
            stream.log("camera/depth", rerun.DepthImage(stored, meter=1000.0))
        for number, xyz, uvd in hands:
            joints = list(range(self._skeleton.num_joints))
            given = {"class_ids": 0, "keypoint_ids": joints}
            stream.log(f"hands/{number}", rerun.Points3D(as_array(xyz) / 1000, radii=0.004, **given))
            stream.log(f"camera/hands/{number}", rerun.Points2D(as_array(uvd)[:, :2], radii=3.0, **given))
        numbers = {number for number, _, _ in hands}
        for number in self._hands - numbers:
            for entity in (f"hands/{number}", f"camera/hands/{number}"):
                stream.log(entity, rerun.Clear(recursive=False))
        self._hands = numbers

    def __enter__(self) -> RerunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.flush()
        self._stream.disconnect()
