# SPDX-License-Identifier: MIT
"""Writes the options of every command into docs/commands.md while the site is built, from the commands themselves."""

from __future__ import annotations

import html
import inspect
import re
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from typer.models import ArgumentInfo

from poseren_ext.cli import app

MARK = "<!-- options of every command -->"
_PAIRS = dict.fromkeys((tuple[int, int], tuple[float, float]), "two numbers")
_ESCAPED = re.compile(r"[|*_]")  # characters that Markdown would interpret
_KINDS = {str: "text", int: "number", float: "number", Path: "path"} | _PAIRS


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the mark on a page (a hook of MkDocs)."""
    return markdown.replace(MARK, options_markdown()) if MARK in markdown else markdown


def options_markdown() -> str:
    """For each command a section with a table of its arguments and options."""
    sections = []
    for name, function in commands():
        summary = inspect.cleandoc(function.__doc__ or "").split("\n\n")[0].replace("\n", " ")
        rows = "".join(_rows(function))
        head = "| option | value | default | |\n| --- | --- | --- | --- |"
        # The class is that of docs/assets/site.css.
        sections.append(f'### {name}\n\n{summary}\n\n<div class="options" markdown>\n\n{head}\n{rows}\n</div>\n')
    return "\n".join(sections)


def commands() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every command by its name, such as "data check", in alphabetical order."""
    found = {command.name: command.callback for command in app.registered_commands}
    for group in app.registered_groups:
        assert group.typer_instance is not None
        found |= {f"{group.name} {one.name}": one.callback for one in group.typer_instance.registered_commands}
    yield from sorted((str(name), callback) for name, callback in found.items() if callback is not None)


def _rows(function: Callable[..., Any]) -> Iterator[str]:
    hints = get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        hint, _ = _plain(hints[name])  # Python 3.10 adds Optional where the default is None
        if not hasattr(hint, "__metadata__"):  # what is not an option, such as a context
            continue
        info = hint.__metadata__[0]
        kind, repeats = _plain(get_args(hint)[0])
        default = "" if parameter.default is inspect.Parameter.empty else parameter.default
        names = [name.upper()] if isinstance(info, ArgumentInfo) else [info.default, *(info.param_decls or ())]
        names = [one for one in names if isinstance(one, str)]
        cells = [
            ", ".join(f"`{one}`" for one in names),
            _values(kind) + (", may be repeated" if repeats else ""),
            "required" if parameter.default is inspect.Parameter.empty else _shown(default),
            _ESCAPED.sub(r"\\\g<0>", html.escape(info.help or "", quote=False)),
        ]
        yield f"| {' | '.join(cells)} |\n"


def _plain(kind: Any) -> tuple[Any, bool]:
    """The type without None and without list, and whether it was a list."""
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(one for one in get_args(kind) if one is not type(None))
    return (get_args(kind)[0], True) if get_origin(kind) is list else (kind, False)


def _values(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return ", ".join(f"`{one}`" for one in get_args(kind))
    return "" if kind is bool else _KINDS[kind]


def _shown(default: Any) -> str:
    if default is None or isinstance(default, bool):
        return "on" if default else ""
    return f"`{default}`"
