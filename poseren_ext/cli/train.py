# SPDX-License-Identifier: MIT
"""`poseren train`: train a model from a configuration; a run can be resumed at any time."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from poseren_ext.cli import _option_values, options

if TYPE_CHECKING:
    from rich.progress import Progress

    from poseren_ext.training import TrainConfig
    from poseren_ext.training.trainer import Watch

_RECIPES = ("compact", "bundled", "paper", "released")
_OWN_CONFIG = "config.toml"


def train_command(
    config: Annotated[str, typer.Argument(help=f"A TOML file of fields, or a recipe: {', '.join(_RECIPES)}.")],
    fields: Annotated[
        list[str] | None, typer.Argument(metavar="[FIELD=VALUE]...", help="Override the file's fields.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The run's folder. Default: runs/NAME, or the run that config.toml belongs to."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint in the folder.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in the folder.")] = False,
    device: options.Device = "cpu",
) -> None:
    """Train Init-CNN, then Pose-REN on the poses that it predicts. Give a recipe or a TOML file.

    The folder gets config.toml (all fields), log.csv, checkpoint.safetensors (and the one before), and at the end
    model.safetensors. --resume continues an interrupted or killed run; with the same number of CPU threads the result
    is bit-identical. The fields are those of poseren_ext.training.TrainConfig, values as in TOML. Several GPUs:
    torchrun -m poseren_ext.training.

    [bold]Examples[/bold]

    poseren train compact

    poseren train compact start=demo seed=2 init_steps=0 refine_steps=2000 --out runs/better

    poseren train paper data=nyu-train.pack skeleton=nyu14 validation_data=nyu-test.pack tensorboard=true --device cuda

    poseren train runs/better/config.toml --resume refine_steps=3000
    """
    from poseren_ext.cli._console import console
    from poseren_ext.training.__main__ import launch
    from poseren_ext.training.interruption import Terminated

    _option_values.compute_device(device)
    if resume and overwrite:
        raise typer.BadParameter("not together with --resume; a run is continued or replaced", param_hint="--overwrite")
    how: dict[str, Any] = {"resume": resume, "overwrite": overwrite, "device": device}
    read = _read(config, fields or [])
    folder = out or _folder(config)
    command = ["poseren", "train", str(folder / _OWN_CONFIG), "--resume", *(["--device", device] * (device != "cpu"))]
    try:
        with _progress() as watch, launch(read, folder, **how, watch=watch) as trainer:
            trainer.run()
    except KeyboardInterrupt as stop:
        at = _saved(folder)
        text = f"resume from {at} with: {shlex.join(command)}" if at else "nothing was trained yet; start again"
        what, status = ("terminated", 143) if isinstance(stop, Terminated) else ("interrupted", 130)
        console(stderr=True).print(f"poseren: {what}; {text}", markup=False, soft_wrap=True)
        raise typer.Exit(status) from None
    if trainer.ranks.main:
        console().print(f"{folder / 'model.safetensors'}", markup=False, soft_wrap=True)


def _saved(folder: Path) -> str:
    """The phase and step that --resume will continue from, as the checkpoint says; "" without one."""
    from poseren_ext.training.checkpoint import CorruptCheckpointError, read_checkpoint
    from poseren_ext.training.run_folder import CHECKPOINT

    try:
        state = read_checkpoint(folder / CHECKPOINT).state
    except (FileNotFoundError, CorruptCheckpointError):
        return ""
    return f"{state['phase']} step {state['step']}"


def _read(config: str, fields: list[str]) -> TrainConfig:
    from poseren_ext.training import read_config

    if config in _RECIPES:
        return read_config(overrides=[f"recipe={config}", *fields])
    path = Path(config)
    if not path.is_file():
        raise FileNotFoundError(f"no configuration {config}; expected a TOML file or one of {', '.join(_RECIPES)}")
    return read_config(path, fields)


def _folder(config: str) -> Path:
    """The folder of the run that config.toml is from; otherwise one in runs/, named after the file or its folder."""
    from poseren_ext.training.checkpoint import existing_checkpoints
    from poseren_ext.training.run_folder import CHECKPOINT

    path = Path(config)
    if path.name != _OWN_CONFIG:
        return Path("runs") / path.stem
    return path.parent if existing_checkpoints(path.parent / CHECKPOINT) else Path("runs") / path.resolve().parent.name


@contextmanager
def _progress() -> Iterator[Watch]:
    """A line on a terminal's stderr for each phase, and while frames are rendered.

    Without a terminal: a line for each validation and one where rendering of frames starts.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from poseren_ext.cli._console import console
    from poseren_ext.training.trainer import FRAMES

    shown = console(stderr=True)
    columns = (
        TextColumn("{task.description:6}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[numbers]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=shown, disable=not shown.is_terminal) as progress:
        tasks: dict[str, Any] = {}
        errors: dict[str, str] = {}

        def watch(phase: str, step: int, steps: int, row: Mapping[str, Any]) -> None:
            if phase == FRAMES:
                _show_rendering(progress, tasks, step, steps)
                return
            measured = row.get("validation_mm")
            if measured:
                errors[phase] = " > ".join(f"{error:.2f}" for error in measured) + " mm"
            if phase not in tasks:
                tasks[phase] = progress.add_task(phase, total=steps, completed=step - 1, numbers="")
            numbers = [f"loss {row['loss']:.4f}", f"{row['samples_per_second']:.0f}/s"] if row else []
            progress.update(tasks[phase], completed=step, numbers="  ".join([*numbers, errors.get(phase, "")]))
            if measured and progress.disable:
                print(f"{phase} {step}/{steps}  {'  '.join(numbers)}  {errors[phase]}", file=sys.stderr, flush=True)

        yield watch


def _show_rendering(progress: Progress, tasks: dict[str, Any], done: int, count: int) -> None:
    """The progress of rendering; the line is removed at the end."""
    if progress.disable:
        if done == 0 and str(count) not in tasks:  # once, and not for every chunk of an endless stream
            tasks[str(count)] = None
            print(f"rendering {count} synthetic frames", file=sys.stderr, flush=True)
        return
    if done == 0:
        tasks["frames"] = progress.add_task("frames", total=count, numbers="rendering")
    progress.update(tasks["frames"], completed=done)
    if done == count:
        progress.remove_task(tasks.pop("frames"))
