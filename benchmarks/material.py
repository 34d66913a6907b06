# SPDX-License-Identifier: MIT
"""Inputs of the comparisons, made once per run: depth frames, the fitted model, its packed heads."""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.fitting import fit_cascade, fit_initial
from benchmarks.settings import Settings
from benchmarks.trajectory import Trajectories, load_trajectories
from poseren_ext import ops
from poseren_ext.geometry.camera import CAMERAS
from poseren_ext.geometry.skeleton import SKELETONS
from poseren_ext.models import Backbone, HeadConfig, InitCNN, PoseREN, RegionEnsemble, initialize
from poseren_ext.ops import PackedHead

CAMERA = CAMERAS["nyu"]
NEAR, FAR = 400.0, 1100.0
"""Depth range in mm of the hands in the frames; nothing else lies in it."""
DTYPES = ("float32", "bfloat16", "int8")


_Made = TypeVar("_Made")


def _plain(make: Callable[[Any], _Made]) -> Callable[[Any], _Made]:
    """Decorates a method that makes tensors: they record no gradient and are never inference tensors."""

    @functools.wraps(make)
    def call(material: Any) -> _Made:
        with torch.inference_mode(False), torch.no_grad():
            return make(material)

    return call


class Material:
    """Depth frames and a full-size estimator of NYU's 14 joints, both random; only the last layers are fitted.

    Args:
        settings: settings of the run.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.skeleton = SKELETONS["nyu14"]
        self.heads: dict[str, PackedHead] = {}

    @cached_property
    @_plain
    def frames(self) -> Tensor:
        """uint16 [N, 480, 640] mm, see :func:`draw_frames`."""
        return draw_frames(self.settings.frames, 480, 640).to(self.settings.device)

    @cached_property
    @_plain
    def centers(self) -> Tensor:
        """Centres [N, 3] of the hands in the frames."""
        return ops.hand_center(self.frames, near=NEAR, far=FAR)[0]

    @cached_property
    @_plain
    def crops(self) -> Tensor:
        """[N, 1, 96, 96]."""
        return ops.depth_crop(self.frames, self.centers, CAMERA)

    @cached_property
    def trajectories(self) -> Trajectories:
        """Initial and final pose of the cascade for each frame."""
        return load_trajectories(self.settings.frames)

    @cached_property
    @_plain
    def features(self) -> Tensor:
        """[N, 64, 12, 12] of the refining backbone."""
        features: Tensor = self.model.backbone(self.crops)
        return features.contiguous()

    @cached_property
    @_plain
    def initial(self) -> Tensor:
        """Initial poses of the Init-CNN [N, J, 3]."""
        pose: Tensor = self.model.init(self.crops)
        return pose

    @cached_property
    @_plain
    def model(self) -> PoseREN:
        """The estimator: random, with last layers fitted to the published poses."""
        torch.manual_seed(3)
        model = PoseREN(
            InitCNN(Backbone(), RegionEnsemble(HeadConfig.init_cnn(self.skeleton, widths=self.settings.widths))),
            Backbone(),
            RegionEnsemble(HeadConfig.pose_ren(self.skeleton, widths=self.settings.widths)),
            self.skeleton,
        )
        initialize(model, fully_connected="he")
        model = model.to(self.settings.device).eval()
        poses = self.trajectories.targets(model.head.config).to(self.settings.device)
        fit_initial(model.init.head, model.init.backbone(self.crops), poses[0])
        fit_cascade(model.head, model.backbone(self.crops), poses)
        return model

    def head(self, dtype: str) -> PackedHead:
        """The refining head, packed."""
        if dtype not in self.heads:
            self.heads[dtype] = ops.pack_head(self.model.head, dtype)  # type: ignore[arg-type]
        return self.heads[dtype]

    def repeated(self, values: Tensor, batch: int) -> list[Tensor]:
        """Split N values into input sets of `batch`, used in turn; a larger batch repeats the values."""
        if batch >= len(values):
            return [values.repeat(-(-batch // len(values)), *[1] * (values.dim() - 1))[:batch]]
        return list(torch.split(values[: len(values) // batch * batch], batch))


def draw_frames(count: int, height: int, width: int, *, seed: int = 1) -> Tensor:
    """Depth frames uint16 [N, H, W] in mm: a rough disc of the size of a hand, with holes, without background.

    The size of the disc in pixels is proportional to the frame size, as for a camera with the same field of view.
    """
    generator = torch.Generator().manual_seed(seed)
    near = 600 + 200 * torch.rand(count, generator=generator)  # mm
    middle = 0.5 + 0.2 * (torch.rand(count, 2, generator=generator) - 0.5)
    frames = torch.empty(count, height, width, dtype=torch.uint16)
    rows, columns = torch.arange(height)[:, None] / height, torch.arange(width) / width
    focal = CAMERA.fx / 640  # of a frame of width 1
    for i in range(count):  # one at a time: a float copy of all of them is large
        coarse = torch.rand(1, 1, 48, 64, generator=generator)
        surface = near[i] + 120 * F.interpolate(coarse, (height, width), mode="bilinear")[0, 0]
        across = (columns - middle[i, 0]) ** 2 + ((rows - middle[i, 1]) * height / width) ** 2
        inside = across.sqrt() < 95 * focal / near[i]
        holes = torch.rand(height, width, generator=generator) < 0.02
        frames[i] = torch.where(inside & ~holes, surface, 0).round().to(torch.int32).to(torch.uint16)
    return frames
