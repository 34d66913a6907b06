# SPDX-License-Identifier: MIT
"""`poseren data`: is a dataset complete, and make it small."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_STYLES = {"found": "green", "odd": "yellow", "wrong": "bold red"}
_DATASET_HELP = "nyu, icvl, msra or hands17. Default: told from the folder's files."

data_app = typer.Typer(help="Look at datasets, and pack them.", no_args_is_help=True)


@data_app.command("check")
def check_command(
    path: Annotated[Path, typer.Argument(help="A dataset's folder as unpacked, or a pack.")],
    dataset: Annotated[str | None, typer.Option("--dataset", help=_DATASET_HELP)] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Read three frames of each split, not all.")] = False,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Threads that read frames.")] = 2,
) -> None:
    """Say what a dataset's folder or a pack holds, what looks odd, and what is wrong.

    Counts, labels, every frame, centres and whether joints lie in the hand. Exit status 1 when something is wrong.

    [bold]Examples[/bold]

    poseren data check nyu/

    poseren data check nyu-train.pack
    """
    from poseren_ext.cli._console import console, progress
    from poseren_ext.datasets.check import check

    out = console()
    wrong = 0
    with progress() as bar:
        task = bar.add_task("frames", total=None)

        def advance(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        for finding in check(path, dataset=dataset, quick=quick, workers=workers, progress=advance):
            out.print(f"[{_STYLES[finding.kind]}]{finding.kind:>5}[/]  ", end="")
            out.print(finding.text, markup=False, soft_wrap=True)
            wrong += finding.kind == "wrong"
    if wrong:
        raise typer.Exit(1)


@data_app.command("pack")
def pack_command(
    folder: Annotated[Path, typer.Argument(help="A dataset's folder as unpacked.")],
    out: Annotated[Path, typer.Argument(help="The pack to write, by convention *.pack.")],
    dataset: Annotated[str | None, typer.Option("--dataset", help=_DATASET_HELP)] = None,
    split: Annotated[str, typer.Option("--split", help="train or test; MSRA has all as well.")] = "train",
    subject: Annotated[int, typer.Option("--subject", help="MSRA: the subject that is left out, 0 to 8.")] = 0,
    centers: Annotated[
        Path | None, typer.Option("--centers", help="Centres: a line a frame, u v z. Default: from the images.")
    ] = None,
    cube: Annotated[float, typer.Option("--cube", help="Half edge of the cube that crops will take, mm.")] = 150.0,
    unit: Annotated[float, typer.Option("--unit", help="Millimetres per stored unit.")] = 1.0,
    workers: Annotated[int, typer.Option("--workers", min=0, help="Processes that decode.")] = 2,
) -> None:
    """Write the hand regions of a dataset into one file that trains without decoding an image.

    Crops of it, augmented as in the paper, are those of the dataset's own frames, to the bit.

    [bold]Examples[/bold]

    poseren data pack nyu/ nyu-train.pack --centers centers_train.txt --workers 8

    poseren data pack msra/ msra-without-3.pack --subject 3
    """
    from poseren_ext.cli._console import console, progress
    from poseren_ext.datasets.packs.writer import write_pack
    from poseren_ext.datasets.registry import open_dataset

    source = open_dataset(folder, dataset, split, subject=subject, centers="image" if centers is None else centers)
    with progress() as bar:
        task = bar.add_task("frames", total=len(source))
        info = write_pack(
            source,
            out,
            split=f"{split} {subject}" if source.info.subjects else split,
            cube=cube,
            unit=unit,
            workers=workers,
            progress=lambda done: bar.update(task, completed=done),
        )
    size = out.stat().st_size
    text = f"{out}: {info.frames} frames, {size / 1e9:.3f} GB, {size / info.frames / 1000:.1f} kB a frame"
    if info.rounding:
        text += f"; depth rounded by up to {info.rounding:g} mm: a smaller --unit keeps more"
    console().print(text, markup=False, soft_wrap=True)
