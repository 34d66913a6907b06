# SPDX-License-Identifier: MIT
"""Sizes and durations of a benchmark run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Settings of one run.

    Attributes:
        device: "cpu" or "cuda".
        threads: number of threads of every implementation.
        widths: outputs of the head's two layers; the targets are for the published 2048, 2048.
        frames: number of depth frames, each with a trajectory that the model is fitted to; larger batches repeat them.
        op_batches: batch size of the center and crop rows, and of the pool rows.
        refine_batches: batch sizes of the cascade rows.
        growth_batches: batch sizes of the growth curves.
        growth_stages: numbers of stages of the growth curves.
        growth_images: frame sizes (height, width) of the growth curves.
        growth_bytes: size of the inputs and results that each point of a curve cycles through: larger than the caches,
            so that small points are not measured from the cache and large ones from memory.
        train_batch: samples per training step.
        seconds: duration of each comparison.
        compile_seconds: time limit for torch.compile of one baseline; 0 skips it.
        exported: export the networks for ONNX Runtime and OpenVINO.
        memory: measure the peak memory of the frame rows in a separate process.
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
    exported: bool = True
    memory: bool = True

    @classmethod
    def tiny(cls) -> Settings:
        """Tiny sizes for testing the benchmarks themselves: takes seconds, and the figures mean nothing."""
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
