# SPDX-License-Identifier: MIT
"""Training runs that are interrupted, diverge, or are started where other files are."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from poseren_ext.cli import main
from poseren_ext.training import Trainer, make_config, read_config
from poseren_ext.training.checkpoint import read_checkpoint
from poseren_ext.training.interruption import Terminated
from poseren_ext.training.trainer import DivergedError

TINY: dict[str, Any] = {
    **{"channels": [4, 8, 8], "init_widths": [8, 8], "refine_widths": [8, 8], "batch": 4, "chunk": 8, "reuse": 4},
    **{"init_steps": 6, "refine_steps": 6, "stages": 1, "warmup": 1, "validate_every": 0, "validation_frames": 4},
}
FIELDS = [f"{name}={value}" for name, value in TINY.items()]


def command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as status:
        main([str(argument) for argument in arguments])
    return int(status.value.code or 0)


@pytest.mark.parametrize(("number", "error"), [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)])
@pytest.mark.parametrize("step", [0, 3])
def test_a_signal_finishes_the_step_and_saves_a_checkpoint(
    number: signal.Signals, error: type[KeyboardInterrupt], step: int, tmp_path: Path
) -> None:
    class Signalled(Trainer):
        def _train_step(self, batch: Any) -> Any:
            loss = super()._train_step(batch)
            if self.step == step:
                os.kill(os.getpid(), number)
            return loss

    with pytest.raises(error):
        Signalled(make_config(TINY), tmp_path).run()
    state = read_checkpoint(tmp_path / "checkpoint.safetensors").state
    assert (state["phase"], state["step"]) == ("init", step + 1)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_run_can_be_resumed_before_its_first_step(tmp_path: Path) -> None:
    Trainer(make_config(TINY), tmp_path)
    assert Trainer(make_config(TINY), tmp_path, resume=True).saved == ("init", 0)


@pytest.mark.parametrize("recipe", ["compact", "paper"])
def test_a_run_interrupted_while_frames_are_rendered_resumes_to_the_same_bits(recipe: str, tmp_path: Path) -> None:
    given = {**TINY, "recipe": recipe, "frames": 8, "refine_steps": 2, "init_steps": 2, "validate_every": 2}
    config = make_config({**given, "fully_connected": "he"})
    told: list[tuple[int, int]] = []

    def interrupt(phase: str, done: int, count: int, row: Mapping[str, Any]) -> None:
        if phase == "frames":
            told.append((done, count))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Trainer(config, tmp_path / "run", watch=interrupt)
    assert told == [(0, 8)]
    state = read_checkpoint(tmp_path / "run" / "checkpoint.safetensors").state
    assert (state["phase"], state["step"]) == ("init", 0)
    resumed = Trainer(config, tmp_path / "run", resume=True).run()
    whole = Trainer(config, tmp_path / "whole").run()
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name


def test_rendering_is_reported(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    config = make_config({**TINY, "recipe": "paper", "frames": 150, "validate_every": 2})
    Trainer(config, tmp_path, watch=lambda phase, done, count, row: told.append((phase, done, count)))
    training = [("frames", 0, 150), ("frames", 128, 150), ("frames", 150, 150)]
    assert told == [*training, ("frames", 0, 4), ("frames", 4, 4)]


def test_a_run_is_replaced_when_asked_and_nothing_else_in_its_folder(tmp_path: Path) -> None:
    Trainer(make_config(TINY), tmp_path).run()
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="resume=True continues it, overwrite=True replaces it"):
        Trainer(make_config({**TINY, "seed": 2}), tmp_path)
    with pytest.raises(ValueError, match="resume and overwrite are both True"):
        Trainer(make_config(TINY), tmp_path, resume=True, overwrite=True)
    replaced = Trainer(make_config({**TINY, "seed": 2}), tmp_path, overwrite=True)
    assert replaced.saved == ("init", 0)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert not (tmp_path / "model.safetensors").exists()
    assert (tmp_path / "log.csv").read_text().count("\n") == 1
    assert read_config(tmp_path / "config.toml").seed == 2
    fields = [*FIELDS, "refine_steps=1", "init_steps=1", "--out", tmp_path]
    assert command("train", "compact", *fields) == 1
    assert command("train", "compact", *fields, "--overwrite", "--resume") == 2
    assert command("train", "compact", *fields, "--overwrite") == 0
    assert (tmp_path / "model.safetensors").exists()


def test_validation_comes_when_it_is_due_whatever_the_other_intervals(tmp_path: Path) -> None:
    intervals = {"validate_every": 2, "log_every": 5, "checkpoint_every": 4}
    Trainer(make_config({**TINY, **intervals}), tmp_path).run()
    rows = [line.split(",") for line in (tmp_path / "log.csv").read_text().splitlines()[1:]]
    expected = [("2", True), ("4", True), ("5", False), ("6", True)]
    for phase in ("init", "refine"):
        assert [(row[1], bool(row[5])) for row in rows if row[0] == phase] == expected


def test_a_diverged_training_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DivergedError, match="the training diverged: the loss is"):
        Trainer(make_config({**TINY, "learning_rate": 1e30}), tmp_path / "one").run()
    every_step = {**TINY, "validate_every": 1, "learning_rate": 1e30}  # the loss of the first step is finite
    with pytest.raises(DivergedError, match="diverged: the error on the validation frames is nan at init step 1"):
        Trainer(make_config(every_step), tmp_path / "validated").run()
    assert command("train", "compact", *FIELDS, "learning_rate=1e30", "--out", tmp_path / "two") == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("poseren: error: the training diverged")
    assert "lower learning_rate (now 1e+30)" in error


@pytest.mark.parametrize("name", ["config.toml", "log.csv", "model.safetensors", "phases.json"])
def test_files_that_are_not_of_a_run_are_never_overwritten(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("# my notes")
    with pytest.raises(FileExistsError, match=f"holds {name}, which the training would overwrite"):
        Trainer(make_config(TINY), tmp_path)
    assert (tmp_path / name).read_text() == "# my notes"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_config_file_with_comments_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = "# my notes\n" + "\n".join(FIELDS) + "\n"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.toml").write_text(text)
    assert command("train", "mine/config.toml") == 0
    assert (tmp_path / "mine" / "config.toml").read_text() == text
    run = tmp_path / "runs" / "mine"
    assert (run / "model.safetensors").exists()
    noted = "# a good run\n" + (run / "config.toml").read_text()
    (run / "config.toml").write_text(noted)
    assert command("train", "runs/mine/config.toml", "--resume") == 0
    assert (run / "config.toml").read_text() == noted
    assert command("train", "runs/mine/config.toml", "--resume", "refine_steps=7") == 0
    assert (run / "config.toml.previous").read_text() == noted


@pytest.mark.parametrize(
    ("given", "nearest"),
    [("lerning_rate", "learning_rate"), ("steps", "_steps"), ("validation_every", "validate_every")],
)
def test_an_unknown_field_is_answered_with_the_nearest_names(
    given: str, nearest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("train", "compact", f"{given}=1") == 1
    error = capsys.readouterr().err
    assert f"unknown field {given!r}" in error
    assert nearest in error.partition("did you mean")[2]
    assert len(error) < 250
