# SPDX-License-Identifier: MIT
"""All writers create files with the permissions of the umask."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.small_models import save_small_model

from poseren_ext._utils.atomic_files import atomic_file, write_atomic


@pytest.fixture(params=[0o022, 0o077, 0o002], ids=oct)
def mask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_permissions_are_the_umask_s(tmp_path: Path, mask: int) -> None:
    write_atomic(tmp_path / "text", "text")
    save_small_model(tmp_path / "model")  # safetensors alone would let nobody else read it
    write_atomic(tmp_path / "text", "again")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "text"]
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask, path.name


def test_a_fault_leaves_what_was_there(tmp_path: Path) -> None:
    write_atomic(tmp_path / "text", "old")

    def fail() -> None:
        with atomic_file(tmp_path / "text") as file:
            file.write(b"new")
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["text"]
    assert (tmp_path / "text").read_text() == "old"
