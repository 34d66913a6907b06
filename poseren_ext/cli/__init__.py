# SPDX-License-Identifier: MIT
"""The command line: `poseren COMMAND`. Each command imports what it needs when it runs, so that --help is instant."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Sequence
from functools import cache
from shutil import get_terminal_size
from typing import Annotated, Any

import typer
from typer.main import get_command

from poseren_ext import __version__
from poseren_ext.cli._errors import run
from poseren_ext.cli.data import data_app
from poseren_ext.cli.demo import demo_command
from poseren_ext.cli.doctor import doctor_command
from poseren_ext.cli.evaluate import evaluate_command
from poseren_ext.cli.experiment import experiment_command
from poseren_ext.cli.folds import folds_command
from poseren_ext.cli.hub import hub_app
from poseren_ext.cli.interchange import export_command, import_caffe_command
from poseren_ext.cli.live import live_command
from poseren_ext.cli.predict import predict_command
from poseren_ext.cli.render import render_command
from poseren_ext.cli.train import train_command
from poseren_ext.cli.view import view_command

_NARROW = 60
"""Below so many columns the frames of the help texts would cut the names of options."""

app = typer.Typer(
    name="poseren",
    help="3D hand pose estimation from depth images: Pose-REN.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data_app, name="data")
app.add_typer(hub_app, name="hub")
app.command("demo")(demo_command)
app.command("doctor")(doctor_command)
app.command("eval")(evaluate_command)
app.command("live")(live_command)
app.command("predict")(predict_command)
app.command("train")(train_command)
app.command("render")(render_command)
app.command("experiment")(experiment_command)
app.command("folds")(folds_command)
app.command("import-caffe")(import_caffe_command)
app.command("export")(export_command)
app.command("view")(view_command)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"poseren {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """3D hand pose estimation from depth images: Pose-REN.

    Exit status: 0 done; 1 failed, one line on stderr says why; 2 wrong usage; 3 done, but some frames have no result;
    130 interrupted; 143 terminated. Results that were complete by then are kept.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit; an error is one line on stderr (POSEREN_TRACEBACK=1 shows where it comes from)."""
    given = None if arguments is None else list(arguments)
    sys.exit(run(lambda: _parser().main(args=given, prog_name="poseren", standalone_mode=False)))


@cache
def _parser() -> Any:
    """The commands with their options: built once, which takes as long as a short command."""
    plain = get_terminal_size().columns < _NARROW
    for command in (*app.registered_commands, *data_app.registered_commands, *hub_app.registered_commands):
        command.help = _paragraphs(command.callback)
        if plain:
            command.help = re.sub(r"\[/?bold\]", "", command.help)
    if plain:
        app.rich_markup_mode = None
        settings = app.info.context_settings or {}
        app.info.context_settings = {**settings, "terminal_width": get_terminal_size().columns - 1}
    parser: Any = get_command(app)
    if plain:
        parser.context_class.formatter_class = _narrow_help(parser.context_class.formatter_class)
    return parser


def _narrow_help(base: Any) -> Any:
    """A formatter of help texts that puts the description of an option below its name."""

    class NarrowHelp(base):  # type: ignore[misc]  # the class is known at run time only
        def write_dl(self, rows: Any, col_max: int = 30, col_spacing: int = 2) -> None:
            super().write_dl(rows, min(col_max, 8), col_spacing)

    return NarrowHelp


def _paragraphs(command: Any) -> str:
    """The docstring with one line per paragraph: the terminal's width breaks the lines, not that of the source."""
    text = inspect.cleandoc(command.__doc__ or "")
    return "\n\n".join(paragraph.replace("\n", " ") for paragraph in text.split("\n\n"))
