# SPDX-License-Identifier: MIT
"""The whole estimator as one graph of tensors: depth, centre and camera in, joints out."""

from __future__ import annotations

import copy
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from poseren_ext import ops, reference
from poseren_ext.geometry.camera import uvd_to_xyz
from poseren_ext.models import STRIDE, HeadConfig, PoseREN, RegionEnsemble

Operators: TypeAlias = Literal["compiled", "standard"]

INPUTS = ("depth", "center", "camera")
OUTPUTS = ("joints", "uvd")


class EstimatorGraph(nn.Module):
    """Crop, both networks and T stages as one function of tensors without data-dependent control flow, for exporters.

    The graph is in evaluation mode. The model's own mode stays as it is.

    Args:
        model: The estimator. The graph shares its weights.
        stages: T, the number of refinement stages.
        operators: "compiled" calls the compiled operators of this package. "standard" computes the same with operators
            of PyTorch only, for runtimes without this package; regions are then pooled with gathers.
        invalid: Depth in mm that replaces pixels without depth, or "background", the far face of the cube.
        depth_unit: mm per stored unit.

    Raises:
        ValueError: The number of stages is negative.
    """

    def __init__(
        self,
        model: PoseREN,
        *,
        stages: int = 3,
        operators: Operators = "standard",
        invalid: float | Literal["background"] = "background",
        depth_unit: float = 1.0,
    ) -> None:
        super().__init__()
        if stages < 0:
            raise ValueError(f"stages is {stages}; expected 0 or more")
        # Copy the modules, so that their mode can differ, and share the weights.
        shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
        self.model = model = copy.deepcopy(model, memo=shared)
        self.stages = stages
        self.operators = operators
        self.invalid: float | Literal["background"] = invalid
        self.depth_unit = depth_unit
        self.head = model.head if operators == "compiled" else GatheringHead(model.head)
        self.eval()

    def forward(self, depth: Tensor, center: Tensor, camera: Tensor) -> tuple[Tensor, Tensor]:
        """Joints of the hand in each frame.

        Args:
            depth: Depth frames as stored, [B, H, W].
            center: The cube's centre, [B, 3]: u, v in pixels, d in mm.
            camera: fx, fy, cx, cy in pixels, [B, 4].

        Returns:
            joints [B, J, 3] in mm in the camera frame, and uvd [B, J, 3]: u, v in pixels, d in mm.
        """
        backend = ops if self.operators == "compiled" else reference
        config = self.model.config
        crop = backend.depth_crop(
            depth,
            center,
            camera,
            cube=config.cube,
            size=config.image_size,
            invalid=self.invalid,
            depth_unit=self.depth_unit,
        )
        pose = self.model.init(crop)
        features = self.model.backbone(crop)
        if self.operators == "compiled":
            pose = ops.cascade_refine(features, pose, self.head, stages=self.stages)[0][-1]
        else:
            for _ in range(self.stages):
                pose = self.head(features, pose)
        uvd = backend.denormalize_pose(pose, center, camera, cube=config.cube)
        return uvd_to_xyz(uvd, camera, check=False), uvd


class GatheringHead(RegionEnsemble):
    """A region ensemble that pools its regions with gathers: the same values, with operators that every runtime has.

    Args:
        head: The head whose configuration and parameters it shares.
    """

    def __init__(self, head: RegionEnsemble) -> None:
        nn.Module.__init__(self)
        self.config = head.config
        for name, parameter in head.named_parameters():
            self.register_parameter(name, parameter)

    def regions(self, features: Tensor, pose: Tensor | None = None) -> Tensor:
        """The regions [B, M, C, P, P] as inputs of the first layers; as in :class:`RegionEnsemble`."""
        config = self.config
        if config.grid or pose is None:
            return super().regions(features, pose)
        if config.mode == "align":
            sizes = {"output_size": config.cells, "image_size": config.image_size, "roi_size": config.roi_size}
            return reference.pose_roi_pool(features, pose, config.joints, **sizes, mode="align")
        windows = reference.roi_windows(
            pose, config.joints, image_size=config.image_size, roi_size=config.roi_size, spatial_scale=1 / STRIDE
        ).long()
        B, C, H, W = features.shape
        cells, inside = _bins(windows, config, H)  # [B, M, 2, P, K]: of columns, of rows
        cells = cells[:, :, 1, :, None, :, None] * W + cells[:, :, 0, None, :, None, :]  # [B, M, P, P, K, K]
        inside = inside[:, :, 1, :, None, :, None] & inside[:, :, 0, None, :, None, :]
        M, P = len(config.joints), config.cells
        index = cells.reshape(B, 1, -1).expand(B, C, -1)
        values = features.flatten(2).gather(2, index).reshape(B, C, M, P, P, -1)
        inside = inside.reshape(B, 1, M, P, P, -1)
        pooled = torch.where(inside, values, -torch.inf).amax(-1)
        pooled = torch.where(inside.any(-1), pooled, 0)
        invalid = (windows[..., 0] < 0)[:, None, :, None, None]
        return torch.where(invalid, torch.nan, pooled).movedim(1, 2)


def _bins(windows: Tensor, config: HeadConfig, size: int) -> tuple[Tensor, Tensor]:
    """Cells of each bin along both axes, and a mask of those in the bin and on the map: two [B, M, 2, P, K].

    Args:
        windows: First column, first row, last column, last row: int64 [B, M, 4].
        config: The head's configuration.
        size: Rows and columns of the map.
    """
    P = config.cells
    first, last = windows[..., :2, None], windows[..., 2:, None]
    bins = torch.arange(P, device=windows.device)
    extent = last - first + 1
    low = first + bins * extent // P
    high = first + ((bins + 1) * extent + P - 1) // P
    cells = low[..., None] + torch.arange(_widest_bin(config), device=windows.device)
    inside = (cells >= 0) & (cells < high[..., None]) & (cells < size)
    return cells.clamp(0, size - 1), inside


def _widest_bin(config: HeadConfig) -> int:
    """Number of cells of the widest bin of any window; rounding makes a window at most one cell wider."""
    P, most = config.cells, -(-config.roi_size // STRIDE) + 2
    return max(-(-(p + 1) * h // P) - p * h // P for h in range(1, most + 1) for p in range(P))
