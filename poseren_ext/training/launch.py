# SPDX-License-Identifier: MIT
"""A trainer on the devices that a command line names; torchrun's processes find each other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from poseren_ext.training.config import TrainConfig
from poseren_ext.training.distributed import torchrun_ranks
from poseren_ext.training.trainer import Trainer, Watch


@contextmanager
def launch(
    config: TrainConfig, folder: Path, *, resume: bool = False, device: str = "cpu", watch: Watch | None = None
) -> Iterator[Trainer]:
    """A trainer to run; "cuda" is under torchrun each process's own GPU.

    Raises:
        RuntimeError: no such device.
        FileExistsError, FileNotFoundError, ImportError, ValueError: as `Trainer` does.
    """
    with torchrun_ranks() as ranks:
        own = f"cuda:{ranks.local}" if device == "cuda" else device
        yield Trainer(config, folder, resume=resume, ranks=ranks, device=own, watch=watch if ranks.main else None)
