# SPDX-License-Identifier: MIT
"""An estimator for streams on a GPU: everything from the depth frame to the joints as one CUDA graph."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from poseren_ext import ops
from poseren_ext._utils.cuda_graph import CapturedCall
from poseren_ext.geometry.crop_transforms import mean_of_views
from poseren_ext.inference.estimator import CENTER_ITERATIONS, Estimator
from poseren_ext.inference.hand_pose import HandPose
from poseren_ext.inference.input_frames import DEPTH_DTYPES, check_camera, read_frames


class CapturedEstimator:
    """An :class:`Estimator`'s work on frames of one size, captured once: a call is a copy and one replay.

    It owns every buffer between the frame and the joints; a call allocates nothing and waits for nothing.

    Args:
        estimator: on a GPU, for one hand ("auto" would have to choose between two).
        shape: of the frames, [B, H, W] or [H, W].
        dtype: of the frames.
        near: nearest depth of the hand, mm.
        far: farthest depth of the hand, mm. The centre is the centre of mass of all pixels from near to far.
        iterations: number of times that the centre is recomputed inside the cube around the last one.

    Raises:
        ValueError: the estimator is on the CPU or has hand "auto", the shape is invalid, near is not smaller than far,
            or the camera does not fit the frames.
        TypeError: dtype is not a depth type.
    """

    def __init__(
        self,
        estimator: Estimator,
        shape: Sequence[int],
        dtype: torch.dtype = torch.uint16,
        *,
        near: float,
        far: float,
        iterations: int = CENTER_ITERATIONS,
    ) -> None:
        if estimator.device.type != "cuda":
            raise ValueError(
                f"the model is on {estimator.device}; expected a GPU: a CUDA graph holds its work. Move the model "
                "there (model.cuda()), or call the estimator itself"
            )
        if estimator.hand == "auto":
            raise ValueError("hand is 'auto'; expected 'left' or 'right': a graph does the same work on every frame")
        if len(shape) not in (2, 3) or min(shape) < 1:
            raise ValueError(f"shape is {tuple(shape)}; expected [B, H, W] or [H, W] of the frames")
        if dtype not in DEPTH_DTYPES:
            raise TypeError(f"dtype is {dtype}; expected one of {', '.join(map(str, DEPTH_DTYPES))}")
        if not 0 < near < far:
            raise ValueError(f"near is {near} and far {far}; expected 0 < near < far, in mm")
        self.estimator = estimator
        self._near, self._far, self._iterations = float(near), float(far), iterations
        self._frames = read_frames(torch.zeros(*shape, dtype=dtype, device=estimator.device), estimator.device)
        check_camera(estimator.camera, self._frames)
        self._pinned = torch.zeros(self._frames.depth.shape, dtype=dtype, pin_memory=True)
        self._sent = torch.cuda.Event()  # type: ignore[no-untyped-call]  # the last frame has left the pinned memory
        fx, fy, cx, cy = (float(value) for value in estimator.intrinsics)
        device, cube = estimator.device, estimator.cube
        self._extent = torch.tensor([fx * cube, fy * cube, cube], dtype=torch.float32, device=device)
        self._principal = torch.tensor([cx, cy, 0.0], dtype=torch.float32, device=device)
        self._slope = torch.tensor([1 / fx, 1 / fy, 1.0], dtype=torch.float32, device=device)
        self._across = torch.tensor([True, True, False], device=device)
        with torch.inference_mode():
            self._captured = CapturedCall(self._pose, warm_up=3)

    def _pose(self) -> HandPose:
        estimator = self.estimator
        centers, _ = ops.hand_center(
            self._frames.depth,
            near=self._near,
            far=self._far,
            depth_unit=estimator.depth_unit,
            iterations=self._iterations,
            cube=estimator.cube,
            camera=estimator.intrinsics,
        )
        views = estimator.views(estimator.hand)
        crops = estimator.crop(self._frames.depth, centers, views)
        poses, run, error = estimator.model.refine(crops, None, estimator.stages)
        final = poses[-1:]
        if views is not None:
            final, run = mean_of_views(final, views), run.view(len(views), -1).amax(0)
            error = None if error is None else error.view(len(views), -1).mean(0)
        joints, uvd = self._in_camera(final[0], centers)
        hands = (estimator.hand,) * len(centers)
        like = self._frames.like
        skeleton, error = estimator.model.skeleton, None if error is None else like(error)
        return HandPose(like(joints), like(uvd), like(centers), None, like(run), hands, skeleton, error)

    def _in_camera(self, pose: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
        """Joints of a normalised pose in mm and in uvd, [B, J, 3] each.

        `denormalize_pose` and `uvd_to_xyz` in eight kernels instead of thirty: for one frame a kernel's start is what
        counts.
        """
        # u and v are spread by f c / z, d by c; x and y by d / f.
        extent = self._extent / torch.where(self._across, centers[:, 2:], 1.0)
        uvd = torch.addcmul(centers[:, None], pose, extent[:, None])
        seen = torch.where(uvd[..., 2:] > 0, uvd, torch.nan)
        return (seen - self._principal) * torch.where(self._across, seen[..., 2:] * self._slope, 1.0), uvd

    @torch.inference_mode()
    def __call__(self, depth: object) -> HandPose:
        """The hand's pose in each frame: tensors on the GPU that the next call overwrites; clone what is to stay.

        A frame without a pixel between near and far has NaN joints; others in the batch are not touched. The call
        returns before the GPU is done; frames on the host go through pinned memory of the estimator's own.

        Args:
            depth: a tensor or an array of the shape and dtype that were captured.

        Raises:
            TypeError: depth is not an array or tensor of a depth dtype.
            ValueError: depth has another shape or dtype than the captured one.
        """
        given = read_frames(depth, depth.device if isinstance(depth, Tensor) else torch.device("cpu")).depth
        own = self._frames.depth
        if given.shape != own.shape or given.dtype != own.dtype:
            raise ValueError(
                f"depth has shape {tuple(given.shape)} and dtype {given.dtype}; expected {tuple(own.shape)} and "
                f"{own.dtype}, as captured: capture again for others"
            )
        if given.device.type == "cpu":
            self._sent.synchronize()
            self._pinned.copy_(given)
            own.copy_(self._pinned, non_blocking=True)
            self._sent.record()
        else:
            own.copy_(given)
        return self._captured.replay()
