# SPDX-License-Identifier: MIT
"""Atomic writing of files; every file of this package is written here."""

from __future__ import annotations

import errno
import glob
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import BinaryIO

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says of a full disk, a used-up quota and a file that may not grow."""


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that takes the name `path` when the block ends well.

    It lies beside `path` until then and is gone when the block raises: a full disk or a killed process leaves what was
    at `path` as it was. Data and name are on the disk when this returns.

    Raises:
        FileNotFoundError: the folder does not exist.
        OSError: the disk is full or not writable; the message names `path`.
    """
    with atomic_path(path) as draft, draft.open("x+b") as file:
        yield file


@contextmanager
def atomic_path(path: Path, keep: Path | None = None) -> Iterator[Path]:
    """The same for writers that open a file themselves: a name to write to, in a folder of its own beside `path`.

    Args:
        path: the name that the file takes.
        keep: the name that the file which was there takes, in the same folder; None: it is gone.

    Raises:
        FileNotFoundError: the folder does not exist, or nothing was written.
        OSError: the disk is full or not writable; the message names `path`.
    """
    _require_folder(path)
    with _says_which(path):
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            draft = Path(folder) / path.name
            yield draft
            draft.chmod(_mode_of_new_files(Path(folder)))  # some writers restrict reading to the owner
            with draft.open("rb+") as file:
                os.fsync(file.fileno())
            if keep is not None and path.exists():
                path.replace(keep)
            draft.replace(path)
        _sync_folder(path.parent)


def write_atomic(path: Path, content: str | bytes) -> None:
    """Writes a whole file, text in UTF-8; raises as `atomic_file` does."""
    with atomic_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def append_whole(file: FileIO, content: bytes) -> None:
    """Appends all of it or nothing to an unbuffered file; to a pipe what its reader takes.

    Raises:
        OSError: the disk is full; the file is as it was, and the message names it.
    """
    before, rest = os.fstat(file.fileno()), memoryview(content)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as error:
        if not stat.S_ISREG(before.st_mode):
            raise
        os.ftruncate(file.fileno(), before.st_size)
        kept = "what was there is untouched"
        raise OSError(error.errno, f"cannot write {file.name!s}: {error.strerror}; {kept}") from error


def forget_drafts(path: Path) -> None:
    """Remove drafts of `path` left by killed processes. No other process may be writing the file."""
    for draft in path.parent.glob(f".{glob.escape(path.name)}.????????"):
        shutil.rmtree(draft, ignore_errors=True)


def _mode_of_new_files(folder: Path) -> int:
    """What the umask leaves; to ask for it would change it for a moment, for all threads."""
    probe = folder / ".mode"
    probe.touch(exist_ok=False)
    mode = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    return mode


def _require_folder(path: Path) -> None:
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: there is no folder {path.parent}; create it first")


@contextmanager
def _says_which(path: Path) -> Iterator[None]:
    """Lets the system's complaints about the draft, or about room, name the file that was to be written."""
    try:
        yield
    except OSError as error:
        about_draft = f".{path.name}." in str(error.filename or "")
        if not about_draft and error.errno not in NO_ROOM:
            raise
        raise OSError(error.errno, f"cannot write {path}: {error.strerror}; what was there is untouched") from error


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
