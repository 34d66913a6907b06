# SPDX-License-Identifier: MIT
"""`make gpu-check`: builds for this machine's NVIDIA GPU, runs all tests, and writes gpu-check.json.

Needs no network: it builds without isolation with the installed Python, torch and compiler, into its own folder. The
report lists the test modules that import a missing package.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "gpu-check"
SITE = FOLDER / "site"
BUILD_SECONDS, TIMING_SECONDS, SANITIZER_SECONDS = 120, 45, 60  # at most; together with the tests under 8 minutes
# By expressions of pytest -k: first the tests on the GPU, one after another, then all others.
TEST_SECONDS = {"cuda": 90, "not cuda and not hostsim": 90}
# Packages imported by tests or by the package that may be missing; the report lists test modules that need one.
OPTIONAL = ("hypothesis", "cv2", "scipy", "torchmetrics", "matplotlib", "typer", "rich", "safetensors", "onnx", "ray",
            "array_api_strict", "torchvision", "tensorboard", "huggingface_hub", "google.protobuf")  # fmt: skip


def run(command: list[str], seconds: float, **environment: str) -> tuple[int, str]:
    """Exit status (124: timeout) and output of a command that uses the installed package."""
    try:
        done = subprocess.run(
            command,
            cwd=FOLDER,
            env={**os.environ, "PYTHONPATH": str(SITE), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        return 124, (late.stdout or b"").decode(errors="replace")
    return done.returncode, done.stdout.decode(errors="replace")


def machine() -> dict[str, Any]:
    """The GPU and the versions of all tools."""
    import torch

    if not torch.cuda.is_available():
        raise SystemExit(
            "gpu-check needs an NVIDIA GPU that torch can use; torch.cuda.is_available() is False here. "
            "Without one, `make test` runs the kernels on the CPU."
        )
    properties = torch.cuda.get_device_properties(0)
    return {
        "gpu": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "torch_cuda": torch.version.cuda,
        "nvcc": said(r"V([\d.]+)", "nvcc", "--version"),
        "cmake": said(r"version ([\d.]+)", "cmake", "--version"),
        "commit": said(r"(\w+)", "git", "-C", str(ROOT), "rev-parse", "HEAD"),
    }


def said(pattern: str, *command: str) -> str | None:
    """The part of a tool's output that matches the group of the pattern; None if the tool is missing."""
    if not shutil.which(command[0]):
        return None
    found = re.search(pattern, subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    return found[1] if found else None


def build() -> dict[str, Any]:
    """Install the package with CUDA kernels for this GPU into FOLDER/site."""
    import torch

    started = time.perf_counter()
    shutil.rmtree(SITE, ignore_errors=True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    major, minor = torch.cuda.get_device_capability()
    settings = {"POSEREN_CUDA": "ON", "CMAKE_CUDA_ARCHITECTURES": f"{major}{minor}"}
    command = [sys.executable, "-m", "pip", "install", "--no-build-isolation", "--no-deps", "--no-index"]
    command += ["--target", str(SITE), str(ROOT), f"--config-settings=build-dir={FOLDER / 'native'}"]
    command += [f"--config-settings=cmake.define.{name}={value}" for name, value in settings.items()]
    status, output = run(command, BUILD_SECONDS)
    if status:
        raise SystemExit(f"the build failed with status {status}:\n{output[-6000:]}")
    return {"seconds": round(time.perf_counter() - started, 1), **settings}


def test() -> dict[str, Any]:
    """Run all tests that can be imported; a missing GPU is a failure."""
    left_out = modules_left_out()
    parts = {chosen: pytest(chosen, seconds, left_out) for chosen, seconds in TEST_SECONDS.items()}
    return {
        "status": max(part["status"] for part in parts.values()),
        "parts": parts,
        "modules_left_out": left_out,
    }


def modules_left_out() -> list[dict[str, Any]]:
    """Test modules that import a missing package."""
    missing = [name for name in OPTIONAL if not is_here(name)]
    left_out = []
    for path in sorted((ROOT / "python_tests").rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        needs = [name for name in missing if re.search(rf"^(import|from) {re.escape(name)}\b", text, re.MULTILINE)]
        if needs:
            left_out.append({"module": str(path.relative_to(ROOT / "python_tests")), "needs": needs})
    return left_out


def is_here(module: str) -> bool:
    """Whether a module can be imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its parent package is missing
        return False


def pytest(chosen: str, seconds: float, left_out: list[dict[str, Any]]) -> dict[str, Any]:
    """Results of the tests selected by ``pytest -k chosen``."""
    report = FOLDER / f"tests-{'gpu' if chosen == 'cuda' else 'rest'}.xml"
    report.unlink(missing_ok=True)
    # Without the configuration of the project, which needs plugins that may be missing.
    command = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, f"--rootdir={ROOT}", "-p", "no:cacheprovider"]
    command += [f"--junitxml={report}", "-k", chosen, str(ROOT / "python_tests")]
    if chosen != "cuda" and is_here("xdist"):
        command += ["-n", "8"]
    command += [f"--ignore={ROOT / 'python_tests' / entry['module']}" for entry in left_out]
    started = time.perf_counter()
    status, output = run(command, seconds, FAIL_WITHOUT_CUDA="1")
    report.with_suffix(".log").write_text(output)
    counts = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    if report.exists():
        for suite in ET.parse(report).getroot().iter("testsuite"):
            for name in counts:
                counts[name] += int(suite.get(name, 0))
    counts["passed"] = counts["tests"] - counts["failures"] - counts["errors"] - counts["skipped"]
    return {
        **counts,
        "status": status,
        "seconds": round(time.perf_counter() - started, 1),
        "tail": output.splitlines()[-15:],
    }


def sanitize() -> list[dict[str, Any]]:
    """Run compute-sanitizer on every op with small sizes; the status is None if the tool cannot run."""
    tool = shutil.which("compute-sanitizer")
    if not tool:
        return [{"tool": "compute-sanitizer", "status": None, "why": "not installed"}]
    rows = []
    for check in ("memcheck", "racecheck"):
        command = [tool, "--tool", check, "--error-exitcode", "9", sys.executable, str(ROOT / "tools" / "gpu_ops.py")]
        status, output = run([*command, "--small"], SANITIZER_SECONDS)
        row: dict[str, Any] = {"tool": check, "status": status, "tail": output.splitlines()[-8:]}
        if "Device not supported" in output:
            row |= {"status": None, "why": "the tool reports that the device is not supported"}
        rows.append(row)
    return rows


def time_ops() -> dict[str, Any]:
    """Median time of every op, measured with CUDA events."""
    status, output = run([sys.executable, str(ROOT / "tools" / "gpu_ops.py")], TIMING_SECONDS)
    lines = [line for line in output.splitlines() if line.startswith("{")]
    return {"status": status, "rows": [json.loads(line) for line in lines], "tail": output.splitlines()[-3:]}


def main() -> int:
    """Run the chosen parts; the exit status is 0 if all passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parts = {"build": build, "timings": time_ops, "tests": test, "sanitizer": sanitize}
    parser.add_argument("--out", type=Path, default=ROOT / "gpu-check.json")
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts), help="default: all, in this order")
    arguments = parser.parse_args()
    out = arguments.out
    report: dict[str, Any] = {"machine": machine()}
    for name in arguments.parts:
        report[name] = parts[name]()
        out.write_text(json.dumps(report, indent=1) + "\n")  # keeps the results so far
        print(name, json.dumps(report[name])[:2000], flush=True)
    failed = any(report[name]["status"] for name in ("tests", "timings") if name in report)
    failed = failed or any(row["status"] for row in report.get("sanitizer", ()))
    print("gpu-check:", "FAILED" if failed else "all green", "->", out)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
