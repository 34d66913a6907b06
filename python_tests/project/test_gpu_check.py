# SPDX-License-Identifier: MIT
"""`make gpu-check` without a GPU: what it would select, leave out and report."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

sys.path.append(str(ROOT / "tools"))
import gpu_check  # noqa: E402


def collected(chosen: str, *paths: str) -> set[str]:
    """Names of the tests that `gpu_check.pytest` would run, from the same command without running any."""
    command = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, f"--rootdir={ROOT}", "-p", "no:cacheprovider"]
    command += ["--collect-only", "-k", chosen, *(str(ROOT / "python_tests" / path) for path in paths)]
    done = subprocess.run(command, cwd=ROOT / "python_tests", capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    return {line.rpartition("/")[2] for line in done.stdout.splitlines() if "::" in line}


def test_the_first_part_has_every_op_on_the_gpu_and_the_second_the_rest() -> None:
    first, second = (collected(chosen, "ops") for chosen in gpu_check.TEST_SECONDS)
    assert not first & second
    assert not [name for name in second if "[hostsim" in name]
    # What is tested on a CPU is tested on the GPU too.
    assert {name.replace("[cpu", "[cuda") for name in second if re.search(r"\[cpu\b", name)} <= first
    ops = ("hand_center", "depth_crop", "normalized_pose", "roi_windows", "pose_roi_pool", "cascade_refine")
    for op in ops:
        assert any(re.match(rf"test_{op}\.py::.*\bcuda\b", name) for name in first), op
    assert len(first) > 100
    assert {name.partition("::")[0] for name in first} >= {"test_cuda_graphs.py", "test_cuda_kernels.py"}


def test_modules_that_import_a_missing_package_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpu_check.modules_left_out() == []
    monkeypatch.setattr(gpu_check, "is_here", lambda name: name != "ray")
    assert gpu_check.modules_left_out() == [{"module": "inference/test_ray.py", "needs": ["ray"]}]


def test_without_a_gpu_it_says_what_to_run_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit, match="make test"):
        gpu_check.machine()


@pytest.mark.parametrize(("status", "code"), [(0, 0), (1, 1)])
def test_a_failed_part_fails_the_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, code: int) -> None:
    monkeypatch.setattr(gpu_check, "machine", lambda: {"gpu": "none"})
    monkeypatch.setattr(gpu_check, "time_ops", lambda: {"status": 0})
    monkeypatch.setattr(gpu_check, "modules_left_out", list)
    monkeypatch.setattr(gpu_check, "pytest", lambda chosen, *_: {"status": status if chosen == "cuda" else 0})
    report = tmp_path / "report.json"
    monkeypatch.setattr(sys, "argv", ["gpu_check", "--parts", "timings", "tests", "--out", str(report)])
    assert gpu_check.main() == code
    assert json.loads(report.read_text())["tests"]["status"] == status
