# SPDX-License-Identifier: MIT
"""The whole estimator as one graph of tensors: depth frames and camera in, joints out."""

from __future__ import annotations

import copy
from typing import Any, Literal

import torch
from torch import Tensor, nn

from poseren_ext import ops
from poseren_ext.geometry.camera import uvd_to_xyz
from poseren_ext.geometry.crop_transforms import mean_of_views, turned_views
from poseren_ext.inference.estimator import CENTER_ITERATIONS, Hand
from poseren_ext.inference.input_frames import FARTHEST_HAND, NEAREST_HAND
from poseren_ext.inference.learnt_detection import (
    CERTAIN_SIDE,
    LEAST_PROPOSAL,
    LEAST_SCORE,
    VERIFIED_SIDE,
    best_proposals,
    bundled_detector,
    first_pixels,
    hand_cells,
    settled,
    verified,
)
from poseren_ext.inference.surface_detection import reduction
from poseren_ext.models import PoseREN
from poseren_ext.models.hand_proposals import padded
from poseren_ext.models.hand_verifier import HANDS


class EstimatorGraph(nn.Module):
    """Crop, both networks and T stages as one function of tensors without data-dependent control flow, for exporters.

    The graph is in evaluation mode. The model's own mode stays as it is. It calls the compiled ops of this package;
    :func:`onnx_decompositions` replaces them by operators that other runtimes have.

    Args:
        model: The estimator. The graph shares its weights.
        stages: T, the number of refinement stages.
        hand: The hand that the frames show, "left" or "right"; by default the one that the model is trained for. For
            the other one the crop is mirrored and the joints are mirrored back. "auto" computes both and takes, for
            each frame, the one with the smaller predicted error, or in a graph with the detector the one that this
            names; the model must have an error head.
        invalid: Depth in mm that replaces pixels without depth, or "background", the far face of the cube.
        depth_unit: mm per stored unit.

    Attributes:
        frame_size: Height and width of the frames; None for any size.
        inputs: Names of the arguments of ``forward``.
        outputs: Names of its results; "error_mm" only with a model that has an error head, "left" only with "auto".

    Raises:
        ValueError: The number of stages is negative, or the hand is unknown, or it is "auto" and the model has no error
            head.
    """

    inputs: tuple[str, ...] = ("depth", "center", "camera")
    outputs: tuple[str, ...] = ("joints", "uvd")
    frame_size: tuple[int, int] | None = None
    mirror: Tensor | None

    def __init__(
        self,
        model: PoseREN,
        *,
        stages: int = 3,
        hand: Hand | None = None,
        invalid: float | Literal["background"] = "background",
        depth_unit: float = 1.0,
    ) -> None:
        super().__init__()
        if stages < 0:
            raise ValueError(f"stages is {stages}; expected 0 or more")
        if hand not in (None, "left", "right", "auto"):
            raise ValueError(f"hand is {hand!r}; expected 'left', 'right', 'auto' or None, the model's hand")
        if hand == "auto" and model.error is None:
            raise ValueError("hand is 'auto', but the model predicts no error to choose by; name 'left' or 'right'")
        # Copy the modules, so that their mode can differ, and share the weights.
        shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
        self.model = model = copy.deepcopy(model, memo=shared)
        self.stages = stages
        self.hand: Hand = hand or model.config.hand
        self.invalid: float | Literal["background"] = invalid
        self.depth_unit = depth_unit
        mirror = turned_views(1, mirrored=True, device=model.mean_pose.device)
        self.register_buffer("mirror", None if self.hand == model.config.hand else mirror)
        if model.error is not None:
            self.outputs = (*self.outputs, "error_mm", *(["left"] if hand == "auto" else []))
        self.eval()

    def forward(self, depth: Tensor, center: Tensor, camera: Tensor) -> tuple[Tensor, ...]:
        """Joints of the hand in each frame.

        Args:
            depth: Depth frames as stored, [B, H, W].
            center: The cube's centre, [B, 3]: u, v in pixels, d in mm.
            camera: fx, fy, cx, cy in pixels, [B, 4].

        Returns:
            tuple[Tensor, ...]: joints [B, J, 3] in mm in the camera frame; uvd [B, J, 3]: u, v in pixels, d in mm; from
                a model with an error head the predicted mean joint error [B] in mm; and with hand "auto" bool [B], True
                for left hands.
        """
        return self._pose(depth, center, camera)

    def _pose(self, depth: Tensor, center: Tensor, camera: Tensor, left: Tensor | None = None) -> tuple[Tensor, ...]:
        """As `forward`; ``left`` [B] is the detector's logit of a left hand, for hand "auto"."""
        if self.hand != "auto":
            return self._one_side(depth, center, camera, self.mirror)
        own, other = (self._one_side(depth, center, camera, mirror) for mirror in (None, self.mirror))
        right_model = self.model.config.hand == "right"
        better = other[2] < own[2]  # [B]
        if left is not None:
            certain = left.abs() >= CERTAIN_SIDE  # not torch.where: ONNX Runtime has none for bool
            better = (certain & ((left > 0) == right_model)) | (~certain & better)
        joints, uvd = (torch.where(better[:, None, None], other[i], own[i]) for i in (0, 1))
        return joints, uvd, torch.where(better, other[2], own[2]), better if right_model else ~better

    def _one_side(self, depth: Tensor, center: Tensor, camera: Tensor, mirror: Tensor | None) -> tuple[Tensor, ...]:
        """The joints of the model's hand, or of the other one through the mirror: as `forward`."""
        config = self.model.config
        crop = ops.depth_crop(
            depth,
            center,
            camera,
            cube=config.cube,
            size=config.image_size,
            transform=None if mirror is None else mirror.expand(depth.shape[0], 2, 3),
            invalid=self.invalid,
            depth_unit=self.depth_unit,
        )
        initial, features = self.model.init(crop), self.model.backbone(crop)
        last = self.model.refine_features(features, initial, self.stages)[-1:]
        pose = (last if mirror is None else mean_of_views(last, mirror))[0]
        uvd = ops.denormalize_pose(pose, center, camera, cube=config.cube)
        joints = uvd_to_xyz(uvd, camera, check=False)
        if self.model.error is None:
            return joints, uvd
        return joints, uvd, self.model.error(crop, features, initial, last[0])

    def program(self, dtype: torch.dtype) -> torch.export.ExportedProgram:
        """The graph as an exported program, for any number of frames of this type, of any size or of `frame_size`."""
        device = self.model.mean_pose.device
        height, width = self.frame_size or (5, 6)
        # Two frames of 5x6 pixels: these sizes differ from all others, so that the exporter does not merge axes.
        example = {
            "depth": torch.full((2, height, width), 500, dtype=dtype, device=device),
            "center": torch.tensor([[3.0, 2.0, 500.0]], dtype=torch.float32, device=device).expand(2, 3).contiguous(),
            "camera": torch.tensor([[500.0, 500.0, 3.0, 2.0]], dtype=torch.float32, device=device)
            .expand(2, 4)
            .contiguous(),
        }
        batch = torch.export.Dim("batch")
        size = {} if self.frame_size else {1: torch.export.Dim("height"), 2: torch.export.Dim("width")}
        shapes = {"depth": {0: batch} | size, "center": {0: batch}, "camera": {0: batch}}
        with torch.no_grad():
            return torch.export.export(
                self,
                tuple(example[name] for name in self.inputs),
                dynamic_shapes=tuple(shapes[name] for name in self.inputs),
            )


