# SPDX-License-Identifier: MIT
"""The row of Mask R-CNN in table 1: torchvision's keypoint R-CNN on depth crops, with lifted keypoints (section 4.3).

The detector finds joints in the image only; `LiftedKeypoints(KeypointRCNN(network, joints))` is an estimator like any
other. torchvision is the extra `maskrcnn`, imported when a network is built.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from poseren_ext.datasets.sample import FrameBatch

_MARGIN = 4.0  # pixels of a crop between the outermost joints and the box around the hand


def build_keypoint_rcnn(num_joints: int, *, size: int = 96) -> nn.Module:
    """Torchvision's keypoint R-CNN with a ResNet-50-FPN, untrained, for one hand in a depth crop.

    Args:
        num_joints: J.
        size: side of the crops, pixels; the network works at this size, as in the paper.

    Raises:
        ImportError: torchvision is not installed, or its build does not match this torch.
    """
    try:
        from torchvision.models.detection import keypointrcnn_resnet50_fpn
    except (ImportError, OSError, RuntimeError) as error:  # a build for another torch raises any of these
        raise ImportError(
            f"torchvision cannot be imported ({error}); keypoint R-CNN needs the release and the build (CPU or CUDA) "
            f"that go with torch {torch.__version__}: pip install 'poseren_ext[maskrcnn]' from the index that torch "
            "came from"
        ) from error
    network: nn.Module = keypointrcnn_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=2,
        num_keypoints=num_joints,
        min_size=size,
        max_size=size,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        box_detections_per_img=1,
    )
    return network


@dataclass(frozen=True)
class KeypointRCNN:
    """Keypoints of hands by a torchvision detector, for `LiftedKeypoints`.

    Attributes:
        network: called with a list of images [3, S, S] in 0..1; in evaluation mode it returns a dict per image, with
            "scores" [N] and "keypoints" [N, J, 3] of N detections.
        num_joints: J.
        size: S, side of the depth crops, pixels.
    """

    network: nn.Module
    num_joints: int
    size: int = 96

    def images(self, frames: FrameBatch) -> list[Tensor]:
        """Depth crops of the hands in the network's input format: [3, S, S] in 0..1, near to far."""
        return list(((frames.crop(self.size) + 1) / 2).expand(-1, 3, -1, -1))

    def targets(self, frames: FrameBatch, uvd: Tensor) -> list[dict[str, Tensor]]:
        """Training targets of torchvision's detectors: boxes, labels and keypoints of each frame.

        In training mode `network(images, targets)` returns the losses.

        Args:
            frames: B frames.
            uvd: labels [B, J, 3], or [B, J, 2].
        """
        joints = self._to_crop(frames, uvd[..., :2])
        visible = ((joints >= 0) & (joints < self.size)).all(-1, keepdim=True)
        low = (joints.amin(1) - _MARGIN).clamp(0, self.size - 1)
        high = torch.maximum((joints.amax(1) + _MARGIN).clamp(0, self.size), low + 1)
        return [
            {
                "boxes": torch.cat([low[i], high[i]])[None],
                "labels": torch.ones(1, dtype=torch.int64, device=joints.device),
                "keypoints": torch.cat([joints[i], visible[i].to(joints.dtype)], -1)[None],
            }
            for i in range(len(joints))
        ]

    def __call__(self, frames: FrameBatch) -> Tensor:
        """Keypoints u, v [B, J, 2] of the best detection in each frame.

        In frames without a detection all joints are put at the centre of the hand, because every frame counts in an
        evaluation. A warning reports the number of such frames.
        """
        self.network.eval()
        with torch.inference_mode():
            found: Sequence[dict[str, Tensor]] = self.network(self.images(frames))
        middle = torch.full((self.num_joints, 2), self.size / 2, dtype=torch.float32, device=frames.depth.device)
        joints = [one["keypoints"][one["scores"].argmax(), :, :2] if len(one["scores"]) else middle for one in found]
        missed = sum(len(one["scores"]) == 0 for one in found)
        if missed:
            warnings.warn(
                f"no hand detected in {missed} of {len(found)} frames: their joints are put at the centre", stacklevel=2
            )
        return self._to_image(frames, torch.stack(joints))

    # torchvision's origin is the corner of the image, so the centre of its first pixel is at 0.5. The first and last
    # pixels of a crop sample the edges of the cube, where normalised coordinates are -1 and 1.
    def _to_image(self, frames: FrameBatch, joints: Tensor) -> Tensor:
        normalized = 2 * (joints - 0.5) / (self.size - 1) - 1
        flat = torch.cat([normalized, torch.zeros_like(normalized[..., :1])], -1)
        return frames.to_uvd(flat)[..., :2]

    def _to_crop(self, frames: FrameBatch, uv: Tensor) -> Tensor:
        depth = frames.center[:, None, 2:].expand(-1, uv.shape[1], 1)
        normalized = frames.normalized(torch.cat([uv.to(depth), depth], -1))[..., :2]
        return (normalized + 1) * (self.size - 1) / 2 + 0.5
