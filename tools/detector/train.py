# SPDX-License-Identifier: MIT
"""Trains the hand detector on synthetic scenes: `python -m tools.detector.train OUT.safetensors --minutes 60`."""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import get_args

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from poseren_ext._utils.atomic_files import atomic_path
from poseren_ext.geometry.camera import CAMERAS, Camera
from poseren_ext.models.detector import Block, HandDetector, load_detector, padded, save_detector
from poseren_ext.synthetic import SyntheticHands
from poseren_ext.synthetic.scenes import NO_HAND, RIGHT, SyntheticScenes, reduced
from poseren_ext.training.config import Precision
from poseren_ext.training.phases import autocast
from tools.detector.targets import Batch, augmented, box_centers, loss

CAMERA = reduced(CAMERAS["sr305"], 4)
ZOOM = (0.8, 1.8)
"""Limits of the factor on the focal length of scenes: fields of view from 80 to 41 degrees."""
_SCENES, _PALMS = 96, 32  # of each rendered batch
SEED = 101
"""Of the frames."""
_OPEN_SHARE = 0.2  # of the hands: see `TrainingHands.open_share`
_AVERAGE = 0.998  # decay of the moving average of the weights
_SCORE_BIAS = -4.0  # of the heat map before training: hands are rare


def render(frames: int, camera: Camera = CAMERA, seed: int = SEED) -> Batch:
    """Frames of training subjects: three quarters `SyntheticScenes`, one quarter palms of `SyntheticHands`.

    The depth is stored as int16, mm.
    """
    scenes = SyntheticScenes(seed, camera=camera, zoom=ZOOM, open_share=_OPEN_SHARE)
    palms = SyntheticHands(seed + 1, camera=camera, open_share=_OPEN_SHARE)
    parts = []
    for k in range(-(-frames // (_SCENES + _PALMS))):
        scene = scenes.frames(torch.arange(k * _SCENES, (k + 1) * _SCENES))
        parts.append(_batch(scene.depth, scene.camera, scene.uvd, scene.side, scene.visible))
        palm = palms.frames(torch.arange(k * _PALMS, (k + 1) * _PALMS))
        limits = palm.uvd.new_tensor([palm.depth.shape[2] - 1.0, palm.depth.shape[1] - 1.0])
        inside = ((palm.uvd[..., :2] >= 0) & (palm.uvd[..., :2] <= limits)).all(-1).float().mean(-1)
        parts.append(
            _batch(
                palm.depth,
                palm.camera,
                palm.uvd[:, None].expand(-1, 2, -1, -1),
                torch.tensor([[RIGHT, NO_HAND]]).expand(_PALMS, 2),
                torch.stack([inside, torch.zeros_like(inside)], 1),
            )
        )
    return Batch(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Batch)))


def stored(paths: Sequence[Path], frames: int, seed: int = SEED) -> Batch:
    """The frames of all files; the last one is rendered first if it does not exist.

    Raises:
        FileNotFoundError: Another file does not exist.
        ValueError: The last file holds fewer frames.
    """
    *others, last = paths
    if not last.exists():
        with atomic_path(last) as draft:
            save_file(vars(render(frames, seed=seed)), draft)
    batches = [Batch(**load_file(path)) for path in (*others, last)]
    if (count := len(batches[-1].depth)) < frames:
        raise ValueError(f"{last} holds {count} frames, {frames} are wanted; remove it or ask for fewer")
    return Batch(*(torch.cat([getattr(batch, field.name) for batch in batches]) for field in fields(Batch)))


def _batch(depth: Tensor, camera: Tensor, uvd: Tensor, side: Tensor, visible: Tensor) -> Batch:
    focal = (camera[:, 0] * camera[:, 1]).sqrt()
    middle = torch.cat([camera[:, 2:], torch.zeros_like(camera[:, :1])], 1)[:, None]
    center = box_centers(uvd - middle[:, :, None], focal[:, None].expand(-1, 2)) + middle
    return Batch(depth.round().clamp(max=32000).short(), focal, center, side, visible)


def train(
    frames: Batch,
    seconds: float,
    out: Path,
    *,
    batch: int,
    rate: float,
    start: HandDetector | None,
    precision: Precision,
    compiled: bool,
    seed: int,
) -> None:
    """AdamW with a cosine schedule over the given time; writes the moving average of the weights, again and again."""
    model = (copy.deepcopy(start) if start else _new_model()).requires_grad_().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(model)
    if compiled:
        model.compile()
    optimizer = torch.optim.AdamW(model.parameters(), rate, betas=(0.9, 0.98), weight_decay=1e-2)
    generator = torch.Generator().manual_seed(seed)
    began, step, mean = time.monotonic(), 0, 0.0
    while (passed := (time.monotonic() - began) / seconds) < 1.0:
        warm = min(1.0, (step + 1) / 200)
        for group in optimizer.param_groups:
            group["lr"] = rate * warm * (0.01 + 0.495 * (1.0 + math.cos(math.pi * passed)))
        chosen = torch.randint(0, len(frames.depth), (batch,), generator=generator)
        part = Batch(*(getattr(frames, field.name)[chosen] for field in fields(Batch)))
        part = augmented(part, generator)
        with autocast(torch.device("cpu"), precision):
            maps = model(padded(part.depth), part.focal)
        cost = loss(maps, part)
        optimizer.zero_grad()
        cost.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        step += 1
        with torch.no_grad():
            share = min(_AVERAGE, step / (step + 20))
            for kept, new in zip(average.parameters(), model.parameters(), strict=True):
                kept.lerp_(new, 1.0 - share)
        mean += (float(cost.detach()) - mean) * max(0.02, 1.0 / step)
        if step % 200 == 0:
            print(f"step {step}, {batch * step} samples, loss {mean:.3f}", flush=True)
            save_detector(average, out)
    save_detector(average, out)


def _new_model() -> HandDetector:
    model = HandDetector()
    for module in model.modules():
        if isinstance(module, Block):  # residual branches start near zero
            nn.init.normal_(module.second.weight, 0.0, 1e-2 / module.second.out_channels**0.5)
    nn.init.constant_(model.head.bias[:1], _SCORE_BIAS)  # type: ignore[index]
    return model


def main() -> None:
    """Renders, trains and saves."""
    parser = argparse.ArgumentParser(prog="python -m tools.detector.train", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--frames", type=int, default=18_432, help="to render")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--start", type=Path, help="a detector to continue from")
    parser.add_argument("--precision", default="float32", choices=get_args(Precision), help="bf16 if the CPU has it")
    parser.add_argument("--compile", action="store_true", help="let torch.compile fuse the network's operations")
    parser.add_argument(
        "--store", type=Path, nargs="+", help="keeps the rendered frames in the last of these files; all are used"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the order of the frames")
    parser.add_argument("--frame-seed", type=int, default=SEED, help="of the frames")
    given = parser.parse_args()
    start = load_detector(given.start) if given.start else None
    if given.store:
        frames = stored(given.store, given.frames, given.frame_seed)
    else:
        frames = render(given.frames, seed=given.frame_seed)
    train(
        frames,
        60.0 * given.minutes,
        given.out,
        batch=given.batch,
        rate=given.rate,
        start=start,
        precision=given.precision,
        compiled=given.compile,
        seed=given.seed,
    )


if __name__ == "__main__":
    main()
