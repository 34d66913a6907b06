# SPDX-License-Identifier: MIT
"""Samples of a dataset: one depth frame with its camera, joints and hand centre, alone and in batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor

from poseren_ext.geometry.camera import Camera

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
        subject: the person whose hand it is, if the dataset states it.
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


@dataclass(frozen=True, eq=False)
class SampleBatch:
    """B samples; see ``Sample``.

    Attributes:
        depth: [B, H, W] mm.
        camera: float32 [B, 4] = fx, fy, cx, cy, pixels.
        joints: float32 [B, J, 3] mm.
        uvd: float32 [B, J, 3] pixels, pixels, mm.
        center: float32 [B, 3] pixels, pixels, mm.
        index: int64 [B], positions in the dataset.
        names: of the frames.
        subjects: of the frames.
        hands: which hand each frame shows.
    """

    depth: Tensor
    camera: Tensor
    joints: Tensor
    uvd: Tensor
    center: Tensor
    index: Tensor
    names: tuple[str, ...]
    subjects: tuple[str, ...]
    hands: tuple[Hand, ...]

    def __len__(self) -> int:
        return len(self.names)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> SampleBatch:
        """The batch on a device."""
        return self._mapped(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> SampleBatch:
        """The batch in page-locked memory; a DataLoader with ``pin_memory=True`` calls this."""
        return self._mapped(Tensor.pin_memory)

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> SampleBatch:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        changed: dict[str, Any] = {name: change(value) for name, value in values.items() if isinstance(value, Tensor)}
        return replace(self, **changed)


def collate(samples: Sequence[Sample]) -> SampleBatch:
    """Samples of one frame size and skeleton as a batch: the ``collate_fn`` of a DataLoader.

    Raises:
        ValueError: There are no samples, or their shapes or depth types differ.
    """
    if not samples:
        raise ValueError("no samples given; expected at least one")
    kinds = {(tuple(sample.depth.shape), sample.depth.dtype, len(sample.joints)) for sample in samples}
    if len(kinds) > 1:
        raise ValueError(
            f"samples of different kinds (frame size, type, joints): {sorted(map(str, kinds))}; expected one"
        )
    return SampleBatch(
        depth=torch.stack([sample.depth for sample in samples]),
        camera=torch.stack([sample.camera.tensor() for sample in samples]),
        joints=torch.stack([sample.joints for sample in samples]),
        uvd=torch.stack([sample.uvd for sample in samples]),
        center=torch.stack([sample.center for sample in samples]),
        index=torch.tensor([sample.index for sample in samples]),
        names=tuple(sample.name for sample in samples),
        subjects=tuple(sample.subject for sample in samples),
        hands=tuple(sample.hand for sample in samples),
    )


def _mirrored(uvd: Tensor, last: int) -> Tensor:
    return torch.cat([last - uvd[..., :1], uvd[..., 1:]], -1)


def _flipped(depth: Tensor) -> Tensor:
    # torch flips no uint16; its bits flip as well.
    bits = depth.view(torch.int16) if depth.dtype == torch.uint16 else depth
    return bits.flip(-1).view(depth.dtype)
