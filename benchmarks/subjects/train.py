# SPDX-License-Identifier: MIT
"""Benchmark of training: augmented crops (data), the unrolled cascade with gradients and update (step), and both."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.baselines.network import index_regions
from benchmarks.equality import assert_equal
from benchmarks.material import CAMERA, Material
from benchmarks.rows import Call, Comparison
from benchmarks.subjects.crop import CUBE, SIZE
from poseren_ext import ops
from poseren_ext.models import Backbone, RegionEnsemble

STAGES = 3
_DEGREES = 20.0


class IndexingHead(RegionEnsemble):
    """A head that pools by PyTorch indexing."""

    def regions(self, features: Tensor, pose: Tensor | None = None) -> Tensor:
        """As in :class:`RegionEnsemble`."""
        assert pose is not None
        return index_regions(features, pose, self.config)


def comparisons(material: Material) -> Iterator[Comparison]:
    """Three comparisons with PyTorch and augmentation by OpenCV on the host; the same weights, SGD with momentum."""
    settings = material.settings
    batch = min(settings.train_batch, settings.frames)
    backbone, head = copy.deepcopy(material.model.backbone), material.model.head
    indexing = IndexingHead.__new__(IndexingHead)
    torch.nn.Module.__init__(indexing)
    indexing.config = head.config
    for name, parameter in head.named_parameters():
        indexing.register_parameter(name, parameter)
    indexing.eval()
    # With learning rate 0 a step does all its work and keeps the weights for other comparisons.
    optimizer = torch.optim.SGD([*backbone.parameters(), *head.parameters()], lr=0.0, momentum=0.9)
    frames, center = material.frames[:batch], material.centers[:batch]
    initial, wanted = material.initial[:batch].clone(), material.trajectories.final[:batch].to(settings.device)

    def crops(i: int) -> Tensor:
        return ops.depth_crop(frames, center, CAMERA, transform=_rotations(batch, i).to(settings.device))

    def crops_by_opencv(i: int) -> Tensor:
        parts = zip(frames.cpu().numpy(), center.cpu().numpy(), _rotations(batch, i).numpy(), strict=True)
        return torch.from_numpy(np.stack([_rotated(*part) for part in parts]))[:, None].to(settings.device)

    def step(crop: Tensor, own: RegionEnsemble) -> Tensor:
        return _step(crop, initial, wanted, backbone, own, optimizer)

    def check_crops() -> None:
        # OpenCV rounds positions to 1/32 pixel: tolerance 1/32 of the largest step, from a hand to a hole.
        assert_equal("OpenCV", crops_by_opencv(0), crops(0), most=2.0, mean=2e-2)

    given = crops(0)

    def check_step() -> None:
        assert_equal(
            "PyTorch's loss divided by ours", step(given, indexing) / step(given, head), torch.ones([]), most=1e-3
        )

    def check_both() -> None:
        # OpenCV's crop differs slightly, so a joint between two windows may use the other one.
        ratio = step(crops_by_opencv(0), indexing) / step(crops(0), head)
        assert_equal("PyTorch's loss divided by ours", ratio, torch.ones([]), most=0.05)

    params = {"stages": STAGES, "widths": list(head.config.widths), "dropout": "off", "optimizer": "SGD, momentum"}

    def comparison(
        name: str, ours: Call, baseline: str, theirs: Call, check: Callable[[], None], more: Any
    ) -> Comparison:
        return Comparison(
            name=name,
            device=settings.device,
            batch=batch,
            ours={"float32": ours},
            baselines={baseline: theirs},
            check=check,
            params={"unit": "samples", **more},
            cold=True,
            grad=True,
        )

    yield comparison("training data", crops, "augmentation by OpenCV", crops_by_opencv, check_crops, {"size": SIZE})
    yield comparison(
        "training step", lambda i: step(given, head), "PyTorch", lambda i: step(given, indexing), check_step, params
    )
    yield comparison(
        "training data and step",
        lambda i: step(crops(i), head),
        "PyTorch, augmentation by OpenCV",
        lambda i: step(crops_by_opencv(i), indexing),
        check_both,
        params,
    )
    optimizer.zero_grad()


def _step(
    crop: Tensor,
    pose: Tensor,
    wanted: Tensor,
    backbone: Backbone,
    head: RegionEnsemble,
    optimizer: torch.optim.Optimizer,
) -> Tensor:
    """The loss [] before the update."""
    features, losses = backbone(crop), []
    for _ in range(STAGES):
        pose = head(features, pose.detach())
        losses.append(F.smooth_l1_loss(pose, wanted, beta=0.01))
    loss = torch.stack(losses).mean()
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.detach()


def _rotations(batch: int, number: int) -> Tensor:
    """Random rotations of the crop [B, 2, 3]."""
    generator = torch.Generator().manual_seed(number)
    angle = torch.deg2rad(_DEGREES * (2 * torch.rand(batch, generator=generator) - 1))
    c, s, zero = angle.cos(), angle.sin(), torch.zeros(batch)
    return torch.stack([c, -s, zero, s, c, zero], 1).view(-1, 2, 3)


def _rotated(depth: Any, center: Any, transform: Any) -> Any:
    """The rotated crop [S, S] with OpenCV."""
    z = center[2]
    reach = np.array([CUBE * CAMERA.fx / z, CUBE * CAMERA.fy / z])
    to_unit = np.array([[2 / (SIZE - 1), 0, -1], [0, 2 / (SIZE - 1), -1]])
    matrix = (reach[:, None] * np.linalg.inv(transform[:, :2])) @ to_unit
    matrix[:, 2] += center[:2]
    image = depth.astype(np.float32)
    image[image == 0] = z + CUBE
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    crop = cv2.warpAffine(
        image, matrix, (SIZE, SIZE), flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=float(z + CUBE)
    )
    return np.clip(crop - z, -CUBE, CUBE) / np.float32(CUBE)
