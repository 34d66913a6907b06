# SPDX-License-Identifier: MIT
"""Every instruction set gives the same bits, and the environment variable POSEREN_ISA selects one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


@cache
def run(isa: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "helpers.isa_digests"],
        cwd=TESTS,
        env=os.environ | {"POSEREN_ISA": isa},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("isa", ["avx2", "avx512", "avx512vnni"])
def test_gives_the_bits_of_the_baseline(isa: str) -> None:
    baseline, other = run("baseline"), run(isa)
    assert baseline.returncode == 0, baseline.stderr
    if f"POSEREN_ISA is '{isa}'; this machine has" in other.stderr:
        pytest.skip(f"this machine has no {isa}")
    assert other.returncode == 0, other.stderr
    expected, digests = json.loads(baseline.stdout), json.loads(other.stdout)
    assert (expected.pop("isa"), digests.pop("isa")) == ("baseline", isa)
    for errors in (expected.pop("cascade_errors"), digests.pop("cascade_errors")):
        assert all(0 < error < 1e-5 for error in errors.values()), errors
    assert digests == expected


def test_an_unknown_instruction_set_is_an_error() -> None:
    result = run("sse9")
    assert result.returncode != 0
    assert "RuntimeError: poseren: POSEREN_ISA is 'sse9'; this machine has baseline" in result.stderr
    assert "Unset the variable" in result.stderr
