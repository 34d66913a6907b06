# SPDX-License-Identifier: MIT
"""Commands of the documentation that need a dataset, hours or a GPU: the same commands, on small data and networks."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers.command_line import Result
from helpers.dataset_trees import NYU_CAMERA, icvl_tree, msra_tree, nyu_tree, project
from helpers.docs_blocks import PAGES, ROOT, block_not_run, blocks_not_run, changed, commands
from helpers.small_models import save_small_model
from torch.distributed.run import get_args_parser as torchrun_parser
from typer.testing import CliRunner

from poseren_ext.datasets.nyu import NYU
from poseren_ext.experiments.synthetic import SCALES, Scale
from poseren_ext.io.pose_files import write_poses
from poseren_ext.training import TrainConfig, read_config

WIDTHS = ("channels=[4,8,8]", "init_widths=[16,16]", "refine_widths=[8,8]")
BRIEF = ("batch=4", "chunk=16", "validate_every=0", "warmup=1", "stages=1", "finish=false")
EPOCHS = ("init_epochs=1", "refine_epochs=1")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder in which the commands run, with one thread: the networks are small."""
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(threads)


Run = Callable[..., None]


@pytest.fixture
def run(poseren: Callable[..., Result]) -> Run:
    def call(command: str, *more: str, **replaced: str) -> None:
        """Run a command of a page in this process, with other values and more arguments."""
        program, *arguments = changed(command, *more, **replaced)
        assert program == "poseren", command
        done = poseren(*arguments)
        assert done.code == 0, f"{command}\n{done.err}"

    return call


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_is_understood(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The options and settings of commands that no test of documentation runs."""
    from poseren_ext.cli import _parser

    for command in (line for block in blocks_not_run(page) for line in commands(block)):
        program, _, rest = command.partition("|")[0].partition(" ")
        if program != "poseren":
            continue
        group, arguments = _parser(), shlex.split(rest)
        while hasattr(group, "commands"):
            group = group.commands[arguments.pop(0)]
        group.make_context("poseren", arguments)
        if group.name == "train":
            read_config(None, [word for word in arguments if re.match(r"\w+=", word)])


# --- datasets -------------------------------------------------------------------------------------------------------


def nyu(folder: Path, frames: int = 3) -> None:
    """NYU's folder and a file of the centres of its training frames."""
    joints = nyu_tree(folder / "nyu", frames)
    for split, name in (("train", "centers_train.txt"), ("test", "nyu/test_centers_uvd.txt")):
        write_poses(folder / name, project(joints[split].mean(1, keepdims=True), NYU_CAMERA))


@pytest.mark.parametrize("page", ["data.md", "guides/dataset.md"])
def test_a_dataset_is_checked_packed_and_read(here: Path, run: Run, page: str) -> None:
    nyu(here)
    for line in commands(block_not_run(page, "poseren data pack nyu/")):
        run(line)
    if page == "guides/dataset.md":
        run(*commands(block_not_run(page, "poseren data check nyu/")))
    scope: dict[str, object] = {}
    exec(block_not_run(page, "sample = dataset[0]"), scope)
    assert scope["sample"].xyz.shape == (14, 3)  # type: ignore[attr-defined]


# --- training -------------------------------------------------------------------------------------------------------


def test_training_and_its_continuation(here: Path, run: Run) -> None:
    """docs/data.md: runs with and without settings, resumed, lengthened, and started from other models."""
    first, second = commands(block_not_run("data.md", "poseren train compact\n"))
    run(first, *WIDTHS, *BRIEF, "init_steps=1", "refine_steps=1")
    run(second, *WIDTHS, *BRIEF, "init_steps=1", refine_steps="1")
    assert read_config(here / "runs/mine/config.toml").seed == 2
    resumed, lengthened, from_a_run, from_the_bundled = commands(block_not_run("data.md", "--resume\n"))
    run(resumed)
    run(lengthened, refine_steps="2")
    assert read_config(here / "runs/mine/config.toml").refine_steps == 2
    run(from_a_run, *WIDTHS, *BRIEF, "refine_steps=1")
    # The last one is run by docs/guides/own_data.md.
    assert from_the_bundled.startswith("poseren train bundled start=demo --out ")
    assert not (here / from_the_bundled.split()[-1]).exists(), "each run has a folder of its own"


def test_a_model_of_ones_own(here: Path, run: Run, poseren: Callable[..., Result]) -> None:
    """docs/guides/model.md: a run on synthetic hands, the paper's recipe on a pack, and predictions with its model."""
    page = "guides/model.md"
    run(*commands(block_not_run(page, "train compact")), *WIDTHS, *BRIEF, "init_steps=1", "refine_steps=1")
    nyu(here)
    assert poseren("data", "pack", "nyu", "nyu-train.pack", "--split", "train").code == 0
    run(*commands(block_not_run(page, "train paper")), *WIDTHS, *BRIEF, *EPOCHS, device="cpu")
    (here / "nyu" / "train").rename(here / "frames")
    run(*commands(block_not_run(page, "poseren predict")))
    assert (here / "joints.txt").read_text().count("\n") == 9


def test_training_by_torchrun(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings arrive; test_training_distributed.py trains with two processes, one of them ends up as here."""
    from poseren_ext.training import __main__ as training

    (toml,) = re.findall(r"```toml\n((?:.*\n)*?)```", (ROOT / "docs" / "data.md").read_text())
    (here / "nyu.toml").write_text(toml)
    launched: list[tuple[TrainConfig, Path, str]] = []

    @contextmanager
    def launch(config: TrainConfig, folder: Path, *, device: str, **_: bool) -> Iterator[SimpleNamespace]:
        launched.append((config, folder, device))
        yield SimpleNamespace(run=lambda: None)

    monkeypatch.setattr(training, "launch", launch)
    for page, text in (("data.md", "recipe=bundled"), ("data.md", "nyu.toml"), ("guides/model.md", "torchrun")):
        (command,) = commands(block_not_run(page, text))
        arguments = [word for word in changed(command) if not word.startswith("OMP_")]
        given = torchrun_parser().parse_args(arguments[1:])
        assert (arguments[0], given.module, given.training_script) == ("torchrun", True, "poseren_ext.training")
        monkeypatch.setattr(sys, "argv", ["training", *given.training_script_args])
        training.main()
    cpu, toml_file, gpus = launched
    assert (cpu[0].recipe, cpu[0].start, cpu[0].accumulate, cpu[1:]) == (
        "bundled",
        "demo",
        4,
        (Path("runs/mine"), "cpu"),
    )
    for config, folder, device in (toml_file, gpus):
        assert (config.recipe, config.data, config.skeleton) == ("paper", "nyu-train.pack", "nyu14")
        assert (folder, device) == (Path("runs/nyu"), "cuda")


# --- evaluation and experiments -------------------------------------------------------------------------------------


def test_experiments_on_datasets(here: Path, run: Run) -> None:
    nyu(here)
    icvl_tree(here / "icvl")
    msra_tree(here / "msra")
    fig5, table2, fig11, fig8 = commands(block_not_run("evaluation.md", "--dataset nyu"))
    save_small_model(here / "mine.safetensors", "nyu14")
    write_poses(here / "DeepPrior.txt", NYU(here / "nyu", "test").uvd)
    run(fig5)
    run(fig11)
    for name in ("mine", "flat"):
        save_small_model(here / f"{name}.safetensors", "icvl16")
    run(table2)
    save_small_model(here / "without-subject-3.safetensors", "msra21")
    run(fig8)
    assert {path.name for path in (here / "results").iterdir()} >= {"fig5", "table2", "fig11", "fig8"}


def test_experiments_on_synthetic_hands(here: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    micro = Scale("micro", 2, 2, 8, (4, 4, 8), 8, (8, 8), 16, 2, 8, 1)
    for name in ("tiny", "small"):
        monkeypatch.setitem(SCALES, name, replace(micro, name=name))
    fig10, table2 = commands(block_not_run("evaluation.md", "fig10 --scale tiny"))
    assert fig10 in commands(block_not_run("measuring.md", "fig10 --scale tiny"))
    run(fig10)
    run(table2, seeds="2")
    assert {path.name for path in (here / "results").iterdir()} >= {"fig10", "table2"}


def test_the_benchmarks_of_all_subjects(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import SUBJECTS
    from benchmarks import __main__ as benchmarks

    subjects: list[str] = []
    monkeypatch.setattr(benchmarks, "run", lambda chosen, *_: subjects.extend(chosen) or [])
    command, _ = commands(block_not_run("measuring.md", "benchmarks all"))
    python, option, module, *arguments = changed(command)
    assert (python, option, module) == ("python", "-m", "benchmarks")
    assert CliRunner().invoke(benchmarks.app, arguments).exit_code == 0
    assert subjects == list(SUBJECTS)
    assert (here / "mine.json").exists()


def test_published_predictions_are_evaluated(here: Path, run: Run) -> None:
    """On files in the format of the published ones; test_evaluation_published.py has the numbers of the real ones."""
    nyu(here, 4)
    labels = NYU(here / "nyu", "test").uvd
    (here / "predictions").mkdir()
    write_poses(here / "test_groundtruth_uvd.txt", labels)
    write_poses(here / "predictions" / "Pose-REN.txt", labels + 1)
    run(*commands(block_not_run("measuring.md", "--pred Pose-REN=")))
    assert (here / "nyu.png").stat().st_size > 10_000
