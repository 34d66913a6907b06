# SPDX-License-Identifier: MIT
"""How large and how long a benchmark run is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """One run.

    Attributes:
        device: "cpu" or "cuda".
        threads: of every contender alike.
        widths: outputs of the head's two layers; the published 2048, 2048 is what the targets are about.
        frames: depth frames with a trajectory each that the model is fitted to; larger batches repeat them.
        op_batches: batch of the crop and centre rows, and of the pooling rows.
        refine_batches: of the cascade rows.
        growth_batches: along which the cost of a batch is followed.
        growth_stages: the same for the number of stages.
        growth_images: the same for the frame, (height, width).
        growth_bytes: that a curve's inputs and results go through at every point: more than a cache holds, or the small
            would stay in it and the large not.
        train_batch: samples of the training step.
        seconds: for which the contenders of one contest take turns.
        compile_seconds: that torch.compile may take for one contender.
        memory: measure the peak memory of the frame in a process of its own.
    """

    device: str = "cpu"
    threads: int = 2
    widths: tuple[int, int] = (2048, 2048)
    frames: int = 256
    op_batches: tuple[int, int] = (64, 128)
    refine_batches: tuple[int, ...] = (1, 64)
    growth_batches: tuple[int, ...] = (1, 4, 16, 64, 256, 1024)
    growth_stages: tuple[int, ...] = (1, 2, 3, 5, 10)
    growth_images: tuple[tuple[int, int], ...] = ((240, 320), (480, 640), (720, 1280), (1080, 1920))
    growth_bytes: int = 1 << 26
    train_batch: int = 32
    seconds: float = 10.0
    compile_seconds: float = 120.0
    memory: bool = True

    @classmethod
    def tiny(cls) -> Settings:
        """Seconds in all, and no figure that means anything: for the harness's own tests."""
        return cls(
            threads=1,
            widths=(24, 24),
            frames=6,
            op_batches=(2, 3),
            refine_batches=(1, 3),
            growth_batches=(1, 4),
            growth_stages=(1, 3),
            growth_images=((60, 80), (120, 160)),
            growth_bytes=1 << 16,
            train_batch=2,
            seconds=0.02,
            compile_seconds=0.0,
            memory=False,
        )
