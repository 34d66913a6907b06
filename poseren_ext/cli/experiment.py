# SPDX-License-Identifier: MIT
"""`poseren experiment`: a table or figure of the paper from one command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from poseren_ext.cli import options

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
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset", help="Recorded frames: nyu, icvl, msra, hands17, or folder for your own; needs --weights."
        ),
    ] = None,
    root: Annotated[Path | None, typer.Option("--root", help="The dataset's folder, as unpacked.")] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option("--weights", help="FILE of Pose-REN; NAME=FILE of a variant, e.g. 'w/o structure'. Repeat."),
    ] = None,
    start: Annotated[
        list[str] | None,
        typer.Option("--start", help="fig11: NAME=FILE, predictions of another method to start from. Repeat."),
    ] = None,
    centers: Annotated[
        Path | None,
        typer.Option("--centers", help="File of hand centres: one line u v d per frame. Default: from the images."),
    ] = None,
    split: Annotated[str, typer.Option("--split", help="Which frames of the dataset.")] = "test",
    subject: Annotated[int, typer.Option("--subject", help="MSRA: the subject that the weights have not seen.")] = 0,
    scale: Annotated[
        str,
        typer.Option("--scale", help="Synthetic hands: tiny (minutes), small (an hour), full (a GPU)."),
    ] = "tiny",
    seeds: Annotated[
        int | None, typer.Option("--seeds", min=1, help="Synthetic hands: how often to train. Default: the scale's.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for NAME/: JSON, Markdown, pictures.")] = Path(
        "results"
    ),
    device: options.Device = "cpu",
    overwrite: options.Overwrite = False,
) -> None:
    """Rerun a table or a figure of the paper.

    With --data on published predictions; with --dataset on recorded frames and given weights; with neither on synthetic
    hands, with models that this command trains first (they are kept under OUT/models, and the next experiment of the
    same scale uses them). A report that exists is refused; --overwrite replaces it.

    [bold]Examples[/bold]

    poseren experiment table1 --data published/

    poseren experiment fig10 --scale tiny

    poseren experiment fig5 --dataset nyu --root nyu/ --centers centers.txt --weights mine.safetensors
    """
    from poseren_ext.cli._console import console, table
    from poseren_ext.experiments import NAMES
    from poseren_ext.experiments.report import report_files

    if name not in NAMES:
        raise typer.BadParameter(f"{name!r}; expected one of {', '.join(NAMES)}", param_hint="NAME")
    if data and dataset:
        raise typer.BadParameter("published predictions and a dataset's frames given; choose one", param_hint="--data")
    options.check_outputs(*report_files(out, name), overwrite=overwrite, make_folder=True)
    if data:
        report = _on_published(name, data)
    elif dataset or root or weights:
        starts = _named(start or [], "--start")
        report = _on_dataset(name, dataset, root, weights or [], starts, centers, split, subject, device)
    else:
        report = _on_synthetic(name, scale, seeds, out, device)
    screen = console()
    screen.print(f"[bold]{report.title}[/bold]")
    screen.print(f"Data: {report.source}", markup=False)
    for one in report.tables:
        screen.print(table(one.title, one.columns, one.rows))
    for note in report.notes:
        screen.print(f"- {note}", markup=False)
    screen.print(f"Written to {report.write(out)}", markup=False)


def _named(given: Sequence[str], option: str, default: str | None = None) -> dict[str, Path]:
    """NAME=FILE, or FILE where there is a default name."""
    found: dict[str, Path] = {}
    for text in given:
        name, equals, file = text.rpartition("=")
        if not equals and default is None:
            raise typer.BadParameter(f"{text!r}; expected NAME=FILE", param_hint=option)
        name = name if equals else str(default)
        if name in found:
            raise typer.BadParameter(f"{name!r} is given twice; name the other, NAME=FILE", param_hint=option)
        found[name] = Path(file)
    return found


def _on_published(name: str, data: Path) -> Report:
    from poseren_ext.experiments.published import EXPERIMENTS

    if name not in EXPERIMENTS:
        raise ValueError(
            f"{name} needs a model's stages; published predictions are final poses. Leave --data out to run it on "
            "synthetic hands, or give --dataset, --root and --weights"
        )
    return EXPERIMENTS[name](data)


def _on_dataset(
    name: str,
    dataset: str | None,
    root: Path | None,
    weights: Sequence[str],
    starts: dict[str, Path],
    centers: Path | None,
    split: str,
    subject: int,
    device: str,
) -> Report:
    from poseren_ext.datasets.registry import DATASETS, NAMES
    from poseren_ext.experiments.dataset import DatasetBench
    from poseren_ext.experiments.figures import EXPERIMENTS
    from poseren_ext.experiments.synthetic import VARIANTS

    dataset = dataset.lower() if dataset else dataset
    if dataset not in NAMES:
        raise typer.BadParameter(f"{dataset!r}; expected one of {', '.join(NAMES)}", param_hint="--dataset")
    if root is None:
        raise typer.BadParameter(f"not given; expected the folder of {dataset}", param_hint="--root")
    only = next((other for other, reader in DATASETS.items() if name in reader.info.results), dataset)
    if only != dataset:
        raise typer.BadParameter(f"{dataset}; {name} is of {only}", param_hint="--dataset")
    files = _named(weights, "--weights", default="Pose-REN")
    if unknown := sorted(set(files) - set(VARIANTS)):
        expected = f"expected one of {', '.join(VARIANTS)}"
        raise typer.BadParameter(f"{', '.join(unknown)} is no variant; {expected}", param_hint="--weights")
    return EXPERIMENTS[name](DatasetBench(dataset, root, files, starts, centers, split, subject, device))


def _on_synthetic(name: str, scale: str, seeds: int | None, out: Path, device: str) -> Report:
    from rich.progress import Progress

    from poseren_ext.cli._console import console
    from poseren_ext.experiments.bench import SyntheticBench
    from poseren_ext.experiments.figures import EXPERIMENTS
    from poseren_ext.experiments.synthetic import SCALES

    if scale not in SCALES:
        raise typer.BadParameter(f"{scale!r}; expected one of {', '.join(SCALES)}", param_hint="--scale")
    chosen = replace(SCALES[scale], seeds=seeds or SCALES[scale].seeds)
    messages = console(stderr=True)
    with Progress(console=messages, disable=not messages.is_terminal) as progress:
        task = progress.add_task("", total=1)

        def tell(what: str, step: int, steps: int) -> None:
            progress.update(task, description=f"training {what}", completed=step, total=steps)

        return EXPERIMENTS[name](SyntheticBench(chosen, out / "models", tell, device))
