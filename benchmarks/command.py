# SPDX-License-Identifier: MIT
"""`python -m benchmarks`: ours and every peer in turn on the same work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from benchmarks import Row

_SUBJECTS = ("center", "crop", "pool", "refine", "frame", "train", "growth")


def bench_command(
    subjects: Annotated[
        list[str] | None, typer.Argument(help=f"{', '.join(_SUBJECTS)} or all.", show_default="all")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all rows; - for stdout.")] = None,
    device: Annotated[str, typer.Option("--device", help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option("--threads", min=1, help="Of every contender alike.")] = 2,
    seconds: Annotated[float, typer.Option("--seconds", help="Of each contest; medians need several turns.")] = 10.0,
    batch: Annotated[
        int | None, typer.Option("--batch", min=1, help="Of the centre, crop and pooling rows.", show_default="64, 128")
    ] = None,
    compile_seconds: Annotated[
        float, typer.Option("--compile-seconds", min=0, help="That torch.compile may take for a peer; 0 leaves it out.")
    ] = 120.0,
    tiny: Annotated[
        bool, typer.Option("--tiny", help="Tiny sizes: shows that all runs; figures mean nothing.")
    ] = False,
) -> None:
    """Measure speed: all must compute the same before anything is timed; peers that cannot run say why.

    Stages move as many windows as the published trajectories do when POSEREN_TEST_DATA names the folder of the
    published predictions; without it, as many as drawn trajectories of the same motion.

    [bold]Examples[/bold]

    python -m benchmarks crop pool

    python -m benchmarks all --json benchmarks/results/mine.json
    """
    from benchmarks import Settings, dump, run
    from poseren_ext.cli._console import console, write_text

    chosen = list(subjects or ["all"])
    unknown = [subject for subject in chosen if subject not in (*_SUBJECTS, "all")]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r}; expected {', '.join(_SUBJECTS)} or all", param_hint="SUBJECTS")
    if device not in ("cpu", "cuda"):
        raise typer.BadParameter(f"{device!r}; expected cpu or cuda", param_hint="--device")
    settings = replace(Settings(), device=device, threads=threads, seconds=seconds, compile_seconds=compile_seconds)
    if batch:
        settings = replace(settings, op_batches=(batch, batch))
    if tiny:
        settings = replace(Settings.tiny(), device=device)
    out = console(stderr=json_file == Path("-"))

    def report(row: Row) -> None:
        from benchmarks.report import COLUMNS, cells, peer_lines

        shown = [f"{name} {cell}" for name, cell in zip(COLUMNS[1:], cells(row)[1:], strict=True) if cell]
        out.print(f"[bold]{row.name}[/bold]: {', '.join(shown)}")
        for line in peer_lines(row):
            out.print(f"    {line}")

    rows = run(_SUBJECTS if "all" in chosen else chosen, settings, report)
    if json_file == Path("-"):
        print(dump(rows), end="")
    elif json_file is not None:
        write_text(json_file, dump(rows))
