# SPDX-License-Identifier: MIT
"""Synthetic frames: scenes rendered, sensed, centred and labelled."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import torch

from poseren_ext._utils.counter_rng import Counter
from poseren_ext.datasets.sample import FrameBatch
from poseren_ext.geometry.camera import CAMERAS, Camera, xyz_to_uvd
from poseren_ext.ops import hand_center
from poseren_ext.synthetic.conventions import convert_joints
from poseren_ext.synthetic.kinematics import Cones
from poseren_ext.synthetic.render import render_depth
from poseren_ext.synthetic.scene import SUBJECTS, Scene, blend_scenes, sample_scene
from poseren_ext.synthetic.sensor import Sensor, add_background, sense

CENTER_ITERATIONS = 2
"""Number of refinements of the centre inside the cube; without them, a long forearm shifts it away from the hand."""

_SPLIT_SALT = {"train": 0x7261696E, "validation": 0x76616C69, "test": 0x74657374}
_NOISE = 15.0  # mm: largest noise of a depth
_SCOUT_SIZE, _SCOUT_REACH = 64, 400.0  # pixels, mm: the coarse image that the centre is taken from


@dataclass(frozen=True)
class SyntheticHands:
    """An endless set of synthetic right hands; a frame is determined by its index, whatever the batch.

    Attributes:
        seed: random seed of everything except the hands of the subjects.
        split: "train", "validation" or "test"; no subject is in two splits.
        difficulty: 0 to 1, range of rotations out of the image plane; only the training split may have less than 1.
        skeleton: skeleton of the joints, key of `SKELETONS`.
        camera: intrinsics and frame size.
        cube: half edge of the cube in which the centre is refined, mm.
        sensor: faults of the camera.
        open_share: fraction of the frames that show a flat open hand (`sample_angles`); 0 in the test splits.

    Raises:
        ValueError: The split is unknown, or difficulty is below 1 for a split other than "train".
    """

    seed: int
    split: Literal["train", "validation", "test"] = "train"
    difficulty: float = 1.0
    skeleton: str = "msra21"
    camera: Camera = CAMERAS["sr305"]
    cube: float = 150.0
    sensor: Sensor = field(default_factory=Sensor)
    open_share: float = 0.0

    def __post_init__(self) -> None:
        if self.split not in SUBJECTS:
            raise ValueError(f"split is {self.split!r}; expected one of {', '.join(SUBJECTS)}")
        if not 0.0 <= self.difficulty <= 1.0 or (self.difficulty < 1.0 and self.split != "train"):
            raise ValueError(f"difficulty is {self.difficulty} for {self.split}; expected 1, or 0 to 1 for training")

    def scenes(self, index: torch.Tensor) -> Scene:
        """Positions and articulations of the hands in the given frames (int64 [B])."""
        return sample_scene(self._counter(index), self.split, self.difficulty, self.open_share)

    def tiles(self, index: torch.Tensor, *, size: int = 96, margin: float = 1.0) -> FrameBatch:
        """Only the windows around the hands.

        The centre is `hand_center` of the visible hand and forearm, refined inside the cube.

        Args:
            index: int64 [B], indices of the frames.
            size: side of a window, pixels.
            margin: half side of a window in half edges of the cube; 1 makes the window as large as the cube.
        """
        cones, xyz = self._posed(index)
        center = self._center(cones, xyz)  # x, y, z in mm
        window = tile_window(center, self.cube, size, margin)
        return self._render(index, cones, xyz, center, window, (size, size))

    def frames(self, index: torch.Tensor) -> FrameBatch:
        """Whole camera frames; centres (as of `tiles`) are computed from the images with noise, holes and borders.

        Memory: about 20 MB per frame of 640x480 during rendering.

        Raises:
            ValueError: The camera has no size.
        """
        window, shape = camera_window(self.camera, len(index), index.device)
        cones, xyz = self._posed(index)
        frames = self._render(index, cones, xyz, xyz[:, 0], window, shape)
        hand = frames.depth <= far_end(cones)[:, None, None]
        center = centroid(frames.depth, frames.camera, self.cube, mask=hand)
        return replace(frames, center=center)

    def farthest(self, index: torch.Tensor) -> torch.Tensor:
        """Largest depth of each hand and its forearm, with the noise of the camera: [B] mm."""
        return far_end(self._posed(index)[0])

    def _counter(self, index: torch.Tensor) -> Counter:
        return Counter(self.seed ^ (_SPLIT_SALT[self.split] << 20), index)

    def _looks(self, index: torch.Tensor) -> Counter:
        """Random numbers of the background and the sensor parameters, constant within a sequence."""
        return self._counter(index)

    def _posed(self, index: torch.Tensor) -> tuple[Cones, torch.Tensor]:
        """Surface, and joints [B, 21, 3] of MSRA, camera mm."""
        xyz, cones = self.scenes(index).posed()
        return cones, xyz

    def _render(
        self,
        index: torch.Tensor,
        cones: Cones,
        xyz: torch.Tensor,
        center: torch.Tensor,
        window: torch.Tensor,
        shape: tuple[int, int],
    ) -> FrameBatch:
        """Frames [B, H, W] seen through windows [B, 4]; joints [B, 21, 3] and centres [B, 3] in camera mm."""
        looks, pixels = self._looks(index), self._counter(index)
        far = cones.farthest()
        depth = render_depth(cones, window, *shape)
        depth = sense(add_background(depth, window, far, looks, self.sensor), looks, pixels, self.sensor)
        camera = window_camera(window)
        joints = convert_joints(xyz, self.skeleton)
        uvd = xyz_to_uvd(joints, camera, check=False)
        return FrameBatch(depth, camera, xyz_to_uvd(center, camera), uvd, index, self.cube)

    def _center(self, cones: Cones, xyz: torch.Tensor) -> torch.Tensor:
        """Centre [B, 3] of hand and forearm, camera mm, from a coarse image without background."""
        palm = 0.5 * (xyz[:, 0] + xyz[:, 5])
        reach = _SCOUT_REACH / palm[:, 2:]
        step = (2.0 * reach / (_SCOUT_SIZE - 1)).expand(-1, 2)
        window = torch.cat([palm[:, :2] / palm[:, 2:] - reach, step], 1)
        depth = render_depth(cones, window, _SCOUT_SIZE, _SCOUT_SIZE)
        camera = window_camera(window)
        center = centroid(torch.where(depth.isfinite(), depth, 0.0), camera, self.cube)
        xy = (center[:, :2] - camera[:, 2:]) / camera[:, :2] * center[:, 2:]
        return torch.cat([xy, center[:, 2:]], 1)


def far_end(cones: Cones) -> torch.Tensor:
    """Largest depth of hands and forearms as cameras measure it: [B] mm."""
    return cones.farthest() + _NOISE


def centroid(depth: torch.Tensor, camera: torch.Tensor, cube: float, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Centre [B, 3] (u, v, mm) of what is seen in frames [B, H, W]."""
    return hand_center(depth, near=1.0, far=1e5, mask=mask, iterations=CENTER_ITERATIONS, cube=cube, camera=camera)[0]


