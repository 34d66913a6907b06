# SPDX-License-Identifier: MIT
"""Frames for the training of the hand detector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from poseren_ext._utils.atomic_files import atomic_path
from poseren_ext._utils.counter_rng import Counter
from poseren_ext.geometry.camera import CAMERAS, Camera
from poseren_ext.synthetic import SyntheticHands
from poseren_ext.synthetic.relief import vary_relief
from poseren_ext.synthetic.scenes import NO_HAND, RIGHT, SyntheticScenes, reduced

CAMERA = reduced(CAMERAS["sr305"], 4)
ZOOM = (0.8, 1.8)
"""Limits of the factor on the focal length of scenes: fields of view from 80 to 41 degrees."""
_SCENES, _PALMS = 96, 32  # of each rendered batch
SEED = 101
"""Of the frames."""
_OPEN_SHARE = 0.2  # of the hands: see `TrainingHands.open_share`
VISIBLE, IGNORED = 0.15, 0.03
"""Least visible share of a hand that the detector is asked to find, and of one that it may find or not."""
_PERSONS = 0.7  # of the scenes of each kind at least: faces are taken for hands most easily


@dataclass(frozen=True)
class Batch:
    """B frames and their hands.

    Attributes:
        depth: [B, H, W] mm, of any type.
        focal: [B] pixels.
        center: [B, 2, 3] u, v (pixels), d (mm), of the boxes around the joints.
        joints: [B, 2, 21, 3] u, v, d.
        side: int64 [B, 2], 0 right, 1 left, -1 none.
        visible: [B, 2].
    """

    depth: Tensor
    focal: Tensor
    center: Tensor
    joints: Tensor
    side: Tensor
    visible: Tensor

    @property
    def wanted(self) -> Tensor:
        """The hands that the detector is asked to find: bool [B, 2]."""
        return (self.side >= 0) & (self.visible >= VISIBLE)

    @property
    def unsure(self) -> Tensor:
        """The hands for which neither answer costs anything: bool [B, 2]."""
        return (self.side >= 0) & (self.visible >= IGNORED) & ~self.wanted


def box_centers(uvd: Tensor, focal: Tensor) -> Tensor:
    """u, v, d [..., 3] of the middle of the box around joints [..., J, 3] in the camera's axes.

    Args:
        uvd: joints in pixels relative to the principal point, and mm.
        focal: [...] pixels.
    """
    xyz = torch.cat([uvd[..., :2] * uvd[..., 2:] / focal[..., None, None], uvd[..., 2:]], -1)
    middle = 0.5 * (xyz.amin(-2) + xyz.amax(-2))
    return torch.cat([middle[..., :2] / middle[..., 2:] * focal[..., None], middle[..., 2:]], -1)


def render(frames: int, camera: Camera = CAMERA, seed: int = SEED) -> Batch:
    """Frames of training subjects: three quarters `SyntheticScenes`, one quarter palms of `SyntheticHands`.

    Their relief varies as in `TrainingHands`. The depth is stored as int16, mm.
    """
    scenes = SyntheticScenes(seed, camera=camera, zoom=ZOOM, open_share=_OPEN_SHARE, persons=_PERSONS)
    palms = SyntheticHands(seed + 1, camera=camera, open_share=_OPEN_SHARE)
    parts = []
    for k in range(-(-frames // (_SCENES + _PALMS))):
        index = torch.arange(k * _SCENES, (k + 1) * _SCENES)
        scene = scenes.frames(index)
        parts.append(
            _batch(vary_relief(scene.depth, Counter(seed, index)), scene.camera, scene.uvd, scene.side, scene.visible)
        )
        index = torch.arange(k * _PALMS, (k + 1) * _PALMS)
        palm = palms.frames(index)
        limits = palm.uvd.new_tensor([palm.depth.shape[2] - 1.0, palm.depth.shape[1] - 1.0])
        inside = ((palm.uvd[..., :2] >= 0) & (palm.uvd[..., :2] <= limits)).all(-1).float().mean(-1)
        parts.append(
            _batch(
                vary_relief(palm.depth, Counter(seed + 1, index)),
                palm.camera,
                palm.uvd[:, None].expand(-1, 2, -1, -1),
                torch.tensor([[RIGHT, NO_HAND]]).expand(_PALMS, 2),
                torch.stack([inside, torch.zeros_like(inside)], 1),
            )
        )
    return Batch(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Batch)))


def stored(paths: Sequence[Path], frames: int, camera: Camera = CAMERA, seed: int = SEED) -> list[Batch]:
    """The frames of each file; the last one is rendered first if it does not exist. They are read when they are used.

    Raises:
        FileNotFoundError: Another file does not exist.
        ValueError: The last file holds fewer frames.
    """
    *others, last = paths
    if not last.exists():
        with atomic_path(last) as draft:
            save_file({name: value.contiguous() for name, value in vars(render(frames, camera, seed)).items()}, draft)
    batches = [Batch(**load_file(path)) for path in (*others, last)]
    if (count := len(batches[-1].depth)) < frames:
        raise ValueError(f"{last} holds {count} frames, {frames} are wanted; remove it or ask for fewer")
    return batches


def taken(batches: Sequence[Batch], index: Tensor) -> Batch:
    """The frames [N] of several batches of one size, numbered one after the other."""
    first = torch.tensor([0] + [len(batch.depth) for batch in batches]).cumsum(0)
    which = torch.bucketize(index, first[1:], right=True)
    rows = list(zip(which.tolist(), (index - first[which]).tolist(), strict=True))
    names = [field.name for field in fields(Batch)]
    return Batch(*(torch.stack([getattr(batches[b], name)[i] for b, i in rows]) for name in names))


def drawn(often: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Random indices [count] of N things, each drawn in proportion to its number in ``often`` [N]."""
    until = often.double().cumsum(0)
    place = torch.rand(count, generator=generator, dtype=torch.float64) * until[-1]
    return torch.bucketize(place, until, right=True).clamp(max=len(often) - 1)


def _batch(depth: Tensor, camera: Tensor, uvd: Tensor, side: Tensor, visible: Tensor) -> Batch:
    focal = (camera[:, 0] * camera[:, 1]).sqrt()
    middle = torch.cat([camera[:, 2:], torch.zeros_like(camera[:, :1])], 1)[:, None]
    center = box_centers(uvd - middle[:, :, None], focal[:, None].expand(-1, 2)) + middle
    return Batch(depth.round().clamp(max=32000).short(), focal, center, uvd, side, visible)
