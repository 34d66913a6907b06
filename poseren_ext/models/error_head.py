# SPDX-License-Identifier: MIT
"""The error head: predicts how far off, in mm, the joints are that a model gives, and so which hand a frame shows.

It compares the final pose with the depth crop (how far each part of the surface is from the nearest bone, how far each
joint from the surface), with the initial pose, and with the features of the refining backbone.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poseren_ext.geometry.skeleton import PALM_GROUP, Skeleton
from poseren_ext.models.config import STRIDE, ErrorHeadConfig

LARGEST_MM = 150.0
"""Upper bound of predicted errors; larger true errors count as this."""
_CELL = 4  # crop pixels along each side of a cell of the surface map
_REACH = 1 / 3  # distance from a bone, in half edges of the cube, beyond which a surface is not part of a finger
_BOUND = 2.0  # of inputs that compare poses, in half edges of the cube


class ErrorHead(nn.Module):
    """Predicts the mean joint error of a pose from the crop, the features and the poses of the cascade.

    Args:
        config: sizes of the layers.
        skeleton: joints of the poses.
        channels: C, channels of the feature map.
        image_size: S, side of the crop, pixels; a multiple of 16.
    """

    def __init__(self, config: ErrorHeadConfig, skeleton: Skeleton, channels: int, image_size: int) -> None:
        super().__init__()
        self.config = config
        self._groups = _bone_groups(skeleton)
        maps, width, joints = config.channels, config.width, len(skeleton.joints)
        comparisons = 3 * joints + 3 * joints + joints + 3 * joints + len(skeleton.bones)
        cells = (image_size // (2 * STRIDE)) ** 2
        self.surface = nn.Conv2d(2 + len(self._groups), 32, 3, 2, 1)
        self.features = nn.Conv2d(channels, 32, 1)
        self.conv1 = nn.Conv2d(64, maps, 3, 2, 1)
        self.conv2 = nn.Conv2d(maps, maps, 3, 1, 1)
        self.from_maps = nn.Linear(maps * cells, width // 2)
        self.from_poses = nn.Linear(comparisons, width)
        self.hidden = nn.Linear(width + width // 2, width // 2)
        self.output = nn.Linear(width // 2, 1)

    def forward(self, crop: Tensor, features: Tensor, first: Tensor, last: Tensor) -> Tensor:
        """Predicted mean joint errors in mm [B], up to `LARGEST_MM`; NaN for crops of NaN, which have no centre.

        Args:
            crop: depth crops [B, 1, S, S] in [-1, 1].
            features: of the refining backbone [B, C, S/8, S/8].
            first: the cascade's initial pose, normalised [B, J, 3].
            last: its final pose [B, J, 3].
        """
        error = LARGEST_MM * torch.sigmoid(self.score(*self.inputs(crop, first, last), features))
        return torch.where(crop[:, 0, 0, 0].isnan(), torch.nan, error)

    def score(self, surface: Tensor, comparisons: Tensor, features: Tensor) -> Tensor:
        """The logit [B] of the predicted error as a share of `LARGEST_MM`; arguments as `inputs` gives them."""
        logit: Tensor = self.output(self.summary(surface, comparisons, features))[:, 0]
        return logit

    def summary(self, surface: Tensor, comparisons: Tensor, features: Tensor) -> Tensor:
        """The last hidden layer [B, width / 2]; arguments as in `score`."""
        dropout = self.config.dropout
        x = torch.cat([F.relu(self.surface(surface)), F.relu(self.features(features))], 1)
        x = F.relu(self.conv1(x))
        x = F.dropout(F.relu(x + self.conv2(x)).flatten(1), dropout, self.training)
        x = torch.cat([self.from_maps(x), self.from_poses(comparisons)], 1)
        x = F.dropout(F.relu(x), dropout, self.training)
        return F.dropout(F.relu(self.hidden(x)), dropout, self.training)

    def inputs(self, crop: Tensor, first: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
        """What the layers read, besides the features; it has no weights.

        Returns:
            tuple[Tensor, Tensor]: The surface map [B, 2 + G, S/4, S/4]: depth, depth of the nearest bone behind it, and
                nearness of each of G groups of bones; and comparisons of poses and depth [B, N].
        """
        depth = -F.max_pool2d(-crop, _CELL)  # the nearest surface in each cell
        return self._surface_map(depth, last), self._comparisons(crop, depth, first, last)

    def _surface_map(self, depth: Tensor, pose: Tensor) -> Tensor:
        B, _, H, W = depth.shape
        x = ((torch.arange(W, dtype=pose.dtype, device=pose.device) + 0.5) * (2 / W) - 1).expand(H, W)
        y = ((torch.arange(H, dtype=pose.dtype, device=pose.device) + 0.5) * (2 / H) - 1)[:, None].expand(H, W)
        points = torch.cat([torch.stack([x, y]).expand(B, 2, H, W), depth], 1).flatten(2).mT  # [B, H * W, 3]
        a, b = self._bone_ends(pose)
        along = b - a  # [B, M, 3]
        length = (along * along).sum(-1)[:, None]  # squares, [B, 1, M]
        inner = points @ along.mT - (a * along).sum(-1)[:, None]  # of the way from the bone's start, and the bone
        place = (inner / length.clamp(min=1e-6)).clamp(0, 1)  # of the nearest point of each bone, [B, H * W, M]
        start = (points * points).sum(-1)[..., None] - 2 * points @ a.mT + (a * a).sum(-1)[:, None]  # squared distance
        distance = (start + place * (place * length - 2 * inner)).clamp(min=0).sqrt()
        nearest = distance.argmin(-1, keepdim=True)
        depths = (a[:, None, :, 2] + place * along[:, None, :, 2]).gather(2, nearest)[..., 0]
        behind = (depths - points[..., 2]).clamp(-0.5, 0.5) * 3
        sizes = [len(group) for group in self._groups]
        near = [(1 - part.amin(-1) / _REACH).clamp(min=0) for part in torch.split(distance, sizes, -1)]
        return torch.stack([points[..., 2], behind, *near], 1).view(B, -1, H, W)

    def _comparisons(self, crop: Tensor, depth: Tensor, first: Tensor, last: Tensor) -> Tensor:
        move = last - first
        a, b = self._bone_ends(last)
        wide = torch.cat([F.avg_pool2d(crop, _CELL), -F.max_pool2d(-depth, 3, 1, 1)], 1)
        at_joints = [
            F.grid_sample(x, last[:, :, None, :2], padding_mode="border", align_corners=False) for x in (crop, wide)
        ]
        gap = (last[:, None, :, 2] - torch.cat(at_joints, 1)[..., 0]).clamp(-1, 1)  # [B, 3, J]
        parts = (last.flatten(1), move.flatten(1), move.norm(dim=-1), gap.flatten(1), (b - a).norm(dim=-1))
        return torch.cat(parts, 1).clamp(-_BOUND, _BOUND)

    def _bone_ends(self, pose: Tensor) -> tuple[Tensor, Tensor]:
        """Both ends of the M bones, in the order of their groups: [B, M, 3] each."""
        joints, bones = pose.unbind(1), [bone for group in self._groups for bone in group]
        return torch.stack([joints[start] for start, _ in bones], 1), torch.stack([joints[end] for _, end in bones], 1)


def _bone_groups(skeleton: Skeleton) -> list[list[tuple[int, int]]]:
    """The bones of the palm and of each finger; groups without bones are left out."""
    groups: list[list[tuple[int, int]]] = [[] for _ in range(PALM_GROUP + 1)]
    for start, end in skeleton.bones:
        finger = skeleton.finger_of[end]
        groups[finger if skeleton.finger_of[start] == finger else PALM_GROUP].append((start, end))
    return [group for group in groups if group]
