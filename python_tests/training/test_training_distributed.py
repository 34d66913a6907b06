# SPDX-License-Identifier: MIT
"""Two processes train like one; only one writes files; a run resumed after a kill is bit-identical."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from poseren_ext.training import Trainer, make_config
from poseren_ext.training.checkpoint import read_checkpoint
from poseren_ext.training.distributed import ALONE, Ranks, torchrun_ranks

TINY = {
    "channels": [4, 8, 8],
    "init_widths": [16, 16],
    "refine_widths": [8, 8],
    "dropout": 0.0,  # each process drops values of its own
    "weight_dtype": "float32",
    "batch": 8,
    "init_steps": 8,
    "refine_steps": 8,
    "stages": 2,
    "optimizer": "sgd",  # rounding stays small: Muon and Adam make it grow
    "learning_rate": 0.05,
    "chunk": 16,
    "reuse": 2,
    "warmup": 2,
    "log_every": 1,
    "validate_every": 8,
    "checkpoint_every": 2,
    "validation_frames": 8,
}


def torchrun(folder: Path, *options: str) -> subprocess.Popen[bytes]:
    overrides = [f"{name}={json.dumps(value)}" for name, value in TINY.items()]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "poseren_ext.training", str(folder), *overrides, *options]
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})


@pytest.fixture(scope="module")
def together(tmp_path_factory) -> Path:
    """The folder of two processes' uninterrupted run."""
    folder = tmp_path_factory.mktemp("together")
    assert torchrun(folder).wait(timeout=240) == 0
    return folder


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_only_the_writing_process_checks_the_folder(tmp_path: Path) -> None:
    """The others may start when it has written the first files of the run already."""
    config = make_config(TINY)
    Trainer(config, tmp_path)
    with pytest.raises(FileExistsError):
        Trainer(config, tmp_path)
    Trainer(config, tmp_path, ranks=Ranks(rank=1))


def test_two_processes_learn_what_one_does(tmp_path: Path, together: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    Trainer(make_config(TINY), tmp_path).run()
    torch.set_num_threads(before)
    one, two = rows(tmp_path), rows(together)
    assert [(row["phase"], row["step"]) for row in two] == [(row["phase"], row["step"]) for row in one]
    assert len(two) == 16  # one writer
    losses = [[float(row["loss"]) for row in log] for log in (one, two)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)  # other orders of sums
    assert len(set(losses[0])) > 12  # a curve
    weights, others = (load_file(folder / "model.safetensors") for folder in (tmp_path, together))
    for name, weight in weights.items():
        torch.testing.assert_close(others[name], weight, atol=2e-4, rtol=1e-2)
    assert sorted(path.name for path in together.iterdir()) == sorted(path.name for path in tmp_path.iterdir())


def kill_all(agent: subprocess.Popen[bytes]) -> None:
    """kill -9 of torchrun and of its workers, which have their own sessions and would continue without it."""
    workers = [int(pid) for pid in Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()]
    assert len(workers) >= 2
    for pid in (agent.pid, *workers):
        os.kill(pid, signal.SIGKILL)
    agent.wait()
    deadline = time.monotonic() + 30
    while any(is_running(pid) for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_killed_processes_resume_to_the_same_bits(tmp_path: Path, together: Path) -> None:
    agent = torchrun(tmp_path)
    checkpoint = tmp_path / "checkpoint.safetensors"
    deadline = time.monotonic() + 200
    while not checkpoint.exists() and agent.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    kill_all(agent)
    state = read_checkpoint(checkpoint).state
    assert (state["phase"], state["step"]) != ("refine", TINY["refine_steps"])  # in the middle
    assert not (tmp_path / "model.safetensors").exists()
    assert torchrun(tmp_path, "--resume").wait(timeout=240) == 0
    for name in ("model.safetensors", "checkpoint.safetensors"):
        resumed, whole = load_file(tmp_path / name), load_file(together / name)
        assert resumed.keys() == whole.keys()
        for key in whole:
            assert torch.equal(resumed[key], whole[key]), key


def test_shares_make_up_the_batch() -> None:
    everything = torch.arange(12)
    shares = [everything[Ranks(rank, 3).share(12)] for rank in range(3)]
    assert torch.equal(torch.cat(shares), everything)
    assert [Ranks(rank, 3).main for rank in range(3)] == [True, False, False]
    assert ALONE.share(7) == slice(0, 7)
    with pytest.raises(ValueError, match="a batch of 10 cannot be shared by 3 processes"):
        Ranks(0, 3).share(10)


def test_without_torchrun_a_process_is_alone() -> None:
    with torchrun_ranks() as ranks:
        assert ranks == ALONE
    assert ranks.mean(2.5) == 2.5
    module = torch.nn.Linear(2, 2)
    assert ranks.parallel(module) is module
