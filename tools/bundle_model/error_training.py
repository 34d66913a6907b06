# SPDX-License-Identifier: MIT
"""Trains the error head of a model whose other weights are frozen, on synthetic frames, right and wrong ones.

Each frame is seen as the hand that it shows and, mirrored, as the wrong hand. Other samples look at any visible surface
near a hand: wrong centres, forearms, objects and background.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import pi

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poseren_ext._utils.arrays import joined
from poseren_ext.geometry.crop_transforms import move_pose
from poseren_ext.models import Backbone, ErrorHead, ErrorHeadConfig, PoseREN
from poseren_ext.models.error_head import LARGEST_MM
from poseren_ext.models.packed import pack_backbone
from poseren_ext.ops import cascade_refine, run_grid
from poseren_ext.synthetic import TrainingHands
from poseren_ext.training.pack_batches import SIZE
from poseren_ext.training.synthetic_batches import SyntheticStream, render_tiles

CHUNK = 512
"""Frames whose samples are made at once."""
SAMPLES = 2 * CHUNK + 2 * (CHUNK // 8)
"""Samples of a chunk: of each frame the right and the wrong hand, of every eighth two looks elsewhere."""
SEED = 991
_PALM_SHARE = 0.25
_WIDE_SIZE, _WIDE_MARGIN = 240, 2.5  # pixels, half edges of the cube: windows for looks elsewhere
_WIDE_FIRST = 50_000_000  # number of the first such frame
_OWN_SHARE = 0.15  # of the wide windows, that look at the hand all the same
_SHIFT, _LIFT = 0.04, 12.0  # half edges of the cube across, mm in depth: variation of the centre
_STEEPNESS = 4.0  # of the second term of the loss, which ends once the wrong hand has a clearly larger prediction
_OFFSET_MM, _OFFSET_WEIGHT = 30.0, 2.0  # scale and weight of the third term of the loss
_BATCH = 16  # crops of the networks: their maps fit a core's cache


@dataclass(frozen=True)
class ErrorCrops:
    """N crops with their labels, in the order of `SAMPLES`.

    Attributes:
        crop: float16 [N, 1, S, S], in [-1, 1].
        pose: true normalised joints [N, J, 3] in the crop, wherever they are.
    """

    crop: Tensor
    pose: Tensor


@dataclass(frozen=True)
class ErrorSamples:
    """N samples: what the head reads, and the offsets of the true joints from the predicted ones in mm [N, J, 3]."""

    surface: Tensor
    comparisons: Tensor
    features: Tensor
    offset: Tensor

    def rows(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs of `ErrorHead.score` at these positions."""
        return self.surface[index].float(), self.comparisons[index].float(), self.features[index].float()


