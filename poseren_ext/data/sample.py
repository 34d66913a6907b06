# SPDX-License-Identifier: MIT
"""What every dataset gives: one depth frame with its camera, its hand's joints and where the hand is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from poseren_ext.camera import Camera

Hand = Literal["left", "right"]


@dataclass(frozen=True, eq=False)
class Sample:
    """One frame.

    Attributes:
        depth: [H, W] mm, uint16 or float32; 0 where the camera saw nothing.
        camera: intrinsics of the frame.
        joints: float32 [J, 3] mm, camera frame, in the dataset's public order; NaN for a frame without labels.
        uvd: float32 [J, 3], the same joints as u, v (pixels) and d (mm).
        center: float32 [3], the middle of the hand region: u, v (pixels) and z (mm).
        name: the frame's name in the dataset's own lists.
        subject: whose hand it is, as far as the dataset tells.
        hand: which hand the frame shows.
        index: position in the dataset.
    """

    depth: Tensor
    camera: Camera
    joints: Tensor
    uvd: Tensor
    center: Tensor
    name: str
    subject: str
    hand: Hand
    index: int

    def mirrored(self) -> Sample:
        """The frame in a mirror: the other hand, seen by a camera whose principal point is mirrored too."""
        last = self.depth.shape[-1] - 1
        across = self.joints.new_tensor([-1.0, 1.0, 1.0])
        return replace(
            self,
            depth=_flipped(self.depth),
            camera=replace(self.camera, cx=last - self.camera.cx),
            joints=self.joints * across,
            uvd=_mirrored(self.uvd, last),
            center=_mirrored(self.center, last),
            hand="left" if self.hand == "right" else "right",
        )


def _mirrored(uvd: Tensor, last: int) -> Tensor:
    return torch.cat([last - uvd[..., :1], uvd[..., 1:]], -1)


def _flipped(depth: Tensor) -> Tensor:
    # torch flips no uint16; its bits flip as well.
    bits = depth.view(torch.int16) if depth.dtype == torch.uint16 else depth
    return bits.flip(-1).view(depth.dtype)
