# SPDX-License-Identifier: MIT
"""Trains one stage of the hand detector on synthetic scenes: `python -m tools.detector.train verifier OUT.safetensors`.

The other stage stays that of `--detector`. With torchrun, each process computes its own batches.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import torch
from torch import nn

from poseren_ext.geometry.camera import CAMERAS
from poseren_ext.models.detector import BUNDLED_DETECTOR, HandDetector, load_detector, save_detector
from poseren_ext.models.hand_proposals import ProposalNetwork, padded
from poseren_ext.models.hand_verifier import HandVerifier
from poseren_ext.synthetic.scenes import reduced
from poseren_ext.training.config import Precision
from poseren_ext.training.distributed import ALONE, Ranks, torchrun_ranks
from poseren_ext.training.phases import autocast
from tools.detector import crops, targets
from tools.detector.fitting import fit, folded, normalised, trainable
from tools.detector.frames import SEED, Batch, drawn, render, stored, taken

STRIDES = {"proposals": 4, "verifier": 2}
"""Of the pixels of 640x480 that the frames of each stage have."""
_DECAY = {"proposals": 0.998, "verifier": 0.999}  # of the moving average of the weights
_SCORE_BIAS = -4.0  # of the heat map before training: hands are rare
_JOINTS = 21


def train_proposals(
    detector: HandDetector,
    frames: Sequence[Batch],
    seconds: float,
    out: Path,
    *,
    batch: int,
    rate: float,
    precision: Precision,
    compiled: bool,
    seed: int,
    ranks: Ranks = ALONE,
) -> None:
    """Trains the first stage, from the weights that it has."""
    network = trainable(copy.deepcopy(detector.proposals))
    if compiled:
        network.compile()
    generator = torch.Generator().manual_seed(seed + 1000 * ranks.rank)
    often = torch.cat([1.0 + part.wanted.all(1) for part in frames])  # two hands twice

    def cost(step: int) -> torch.Tensor:
        part = taken(frames, drawn(often, batch, generator))
        part = targets.augmented(part, generator)
        with autocast(torch.device("cpu"), precision):
            maps = network(padded(part.depth), part.focal)
        return targets.loss(maps, part)

    def save(average: ProposalNetwork) -> None:
        save_detector(folded(HandDetector(average, detector.verifier)), out)

    fit(network, cost, seconds, save, rate=rate, decay=_DECAY["proposals"], ranks=ranks)


def train_verifier(
    detector: HandDetector,
    frames: Sequence[Batch],
    seconds: float,
    out: Path,
    *,
    batch: int,
    rate: float,
    precision: Precision,
    compiled: bool,
    seed: int,
    ranks: Ranks = ALONE,
) -> None:
    """Trains the second stage, from the weights that it has, on frames of one or more sizes in turn."""
    torch.manual_seed(seed)
    network = trainable(crops.JointVerifier(copy.deepcopy(detector.verifier), _JOINTS))
    if compiled:
        network.compile()
    generator = torch.Generator().manual_seed(seed + 1000 * ranks.rank)
    sizes = sorted({part.depth.shape[1:] for part in frames})
    samplers = [
        crops.CropSampler(detector.proposals, [part for part in frames if part.depth.shape[1:] == size], generator)
        for size in sizes
    ]

    def cost(step: int) -> torch.Tensor:
        images, pitch, truth = samplers[step % len(samplers)].crops(batch)
        with autocast(torch.device("cpu"), precision):
            verdict, guess = network(images.contiguous(memory_format=torch.channels_last), pitch)
        return crops.loss(verdict, guess, truth)

    def save(average: crops.JointVerifier) -> None:
        save_detector(folded(HandDetector(detector.proposals, average.verifier)), out)

    fit(network, cost, seconds, save, rate=rate, decay=_DECAY["verifier"], ranks=ranks)


def new_detector() -> HandDetector:
    """A detector with random weights and batch normalisations, which the training folds into its convolutions."""
    model = normalised(HandDetector(ProposalNetwork(), HandVerifier()))
    nn.init.constant_(model.proposals.head.bias[:1], _SCORE_BIAS)  # type: ignore[index]  # the head has a bias
    return model


def main() -> None:
    """Renders, trains and saves."""
    parser = argparse.ArgumentParser(prog="python -m tools.detector.train", description=__doc__)
    parser.add_argument("stage", choices=tuple(STRIDES))
    parser.add_argument("out", type=Path, help="the whole detector")
    parser.add_argument("--detector", type=Path, default=BUNDLED_DETECTOR, help="the detector to continue from")
    parser.add_argument("--new", action="store_true", help="begin with random weights of the stage")
    parser.add_argument("--frames", type=int, default=18_432, help="to render")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--batch", type=int, help="of each process; 16 frames, or 128 crops, by default")
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--precision", default="float32", choices=get_args(Precision), help="bf16 if the CPU has it")
    parser.add_argument("--compile", action="store_true", help="let torch.compile fuse the network's operations")
    parser.add_argument(
        "--store", type=Path, nargs="+", help="keeps the rendered frames in the last of these files; all are used"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the order of the frames")
    parser.add_argument("--frame-seed", type=int, default=SEED, help="of the frames")
    given = parser.parse_args()
    detector, stage = load_detector(given.detector), given.stage
    if given.new:
        torch.manual_seed(given.seed)  # the same weights in each process
        setattr(detector, stage, getattr(new_detector(), stage))
    camera = reduced(CAMERAS["sr305"], STRIDES[stage])
    train, batch = (train_proposals, 16) if stage == "proposals" else (train_verifier, 128)
    with torchrun_ranks() as ranks:
        if given.store:
            frames = stored(given.store, given.frames, camera, given.frame_seed)
        else:
            frames = [render(given.frames, camera, given.frame_seed)]
        train(
            detector,
            frames,
            60.0 * given.minutes,
            given.out,
            batch=given.batch or batch,
            rate=given.rate,
            precision=given.precision,
            compiled=given.compile,
            seed=given.seed,
            ranks=ranks,
        )


if __name__ == "__main__":
    main()
