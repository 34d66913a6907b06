# SPDX-License-Identifier: MIT
"""The command line: `poseren COMMAND`. Each command imports what it needs when it runs, so that --help is instant."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer

from poseren_ext import NEEDS_TORCH
from poseren_ext.cli.data import data_app
from poseren_ext.cli.demo import demo_command
from poseren_ext.cli.doctor import doctor_command
from poseren_ext.cli.evaluate import evaluate_command
from poseren_ext.cli.experiment import experiment_command
from poseren_ext.cli.interchange import export_command, import_caffe_command
from poseren_ext.cli.live import live_command
from poseren_ext.cli.predict import predict_command
from poseren_ext.cli.render import render_command
from poseren_ext.cli.train import train_command
from poseren_ext.cli.view import view_command

app = typer.Typer(
    name="poseren",
    help="3D hand pose estimation from depth images: Pose-REN.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data_app, name="data")
app.command("demo")(demo_command)
app.command("doctor")(doctor_command)
app.command("eval")(evaluate_command)
app.command("live")(live_command)
app.command("predict")(predict_command)
app.command("train")(train_command)
app.command("render")(render_command)
app.command("experiment")(experiment_command)
app.command("import-caffe")(import_caffe_command)
app.command("export")(export_command)
app.command("view")(view_command)


@app.callback()
def _root() -> None:
    """3D hand pose estimation from depth images: Pose-REN.

    Exit status: 0 done, 1 something in the input or on the way was wrong (one line says what), 2 wrong usage,
    130 interrupted; what was finished by then stays.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit; faults of input become one line on stderr (POSEREN_TRACEBACK=1 shows where)."""
    try:
        app(args=None if arguments is None else list(arguments), prog_name="poseren")
    except (ValueError, TypeError, OSError, RuntimeError, ImportError) as error:
        if os.environ.get("POSEREN_TRACEBACK"):
            raise
        message = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, ModuleNotFoundError) and message.startswith("No module named"):
            message = NEEDS_TORCH if error.name == "torch" else f"{message}: pip install it"
        print(f"poseren: error: {message}", file=sys.stderr)
        sys.exit(1)
