# SPDX-License-Identifier: MIT
"""`poseren data`: check datasets and pack them for training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from poseren_ext.cli._errors import INCOMPLETE
from poseren_ext.cli.options import DatasetOption, Overwrite, Skeleton, check_outputs

_STATUS = {"found": ("OK", "green"), "odd": ("WARNING", "yellow"), "wrong": ("ERROR", "bold red")}
_LISTED = 10  # frames that are named of those that were left out

data_app = typer.Typer(help="Check datasets and pack them for training.", no_args_is_help=True)


@data_app.command("check")
def check_command(
    path: Annotated[
        Path, typer.Argument(help="A dataset's folder as unpacked, a folder of your own frames, or a pack.")
    ],
    dataset: DatasetOption = None,
    quick: Annotated[bool, typer.Option("--quick", help="Read three frames of each split, not all.")] = False,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Threads that read frames.")] = 2,
) -> None:
    """Check a dataset's folder or a pack: what it holds, and what is missing or damaged.

    Counts frames, reads labels, every frame and its centre, and tests whether joints lie in the hand. Exit status 1
    where there is an ERROR.

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
            word, style = _STATUS[finding.kind]
            out.print(f"[{style}]{word:<7}[/]  ", end="")
            out.print(finding.text, markup=False, soft_wrap=True)
            wrong += finding.kind == "wrong"
    if wrong:
        raise typer.Exit(1)


@data_app.command("pack")
def pack_command(
    folder: Annotated[Path, typer.Argument(help="A dataset's folder as unpacked, or a folder of your own frames.")],
    out: Annotated[Path, typer.Argument(help="The pack to write, by convention *.pack.")],
    dataset: DatasetOption = None,
    split: Annotated[str, typer.Option("--split", help="train or test; MSRA has all as well.")] = "train",
    subject: Annotated[int, typer.Option("--subject", help="MSRA: the subject that is left out, 0 to 8.")] = 0,
    centers: Annotated[
        Path | None,
        typer.Option("--centers", help="File of hand centres: one line u v d per frame. Default: from the images."),
    ] = None,
    cube: Annotated[float, typer.Option("--cube", help="Half edge of the cube around the hand, mm.")] = 150.0,
    unit: Annotated[float, typer.Option("--unit", help="Millimetres per stored unit.")] = 1.0,
    workers: Annotated[int, typer.Option("--workers", min=0, help="Processes that decode frames.")] = 2,
    skeleton: Annotated[
        Skeleton | None,
        typer.Option(
            "--skeleton",
            case_sensitive=False,
            help="Joints of your own labels. Default: by their number.",
            show_default=False,
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Pack the hand regions of a dataset into one file, so that training decodes no images.

    Crops of the pack, augmented as in the paper, are bit-identical to those of the dataset's frames. Frames without a
    hand region are skipped, counted and listed; so are files that cannot be read, with exit status 3.

    [bold]Examples[/bold]

    poseren data pack nyu/ nyu-train.pack --centers centers_train.txt --workers 8

    poseren data pack msra/ msra-without-3.pack --subject 3
    """
    check_outputs(out, overwrite=overwrite)
    from poseren_ext.cli._console import console, progress
    from poseren_ext.datasets.base import NoCenterError
    from poseren_ext.datasets.packs.writer import write_pack
    from poseren_ext.datasets.registry import open_dataset

    source = open_dataset(
        folder,
        dataset,
        split,
        subject=subject,
        centers="image" if centers is None else centers,
        skeleton=skeleton,
    )
    skipped: list[tuple[str, Exception]] = []
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
            skip=lambda name, error: skipped.append((name, error)),
        )
    size = out.stat().st_size
    text = f"{out}: {info.frames} frames, {size / 1e9:.3f} GB, {size / info.frames / 1000:.1f} kB per frame"
    if info.rounding:
        text += f"; depth was rounded by up to {info.rounding:g} mm; a smaller --unit is more accurate"
    console().print(text, markup=False, soft_wrap=True)
    empty = [name for name, error in skipped if isinstance(error, NoCenterError)]
    unreadable = [(name, error) for name, error in skipped if not isinstance(error, NoCenterError)]
    messages = console(stderr=True)
    if empty:
        text = f"WARNING: skipped {len(empty)} of {len(source)} frames without a hand region: {_listed(empty)}"
        messages.print(text, markup=False, soft_wrap=True)
    for _, error in unreadable[:_LISTED]:
        messages.print(f"ERROR: skipped: {error}", markup=False, soft_wrap=True)
    if unreadable:
        text = f"ERROR: {len(unreadable)} of {len(source)} frames cannot be read and are not in the pack"
        messages.print(text, markup=False, soft_wrap=True)
        raise typer.Exit(INCOMPLETE)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
