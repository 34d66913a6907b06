# SPDX-License-Identifier: MIT
"""Faults injected by tests: full and read-only disks, and processes killed at random moments."""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest

KILLS = int(os.environ.get("POSEREN_KILLS", "4"))
"""How often a command is killed; `make soak` sets 60."""


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """The operating system refuses to let any file grow beyond `size`: writes that really fail."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def make_read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """No draft of a file can be made any more, as on a disk that the system has remounted."""

    def refuse(suffix: Any = None, prefix: str = "", dir: Any = None, **_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(Path(dir) / f"{prefix}x"))

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    monkeypatch.setattr(tempfile, "mkdtemp", refuse)


@cache
def _server() -> Any:
    """Processes forked from one that has imported the package and has no threads yet."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["poseren_ext.training", "poseren_ext.live", "poseren_ext.cli"])
    return context


def _run(arguments: list[str], messages: str) -> None:
    import torch

    from poseren_ext.cli import main

    torch.set_num_threads(1)  # one order of sums
    with Path(messages).open("w") as sys.stderr:
        main(arguments)


def killed(arguments: list[Any], begun: Path, after: float) -> bool:
    """Runs a command and kills it (SIGKILL) some seconds after a file of its own appears; False: it had ended by then.

    Raises:
        AssertionError: it failed.
    """
    with tempfile.NamedTemporaryFile() as messages:
        process = _server().Process(target=_run, args=([*map(str, arguments)], messages.name))
        process.start()
        end = time.monotonic() + 60
        while not begun.exists() and process.is_alive() and time.monotonic() < end:
            time.sleep(0.002)
        process.join(after)
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            return True
        assert process.exitcode == 0, Path(messages.name).read_text()
        return False


def until_done(
    arguments: list[Any], random: Random, check: Callable[[], None], *, begun: Path, again: tuple[str, ...] = ()
) -> int:
    """Begins a command again and again, killed at random moments, at last undisturbed; how often it was killed.

    Args:
        arguments: of `poseren`.
        random: chooses the moments.
        check: called after every kill; checks that all files are intact.
        begun: a file that the command makes; the moments lie after it appears.
        again: added to the arguments once `begun` is there.
    """
    for kill in range(KILLS):
        # Killed between two renames, a checkpoint has but its other name.
        there = begun.exists() or begun.with_name(f"{begun.name}.previous").exists()
        more = again if there else ()
        if not killed([*arguments, *more], begun, random.uniform(0, 0.3)):
            return kill
        check()
    assert not killed([*arguments, *again], begun, 120), "it does not end"
    return KILLS
