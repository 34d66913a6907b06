# SPDX-License-Identifier: MIT
"""The training samples that a configuration names: finite sets, and the batches of a phase."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import torch

from poseren_ext.datasets.packs.gpu_store import ResidentPack
from poseren_ext.training.config import SYNTHETIC, Phase, TrainConfig
from poseren_ext.training.pack_batches import SIZE, EpochBatches, augmentation_of, open_pack
from poseren_ext.training.synthetic_batches import (
    Progress,
    SyntheticStream,
    render_tiles,
    synthetic_hands,
)
from poseren_ext.training.training_sets import PackFrames, TrainingSet

Stream: TypeAlias = SyntheticStream | EpochBatches

_STAGE_SEEDS = 7_919  # makes the orders and the augmentation of stages independent


def must_render(config: TrainConfig) -> bool:
    """Whether the configuration trains on a finite set of synthetic frames, which takes time to render."""
    return config.data == SYNTHETIC and config.poses != "unrolled"


def open_set(
    config: TrainConfig, device: torch.device | str = "cpu", *, progress: Progress | None = None
) -> TrainingSet | None:
    """The finite set that the configuration trains on; None for the endless stream of synthetic frames.

    Args:
        config: the run.
        device: device of the frames.
        progress: called while synthetic frames are rendered, see `render_tiles`.

    Raises:
        FileNotFoundError: There is no such pack.
        ValueError: The pack has other joints or another hand, or holds too little for the augmentation.
    """
    if config.data != SYNTHETIC:
        pack = open_pack(Path(config.data), config)
        for phase in ("init", "refine"):
            pack.require(augmentation_of(config, phase), config.cube)
        return PackFrames(ResidentPack(pack, device), config.cube)
    if not must_render(config):
        return None
    hands = synthetic_hands(config)
    tile = SyntheticStream.TILE_SIZE
    margin = (tile - 1) / (SIZE - 1)
    return render_tiles(hands, 0, config.frames, size=tile, margin=margin, device=device, progress=progress)


def open_stream(
    config: TrainConfig,
    phase: Phase,
    device: torch.device | str = "cpu",
    *,
    frames: TrainingSet | None = None,
    stage: int = 0,
    copies: int = 1,
    progress: Progress | None = None,
) -> Stream:
    """The batches of a phase.

    Args:
        config: the run.
        phase: "init" or "refine", which may have different augmentation.
        device: device of the batches.
        frames: the set that `open_set` returned; by default it is opened.
        stage: number (from 1) of a stage that is trained on stored poses; each stage has a different order.
        copies: number of samples per frame.
        progress: called while synthetic frames are rendered, see `render_tiles`.

    Raises:
        FileNotFoundError: There is no such pack.
        ValueError: The pack has other joints or another hand, or holds too little for the augmentation.
    """
    frames = open_set(config, device) if frames is None else frames
    if frames is None:
        return SyntheticStream(config, phase, device, progress=progress)
    return EpochBatches(
        frames,
        batch=config.batch,
        seed=config.seed + _STAGE_SEEDS * stage,
        augmentation=augmentation_of(config, phase),
        copies=copies,
    )
