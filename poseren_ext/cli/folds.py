# SPDX-License-Identifier: MIT
"""`poseren folds`: MSRA's nine models, each trained without one subject, and their joined predictions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from poseren_ext.cli.options import Device, Overwrite, Resume, Stages

if TYPE_CHECKING:
    from poseren_ext.training.trainer import Watch


def folds_command(
    root: Annotated[Path, typer.Argument(help="The folder of MSRA, which holds P0 to P8.")],
    config: Annotated[str, typer.Argument(help="A TOML file of fields, or a recipe, as for poseren train.")] = "paper",
    fields: Annotated[
        list[str] | None, typer.Argument(metavar="[FIELD=VALUE]...", help="Override the fields of the configuration.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the nine runs.")] = Path("folds"),
    stages: Stages = 3,
    device: Device = "cpu",
    workers: Annotated[int, typer.Option("--workers", min=0, help="Processes that decode frames.")] = 2,
    overwrite: Overwrite = False,
    resume: Resume = False,
) -> None:
    """Train and test on MSRA by leaving one subject out: nine models, whose predictions are joined.

    OUT gets predictions.txt and labels.txt of all nine subjects in order, for `poseren eval --dataset msra`, and the
    errors as a report. --resume continues an interrupted command.

    [bold]Examples[/bold]

    poseren folds msra/ paper --device cuda --out runs/msra
    """
    from poseren_ext.cli._console import console, progress, table
    from poseren_ext.experiments.folds import prepare_folder, run_folds
    from poseren_ext.training.config import read_config

    overrides = ["skeleton=msra21", *(fields or [])]
    is_file = config.endswith(".toml")
    read = read_config(Path(config) if is_file else None, overrides if is_file else [f"recipe={config}", *overrides])
    prepare_folder(out, overwrite=overwrite, resume=resume)
    messages = console(stderr=True)
    with progress() as bar:
        task = bar.add_task("", total=1)

        def watch(subject: int) -> Watch:
            def step(phase: str, done: int, steps: int, row: Mapping[str, Any]) -> None:
                bar.update(task, description=f"without P{subject}, {phase}", completed=done, total=steps)

            return step

        def skip(name: str, error: Exception) -> None:
            messages.print(f"WARNING: skipped {name}: {error}", markup=False, soft_wrap=True)

        report = run_folds(root, out, read, stages=stages, device=device, workers=workers, watch=watch, skip=skip)
    screen = console()
    for one in report.tables:
        screen.print(table(one.title, one.columns, one.rows))
    screen.print(f"Written to {report.write(out)}", markup=False)
