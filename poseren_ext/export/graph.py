# SPDX-License-Identifier: MIT
"""The whole estimator as one graph of tensors: depth, centre and camera in, joints out."""

from __future__ import annotations

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
    """Crop, both networks and T stages, without Python's decisions in between: what exporters trace.

    Args:
        model: the estimator; its weights are shared, not copied, and it is put into evaluation mode.
        stages: T, how often to refine.
        operators: "compiled" calls this package's ops; "standard" the same maths in PyTorch's own, with windows as
            gathers, for runtimes that know nothing of us.
        invalid: depth in mm that stands for pixels without depth, or "background", the far side of the cube.
        depth_unit: mm per stored unit.

    Raises:
        ValueError: a negative number of stages.
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
        self.model = model
        self.stages = stages
        self.operators = operators
        self.invalid: float | Literal["background"] = invalid
        self.depth_unit = depth_unit
        self.head = model.head if operators == "compiled" else GatheringHead(model.head)
        self.eval()

    def forward(self, depth: Tensor, center: Tensor, camera: Tensor) -> tuple[Tensor, Tensor]:
        """Joints of the hand in each frame.

        Args:
            depth: [B, H, W] as stored.
            center: [B, 3] u, v (pixels), d (mm): the middle of the cube.
            camera: [B, 4] fx, fy, cx, cy, pixels.

        Returns:
            joints [B, J, 3] in mm, camera frame, and uvd [B, J, 3].
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
    """A region ensemble whose regions are gathers: exact, in operators that every runtime has.

    Args:
        head: whose configuration and parameters it shares.
    """

    def __init__(self, head: RegionEnsemble) -> None:
        nn.Module.__init__(self)
        self.config = head.config
        for name, parameter in head.named_parameters():
            self.register_parameter(name, parameter)

    def regions(self, features: Tensor, pose: Tensor | None = None) -> Tensor:
        """The regions [B, M, C, P, P] that the first layers see; as in :class:`RegionEnsemble`."""
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
        nowhere = (windows[..., 0] < 0)[:, None, :, None, None]
        return torch.where(nowhere, torch.nan, pooled).movedim(1, 2)


def _bins(windows: Tensor, config: HeadConfig, size: int) -> tuple[Tensor, Tensor]:
    """Cells of each bin along both axes, and which of them are in the bin and on the map: two [B, M, 2, P, K].

    Args:
        windows: int64 [B, M, 4]: first column, first row, last column, last row.
        config: the head's.
        size: rows and columns of the map.
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
    """Cells of the widest bin that any window has: rounding makes a window one cell wider at most."""
    P, most = config.cells, -(-config.roi_size // STRIDE) + 2
    return max(-(-(p + 1) * h // P) - p * h // P for h in range(1, most + 1) for p in range(P))
