# SPDX-License-Identifier: MIT
"""The estimator: depth frames in, joints out."""

from __future__ import annotations

import numbers
import os
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from poseren_ext import ops
from poseren_ext._utils.arrays import as_tensor, stored_at
from poseren_ext.geometry.camera import as_camera, intrinsics, uvd_to_xyz, xyz_to_uvd
from poseren_ext.geometry.crop_transforms import mean_of_views, move_pose, turned_views
from poseren_ext.inference.depth_units import check_distances, unit_advice
from poseren_ext.inference.errors import Missing, NoHandError, check_missing, naming_frame
from poseren_ext.inference.frame_hands import FrameHands, estimate_hands
from poseren_ext.inference.given_geometry import check_cubes, check_initial, given_centers
from poseren_ext.inference.hand_detection import presumed_hand
from poseren_ext.inference.hand_pose import Array, HandPose, joined_poses
from poseren_ext.inference.input_frames import InputFrames, check_camera, check_units, read_frames
from poseren_ext.inference.model_checks import snapshot
from poseren_ext.models import PoseREN
from poseren_ext.models.files import BOTH, BUNDLED, Precision, load_model, packed_model
from poseren_ext.models.packed import PackedChoice

Hand: TypeAlias = Literal["left", "right", "auto"]

SMALLEST_CUBE, LARGEST_CUBE = 30.0, 500.0
"""Half edges, mm, of cubes that hold a hand."""
CENTER_ITERATIONS = 3
"""Iterations of the centre of mass inside the cube around the last one, for center="cube"."""
_NEAREST = 1e-3  # mm: any depth but 0
_SIDES = ("right", "left")


