# SPDX-License-Identifier: MIT
"""One rule for outputs that exist, in every command that writes files: refused, unless --overwrite or --resume."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.command_line import Result

from poseren_ext.cli import app

# Command and its arguments, with {out} for a file or folder that exists -> a file that must stay as it is.
FILES = {
    "demo": (["demo", "--out", "{out}"], "out.png"),
    "demo --json": (["demo", "--json", "{out}"], "out.json"),
    "doctor --picture": (["doctor", ".", "--camera", "nyu", "--picture", "{out}"], "out.png"),
    "doctor --json": (["doctor", ".", "--camera", "nyu", "--json", "{out}"], "out.json"),
    "eval --json": (["eval", "--gt", "g.txt", "--pred", "p.txt", "--json", "{out}"], "out.json"),
    "eval --markdown": (["eval", "--gt", "g.txt", "--pred", "p.txt", "--markdown", "{out}"], "out.md"),
    "eval --plot": (["eval", "--gt", "g.txt", "--pred", "p.txt", "--plot", "{out}"], "out.png"),
    "live": (["live", "--camera", "nyu", "--out", "{out}"], "out.jsonl"),
    "predict": (["predict", ".", "--camera", "nyu", "--out", "{out}"], "out.txt"),
    "render npz": (["render", "{out}"], "out.npz"),
    "render png": (["render", "{out}"], "out.png"),
    "data pack": (["data", "pack", ".", "{out}"], "out.pack"),
    "import-caffe": (["import-caffe", "a.caffemodel", "--dataset", "nyu", "--out", "{out}"], "out.safetensors"),
    "export onnx": (["export", "{out}"], "out.onnx"),
    "export pt2": (["export", "{out}"], "out.pt2"),
    "render folder": (["render", "{out}"], "out/labels.txt"),
    "train": (["train", "compact", "--out", "{out}"], "out/config.toml"),
    "train, a run": (["train", "compact", "--out", "{out}"], "out/checkpoint.safetensors"),
    "experiment": (["experiment", "fig10", "--out", "{out}"], "out/fig10/result.json"),
    "folds": (["folds", ".", "--out", "{out}"], "out/predictions.txt"),
    "folds, a run": (["folds", ".", "--out", "{out}"], "out/P3/checkpoint.safetensors"),
}


@pytest.mark.parametrize("name", FILES)
def test_an_output_that_exists_is_refused_and_the_message_names_the_way(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, poseren: Callable[..., Result]
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, file = FILES[name]
    path = Path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    done = poseren(*(one.format(out=path.parts[0]) for one in arguments))
    assert done.code == 1, done.err
    assert path.parts[0] in done.error
    assert "--overwrite replaces" in done.error
    assert path.read_text() == "mine"
    assert sorted(tmp_path.rglob("*")) == before


def test_every_command_with_an_output_has_overwrite() -> None:
    import typer.main

    def options(command: object) -> dict[str, set[str]]:
        found = {}
        for name, one in getattr(command, "commands", {}).items():
            found |= options(one)
            if not getattr(one, "commands", {}):
                found[name] = {text for parameter in one.params for text in parameter.opts}
        return found

    writes_nothing = {"check", "view", "push"}  # no file of this machine
    lacking = {name for name, given in options(typer.main.get_command(app)).items() if "--overwrite" not in given}
    assert lacking <= writes_nothing