def make_crops(chunk: int, skeleton: str, cube: float) -> ErrorCrops:
    """The crops of a chunk, a function of its number only."""
    hands = TrainingHands(SEED, "train", skeleton=skeleton, cube=cube, palm_share=_PALM_SHARE)
    generator = torch.Generator().manual_seed(chunk * CHUNK)
    size = SyntheticStream.TILE_SIZE
    tiles = render_tiles(hands, chunk * CHUNK, CHUNK, size=size, margin=(size - 1) / (SIZE - 1))
    turned = _turned(CHUNK, generator)
    turned[:, :, 2] = 2 * _SHIFT * (torch.rand(CHUNK, 2, generator=generator) - 0.5)
    center = tiles.center.clone()
    center[:, 2:] += 2 * _LIFT * (torch.rand(CHUNK, 1, generator=generator) - 0.5)
    views = [(replace(tiles, center=center), view) for view in (turned, _mirrored(turned))]
    wide = render_tiles(hands, chunk * CHUNK + _WIDE_FIRST, CHUNK // 8, size=_WIDE_SIZE, margin=_WIDE_MARGIN)
    for look in range(2):
        center = _elsewhere(wide.depth.float() * wide.depth_unit, wide.center, generator)
        own = torch.rand(len(wide), generator=generator) < _OWN_SHARE
        turned = _turned(len(wide), generator)
        center = torch.where(own[:, None], wide.center, center)
        views.append((replace(wide, center=center), _mirrored(turned) if look else turned))
    crops = [frames.crop(SIZE, view).half() for frames, view in views]
    poses = [move_pose(frames.normalized(frames.uvd), view) for frames, view in views]
    return ErrorCrops(torch.cat(crops), torch.cat(poses))


def _turned(count: int, generator: torch.Generator) -> Tensor:
    """Random rotations of crops [B, 2, 3]."""
    angle = 2 * pi * torch.rand(count, generator=generator)
    c, s = angle.cos(), angle.sin()
    return torch.stack([torch.stack([c, -s, 0 * c], -1), torch.stack([s, c, 0 * c], -1)], 1)


def _mirrored(transform: Tensor) -> Tensor:
    return transform * torch.tensor([-1.0, 1.0, 1.0])


def _elsewhere(depth: Tensor, center: Tensor, generator: torch.Generator) -> Tensor:
    """Centres [B, 3] 20 mm behind any visible pixel of frames [B, H, W]; as given where nothing is visible."""
    result, place = center.clone(), torch.rand(len(depth), generator=generator)
    for row, image in enumerate(depth):
        seen = (image.flatten() > 0).nonzero()[:, 0]
        if len(seen):
            v, u = divmod(int(seen[int(place[row] * len(seen))]), image.shape[1])
            result[row] = torch.tensor([u, v, float(image[v, u]) + 20.0])
    return result


@torch.no_grad()
def make_samples(model: PoseREN, head: ErrorHead, crops: ErrorCrops, *, stages: int = 3) -> ErrorSamples:
    """Runs a model on crops; convolutions in bfloat16, which takes half the time on CPUs that have it."""
    looks = [_bfloat16(backbone, SIZE) for backbone in (model.init.backbone, model.backbone)]
    parts = []
    for crop, pose in zip(torch.split(crops.crop, _BATCH), torch.split(crops.pose, _BATCH), strict=True):
        crop = crop.float()
        first, features = run_grid(looks[0](crop), model.init.head), looks[1](crop)
        last = cascade_refine(features, first, model.head, stages=stages)[0][-1]
        offset = model.config.cube * (pose - last)
        surface, comparisons = head.inputs(crop, first, last)
        parts.append(ErrorSamples(surface.half(), comparisons.half(), features.half(), offset))
    return joined(parts)


def _bfloat16(backbone: Backbone, size: int) -> Callable[[Tensor], Tensor]:
    low = pack_backbone(copy.deepcopy(backbone).bfloat16(), size)
    return lambda crop: low(crop.bfloat16()).float()


def fit_error_head(
    model: PoseREN,
    samples: Callable[[ErrorHead], ErrorSamples],
    config: ErrorHeadConfig | None = None,
    *,
    epochs: float = 8.0,
    batch: int = 192,
    rate: float = 1.5e-3,
    decay: float = 2e-2,
    seed: int = 0,
) -> None:
    """Gives a model a trained error head, in place; its other weights stay as they are.

    The loss is that of an exponential distribution, t / p + log p, whose minimum is the mean of the true errors t. A
    second term, on the right and the wrong hand of one frame, asks for the larger prediction for the wrong one. A third
    lets another layer, which is not kept, predict where the true joints are: that teaches the hidden layers faster.

    Args:
        model: the model.
        samples: gives the samples of whole chunks, by `make_samples`, to the untrained head.
        config: sizes of the head.
        epochs: how often each sample is seen.
        batch: samples per step.
        rate: highest learning rate; it rises over 200 steps or a tenth of all, and falls to 0.
        decay: weight decay.
        seed: of initial weights, order and dropout.
    """
    torch.manual_seed(seed)
    skeleton, channels = model.skeleton, model.config.channels[-1]
    head = ErrorHead(config or ErrorHeadConfig(), skeleton, channels, model.config.image_size)
    given = samples(head)
    scales = _standardized(given)
    right, rest = _positions(len(given.offset))
    offsets = nn.Linear(head.hidden.out_features, given.offset[0].numel())
    optimizer = torch.optim.AdamW([*head.parameters(), *offsets.parameters()], rate, weight_decay=decay)
    steps, pairs = int(epochs * len(given.offset) / batch), int(batch * CHUNK / SAMPLES)
    warmup = min(200, 1 + steps // 10)
    head.train().requires_grad_()
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * min(1.0, (step + 1) / warmup) * (1 - step / steps)
        chosen = right[torch.randint(len(right), (pairs,))]
        other = rest[torch.randint(len(rest), (batch - 2 * pairs,))]
        index = torch.cat([chosen, chosen + CHUNK, other])
        with torch.autocast("cpu", torch.bfloat16):
            hidden = head.summary(*given.rows(index))
            logit, offset = head.output(hidden)[:, 0], offsets(hidden)
        loss = _loss(logit.float(), offset.float().view(batch, -1, 3), given.offset[index], pairs)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    _absorb(head, *scales)
    model.error = head.eval()
    model.config = dataclasses.replace(model.config, error=head.config)


def _positions(count: int) -> tuple[Tensor, Tensor]:
    """Positions of the samples of right hands, each `CHUNK` before its wrong hand, and of looks elsewhere."""
    position = torch.arange(count)
    within = position % SAMPLES
    return position[within < CHUNK], position[within >= 2 * CHUNK]


def _loss(logit: Tensor, offset: Tensor, true_offset: Tensor, pairs: int) -> Tensor:
    predicted = 1 + LARGEST_MM * torch.sigmoid(logit)
    error = true_offset.norm(dim=-1).mean(-1)
    likelihood = (1 + error.clamp(max=LARGEST_MM)) / predicted + predicted.log()
    order = F.softplus(logit[:pairs] - logit[pairs : 2 * pairs], beta=_STEEPNESS)
    near = error < LARGEST_MM  # the hand is in the crop
    where = F.smooth_l1_loss(offset[near], true_offset[near] / _OFFSET_MM)
    loss: Tensor = likelihood.mean() + 0.5 * order.mean() + _OFFSET_WEIGHT * where
    return loss


def _standardized(samples: ErrorSamples) -> tuple[Tensor, Tensor, Tensor]:
    """Scales the inputs in place; gives means and deviations of the comparisons, and the deviation of the features."""
    comparisons = samples.comparisons.float()
    mean, deviation = comparisons.mean(0), comparisons.std(0) + 0.02
    size = samples.features[:2000].float().std()
    samples.comparisons.copy_((comparisons - mean) / deviation)
    samples.features.div_(size)
    return mean, deviation, size


@torch.no_grad()
def _absorb(head: ErrorHead, mean: Tensor, deviation: Tensor, size: Tensor) -> None:
    """Moves the scales of the inputs into the first layers, and rounds all weights to float16."""
    head.features.weight.div_(size)
    head.from_poses.weight.div_(deviation)
    head.from_poses.bias.sub_(head.from_poses.weight @ mean)
    for parameter in head.parameters():
        parameter.copy_(parameter.half())
