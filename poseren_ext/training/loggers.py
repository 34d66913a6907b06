# SPDX-License-Identifier: MIT
"""Where the numbers of a training run go beside log.csv: TensorBoard, Weights & Biases, or an object of the caller."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from poseren_ext._utils.optional_libraries import import_library
from poseren_ext.training.config import TrainConfig

TENSORBOARD = "tensorboard"
"""Name of the folder of TensorBoard events."""


class Logger(Protocol):
    """Receives the numbers of a run; a run of Weights & Biases (``wandb.init()``) has this method."""

    def log(self, data: dict[str, Any], *, step: int) -> object:
        """Takes the numbers of one step.

        Args:
            data: name -> number: "init/loss", "refine/learning_rate", "refine/validation_mm/stage_3", and so on.
            step: steps since the start of training, over all phases.
        """


class TensorBoard:
    """TensorBoard events in a folder.

    Args:
        folder: the folder of the events.
        first: earlier records of steps from `first` on are discarded.

    Raises:
        ImportError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path, first: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError(
                "tensorboard=true needs TensorBoard: pip install 'poseren_ext[train]', or leave it out; log.csv has "
                "the same numbers"
            ) from error
        self._events: Any = SummaryWriter(str(folder), purge_step=first)  # type: ignore[no-untyped-call]

    def log(self, data: Mapping[str, float], *, step: int) -> None:
        """Adds a record for each number."""
        for name, value in data.items():
            self._events.add_scalar(name, value, step)
        self._events.flush()


def open_loggers(config: TrainConfig, folder: Path, first: int) -> list[Logger]:
    """The loggers that the configuration names.

    Args:
        config: the configuration.
        folder: folder of the run.
        first: the next step, over all phases.

    Raises:
        ImportError: A library is not installed.
    """
    loggers: list[Logger] = []
    if config.tensorboard:
        loggers.append(TensorBoard(folder / TENSORBOARD, first))
    if config.wandb:
        library = import_library("wandb", "wandb", "runs with wandb=true")
        settings = dataclasses.asdict(config)
        loggers.append(library.init(dir=str(folder), group=folder.name, config=settings, reinit="finish_previous"))
    return loggers
