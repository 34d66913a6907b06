# SPDX-License-Identifier: MIT
"""Training runs that are interrupted, to be resumed."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import Tensor

from poseren_ext.training import TrainConfig, Trainer
from poseren_ext.training.pack_batches import CropBatch


class InterruptedRunError(Exception):
    """Interrupts a training run."""


def interrupt_training(config: TrainConfig, folder: Path, phase: str, step: int) -> None:
    """Trains until just before a step of a phase."""

    class Interrupted(Trainer):
        def _train_step(self, batch: CropBatch) -> Tensor:
            if (self.phase, self.step) == (phase, step):
                raise InterruptedRunError
            return super()._train_step(batch)

    with pytest.raises(InterruptedRunError):
        Interrupted(config, folder).run()
