# SPDX-License-Identifier: MIT
"""Depth frames with camera, hand centre and joints: one frame of a dataset, and the batch of frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor

from poseren_ext.geometry.camera import Camera, uvd_to_xyz
from poseren_ext.ops import denormalize_pose, depth_crop, normalize_pose

Hand = Literal["left", "right"]


@dataclass(frozen=True, eq=False)
class Sample:
    """One frame.

    Attributes:
        depth: [H, W] mm, uint16 or float32; 0 where the camera saw nothing.
        camera: intrinsics of the frame.
        uvd: float32 [J, 3], joints as u, v (pixels) and d (mm), in the dataset's public order; NaN without labels.
        center: float32 [3], the middle of the hand region: u, v (pixels) and z (mm).
        name: the frame's name in the dataset's own lists.
        subject: the person whose hand it is, if the dataset states it.
        hand: which hand the frame shows.
        index: position in the dataset.
    """

    depth: Tensor
    camera: Camera
    uvd: Tensor
    center: Tensor
    name: str
    subject: str
    hand: Hand
    index: int

    @property
    def xyz(self) -> Tensor:
        """The joints in the camera frame, float32 [J, 3] mm."""
        return uvd_to_xyz(self.uvd.double(), self.camera, check=False).float()

    def mirrored(self) -> Sample:
        """The frame in a mirror: the other hand, seen by a camera whose principal point is mirrored too."""
        last = self.depth.shape[-1] - 1
        return replace(
            self,
            depth=_flipped(self.depth),
            camera=replace(self.camera, cx=last - self.camera.cx),
            uvd=_mirrored(self.uvd, last),
            center=_mirrored(self.center, last),
            hand="left" if self.hand == "right" else "right",
        )


@dataclass(frozen=True, eq=False)
class FrameBatch:
    """B depth frames, each with its camera and the centre of a hand: of a dataset, synthetic, or any others.

    Attributes:
        depth: [B, H, W], uint16 or floating point, in units of ``depth_unit``; 0 where the camera saw nothing.
        camera: [B, 4] fx, fy, cx, cy, pixels.
        center: [B, 3] u, v (pixels), d (mm): the middle of each cube.
        uvd: joints [B, J, 3] u, v (pixels), d (mm); NaN where they are not known.
        index: int64 [B], positions in the dataset.
        cube: half edge of the cubes, mm.
        depth_unit: mm.
        names: of the frames of a dataset; else empty.
        subjects: likewise.
        hands: which hand each frame shows; likewise.
    """

    depth: Tensor
    camera: Tensor
    center: Tensor
    uvd: Tensor
    index: Tensor
    cube: float = 150.0
    depth_unit: float = 1.0
    names: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    hands: tuple[Hand, ...] = ()

    def __len__(self) -> int:
        return len(self.depth)

    def __getitem__(self, chosen: Tensor | slice) -> FrameBatch:
        """The frames at these positions (int64 [N])."""

        def part(value: object) -> object:
            if isinstance(value, Tensor):
                return taken(value, chosen)
            if isinstance(value, tuple) and value:
                return value[chosen] if isinstance(chosen, slice) else tuple(value[i] for i in chosen.tolist())
            return value

        return self._mapped(part)

    @property
    def xyz(self) -> Tensor:
        """The joints in the camera frame, float32 [B, J, 3] mm."""
        return uvd_to_xyz(self.uvd.double(), self.camera.double(), check=False).float()

    def crop(self, size: int, transform: Tensor | None = None) -> Tensor:
        """Normalised depth crops [B, 1, size, size], with optional transforms [B, 2, 3]; see ``ops.depth_crop``."""
        return depth_crop(
            self.depth,
            self.center,
            self.camera,
            cube=self.cube,
            size=size,
            transform=transform,
            depth_unit=self.depth_unit,
        )

    def poses(self, chosen: Tensor) -> Tensor:
        """Normalised joints [N, J, 3] of the frames at these positions (int64 [N]); their depth is not read."""
        uvd, center, camera = (taken(value, chosen) for value in (self.uvd, self.center, self.camera))
        return normalize_pose(uvd, center, camera, cube=self.cube)

    def normalized(self, uvd: Tensor) -> Tensor:
        """Joints u, v, d [B, J, 3] as normalised poses; see ``ops.normalize_pose``."""
        return normalize_pose(uvd, self.center, self.camera, cube=self.cube)

    def to_uvd(self, pose: Tensor) -> Tensor:
        """Normalised poses [B, J, 3] as u, v, d: the inverse of ``normalized``."""
        return denormalize_pose(pose, self.center, self.camera, cube=self.cube)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> FrameBatch:
        """The batch on a device."""
        return self._mapped(
            lambda value: value.to(device, non_blocking=non_blocking) if isinstance(value, Tensor) else value
        )

    def pin_memory(self) -> FrameBatch:
        """The batch in page-locked memory; a DataLoader with ``pin_memory=True`` calls this."""
        return self._mapped(lambda value: value.pin_memory() if isinstance(value, Tensor) else value)

    def _mapped(self, change: Callable[[Any], Any]) -> FrameBatch:
        return replace(self, **{field.name: change(getattr(self, field.name)) for field in fields(self)})


def collate(samples: Sequence[Sample]) -> FrameBatch:
    """Samples of one frame size and skeleton as a batch: the ``collate_fn`` of a DataLoader.

    Raises:
        ValueError: There are no samples, or their shapes or depth types differ.
    """
    if not samples:
        raise ValueError("no samples given; expected at least one")
    kinds = {(tuple(sample.depth.shape), sample.depth.dtype, len(sample.uvd)) for sample in samples}
    if len(kinds) > 1:
        raise ValueError(
            f"samples of different kinds (frame size, type, joints): {sorted(map(str, kinds))}; expected one"
        )
    return FrameBatch(
        depth=torch.stack([sample.depth for sample in samples]),
        camera=torch.stack([sample.camera.tensor() for sample in samples]),
        center=torch.stack([sample.center for sample in samples]),
        uvd=torch.stack([sample.uvd for sample in samples]),
        index=torch.tensor([sample.index for sample in samples]),
        names=tuple(sample.name for sample in samples),
        subjects=tuple(sample.subject for sample in samples),
        hands=tuple(sample.hand for sample in samples),
    )


def taken(rows: Tensor, chosen: Tensor | slice) -> Tensor:
    """``rows[chosen]``; torch indexes no uint16, so its bits are taken."""
    if rows.dtype == torch.uint16:
        return taken(rows.view(torch.int16), chosen).view(torch.uint16)
    return rows[chosen] if isinstance(chosen, slice) else rows.index_select(0, chosen.to(rows.device))


def _mirrored(uvd: Tensor, last: int) -> Tensor:
    return torch.cat([last - uvd[..., :1], uvd[..., 1:]], -1)


def _flipped(depth: Tensor) -> Tensor:
    # torch flips no uint16; its bits flip as well.
    bits = depth.view(torch.int16) if depth.dtype == torch.uint16 else depth
    return bits.flip(-1).view(depth.dtype)
