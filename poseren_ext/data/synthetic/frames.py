# SPDX-License-Identifier: MIT
"""Synthetic frames: scenes rendered, sensed, centred and labelled."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch

from poseren_ext.camera import CAMERAS, Camera, xyz_to_uvd
from poseren_ext.data.synthetic.kinematics import Cones
from poseren_ext.data.synthetic.random import Counter
from poseren_ext.data.synthetic.render import render_depth
from poseren_ext.data.synthetic.scene import Scene, sample_scene
from poseren_ext.data.synthetic.sensor import Sensor, add_background, sense

CENTER_ITERATIONS = 2
_SPLIT_SALT = {"train": 0x7261696E, "validation": 0x76616C69, "test": 0x74657374}


@dataclass(frozen=True)
class Tiles:
    """Image windows around B hands, each a virtual camera cut out of the real one's image plane.

    Attributes:
        depth: float32 [B, S, S] mm, 0 where the camera sees nothing.
        center: [B, 3] u, v, mm: the centroid of the hand region as the camera sees it.
        uvd, xyz: [B, 21, 3] joints in pixels and mm, MSRA's order.
        margin: half side of the window, in half edges of the cube.
    """

    depth: torch.Tensor
    center: torch.Tensor
    uvd: torch.Tensor
    xyz: torch.Tensor
    margin: float


@dataclass(frozen=True)
class SyntheticHands:
    """An endless set of synthetic right hands, each frame known by its index.

    Attributes:
        seed: draws everything but the subjects' hands.
        split: "train", "validation" or "test": subjects are never shared.
        difficulty: 0 to 1; only training may be easier than 1.
        camera: intrinsics and frame size.
        cube: half edge of the crop's cube, mm.
        sensor: the camera's faults.
    """

    seed: int
    split: Literal["train", "validation", "test"] = "train"
    difficulty: float = 1.0
    camera: Camera = CAMERAS["sr305"]
    cube: float = 150.0
    sensor: Sensor = field(default_factory=Sensor)

    def counter(self, index: torch.Tensor) -> Counter:
        """The random numbers of the given frames."""
        return Counter(self.seed ^ (_SPLIT_SALT[self.split] << 20), index)

    def scene(self, index: torch.Tensor) -> Scene:
        """The scenes of the given frames (int64 [B])."""
        return sample_scene(self.counter(index), self.split, self.difficulty)

    def tiles(self, index: torch.Tensor, *, size: int = 96, margin: float = 1.0) -> Tiles:
        """Renders only the windows around the hands: [-margin, margin] of the cube's half edge, size x size pixels."""
        rng = self.counter(index)
        xyz, cones = sample_scene(rng, self.split, self.difficulty).posed()
        center, far = self._center(cones, xyz)
        camera = self.camera
        half = margin * self.cube / center[:, 2:]
        slope = (center[:, :2] - center.new_tensor([camera.cx, camera.cy])) / center.new_tensor([camera.fx, camera.fy])
        window = torch.cat([slope - half, (2.0 * half / (size - 1)).expand(-1, 2)], 1)
        clean = render_depth(cones, window, size, size)
        depth = sense(add_background(clean, window, far, rng, self.sensor), rng, self.sensor)
        return Tiles(depth, center, xyz_to_uvd(xyz, camera), xyz, margin)

    def _center(self, cones: Cones, xyz: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Centroid [B, 3] of the visible hand region (as `hand_center` with iterations), and its largest depth [B]."""
        size, half = 64, 400.0
        palm = 0.5 * (xyz[:, 0] + xyz[:, 5])
        reach = half / palm[:, 2:]
        window = torch.cat([palm[:, :2] / palm[:, 2:] - reach, (2 * reach / (size - 1)).expand(-1, 2)], 1)
        depth = render_depth(cones, window, size, size)
        seen = depth.isfinite()
        z = torch.where(seen, depth, 0.0)
        x = (window[:, 0, None] + window[:, 2, None] * torch.arange(size, device=z.device))[:, None, :]
        y = (window[:, 1, None] + window[:, 3, None] * torch.arange(size, device=z.device))[:, :, None]
        keep = seen
        for _ in range(CENTER_ITERATIONS + 1):
            n = keep.sum((1, 2)).clamp(min=1)
            mx, my, mz = ((keep * value).sum((1, 2)) / n for value in (x, y, z))
            reach = self.cube / mz[:, None, None]
            keep = seen & ((x - mx[:, None, None]).abs() <= reach) & ((y - my[:, None, None]).abs() <= reach)
            keep &= (z - mz[:, None, None]).abs() <= self.cube
        camera = self.camera
        center = torch.stack([mx * camera.fx + camera.cx, my * camera.fy + camera.cy, mz], 1)
        return center, z.amax((1, 2))
