# SPDX-License-Identifier: MIT
"""The same seed gives the same bits; differences between thread counts, instruction sets and devices are bounded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.reproducibility_probe import PARTS, RUNS, TRAINING, measure
from helpers.trust_record import record

from poseren_ext.ops import _native

TESTS = Path(__file__).parents[1]
# Largest difference that is allowed where bits may differ; every other difference is none. In training a rounding may
# put a window elsewhere, and Muon gives small gradients the same weight as large ones.
BETWEEN_THREADS = {"Estimator, joints in mm": 1e-2, TRAINING: 5e-2}
BETWEEN_SETS = BETWEEN_THREADS | {"cascade_refine": 1e-5}
ON_CUDA = {"cascade_refine": 1e-5, "depth_crop": 2e-6, "depth_crop, gradient": 1e-8}

Results = dict[str, np.ndarray]


def probe(isa: str, folder: Path, extent: str = "once") -> Results | None:
    """Everything with an instruction set, "whole" or "once"; None where this machine lacks it."""
    file = folder / f"{isa}.npz"
    command = [sys.executable, "-m", "helpers.reproducibility_probe", file, extent]
    done = subprocess.run(
        command, cwd=TESTS, env=os.environ | {"POSEREN_ISA": isa}, capture_output=True, text=True, timeout=300
    )
    if "this machine has" in done.stderr:
        return None
    assert done.returncode == 0, done.stderr
    with np.load(file, allow_pickle=False) as loaded:
        return {name.replace("|", "/"): loaded[name] for name in loaded.files}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Results:
    found = probe("baseline", tmp_path_factory.mktemp("probe"), "whole")
    assert found is not None
    return found


def difference(one: np.ndarray, other: np.ndarray) -> float:
    assert one.shape == other.shape
    assert (np.isnan(one) == np.isnan(other)).all()
    return float(np.nanmax(np.abs(one - other), initial=0.0))


@pytest.mark.parametrize("name", PARTS)
def test_the_same_seed_gives_the_same_bits(name: str, here: Results) -> None:
    assert difference(here[f"{name}/first"], here[f"{name}/again"]) == 0
    assert np.isfinite(here[f"{name}/first"]).any()
    threads = difference(here[f"{name}/first"], here[f"{name}/two threads"])
    assert threads <= BETWEEN_THREADS.get(name, 0.0)
    record("reproducibility", name, again=0.0, threads=threads)


@pytest.mark.parametrize("isa", ["avx2", "avx512"])
def test_instruction_sets(isa: str, here: Results, tmp_path: Path) -> None:
    other = probe(isa, tmp_path)
    if other is None:
        pytest.skip(f"this machine has no {isa}")
    names = [name for name in PARTS if name != TRAINING]
    differences = {name: difference(here[f"{name}/first"], other[f"{name}/first"]) for name in names}
    for name, found in differences.items():
        record("reproducibility", name, **{isa: found})
    assert {name: d for name, d in differences.items() if d > BETWEEN_SETS.get(name, 0.0)} == {}


def test_the_cuda_kernels(here: Results, device: str) -> None:
    if device != "cpu":
        pytest.skip("the probe's tensors are on the CPU")
    names = [name for name in PARTS if not name.startswith(("Estimator", "training"))]
    differences = {name: difference(here[f"{name}/first"], found) for name, found in _first(names).items()}
    if _native.ops.name != "poseren":  # the CPU's own are the columns of its instruction sets
        for name, found in differences.items():
            record("reproducibility", name, hostsim=found)
    assert {name: d for name, d in differences.items() if d > (BETWEEN_SETS | ON_CUDA).get(name, 0.0)} == {}


def _first(names: list[str]) -> Results:
    found = measure(names, RUNS[:1])
    return {name: found[f"{name}/first"] for name in names}
