# SPDX-License-Identifier: MIT
"""`poseren train` on a full or read-only disk and without its pack: it reports the fault and can be resumed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from helpers.dataset_trees import nyu_tree
from helpers.faults import full_disk, make_read_only
from helpers.trust_record import record
from safetensors.torch import load_file

from poseren_ext.cli import main
from poseren_ext.datasets.nyu import NYU
from poseren_ext.datasets.packs.writer import write_pack
from poseren_ext.training import Trainer, trainer
from poseren_ext.training.checkpoint import read_checkpoint

FIELDS = "channels=[4,8,8] init_widths=[16,16] refine_widths=[8,8] batch=4 init_steps=6 refine_steps=6 stages=2"
FIELDS += " warmup=1 log_every=1 validate_every=6 checkpoint_every=2 skeleton=nyu14"
STEPS = 12


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pack")
    nyu_tree(root / "nyu", frames=6, splits=("train",))
    write_pack(NYU(root / "nyu"), root / "nyu.pack")
    return root / "nyu.pack"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, pack: Path) -> Path:
    """An undisturbed run."""
    folder = tmp_path_factory.mktemp("whole")
    assert train(pack, folder) == 0
    return folder


def train(pack: Path, folder: Path, *more: str) -> int:
    fields = [*FIELDS.split(), f"data={pack}", f"validation_data={pack}"]
    with pytest.raises(SystemExit) as status:
        main(["train", "compact", *fields, "--out", str(folder), *more])
    return int(status.value.code or 0)


def at_step(monkeypatch: pytest.MonkeyPatch, step: int, fault: Callable[[], Any]) -> None:
    """Before a step, counted over both phases from 0, the fault comes, and stays."""
    train_step, steps = Trainer._train_step, [0]

    def with_fault(self: Trainer, batch: Any) -> float:
        if steps[0] == step:
            fault()
        steps[0] += 1
        return train_step(self, batch)

    monkeypatch.setattr(trainer.Trainer, "_train_step", with_fault)


def same(folder: Path, whole: Path) -> None:
    """Bit-identical weights and checkpoint, and no other files."""
    for name in ("model.safetensors", "checkpoint.safetensors"):
        one, other = load_file(folder / name), load_file(whole / name)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one), name
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in whole.iterdir())


# Where the disk gets full: at a row of the log, at a checkpoint, at the model itself.
FULL = {"log.csv": lambda folder: (folder / "log.csv").stat().st_size + 5, "checkpoint.safetensors": lambda _: 4000}


@pytest.mark.parametrize("file", FULL)
@pytest.mark.parametrize("turn", [1, 2])
def test_a_disk_that_gets_full(
    file: str,
    turn: int,
    pack: Path,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, step = tmp_path / "run", Random(f"{file} {turn}").randrange(2, STEPS)
    with ExitStack() as stack, monkeypatch.context() as patched:
        at_step(patched, step, lambda: stack.enter_context(full_disk(FULL[file](folder))))
        assert train(pack, folder) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("poseren: error: ")
    assert "cannot write" in message
    assert f"{folder / file}: " in message
    assert "File too large" in message
    assert "untouched" in message
    done = read_checkpoint(folder / "checkpoint.safetensors").state
    assert done["step"] + 6 * (done["phase"] == "refine") in (step - step % 2, step)
    assert (folder / "log.csv").read_bytes().endswith(b"\r\n")
    assert train(pack, folder, "--resume") == 0
    same(folder, whole)
    record(
        "faults",
        f"full disk during train, at its {file}",
        injected=turn,
        kept="the last checkpoint; resumed, bit-identical",
    )


@pytest.mark.parametrize("step", [3, STEPS - 1])
def test_a_disk_that_becomes_read_only(
    step: int,
    pack: Path,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "run"
    with monkeypatch.context() as patched:
        at_step(patched, step, lambda: make_read_only(patched))
        assert train(pack, folder) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith(f"poseren: error: cannot write checkpoint {folder / 'checkpoint.safetensors'}")
    assert "Read-only file system" in message
    assert train(pack, folder, "--resume") == 0
    same(folder, whole)
    record("faults", "read-only disk during train", injected=2, kept="the last checkpoint; resumed, bit-identical")


def test_a_folder_that_cannot_be_written_at_the_start(
    pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no folder")
    assert train(pack, tmp_path / "file" / "run") == 1
    assert "file/run" in capsys.readouterr().err.splitlines()[-1]
    make_read_only(monkeypatch)
    assert train(pack, tmp_path / "run") == 1
    assert "Read-only file system; what was there is untouched" in capsys.readouterr().err.splitlines()[-1]
    record("faults", "a folder that cannot be written, for train", injected=2, kept="nothing was begun; it is named")


def test_a_pack_that_vanishes(
    pack: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run holds the frames in memory and ends without the file; resuming needs it back."""
    content = pack.read_bytes()
    with monkeypatch.context() as patched:
        at_step(patched, 4, pack.unlink)
        assert train(pack, tmp_path / "run") == 0
    same(tmp_path / "run", whole)
    assert train(pack, tmp_path / "run", "--resume") == 1
    assert f"{pack}: no such file" in capsys.readouterr().err.splitlines()[-1]
    pack.write_bytes(content)
    assert train(pack, tmp_path / "run", "--resume") == 0
    same(tmp_path / "run", whole)
    record("faults", "a pack vanishing during train", injected=2, kept="the run; resuming names the file")