def tile_window(center: torch.Tensor, cube: float, size: int, margin: float) -> torch.Tensor:
    """Windows [B, 4] of size x size pixels around centres [B, 3] in camera mm; see `SyntheticHands.tiles`."""
    half = margin * cube / center[:, 2:]
    return torch.cat([center[:, :2] / center[:, 2:] - half, (2.0 * half / (size - 1)).expand(-1, 2)], 1)


def camera_window(camera: Camera, count: int, device: torch.device) -> tuple[torch.Tensor, tuple[int, int]]:
    """Windows [B, 4] of whole camera frames, and their height and width.

    Raises:
        ValueError: The camera has no size.
    """
    if camera.width is None or camera.height is None:
        raise ValueError("the camera has no width and height; give them to render whole frames")
    step = torch.tensor([1.0 / camera.fx, 1.0 / camera.fy], dtype=torch.float32, device=device)
    window = torch.cat([-step * step.new_tensor([camera.cx, camera.cy]), step]).expand(count, 4)
    return window, (camera.height, camera.width)


def window_camera(window: torch.Tensor) -> torch.Tensor:
    """fx, fy, cx, cy [B, 4] of windows [B, 4] (`render.render_depth`)."""
    focal = 1.0 / window[:, 2:]
    return torch.cat([focal, -window[:, :2] * focal], 1)


@dataclass(frozen=True)
class SyntheticSequence(SyntheticHands):
    """One hand that moves smoothly between randomly drawn poses, easing in and out.

    Attributes:
        number: index of the sequence for this seed.
        every: number of frames from one drawn pose to the next.
    """

    number: int = 0
    every: int = 20

    def scenes(self, index: torch.Tensor) -> Scene:
        """The scenes of the given frames (int64 [B]) of the sequence."""
        key = index // self.every
        fraction = (index % self.every).float() / self.every
        whole = super().scenes(torch.full_like(index, self._first))
        before, after = (super(SyntheticSequence, self).scenes(self._first + 1 + k) for k in (key, key + 1))
        return blend_scenes(whole, before, after, fraction * fraction * (3.0 - 2.0 * fraction))

    @property
    def _first(self) -> int:
        """Index of the frame that the sequence's subject, place and background are taken from."""
        return (1 << 40) + (self.number << 20)

    def _counter(self, index: torch.Tensor) -> Counter:
        # The noise of pixels uses other numbers than that of single frames.
        return super()._counter(torch.where(index < (1 << 40), index + self._first + (1 << 60), index))

    def _looks(self, index: torch.Tensor) -> Counter:
        return super()._counter(torch.full_like(index, self._first))
