# SPDX-License-Identifier: MIT
"""A resumed training run is bit-identical to one that was not killed; a damaged checkpoint is detected."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers.interrupted_training import interrupt_training
from helpers.tiny_training import TINY
from safetensors.torch import load_file

from poseren_ext.training import TrainConfig, Trainer, make_config, read_config
from poseren_ext.training.checkpoint import (
    Checkpoint,
    CorruptCheckpointError,
    read_checkpoint,
    write_checkpoint,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The folder of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    Trainer(make_config(TINY), folder).run()
    return folder


def _same_tensors(a: Path, b: Path) -> bool:
    one, other = load_file(a), load_file(b)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(("phase", "step"), [("init", 3), ("init", 4), ("refine", 0), ("refine", 3)])
def test_resumed_run_is_bit_identical(tmp_path: Path, whole: Path, phase: str, step: int) -> None:
    interrupt_training(make_config(TINY), tmp_path, phase, step)
    Trainer(make_config(TINY), tmp_path, resume=True).run()
    assert _same_tensors(tmp_path / "model.safetensors", whole / "model.safetensors")
    assert _same_tensors(tmp_path / "checkpoint.safetensors", whole / "checkpoint.safetensors")


def test_killed_process_resumes_bit_identically(tmp_path: Path, whole: Path) -> None:
    overrides = [f"{name}={json.dumps(value)}" for name, value in TINY.items()]
    command = [sys.executable, "-m", "poseren_ext.training", str(tmp_path), *overrides]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    checkpoint = tmp_path / "checkpoint.safetensors"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert checkpoint.exists()
    Trainer(make_config(TINY), tmp_path, resume=True).run()
    assert _same_tensors(tmp_path / "model.safetensors", whole / "model.safetensors")


def test_run_may_be_lengthened_but_not_changed(tmp_path: Path) -> None:
    Trainer(make_config(TINY), tmp_path).run()
    with pytest.raises(ValueError, match="another batch"):
        Trainer(make_config({**TINY, "batch": 4}), tmp_path, resume=True)
    trainer = Trainer(make_config({**TINY, "refine_steps": 8}), tmp_path, resume=True)
    trainer.run()
    assert (trainer.phase, trainer.step) == ("refine", 8)


def test_resuming_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="start the training without resuming"):
        Trainer(make_config(TINY), tmp_path, resume=True)


def _checkpoint(value: float) -> Checkpoint:
    return Checkpoint({"weight": torch.full((3, 5), value), "none": torch.zeros(0)}, {"step": int(value)})


@pytest.mark.parametrize("damage", ["truncated", "altered", "empty", "foreign"])
def test_corrupt_checkpoint_is_refused_and_the_previous_one_used(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "checkpoint.safetensors"
    write_checkpoint(path, _checkpoint(1.0))
    write_checkpoint(path, _checkpoint(2.0))
    assert read_checkpoint(path).state["step"] == 2
    content = bytearray(path.read_bytes())
    if damage == "altered":
        content[-3] ^= 1
    written = {"truncated": content[:-7], "altered": content, "empty": b"", "foreign": b"\x80\x04K\x01."}[damage]
    path.write_bytes(written)
    old = read_checkpoint(path)
    assert old.state["step"] == 1
    assert torch.equal(old.tensors["weight"], torch.full((3, 5), 1.0))
    path.with_name(path.name + ".previous").unlink()
    with pytest.raises(CorruptCheckpointError):
        read_checkpoint(path)


def test_checkpoint_without_its_checksum_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "checkpoint.safetensors"
    save_file({"weight": torch.zeros(2)}, path, {"state": "{}"})
    with pytest.raises(CorruptCheckpointError, match="checksum"):
        read_checkpoint(path)


def test_full_disk_leaves_the_last_good_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint.safetensors"
    write_checkpoint(path, _checkpoint(1.0))

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="the last good one is untouched"):
        write_checkpoint(path, _checkpoint(2.0))
    monkeypatch.undo()
    assert read_checkpoint(path).state["step"] == 1
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_interrupted_between_the_renames_reads_the_previous(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    write_checkpoint(path, _checkpoint(1.0))
    path.rename(path.with_name(path.name + ".previous"))
    assert read_checkpoint(path).state["step"] == 1


def test_log_and_configuration_are_written(whole: Path) -> None:
    rows = (whole / "log.csv").read_text().splitlines()
    assert rows[0] == "phase,step,loss,learning_rate,samples_per_second,validation_mm"
    assert [row.split(",")[:2] for row in rows[1:]] == [[p, str(s)] for p in ("init", "refine") for s in (2, 4, 6)]
    assert len(rows[-1].split(",")[-1].split()) == 4  # initial pose and three stages
    assert read_config(whole / "config.toml") == make_config(TINY)
    assert isinstance(make_config(TINY), TrainConfig)


def test_a_run_killed_between_two_renames_is_not_restarted(tmp_path: Path, whole: Path) -> None:
    left = tmp_path / "checkpoint.safetensors.previous"
    left.write_bytes((whole / "checkpoint.safetensors").read_bytes())
    with pytest.raises(FileExistsError, match="holds a training already"):
        Trainer(make_config(TINY), tmp_path)
    assert Trainer(make_config(TINY), tmp_path, resume=True).saved is not None