class Estimator:
    """Pose-REN for the frames of one camera: owns the weights, packed and held once, and the settings.

    Args:
        model: a ``PoseREN``, the path of a safetensors file that ``poseren_ext.save`` wrote, or one that comes with the
            package: "demo" for palms, "any_view" for hands from every side, or "both": for each hand of which "demo"
            expects a large error, the pose of "any_view" if that expects less.
        camera: intrinsics of the frames: a Camera, a dataset's name, fx, fy, cx, cy in pixels, a 3x3 matrix, a
            camera_info or RealSense's intrinsics.
        hand: which hand the frames show; None is the model's own. A model knows one hand; for the other the crop is
            mirrored and the joints are mirrored back. "auto" tries both, as one batch, and keeps the one that the
            detector names; where it names none, or a centre is given, the one with the smaller predicted error
            (`HandPose.error_mm`), or, with a model that predicts none, whose joints agree better with the surface.
        cube: half edge of the cube around the hand, mm.
        stages: T, how often to refine; 0 gives the initial pose.
        depth_unit: mm per stored unit: 1 for mm, 1000 for metres, 0.125 for SR300 and SR305 cameras.
        precision: type of the fully connected layers' weights: "float32", "bfloat16" or "int8" (one scale per row);
            sums are float32. Of a model from a file only this form stays in memory.
        tta: test-time augmentation: the mean over crops rotated by equal parts of the circle. On the bundled
            model two rotations lower the error by 9 % and four by 15 %, for two and four times the work.
        device: the compute device; None is the device of the model. The estimator is a snapshot: it does not follow
            later changes of the model's weights.

    Raises:
        TypeError: The model, the camera or a number is of another type.
        ValueError: A setting is out of range.
        FileNotFoundError: The model file does not exist.
    """

    def __init__(
        self,
        model: PoseREN | str | os.PathLike[str] = BOTH,
        *,
        camera: object,
        hand: Hand | None = None,
        cube: float = 150.0,
        stages: int = 3,
        depth_unit: float = 1.0,
        precision: Precision | None = None,
        tta: int = 1,
        device: torch.device | str | None = None,
    ) -> None:
        if hand not in ("left", "right", "auto", None):
            raise ValueError(f"hand is {hand!r}; expected 'left', 'right', 'auto' or None (the model's own)")
        for name, number, least in (("stages", stages, 0), ("tta", tta, 1)):
            if isinstance(number, bool) or not isinstance(number, numbers.Integral) or number < least:
                raise ValueError(f"{name} is {number!r}; expected a whole number, {least} or more")
        if precision not in (None, "float32", "bfloat16", "int8"):
            raise ValueError(f"precision is {precision!r}; expected 'float32', 'bfloat16', 'int8' or None (float32)")
        for name, value in (("cube", cube), ("depth_unit", depth_unit)):
            if isinstance(value, bool) or not (isinstance(value, numbers.Real) and 0 < value < np.inf):
                raise ValueError(f"{name} is {value!r}; expected a positive number of mm")
        if not SMALLEST_CUBE <= cube <= LARGEST_CUBE:
            raise ValueError(
                f"cube is {cube:g}; expected {SMALLEST_CUBE:g} to {LARGEST_CUBE:g} mm: half the edge of the cube "
                "around a hand; 150 suits adults"
            )
        packed = [
            packed_model(
                snapshot(load_model(one), device) if isinstance(one, PoseREN) or device else one, precision or "float32"
            )
            for one in (BUNDLED if model == BOTH else (model,))
        ]
        self.model = PackedChoice(packed) if len(packed) > 1 else packed[0]
        self.camera = as_camera(camera)
        self.intrinsics = intrinsics(self.camera, device=self.device)
        self.hand: Hand = hand or self.model.config.hand
        self.cube = float(cube)
        self.stages = int(stages)
        self.tta = int(tta)
        self.depth_unit = float(depth_unit)
        self._views: dict[str, Tensor | None] = {}
        for side in ("right", "left"):
            other = side != self.model.config.hand
            views = turned_views(tta, mirrored=other, device=self.device)
            self._views[side] = views if other or tta > 1 else None

    @property
    def device(self) -> torch.device:
        """The device of the weights, where everything is computed."""
        return self.model.device

    @torch.no_grad()
    def __call__(
        self,
        depth: Array | Sequence[Array],
        *,
        init_pose: Array | Literal["mean"] | None = None,
        init_space: Literal["uvd", "xyz"] = "uvd",
        center: Array | Sequence[float] | Literal["cube"] | None = None,
        missing: Missing = "raise",
        return_stages: bool = False,
        sides: Sequence[str | None] | None = None,
    ) -> HandPose:
        """The hand's pose in each frame: arguments and errors as in :func:`refine`.

        ``sides`` is for hand "auto" with centres: "left", "right" or None (not known) for each frame, such as
        :func:`find_hands` gives.
        """
        check_missing(missing)
        if isinstance(depth, Sequence) and len({np.shape(frame) for frame in depth}) > 1:
            if sides is not None:
                self._known_sides(sides, len(depth))
            given = {"init_pose": init_pose, "center": center}
            poses = []
            for i, frame in enumerate(depth):
                with naming_frame(i):
                    poses.append(
                        self(
                            [frame],
                            **{name: _of_frame(value, i, len(depth)) for name, value in given.items()},
                            sides=None if sides is None else sides[i : i + 1],
                            init_space=init_space,
                            missing=missing,
                            return_stages=return_stages,
                        )
                    )
            return joined_poses(poses)
        frames = read_frames(depth, self.device)
        check_camera(self.camera, frames)
        if missing == "skip" and not frames.batched:
            raise ValueError(
                "missing is 'skip' with one frame [H, W]; expected a batch, from which frames are left out"
            )
        nan = missing != "raise"
        check_units(frames, self.depth_unit, allow_empty=nan)
        centers, detected = self._centers(frames, center, nan)
        centers = check_distances(centers, self.depth_unit, allow=nan)
        if sides is not None and self.hand != "auto":
            raise ValueError(f"sides are given, but hand is {self.hand!r}; expected hand='auto', or no sides")
        known = self._known_sides(detected if sides is None else sides, len(centers))
        initial = self._initial_uvd(frames, init_pose, init_space, nan)
        if isinstance(initial, Tensor):
            check_initial(ops.normalize_pose(initial, centers, self.intrinsics, cube=self.cube))
        hands = _SIDES if self.hand == "auto" else (self.hand,)
        with torch.autocast(self.device.type, enabled=False):  # coordinates in bfloat16 are wrong by pixels
            uvd, run, error = self._run(frames.depth, centers, initial, hands)
        chosen = self._choose(frames.depth, uvd, error, known)
        frame = torch.arange(len(centers), device=self.device)
        if missing == "skip":
            frame = frame[uvd[chosen, -1, frame].isfinite().all(2).all(1)]
            centers, chosen = centers[frame], chosen[frame]
        final = uvd[chosen, :, frame].transpose(0, 1)  # [T+1, B, J, 3]
        return HandPose(
            joints=frames.like(uvd_to_xyz(final[-1], self.intrinsics, check=False)),
            uvd=frames.like(final[-1]),
            center=frames.like(centers),
            stages=frames.like(final, axis=1) if return_stages else None,
            stages_run=frames.like(run[chosen, frame]),
            hand=tuple(hands[i] for i in chosen.tolist()),
            skeleton=self.model.skeleton,
            error_mm=None if error is None else frames.like(error[chosen, frame]),
            frame=frames.like(frame) if missing == "skip" else None,
        )

    def hands(
        self,
        depth: Array | Sequence[Array],
        max_hands: int = 2,
        *,
        missing: Literal["raise", "skip"] = "raise",
        return_stages: bool = False,
    ) -> FrameHands:
        """All hands of each frame: arguments and errors as in :func:`estimate_hands`."""
        return estimate_hands(self, depth, max_hands, missing=missing, return_stages=return_stages)

    def _centers(
        self, frames: InputFrames, center: Array | Sequence[float] | str | None, nan: bool
    ) -> tuple[Tensor, Sequence[str | None]]:
        """Centres of the cubes [B, 3] and sides of the hands: as given, or detected.

        Centres are NaN for a frame without a hand where that is allowed; sides are None where they are not known.
        """
        if center is None:
            return self._detected(frames, nan)
        unknown = [None] * len(frames.depth)
        if not isinstance(center, str):
            centers = given_centers(center, frames, allow_nan=nan)
            return check_cubes(centers, frames, self.camera, self.cube, self.depth_unit, allow_empty=nan), unknown
        if center != "cube":
            raise ValueError(f"center is {center!r}; expected None (find the hand), 'cube', or u, v, d [B, 3]")
        centers, _ = ops.hand_center(
            frames.depth,
            near=_NEAREST,
            far=np.inf,
            depth_unit=self.depth_unit,
            iterations=CENTER_ITERATIONS,
            cube=self.cube,
            camera=self.intrinsics,
        )
        return centers, unknown

    def _detected(self, frames: InputFrames, nan: bool) -> tuple[Tensor, Sequence[str | None]]:
        """Centre and side of the most certain hand in each frame; as `_centers`.

        Raises:
            NoHandError: a frame has no hand.
        """
        found = [presumed_hand(frame, self.camera, self.depth_unit) for frame in frames.depth]
        lost = [i for i, hand in enumerate(found) if hand is None]
        if lost and not nan:
            advice = unit_advice(frames.depth[lost[0]].cpu().float().numpy(), self.camera, self.depth_unit)
            raise NoHandError(
                f"no hand in frames {lost}: none was found with depth_unit={self.depth_unit:g}; "
                f"{advice or 'check camera and frame'}; or pass center=(u, v, d), or missing='nan' for NaN joints",
                lost,
            )
        invalid = (float("nan"),) * 3
        centers = torch.tensor(
            [hand.center if hand else invalid for hand in found], dtype=torch.float32, device=frames.depth.device
        )
        return centers, [hand.side if hand else None for hand in found]

    def _known_sides(self, sides: Sequence[str | None], count: int) -> Tensor:
        """Places of sides in `_SIDES`, -1 where they are not known: int64 [B]."""
        if len(sides) != count or not set(sides) <= {*_SIDES, None}:
            raise ValueError(f"sides is {list(sides)!r}; expected 'left', 'right' or None for each of {count} frames")
        return torch.tensor([-1 if side is None else _SIDES.index(side) for side in sides], device=self.device)

    def _initial_uvd(self, frames: InputFrames, pose: Array | str | None, space: str, nan: bool) -> Tensor | str | None:
        """The initial pose in uvd [B, J, 3], or the name of the one that the model has."""
        if pose is None or isinstance(pose, str):
            if pose not in (None, "mean"):
                raise ValueError(f"init_pose is {pose!r}; expected None (Init-CNN), 'mean', or joints [B, J, 3]")
            return pose
        if space not in ("uvd", "xyz"):
            raise ValueError(f"init_space is {space!r}; expected 'uvd' (pixels, pixels, mm) or 'xyz' (mm)")
        joints = as_tensor(pose).to(self.device, torch.float32)
        joints = joints if frames.batched else joints[None]
        expected = (frames.depth.shape[0], self.model.skeleton.num_joints, 3)
        if joints.shape != expected:
            raise ValueError(
                f"init_pose has shape {tuple(as_tensor(pose).shape)}; expected {list(expected)} for these frames "
                f"and the skeleton {self.model.skeleton.name}"
            )
        finite = torch.isfinite(joints).all(2).all(1)
        if not bool(finite.all()) and not nan:
            raise ValueError(
                "init_pose has NaN or infinite joints; drop those frames, give another initial pose, or pass "
                "missing='nan' for NaN joints"
            )
        joints = joints.masked_fill(~finite[:, None, None], torch.nan)
        if space == "xyz":
            joints[finite] = xyz_to_uvd(joints[finite], self.camera)
        return joints

    def _run(
        self, depth: Tensor, centers: Tensor, initial: Tensor | str | None, hands: Sequence[str]
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The results for each of H hands, as one batch of the networks.

        Returns:
            Joints in uvd of all stages [H, T+1, B, J, 3], stages run [H, B], and predicted errors in mm [H, B].
        """
        model, K, B = self.model, self.tta, len(depth)
        views = [self.views(hand) for hand in hands]
        pose = None  # the Init-CNN's
        if isinstance(initial, str):
            pose = model.mean_pose.expand(len(hands) * K * B, -1, 3)
        elif initial is not None:
            pose = ops.normalize_pose(initial, centers, self.intrinsics, cube=self.cube)
            pose = torch.cat([pose if part is None else _seen_through(pose, part) for part in views])
        crops = torch.cat([self.crop(depth, centers, part) for part in views])
        poses, run, error = model.refine(crops, pose, self.stages)
        parts = zip(poses.view(len(poses), len(hands), K * B, -1, 3).unbind(1), views, strict=True)
        # All stages of a frame at once: [H * B, (T+1) * J, 3].
        rows = [part if view is None else mean_of_views(part, view) for part, view in parts]
        flat = torch.cat([part.transpose(0, 1).flatten(1, 2) for part in rows])
        uvd = ops.denormalize_pose(flat, centers.repeat(len(hands), 1), self.intrinsics, cube=self.cube)
        uvd = uvd.view(len(hands), B, len(poses), -1, 3).transpose(1, 2)
        return uvd, run.view(-1, K, B).amax(1), None if error is None else error.view(-1, K, B).mean(1)

    def views(self, hand: str) -> Tensor | None:
        """Transforms of the K = tta crops that the model sees of a hand [K, 2, 3]; None for the untransformed crop.

        A mirror in the frame of the crop maps the hand that the model was not trained on to the other one.
        """
        return self._views[hand]

    def crop(self, depth: Tensor, centers: Tensor, views: Tensor | None) -> Tensor:
        """Crops for the model: [K * B, 1, S, S] of stored frames [B, H, W] around centres [B, 3]."""
        settings: dict[str, Any] = {
            "cube": self.cube,
            "size": self.model.config.image_size,
            "depth_unit": self.depth_unit,
        }
        if views is None:
            return ops.depth_crop(depth, centers, self.intrinsics, **settings)
        transforms = [view.expand(len(depth), 2, 3) for view in views]
        crops = [ops.depth_crop(depth, centers, self.intrinsics, transform=one, **settings) for one in transforms]
        return torch.cat(crops)

    def _choose(self, depth: Tensor, uvd: Tensor, error: Tensor | None, known: Tensor) -> Tensor:
        """Which of H results is the best for each frame: int64 [B]; uvd and error as `_run` returns them."""
        if len(uvd) == 1:
            return torch.zeros(len(depth), dtype=torch.int64, device=depth.device)
        doubt = torch.stack([self.surface_gap(depth, stages[-1]) for stages in uvd]) if error is None else error
        return torch.where(known < 0, doubt.nan_to_num(torch.inf).argmin(0), known)

    def surface_gap(self, depth: Tensor, uvd: Tensor) -> Tensor:
        """How far joints are from where a surface allows them, which is 0 to 40 mm behind it.

        Args:
            depth: frames as stored [B, H, W].
            uvd: their joints [B, J, 3].

        Returns:
            The joints' mean distance in mm [B]; NaN where a joint is.
        """
        height, width = depth.shape[1:]
        column, row = (
            uvd[..., axis].nan_to_num(0).round().clamp(0, size - 1).long() for axis, size in ((0, width), (1, height))
        )
        frame = torch.arange(len(depth), device=depth.device)[:, None]
        surface = stored_at(depth, frame, row, column).float() * self.depth_unit
        surface = torch.where((surface > 0) & torch.isfinite(surface), surface, torch.inf)
        behind = uvd[..., 2] - surface
        outside = torch.relu(-behind) + torch.relu(behind - 40)
        return outside.clamp(max=100).mean(1)


def _seen_through(pose: Tensor, views: Tensor) -> Tensor:
    """Normalised joints [B, J, 3] in K views: [K * B, J, 3]."""
    return torch.cat([move_pose(pose, view.expand(len(pose), 2, 3)) for view in views])


def _of_frame(value: Any, i: int, count: int) -> Any:
    """A setting of all frames, or the i-th of one for each frame with its batch axis kept."""
    if value is None or isinstance(value, str) or np.ndim(value) < 2:
        return value
    if len(value) != count:
        raise ValueError(f"{len(value)} centres or initial poses for {count} frames; expected one for each frame")
    return value[i : i + 1]
