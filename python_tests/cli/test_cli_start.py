# SPDX-License-Identifier: MIT
"""Start of the command line: fast, without torch, with completion."""

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

HEAVY = "torch", "torchmetrics", "cv2", "matplotlib", "numpy", "scipy", "safetensors"
INSTALLED = str(Path(sysconfig.get_path("scripts"), "poseren"))
# What the installed console script does.
SCRIPT = f"import sys; sys.argv[0] = {INSTALLED!r}; from poseren_ext.cli import main; "


def python(code, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | environment,
    )


@pytest.mark.parametrize("arguments", [["--help"], ["predict", "--help"], ["live", "-h"], ["view", "-h"]])
def test_help_imports_nothing_heavy(arguments):
    code = SCRIPT + (
        "import atexit; atexit.register(lambda: print('IMPORTED', *(m for m in sys.modules if '.' not in m))); main()"
    )
    done = python(code, *arguments)
    assert done.returncode == 0, done.stderr
    assert "Usage: poseren" in done.stdout
    imported = set(done.stdout.rsplit("IMPORTED", 1)[1].split())
    assert "typer" in imported
    assert not imported & set(HEAVY)


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_help_fits_the_terminal(columns):
    """Lines are broken by the terminal's width alone, and no name of an option is cut."""
    done = python(SCRIPT + "main()", "predict", "--help", COLUMNS=str(columns), TERM="dumb")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if not re.match(r"  -.*\|", line)]  # the choices of an option
    assert max(map(len, lines)) <= columns
    names = set(re.findall(r"(?<!\S)--[\w-]+", done.stdout.replace(",", " ")))
    assert {"--output-unit", "--max-hands", "--depth-unit", "--extrinsics", "--overwrite"} <= names
    assert "[bold]" not in done.stdout
    description = re.split(r"Examples", done.stdout.split("Text files have")[1])[0]
    lines = [line.strip() for line in description.strip().splitlines()]
    words = [line.split()[0] for line in lines[1:]]
    # The first word of a line had no room on the line before.
    assert all(len(line) + 1 + len(word) > columns - 6 for line, word in zip(lines[1:-1], words[1:], strict=True))


def test_every_command_has_help_and_an_example():
    from typer.main import get_command
    from typer.testing import CliRunner

    from poseren_ext.cli import app

    runner = CliRunner()
    for name, command in get_command(app).commands.items():
        names = [f"{name} {sub}" for sub in getattr(command, "commands", [])] or [name]
        for one in names:
            result = runner.invoke(app, [*one.split(), "--help"], prog_name="poseren", env={"COLUMNS": "200"})
            assert result.exit_code == 0, one
            assert re.search(rf"poseren {one} \S", result.output.split("Examples")[-1]), f"{one}: no example"


def test_completion_of_commands():
    done = python(
        SCRIPT + "main()",
        _POSEREN_COMPLETE="complete_bash",
        COMP_WORDS="poseren pre",
        COMP_CWORD="1",
        _TYPER_COMPLETE="",
    )
    assert done.stdout.split() == ["predict"]


def test_the_package_registers_the_ops_when_imported():
    done = python("import poseren_ext, torch; print(torch.ops.poseren.depth_crop, callable(poseren_ext.refine))")
    assert done.stdout.split() == ["poseren.depth_crop", "True"], done.stderr


@pytest.mark.parametrize("name", ["poseren.py", "poseren", "__main__.py"])
def test_a_users_script_of_any_name_has_the_ops(tmp_path, name):
    script = tmp_path / name
    script.write_text("import poseren_ext, torch; print(torch.ops.poseren.depth_crop)")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.split() == ["poseren.depth_crop"], done.stderr


def test_in_the_script_the_first_name_registers_the_ops():
    done = python(SCRIPT + "from poseren_ext import Camera, ops; import torch; print(torch.ops.poseren.depth_crop)")
    assert done.stdout.split() == ["poseren.depth_crop"], done.stderr


def test_models_load_without_torchs_compiler():
    done = python(
        SCRIPT + "from poseren_ext import load_model; load_model('demo'); print('torch._dynamo' in sys.modules)"
    )
    assert done.stdout.split() == ["False"], done.stderr


def test_without_torch(tmp_path):
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')")
    path = f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}"
    done = python(SCRIPT + "main()", "--help", PYTHONPATH=path)
    assert done.returncode == 0
    (tmp_path / "frame.png").write_bytes(b"")
    for code in (SCRIPT + "main()", "import poseren_ext"):
        done = python(
            code,
            "predict",
            str(tmp_path / "frame.png"),
            "--camera",
            "nyu",
            "--out",
            str(tmp_path / "x.txt"),
            PYTHONPATH=path,
        )
        assert done.returncode == 1
        assert "poseren_ext needs PyTorch" in done.stderr.splitlines()[-1]
        assert "pip install torch" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "x.txt").exists()
