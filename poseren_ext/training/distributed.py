# SPDX-License-Identifier: MIT
"""Training on many devices and machines: one process each, started by torchrun, in step with each other.

Every process draws the batch of a step as one process would and takes its share; DistributedDataParallel means the
gradients, so that all weights stay the same to the bit, and the loss curve is that of one process with the same
(global) batch. Process 0 alone writes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

_PATIENCE = timedelta(hours=2)  # the others wait while process 0 validates and writes
_FAREWELL = 0.2
"""Seconds at the end in which gloo's threads get the interpreter's lock: under it each lets go of its last tensor, and
would abort the process if it came for that while the interpreter shuts down."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together.

    Attributes:
        rank: its number.
        world: how many there are.
        local: its number on this machine.
    """

    rank: int = 0
    world: int = 1
    local: int = 0

    @property
    def main(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def share(self, batch: int) -> slice:
        """This process's part of a global batch.

        Raises:
            ValueError: the batch cannot be shared evenly; then its mean would not be that of one process.
        """
        if batch % self.world:
            raise ValueError(f"a batch of {batch} cannot be shared by {self.world} processes; give a multiple of it")
        size = batch // self.world
        return slice(self.rank * size, (self.rank + 1) * size)

    def parallel(self, module: nn.Module) -> nn.Module:
        """The module, its gradients the mean over all processes; its weights become those of process 0."""
        return module if self.world == 1 else DistributedDataParallel(module)

    def average_gradients(self, module: nn.Module) -> None:
        """Makes a module's gradients their mean over all processes, where `parallel` does not; each must ask."""
        if self.world == 1:
            return
        for parameter in module.parameters():
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad)
                parameter.grad /= self.world

    def mean(self, value: float) -> float:
        """The mean of a number over all processes; each must ask."""
        if self.world == 1:
            return value
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        total = torch.tensor(value, dtype=torch.float64, device=device)
        dist.all_reduce(total)
        return float(total) / self.world


ALONE = Ranks()
"""One process, as without torchrun."""


@contextmanager
def torchrun_ranks() -> Iterator[Ranks]:
    """This process among those that torchrun started (nccl where there are GPUs, else gloo); ``ALONE`` without it.

    Raises:
        ValueError: more processes on this machine than GPUs.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ and "RANK" not in os.environ:
        yield ALONE
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    devices = torch.cuda.device_count()
    if devices:
        if local >= devices:
            raise ValueError(
                f"process {local} of this machine has no GPU: there are {devices}; start {devices} a machine"
            )
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if devices else "gloo", timeout=_PATIENCE)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), local)
    finally:
        dist.destroy_process_group()
        time.sleep(_FAREWELL)
