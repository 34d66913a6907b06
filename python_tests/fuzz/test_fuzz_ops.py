# SPDX-License-Identifier: MIT
"""Ops with hostile arguments: refused with the name of the argument, or equal to the reference; no crash."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest
import torch
from helpers.trust_record import record
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz import NATIVE, OPS
from fuzz.__main__ import kept
from fuzz.native import cases as native_cases
from fuzz.op_cases import OTHERS, run
from fuzz.op_targets import NATIVE_TARGETS, ByteRandom
from poseren_ext import ops
from poseren_ext.ops import _native

EXAMPLES = {"poseren": 120, "poseren_hostsim": 25}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", OPS)
def test_any_arguments(name: str, device: str) -> None:
    if device != "cpu":
        pytest.skip("the cases are CPU tensors; the contract tests CUDA")
    count = [0, 0]

    @settings(deadline=None, max_examples=EXAMPLES[_native.ops.name], suppress_health_check=list(HealthCheck))
    @given(random=st.randoms(use_true_random=False))
    def holds(random: Random) -> None:
        count[0] += 1
        count[1] += run(name, random)

    holds()
    record("ops", name, device=_native.ops.name, tried=count[0], accepted=count[1])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NATIVE)
def test_bytes_as_arguments_and_findings_of_before(name: str, tmp_path: Path) -> None:
    """The targets of the fuzzer under sanitizers, here briefly and without them."""
    target, random, tried, accepted = NATIVE_TARGETS[name], Random(f"{name} 1"), 0, 0
    path, seeds, end = tmp_path / f"case{target.suffix}", target.seeds(), time.monotonic() + 0.6
    for finding in kept(name):
        target.run(path, finding.read_bytes())
    for data in itertools.chain(seeds[:3], (target.mutate(random, random.choice(seeds)) for _ in range(200))):
        accepted += target.run(path, data)
        tried += 1
        if time.monotonic() > end and tried > 3:
            break
    assert accepted > 0
    record("ops", f"{name}, by bytes", device=_native.ops.name, tried=tried, accepted=accepted)


def test_draws_of_bytes_are_those_bytes() -> None:
    draws = ByteRandom(bytes(range(1, 9)))
    assert [draws.getrandbits(8), draws.getrandbits(12), draws.getrandbits(32)] == [1, 0x302, 0x07060504]
    rest = [draws.random() for _ in range(5)]  # behind their end
    assert rest == [other.random() for other in [ByteRandom(b"")] for _ in range(5)]
    assert all(0 <= value < 1 for value in rest)
    assert {ByteRandom(bytes([value])).choice("abcd") for value in range(4)} == set("abcd")


def test_huge_and_foreign_arguments_are_named() -> None:
    depth, center = torch.full((8, 8), 500.0), torch.tensor([4.0, 4.0, 500.0])
    with pytest.raises(ValueError, match=r"cube is 1e\+300; expected a number of at most 3\.4e\+38"):
        ops.depth_crop(depth, center, (100, 100, 4, 4), cube=1e300)
    with pytest.raises(ValueError, match=r"depth_unit is \d{20}; expected a number of at most"):
        ops.depth_crop(depth, center, (100, 100, 4, 4), depth_unit=2**2000)
    with pytest.raises(TypeError, match=r"depth has layout torch\.sparse_coo; expected a dense tensor"):
        ops.depth_crop(depth.to_sparse(), center, (100, 100, 4, 4))
    with pytest.raises(TypeError, match="cube has layout"):
        ops.depth_crop(depth, center, (100, 100, 4, 4), cube=torch.full((3,), 50.0).to_sparse())
    with pytest.raises(TypeError, match="camera tensor has layout"):
        ops.depth_crop(depth, center, torch.full((4,), 50.0).to_sparse())
    with pytest.raises(TypeError, match="joints is of type int; expected indices"):
        ops.roi_windows(torch.zeros(2, 3), 1)  # type: ignore[arg-type]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_cube_that_is_nan_has_nothing_inside(axis: int, device: str) -> None:
    depth = torch.full((8, 8), 500, dtype=torch.int32, device=device)
    depth[0, 0] = 700
    cube = torch.tensor([10.0, 10.0, 10.0], device=device)
    cube[axis] = math.nan
    arguments = {"near": 1, "far": 900, "camera": (100, 100, 4, 4), "cube": cube}
    for one, other in zip(
        ops.hand_center(depth, iterations=2, **arguments), ops.hand_center(depth, **arguments), strict=True
    ):
        assert torch.equal(one, other)  # the last centre is kept


@pytest.mark.parametrize("dtype", OTHERS)
def test_native_ops_refuse_depth_of_other_types(dtype: torch.dtype) -> None:
    """Native ops called directly once read int8 as float32, beyond its end."""
    for function, arguments in native_cases()[:3]:
        place = 1 if "backward" in str(function) else 0
        arguments[place] = arguments[place].to(dtype)
        with pytest.raises(RuntimeError, match=r"depth (must be uint16|has a dtype)"):
            function(*arguments)


def test_native_ops_called_past_their_functions_do_not_crash() -> None:
    """In a separate process, so that a crash fails only this test."""
    here = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "fuzz.native", "250"], cwd=here, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    tried, accepted = map(int, done.stdout.split()[-2:])
    assert 0 < accepted < tried
    record("ops", "native ops, past Python's checks", device="poseren", tried=tried, accepted=accepted)
