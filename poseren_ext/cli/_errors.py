# SPDX-License-Identifier: MIT
"""How a command ends: one line on stderr for whatever went wrong, and an exit status that a script can use."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from poseren_ext import NEEDS_TORCH

FAILED, WRONG_USAGE, INCOMPLETE, INTERRUPTED, CLOSED_PIPE, TERMINATED = 1, 2, 3, 130, 141, 143
"""Exit statuses beside 0. INCOMPLETE: the command is done, but some frames have no result."""

TRACEBACK = "POSEREN_TRACEBACK"

# Parameters of the Python API, and the options that set them.
_OPTIONS = {
    "depth_unit": "--depth-unit",
    "camera": "--camera",
    "center": "--centers",
    "centers": "--centers",
    "init_pose": "--init",
    "hand": "--hand",
    "stages": "--stages",
    "cube": "--cube",
    "precision": "--precision",
    "tta": "--tta",
    "missing": "--missing",
    "device": "--device",
    "rate": "--fps",
    "model": "--model",
    "space": "--space",
    "unit": "--output-unit",
    "frame": "--frame",
    "order": "--order",
    "format": "--format",
}
_NAMES = "|".join(_OPTIONS)
# "depth_unit=1", "hand is 'both'", "init_pose has": the ways in which the library writes about its parameters.
_ASSIGNED = re.compile(rf"\b({_NAMES})=(?=[\w(\[.'\"-])")
_SUBJECT = re.compile(rf"^({_NAMES})(?= (?:is|has|was|must)\b)")
_FLAGS = re.compile(r"\b(overwrite|resume)=True\b")
_UNDERSCORED = re.compile(rf"\b({'|'.join(name for name in _OPTIONS if '_' in name)})\b")


def run(command: Callable[[], Any]) -> int:
    """Run a command; say in one line what went wrong.

    Returns:
        int: The exit status: 0 done, 1 failed, 2 wrong usage, 3 some frames without a result, 130 interrupted, 141 the
            reader of the output is gone, 143 terminated.
    """
    _open_standard_streams()
    with _terminated_like_interrupted() as terminated, warnings.catch_warnings():
        if not (sys.warnoptions or os.environ.get(TRACEBACK)):
            warnings.simplefilter("ignore")
        status = _run(command)
        return TERMINATED if terminated and status == INTERRUPTED else status


def _run(command: Callable[[], Any]) -> int:
    try:
        status = command()
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _discard_output()
        return CLOSED_PIPE
    except Exception as error:
        if hasattr(error, "format_message"):  # the parser's own: wrong usage
            return _wrong_usage(error)
        if type(error).__name__ == "Abort":
            return INTERRUPTED
        if os.environ.get(TRACEBACK):
            raise
        report(message_of(error))
        return FAILED
    return status if isinstance(status, int) else 0


def report(message: str, kind: str = "error") -> None:
    """Write one line to stderr."""
    try:
        print(f"poseren: {kind}: {one_line(message)}", file=sys.stderr, flush=True)
    except OSError:  # stderr is closed
        _discard_output()


def message_of(error: BaseException) -> str:
    """What an exception says, in the terms of the command line."""
    if isinstance(error, ModuleNotFoundError) and str(error).startswith("No module named"):
        return NEEDS_TORCH if error.name == "torch" else f"{error}: install it with pip"
    if isinstance(error, OSError) and error.strerror and str(error).startswith("[Errno"):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}"
    # Torch appends the C++ stack to some messages.
    text = re.split(r"\n(?:Exception raised from|C\+\+ CapturedTraceback|CUDA kernel errors)", str(error))[0]
    if not isinstance(error, ValueError | TypeError | OSError | RuntimeError | ImportError):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
        return f"{text} (set {TRACEBACK}=1 to see where)"
    return in_options(text) if text else type(error).__name__


def in_options(message: str) -> str:
    """A message of the library in the terms of the command line: ``depth_unit=1`` becomes ``--depth-unit 1``."""
    message = _FLAGS.sub(lambda match: f"--{match[1]}", message)
    message = _ASSIGNED.sub(lambda match: f"{_OPTIONS[match[1]]} ", message)
    message = _SUBJECT.sub(lambda match: _OPTIONS[match[1]], message)
    return _UNDERSCORED.sub(lambda match: _OPTIONS[match[1]], message)


def one_line(text: str) -> str:
    """Text with line breaks as spaces, and control characters (of a file's name, say) in their escaped form."""
    return "".join(
        char if char.isprintable() or 0xDC80 <= ord(char) <= 0xDCFF else repr(char)[1:-1]
        for char in " ".join(text.split())
    )


def _wrong_usage(error: Any) -> int:
    status = int(getattr(error, "exit_code", WRONG_USAGE))
    if type(error).__name__ == "NoArgsIsHelpError":  # its message is the help, which is printed by now
        error.show()
        return status
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "poseren"
    message = re.sub(r"^Invalid value for (.+?): (?:Value error, )?", r"\1: ", error.format_message())
    report(f"{message.rstrip('.')}. See {command} --help")
    return status


def _open_standard_streams() -> None:
    """Give a process whose standard streams are closed empty ones, so that no other file takes their place.

    Characters that a terminal cannot show are escaped instead of ending the command.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        stream = getattr(sys, name)
        if stream is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number and not _is_open(number):
                os.dup2(null, number)
                os.close(null)
                null = number
            setattr(sys, name, os.fdopen(null, mode, closefd=False))
        elif mode == "w" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _discard_output() -> None:
    """Discard buffered output: at its end the interpreter would report the closed pipe."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):  # not a file
                os.dup2(null, stream.fileno())
    os.close(null)


@contextmanager
def _terminated_like_interrupted() -> Iterator[list[bool]]:
    """Let SIGTERM end the command as Ctrl-C does; the list is not empty when it came. A second one ends it at once."""
    received: list[bool] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    process = os.getpid()

    def terminate(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        if os.getpid() != process:  # a child that was forked
            os.kill(os.getpid(), number)
            return
        received.append(True)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield received
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)
