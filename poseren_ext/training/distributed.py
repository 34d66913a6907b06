# SPDX-License-Identifier: MIT
"""Data-parallel training on several devices and machines, with one process per device, started by torchrun.

Every process draws the global batch of a step and computes its share. DistributedDataParallel averages the gradients,
so that the weights of all processes are bit-identical and the loss curve equals that of one process with the global
batch. Only process 0 writes files.
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

_TIMEOUT = timedelta(hours=2)  # other processes wait while process 0 validates and writes
_SHUTDOWN_DELAY_S = 0.2
"""Delay in seconds before the interpreter shuts down. In this time gloo's threads acquire the GIL to release their last
tensors; acquiring it during the shutdown would abort the process."""


@dataclass(frozen=True)
class Ranks:
    """Rank of this process in the training.

    Attributes:
        rank: global rank.
        world: number of processes.
        local: rank on this machine.
    """

    rank: int = 0
    world: int = 1
    local: int = 0

    @property
    def main(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def share(self, batch: int) -> slice:
        """Share of this process of a global batch.

        Raises:
            ValueError: The batch size is not a multiple of the number of processes, so that the mean would differ from
                that of one process.
        """
        if batch % self.world:
            raise ValueError(f"a batch of {batch} cannot be shared by {self.world} processes; give a multiple of it")
        size = batch // self.world
        return slice(self.rank * size, (self.rank + 1) * size)

    def parallel(self, module: nn.Module) -> nn.Module:
        """The module with gradients averaged over all processes and the initial weights of process 0."""
        return module if self.world == 1 else DistributedDataParallel(module)

    def average_gradients(self, module: nn.Module) -> None:
        """Averages the gradients of a module over all processes if `parallel` does not; all processes must call it."""
        if self.world == 1:
            return
        for parameter in module.parameters():
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad)
                parameter.grad /= self.world

    def mean(self, value: float) -> float:
        """The mean of a number over all processes; all processes must call it."""
        if self.world == 1:
            return value
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        total = torch.tensor(value, dtype=torch.float64, device=device)
        dist.all_reduce(total)
        return float(total) / self.world


ALONE = Ranks()
"""A single process, without torchrun."""


@contextmanager
def torchrun_ranks() -> Iterator[Ranks]:
    """Joins the process group of torchrun (nccl if there are GPUs, else gloo); without torchrun returns ``ALONE``.

    Raises:
        ValueError: There are more processes than GPUs on this machine.
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
    dist.init_process_group("nccl" if devices else "gloo", timeout=_TIMEOUT)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), local)
    finally:
        dist.destroy_process_group()
        time.sleep(_SHUTDOWN_DELAY_S)
