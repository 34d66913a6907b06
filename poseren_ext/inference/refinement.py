# SPDX-License-Identifier: MIT
"""The one call: depth frames in, joints out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypedDict, overload

import torch

from poseren_ext.inference.errors import Missing
from poseren_ext.inference.estimator import Estimator, Hand
from poseren_ext.inference.frame_hands import FrameHands
from poseren_ext.inference.hand_pose import Array, HandPose
from poseren_ext.models import PoseREN
from poseren_ext.models.files import BOTH, Precision

if TYPE_CHECKING:
    from typing_extensions import Required, Unpack

    class _Settings(TypedDict, total=False):
        camera: Required[object]
        init_pose: Array | Literal["mean"] | None
        init_space: Literal["uvd", "xyz"]
        center: Array | Sequence[float] | Literal["cube"] | None
        hand: Hand | None
        cube: float
        stages: int
        depth_unit: float
        precision: Precision | None
        tta: int
        device: torch.device | str | None
        missing: Missing
        return_stages: bool


@overload
def refine(  # type: ignore[overload-overlap]  # 1 is an int, too
    depth: Array | Sequence[Array],
    model: PoseREN | str | os.PathLike[str] = BOTH,
    *,
    max_hands: Literal[1] = 1,
    **settings: Unpack[_Settings],
) -> HandPose: ...
@overload
def refine(
    depth: Array | Sequence[Array],
    model: PoseREN | str | os.PathLike[str] = BOTH,
    *,
    max_hands: int,
    **settings: Unpack[_Settings],
) -> FrameHands: ...
def refine(
    depth: Array | Sequence[Array],
    model: PoseREN | str | os.PathLike[str] = BOTH,
    *,
    camera: object,
    init_pose: Array | Literal["mean"] | None = None,
    init_space: Literal["uvd", "xyz"] = "uvd",
    center: Array | Sequence[float] | Literal["cube"] | None = None,
    hand: Hand | None = None,
    cube: float = 150.0,
    stages: int = 3,
    depth_unit: float = 1.0,
    precision: Precision | None = None,
    tta: int = 1,
    device: torch.device | str | None = None,
    missing: Missing = "raise",
    return_stages: bool = False,
    max_hands: int = 1,
) -> HandPose | FrameHands:
    """3D hand joints in depth frames, by Pose-REN's cascade (the paper's equations 1 and 2).

    For a stream of frames make an :class:`Estimator` once: this function is one call of it.

    Args:
        depth: [H, W] or [B, H, W], numpy or torch (uint16, int32, float16, bfloat16 or float32), or a list of frames,
            whose sizes may differ. 0, negative, NaN and infinite values mean no depth.
        model: a ``PoseREN``, the path of a safetensors file, or one that comes with the package: "demo" for palms,
            "any_view" for hands from every side, or "both": the better one for each hand.
        camera: intrinsics of the frames: a Camera, a dataset's name, fx, fy, cx, cy in pixels, a 3x3 matrix, a
            camera_info or RealSense's intrinsics.
        init_pose: where the cascade starts: None takes the model's Init-CNN, "mean" its mean pose; or joints [B, J, 3]
            of any other method.
        init_space: coordinates of init_pose: "uvd" (pixels, pixels, mm) or "xyz" (mm, camera frame).
        center: u, v (pixels), d (mm) of the hand [B, 3]; None detects a hand with :func:`find_hands`; "cube"
            takes the centre of all depth, recomputed inside the cube, for frames that show only the hand.
        hand: "right", "left" or "auto" (the one that the detector names, or else the one with the smaller predicted
            error); None is the model's own.
        cube: half edge of the cube around the hand, mm.
        stages: T, the number of refinements.
        depth_unit: mm per stored unit: 1 for mm, 1000 for metres, 0.125 for SR300 and SR305 cameras.
        precision: of the fully connected layers' weights: "float32" (None), "bfloat16" or "int8".
        tta: test-time augmentation: the number of rotated crops whose results are averaged.
        device: the compute device; None is the device of the model.
        missing: what to do with a frame without depth or hand, with a hand out of range, or whose given centre or
            initial pose is NaN: "raise" an error, give "nan" joints, or "skip" it: `HandPose.frame` names the frames of
            the rows that are left.
        return_stages: keep the pose of every stage.
        max_hands: with 2, all hands of each frame, at most this many; `center` and `init_pose` are for one.
            A frame without hands has no rows; `missing` is then "raise" or "skip".

    Returns:
        HandPose | FrameHands: The joints in mm and in pixels, with what led to them: one hand per frame, or all hands
            of all frames.

    Raises:
        TypeError: depth, model or camera is of another type or dtype.
        NoHandError: A frame has no hand.
        HandDistanceError: A hand is nearer than 120 mm or farther than 2 m: most often the unit is wrong.
        ValueError: Shapes do not fit, a frame is empty, depth looks like another unit, the camera is not this frame's,
            a given centre is outside the frame or has no depth around it, an initial pose is not at the hand, the model
            has hooks or layers that the packed form does not know.
        FileNotFoundError: The model file does not exist.
    """
    estimator = Estimator(
        model,
        camera=camera,
        hand=hand,
        cube=cube,
        stages=stages,
        depth_unit=depth_unit,
        precision=precision,
        tta=tta,
        device=device,
    )
    if max_hands != 1:
        if center is not None or init_pose is not None:
            raise ValueError(
                f"max_hands is {max_hands} with a centre or an initial pose; they are of one hand per frame"
            )
        return estimator.hands(depth, max_hands, missing=missing, return_stages=return_stages)  # type: ignore[arg-type]  # refuses "nan"
    return estimator(
        depth,
        init_pose=init_pose,
        init_space=init_space,
        center=center,
        missing=missing,
        return_stages=return_stages,
    )
