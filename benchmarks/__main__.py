# SPDX-License-Identifier: MIT
"""`python -m benchmarks [SUBJECT ...]`: measures the ops against baselines."""

import typer

from benchmarks.command import bench_command

app = typer.Typer(add_completion=False)
app.command()(bench_command)

if __name__ == "__main__":
    app(prog_name="python -m benchmarks")
