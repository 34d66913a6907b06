# SPDX-License-Identifier: MIT
"""`poseren train`: configuration, log, TensorBoard, resuming, and Ctrl-C."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from poseren_ext.cli import main
from poseren_ext.models import load
from poseren_ext.training import read_config
from poseren_ext.training.checkpoint import read_checkpoint

TINY = """
channels = [4, 8, 8]
init_widths = [16, 16]
refine_widths = [8, 8]
batch = 6
init_steps = 4
refine_steps = 4
stages = 2
chunk = 16
reuse = 2
warmup = 1
log_every = 2
validate_every = 4
checkpoint_every = 2
validation_frames = 8
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


def train(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit status, stdout, stderr."""
    with pytest.raises(SystemExit) as status:
        main(["train", *map(str, arguments)])
    code = status.value.code
    return int(code or 0), *capsys.readouterr()


def test_a_run_is_logged_and_lengthened(
    tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, output, errors = train(capsys, config, "batch=4", "tensorboard=true", "seed=7")
    assert status == 0, errors
    run = tmp_path / "runs" / "tiny"
    assert output.strip() == str(Path("runs/tiny/model.safetensors"))
    lines = [line.split()[:2] for line in errors.splitlines()]
    assert lines == [["rendering", "16"], ["rendering", "8"], ["init", "4/4"], ["refine", "4/4"]]
    assert read_config(run / "config.toml") == read_config(config, ["batch=4", "tensorboard=true", "seed=7"])
    assert load(run / "model.safetensors").skeleton.name == "msra21"

    status, _, errors = train(capsys, config, "batch=4", "seed=7")
    assert status == 1
    assert "holds a training already; --resume continues it, --overwrite replaces it, or train in another" in errors

    status, _, errors = train(capsys, run / "config.toml", "--resume", "refine_steps=8")
    assert status == 0, errors
    assert read_checkpoint(run / "checkpoint.safetensors").state["step"] == 8
    with (run / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    steps = [("init", "2"), ("init", "4"), *(("refine", str(step)) for step in (2, 4, 6, 8))]
    assert [(row["phase"], row["step"]) for row in rows] == steps
    assert _scalars(run / "tensorboard") == {
        "init/loss": [(int(row["step"]), float(row["loss"])) for row in rows[:2]],
        "refine/loss": [(4 + int(row["step"]), float(row["loss"])) for row in rows[2:]],
        "refine/validation_mm/stage_3": [
            (4 + step, float(row["validation_mm"].split()[3])) for step, row in ((4, rows[3]), (8, rows[5]))
        ],
    }


def _scalars(folder: Path) -> dict[str, list[tuple[int, object]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    wanted = ("init/loss", "refine/loss", "refine/validation_mm/stage_3")
    return {tag: [(e.step, pytest.approx(e.value, abs=1e-3)) for e in events.Scalars(tag)] for tag in wanted}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.toml"], "no configuration nothing.toml; expected a TOML file or one of compact, bundled, paper,"),
        (["compact", "bach=3"], "unknown field 'bach' in the training configuration; did you mean batch"),
        (["compact", "batch=many"], "batch is 'many'; expected an integer like 64"),
        (["compact", "--resume"], "no checkpoint at runs/compact/checkpoint.safetensors"),
        (["compact", "start=gone.safetensors"], "no model at 'gone.safetensors'"),
    ],
)
def test_faults_are_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    status, _, errors = train(capsys, *arguments, *(["validate_every=0", "chunk=8"] if "=" in message else []))
    assert status == 1
    assert errors.startswith("poseren: error: ")
    assert message in errors
    assert errors.count("\n") == 1


def test_without_tensorboard_it_says_what_to_install(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    status, _, errors = train(capsys, config, "--out", tmp_path / "run", "tensorboard=true", "validate_every=0")
    assert status == 1
    assert "pip install 'poseren_ext[train]'" in errors


def test_weights_and_biases_gets_the_configuration_and_the_numbers(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, logged = tmp_path / "run", {}

    class Run:  # the signature of wandb.Run.log
        def log(self, data: dict[str, float], step: int | None = None, commit: bool | None = None) -> None:
            logged[step] = data

    def init(*, dir: str, group: str, config: dict[str, object], reinit: str) -> Run:
        assert (dir, group, config["batch"], reinit) == (str(run), "run", 4, "finish_previous")
        return Run()

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    status, _, errors = train(capsys, config, "--out", run, "batch=4", "wandb=true")
    assert status == 0, errors
    with (run / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(logged) == [2, 4, 6, 8]
    for row, data in zip(rows, logged.values(), strict=True):
        assert float(row["loss"]) == pytest.approx(data[f"{row['phase']}/loss"], rel=1e-5)
    last = [float(error) for error in rows[-1]["validation_mm"].split()]
    assert [logged[8][f"refine/validation_mm/stage_{k}"] for k in range(4)] == pytest.approx(last, abs=1e-3)

    monkeypatch.setitem(sys.modules, "wandb", None)
    status, _, errors = train(capsys, config, "--out", tmp_path / "other", "wandb=true", "validate_every=0")
    assert (status, "pip install 'poseren_ext[wandb]'" in errors) == (1, True)


def test_ctrl_c_leaves_a_whole_checkpoint_to_go_on_from(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    code = "from poseren_ext.cli import main; main()"
    command = [sys.executable, "-c", code, "train", str(config), "init_steps=100000", "--out", str(run)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 120
    while not (run / "checkpoint.safetensors").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=60)[1].splitlines()
    assert process.returncode == 130
    assert errors[-1].startswith("poseren: interrupted; resume from init step ")
    assert not any("Traceback" in line for line in errors)
    step = read_checkpoint(run / "checkpoint.safetensors").state["step"]
    assert f"init step {step} " in errors[-1]
    assert sorted(path.name for path in run.iterdir() if path.name.startswith(".")) == []
    status, _, _ = train(capsys, run / "config.toml", "--resume", f"init_steps={step + 1}", "refine_steps=1")
    assert status == 0
    assert (run / "model.safetensors").exists()