class FrameGraph(EstimatorGraph):
    """The estimator together with the centre of the hand: whole depth frames and camera in, joints out.

    The centre is that of :func:`hand_center` over all pixels in a range of depths, then in the cube around it (paper,
    section 3.5). The hand must be the only thing in the range; :class:`DetectionGraph` finds it among other things.

    Args:
        model: The estimator. The graph shares its weights.
        near: Nearest depth of the hand, mm.
        far: Farthest depth of the hand, mm.
        settings: Those of :class:`EstimatorGraph`.

    Raises:
        ValueError: near is not positive or not smaller than far, or a setting is invalid.
    """

    inputs = ("depth", "camera")
    outputs = (*EstimatorGraph.outputs, "center")

    def __init__(self, model: PoseREN, *, near: float, far: float, **settings: Any) -> None:
        super().__init__(model, **settings)
        if not 0 < near < far:
            raise ValueError(f"near is {near} and far {far}; expected 0 < near < far, in mm")
        self.near, self.far = float(near), float(far)

    def forward(self, depth: Tensor, camera: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        """Joints of the hand in each frame.

        Args:
            depth: Depth frames as stored, [B, H, W].
            camera: fx, fy, cx, cy in pixels, [B, 4].

        Returns:
            tuple[Tensor, ...]: joints and uvd as of :class:`EstimatorGraph`; the centre [B, 3]: u, v in pixels, d in
                mm; and the predicted error of a model with an error head. NaN for a frame without a pixel in the range.
        """
        center, _ = ops.hand_center(
            depth,
            near=self.near,
            far=self.far,
            depth_unit=self.depth_unit,
            iterations=CENTER_ITERATIONS,
            cube=self.model.config.cube,
            camera=camera,
        )
        joints, uvd, *others = super().forward(depth, center, camera)
        return joints, uvd, center, *others


class DetectionGraph(EstimatorGraph):
    """The estimator together with the hand detector: whole depth frames and camera in, joints out.

    The hand is the most certain one that :func:`find_hands` finds, and the joints are those of :func:`refine` up to
    rounding. Frames without one have NaN joints, although `refine`, which presumes a hand, takes a less certain one or
    the nearest surface; so do frames whose hand is nearer than 120 mm or farther than 2 m.

    Args:
        model: The estimator. The graph shares its weights.
        frame_size: Height and width of the frames.
        settings: Those of :class:`EstimatorGraph`.

    Raises:
        ValueError: The size is not positive, or a setting is invalid.
    """

    inputs = ("depth", "camera")
    outputs = (*EstimatorGraph.outputs, "center", "score")

    def __init__(self, model: PoseREN, *, frame_size: tuple[int, int], **settings: Any) -> None:
        super().__init__(model, **settings)
        if min(frame_size) < 1:
            raise ValueError(f"frame_size is {frame_size}; expected height and width in pixels")
        self.frame_size = frame_size
        self.strides = reduction(frame_size), reduction(frame_size, VERIFIED_SIDE)
        self.detector = copy.deepcopy(bundled_detector()).to(model.mean_pose.device)

    def forward(self, depth: Tensor, camera: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        """Joints of the most certain hand in each frame.

        Args:
            depth: Depth frames as stored, [B, H, W].
            camera: fx, fy, cx, cy in pixels, [B, 4].

        Returns:
            tuple[Tensor, ...]: joints and uvd as of :class:`EstimatorGraph`; the centre [B, 3]: u, v in pixels, d in
                mm; the score [B] of the detection, 0 to 1; and the predicted error of a model with an error head. All
                but the score are NaN for a score below 0.5, the least of a hand.
        """
        stride, finer = self.strides
        coarse = self._reduced(depth, stride)
        cells = hand_cells(self.detector.proposals, padded(coarse), camera, stride)
        proposals = best_proposals(cells)
        count = proposals.shape[1]
        looks = [self._reduced(depth[:, first:, first:], finer) for first in first_pixels(finer)]
        *looks, cameras = (each.repeat_interleave(count, 0) for each in (*looks, camera))
        seen = verified(self.detector.verifier, proposals[:, :, 1:].flatten(0, 1), looks, cameras, finer)
        seen = seen.view(-1, count * HANDS, seen.shape[1])
        likely = (proposals[:, :, 0] >= LEAST_PROPOSAL).repeat_interleave(HANDS, 1)
        score, best = torch.where(likely, seen[:, :, 0], 0.0).max(1)
        found = seen[:, :, 1:].gather(1, best[:, None, None].expand(-1, 1, 4))[:, 0]
        left, center = found[:, 0], settled(found[:, 1:], coarse, camera, stride)
        distance = center[:, 2]
        valid = (score >= LEAST_SCORE) & (distance >= NEAREST_HAND) & (distance <= FARTHEST_HAND)
        center = torch.where(valid[:, None], center, torch.nan)
        joints, uvd, *others = self._pose(depth, center, camera, left)
        return joints, uvd, center, score, *others

    def _reduced(self, depth: Tensor, stride: int) -> Tensor:
        small = depth.float()[:, ::stride, ::stride] * self.depth_unit
        return torch.where((small > 0) & small.isfinite(), small, 0.0)


def estimator_graph(
    model: PoseREN, depth_range: tuple[float, float] | None, detect: tuple[int, int] | None, **settings: Any
) -> EstimatorGraph:
    """The graph of whole frames with a range of depths (near, far) in mm, or with the detector, or of given centres.

    Raises:
        ValueError: Both a range and detection are asked for, or a setting is invalid.
    """
    if detect is not None:
        if depth_range is not None:
            raise ValueError("detect with a depth_range; pass one of them: each finds the hand in another way")
        return DetectionGraph(model, frame_size=detect, **settings)
    if depth_range is None:
        return EstimatorGraph(model, **settings)
    near, far = depth_range
    return FrameGraph(model, near=near, far=far, **settings)
