# SPDX-License-Identifier: MIT
"""`python -m benchmarks [SUBJECT ...]`: benchmarks against baselines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from benchmarks import SUBJECTS, Row, Settings, dump, run
from benchmarks.report import COLUMNS, cells, detail_lines

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


@app.command()
def main(
    subjects: Annotated[
        list[str] | None, typer.Argument(help=f"{', '.join(SUBJECTS)} or all.", show_default="all")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all rows to a file; - for stdout.")] = None,
    device: Annotated[Literal["cpu", "cuda"], typer.Option("--device", help="Device to measure.")] = "cpu",
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads for every implementation.")] = 2,
    seconds: Annotated[float, typer.Option("--seconds", min=0, help="Seconds per comparison.")] = 10.0,
    batch: Annotated[
        int | None,
        typer.Option("--batch", min=1, help="Batch size of center, crop and pool.", show_default="64, 64, 128"),
    ] = None,
    compile_seconds: Annotated[
        float,
        typer.Option("--compile-seconds", min=0, help="Time limit for torch.compile of a baseline; 0 skips it."),
    ] = 120.0,
    tiny: Annotated[
        bool, typer.Option("--tiny", help="Tiny sizes to test the benchmarks themselves; the figures mean nothing.")
    ] = False,
) -> None:
    """Benchmark the ops and the estimator against other libraries on the same inputs.

    Outputs are compared before anything is timed. Libraries that are missing are reported. If POSEREN_TEST_DATA names
    the folder of the published predictions, the cascade follows published trajectories, otherwise random ones with the
    same motion.

    [bold]Examples[/bold]

    python -m benchmarks crop pool

    python -m benchmarks all --json benchmarks/results/mine.json
    """
    chosen = list(subjects or ["all"])
    unknown = [subject for subject in chosen if subject not in (*SUBJECTS, "all")]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r}; expected {', '.join(SUBJECTS)} or all", param_hint="SUBJECTS")
    settings = replace(Settings(), device=device, threads=threads, seconds=seconds, compile_seconds=compile_seconds)
    if batch:
        settings = replace(settings, op_batches=(batch, batch))
    if tiny:
        settings = replace(Settings.tiny(), device=device)
    console = Console(stderr=json_file == Path("-"), highlight=False)

    def report(row: Row) -> None:
        shown = [f"{name} {cell}" for name, cell in zip(COLUMNS[1:], cells(row)[1:], strict=True) if cell]
        console.print(f"[bold]{row.name}[/bold]: {', '.join(shown)}", soft_wrap=True)
        for line in detail_lines(row):
            console.print(f"    {line}", soft_wrap=True)

    rows = run(SUBJECTS if "all" in chosen else chosen, settings, report)
    if json_file == Path("-"):
        print(dump(rows), end="")
    elif json_file is not None:
        json_file.write_text(dump(rows))


if __name__ == "__main__":
    app(prog_name="python -m benchmarks")
