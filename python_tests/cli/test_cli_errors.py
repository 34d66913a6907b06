# SPDX-License-Identifier: MIT
"""How commands end: one line per error in the terms of the command line, and no harm from odd streams and names."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.command_line import DISC_CAMERA, Result

from poseren_ext.cli import _errors, main
from poseren_ext.cli._console import console, say, table
from poseren_ext.cli._errors import in_options, message_of, one_line

# As the installed script runs: torch is only imported when it is needed.
INSTALLED = str(Path(sysconfig.get_path("scripts"), "poseren"))
PROGRAM = f'import sys; sys.argv[0] = "{INSTALLED}"; from poseren_ext.cli import main; main()'


# --- every exception is one line --------------------------------------------------------------------------------------


class SilentError(Exception):
    def __str__(self) -> str:
        return ""


EXCEPTIONS = {
    "value": (ValueError("stages is -1; expected 0 or more"), "--stages is -1; expected 0 or more"),
    "several lines": (ValueError("one\n  two\n\nthree"), "one two three"),
    "empty": (ValueError(), "ValueError"),
    "key": (KeyError("x"), "KeyError: 'x' (set POSEREN_TRACEBACK=1 to see where)"),
    "index": (IndexError("list index out of range"), "IndexError: list index out of range (set"),
    "assertion": (AssertionError("Torch not compiled with CUDA enabled"), "AssertionError: Torch not compiled"),
    "attribute": (AttributeError("'x' has no y"), "AttributeError: 'x' has no y"),
    "memory": (MemoryError(), "MemoryError (set"),
    "recursion": (RecursionError("maximum recursion depth exceeded"), "maximum recursion depth exceeded"),
    "zero": (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
    "stop": (StopIteration(3), "StopIteration: 3"),
    "unicode": (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "invalid start byte"),
    "own": (SilentError(), "SilentError (set POSEREN_TRACEBACK=1"),
    "no file": (FileNotFoundError(errno.ENOENT, "No such file or directory", "x.png"), "x.png: No such file"),
    "no file with text": (FileNotFoundError("x.png: no such file"), "x.png: no such file"),
    "disk": (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
    "permission": (PermissionError(errno.EACCES, "Permission denied", "/x"), "/x: Permission denied"),
    "no module": (ModuleNotFoundError("No module named 'viser'", name="viser"), "No module named 'viser': install"),
    "no torch": (ModuleNotFoundError("No module named 'torch'", name="torch"), "needs PyTorch"),
    "C++": (RuntimeError("bad shape\nException raised from check at x.cpp:1\nframe #0"), "bad shape"),
    "markup": (ValueError("[bold]x[/bold] [/]"), "[bold]x[/bold] [/]"),
    "escape": (ValueError("a\x1b[31mb"), "a\\x1b[31mb"),
    "surrogate": (ValueError("a\udce9b"), "a\\udce9b"),
}


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_every_exception_is_one_line(name, poseren, monkeypatch):
    error, expected = EXCEPTIONS[name]

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("poseren_ext.io.depth_files.find_frames", fail)
    done: Result = poseren("predict", "x", "--camera", "nyu", "--out", "x.txt")
    assert done.code == 1
    assert expected in done.error.encode("ascii", "backslashreplace").decode()
    assert "\x1b" not in done.err


def test_a_traceback_is_shown_on_request(monkeypatch):
    monkeypatch.setenv("POSEREN_TRACEBACK", "1")
    with pytest.raises(FileNotFoundError):
        main(["predict", "/nowhere", "--camera", "nyu", "--out", "x.txt"])


USAGE = [
    ("--versio",),
    ("predct",),
    ("predict",),
    ("predict", "x"),
    ("predict", "x", "--out"),
    ("predict", "x", "--out", "y", "--stages", "three"),
    ("predict", "x", "--out", "y", "--cube", "nan"),
    ("predict", "x", "--out", "y", "--depth-unit", "-1"),
    ("predict", "x", "--out", "y", "--hand", "[bold]"),
    ("predict", "x", "--out", "y", "--device", "[/]"),
    ("predict", "x", "--out", "y", "--order", "smplx"),
    ("live", "--source", "webcam"),
    ("render", "x", "--split", "all"),
    ("render", "x", "--skeleton", "cat"),
    ("data", "chek"),
    ("import-caffe", "x", "--dataset", "coco"),
]


@pytest.mark.parametrize("arguments", USAGE, ids=" ".join)
def test_wrong_usage_is_one_line_with_status_2(arguments, poseren):
    done: Result = poseren(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.error.endswith("--help")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Pass depth_unit=1000", "Pass --depth-unit 1000"),
        ("frame 0 ends at 0.5 mm (depth_unit=1)", "frame 0 ends at 0.5 mm (--depth-unit 1)"),
        ("depth_unit is 0; expected more", "--depth-unit is 0; expected more"),
        ("hand is 'both'; expected 'left'", "--hand is 'both'; expected 'left'"),
        ("or pass center=(u, v, d)", "or pass --centers (u, v, d)"),
        ("init_pose has shape (3,)", "--init has shape (3,)"),
        ("x exists; overwrite=True replaces it", "x exists; --overwrite replaces it"),
        ("resume=True continues it", "--resume continues it"),
        ("made with stages=3, not 1", "made with --stages 3, not 1"),
        ("the hand is too near", "the hand is too near"),
        ("the camera's principal point", "the camera's principal point"),
        ("a/b=c.png: no such file", "a/b=c.png: no such file"),
        ("camera is a str", "--camera is a str"),
    ],
)
def test_messages_use_the_terms_of_the_command_line(message, expected):
    assert in_options(message) == expected


def test_one_line_keeps_letters_of_all_languages():
    assert one_line("Größe 手 \u200f \t x\r\ny") == "Größe 手 \\u200f x y"
    assert message_of(ValueError("手")) == "手"


# --- markup and widths ------------------------------------------------------------------------------------------------


def test_markup_in_names_is_text(capsys):
    console().print(table("[red]title", ["[b]system", "x"], [["[bold]mine[/]", "1"], ["[/x]", "2"]]))
    say("[red]a[/red] [/]", label="[b]", style="bold")
    out = capsys.readouterr().out
    for text in ("[red]title", "[b]system", "[bold]mine[/]", "[/x]", "[red]a[/red] [/]"):
        assert text in out


def test_file_names_are_never_wrapped_or_styled(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    name = "/a very/long [bold]folder/" + "x" * 100 + ".png"
    say(f"1 frames in {name}")
    assert capsys.readouterr().out == f"1 frames in {name}\n"


# --- streams ----------------------------------------------------------------------------------------------------------


def shell(command: str, tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    program = f"{sys.executable} -c '{PROGRAM}'"
    return subprocess.run(
        ["bash", "-c", command.replace("poseren", program)],
        capture_output=True,
        text=True,
        errors="backslashreplace",
        timeout=60,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        check=False,
    )


STREAMS = {
    "stdout closed": ("poseren --help >&-", 0),
    "stderr closed": ("poseren predict nowhere --camera nyu --out x.txt 2>&-", 1),
    "stdin closed": ("poseren --help <&-", 0),
    "all closed": ("poseren predict nowhere --camera nyu --out x.txt >&- 2>&- <&-", 1),
    "a full device": ("poseren --help >/dev/full", 1),
    "stderr on a full device": ("poseren predict nowhere --camera nyu --out x.txt 2>/dev/full", 1),
    "stderr to a closed pipe": ("(poseren predict nowhere --camera nyu --out x.txt; echo $? >code) 2>&1 | true", 0),
}


@pytest.mark.parametrize("name", STREAMS)
def test_odd_streams_do_no_harm(name, tmp_path):
    command, status = STREAMS[name]
    done = shell(command, tmp_path)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert "Exception ignored" not in done.stderr + done.stdout
    assert not (tmp_path / "x.txt").exists()


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"NO_COLOR": "1"},
        {"FORCE_COLOR": "1"},
        {"TERM": "dumb"},
        {"COLUMNS": "10"},
        {"COLUMNS": "x", "LINES": "y"},
    ],
    ids=lambda environment: " ".join(f"{key}={value}" for key, value in environment.items()),
)
def test_terminals_of_other_kinds(environment, tmp_path):
    done = shell("poseren --help; poseren predict främes/手 --camera nyu --out x.txt", tmp_path, **environment)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "no such file or folder" in done.stderr
    assert "Usage" in done.stdout


def test_a_reader_that_stops_reading_ends_the_command(disc_recording, small_model_file, tmp_path):
    command = f"set -o pipefail; poseren predict {disc_recording} --camera {DISC_CAMERA} --model {small_model_file} "
    done = shell(f"{command} --batch 1 --out - | head -c 1", tmp_path)
    assert len(done.stdout) == 1
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_results_to_a_closed_standard_output_are_lost_but_the_command_ends(disc_recording, small_model_file, tmp_path):
    options = f"--camera {DISC_CAMERA} --model {small_model_file} --out x.txt"
    done = shell(f"poseren predict {disc_recording} {options} >&- 2>&- <&-", tmp_path)
    assert done.returncode == 0
    assert len((tmp_path / "x.txt").read_text().splitlines()) == 7  # and nothing else was written into it


# --- signals ----------------------------------------------------------------------------------------------------------


def wait_for(signal_number: int) -> int:
    code = f"""
import sys, time
sys.argv[0] = {INSTALLED!r}
from poseren_ext.cli import _errors
def work():
    print("ready", flush=True)
    time.sleep(30)
sys.exit(_errors.run(work))
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.1)
    process.send_signal(signal_number)
    _, err = process.communicate(timeout=30)
    assert err == ""
    return process.returncode


@pytest.mark.parametrize(("signal_number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_a_command_with_their_status(signal_number, status):
    assert wait_for(signal_number) == status


def test_the_signal_handler_is_restored(poseren: Callable[..., Result]):
    before = signal.getsignal(signal.SIGTERM)
    poseren("--version")
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(("outcome", "status"), [(None, 0), (0, 0), (3, 3), (KeyboardInterrupt(), 130)])
def test_exit_statuses(outcome, status):
    def command() -> object:
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    assert _errors.run(command) == status
