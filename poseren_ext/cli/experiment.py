# SPDX-License-Identifier: MIT
"""`poseren experiment`: a table or figure of the paper from one command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from poseren_ext.experiments.report import Report


def experiment_command(
    name: Annotated[str, typer.Argument(help="table1, fig5 to fig14, table2.")],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", help="Published predictions: DATASET/test_groundtruth_uvd.txt, DATASET/predictions/*.txt."
        ),
    ] = None,
    scale: Annotated[
        str, typer.Option("--scale", help="Synthetic hands: tiny (minutes on two cores), small (hours), full (a GPU).")
    ] = "tiny",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for NAME/: JSON, Markdown, pictures.")] = Path(
        "results"
    ),
    device: Annotated[str, typer.Option("--device", help="Where to train: cpu or cuda.")] = "cpu",
) -> None:
    """Rerun a table or a figure of the paper.

    With --data on published predictions; without, on synthetic hands, with models that this command trains first (they
    are kept under OUT/models, and the next experiment of the same scale uses them).

    [bold]Examples[/bold]

    poseren experiment table1 --data published/

    poseren experiment fig10 --scale tiny
    """
    from poseren_ext.cli._console import console, table
    from poseren_ext.experiments import NAMES

    if name not in NAMES:
        raise typer.BadParameter(f"{name!r}; expected one of {', '.join(NAMES)}", param_hint="NAME")
    report = _on_published(name, data) if data else _on_synthetic(name, scale, out, device)
    screen = console()
    screen.print(f"[bold]{report.title}[/bold]")
    screen.print(f"Data: {report.source}", markup=False)
    for one in report.tables:
        screen.print(table(one.title, one.columns, one.rows))
    for note in report.notes:
        screen.print(f"- {note}", markup=False)
    screen.print(f"Written to {report.write(out)}", markup=False)


def _on_published(name: str, data: Path) -> Report:
    from poseren_ext.experiments.published import EXPERIMENTS

    if name not in EXPERIMENTS:
        raise ValueError(
            f"{name} needs frames or a model's stages; published predictions are final poses. Leave --data out to run "
            "it on synthetic hands"
        )
    return EXPERIMENTS[name](data)


def _on_synthetic(name: str, scale: str, out: Path, device: str) -> Report:
    from rich.progress import Progress

    from poseren_ext.cli._console import console
    from poseren_ext.experiments.lab import SCALES
    from poseren_ext.experiments.synthetic import EXPERIMENTS, Bench

    if scale not in SCALES:
        raise typer.BadParameter(f"{scale!r}; expected one of {', '.join(SCALES)}", param_hint="--scale")
    messages = console(stderr=True)
    with Progress(console=messages, disable=not messages.is_terminal) as progress:
        task = progress.add_task("", total=1)

        def tell(what: str, step: int, steps: int) -> None:
            progress.update(task, description=f"training {what}", completed=step, total=steps)

        return EXPERIMENTS[name](Bench(SCALES[scale], out / "models", tell, device))
