# SPDX-License-Identifier: MIT
"""`make gpu-check`: builds for a machine with an NVIDIA GPU, runs every test on it, and writes gpu-check.json.

Needs no network: it builds without isolation against the Python, torch and compiler that are there, into a folder of
its own. Test modules that import a package which is missing here are named in the report, not hidden.
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
TEST_SECONDS, SANITIZER_SECONDS = 240, 60
# Imported by test modules and not always there; a module that needs one that is missing is reported.
OPTIONAL = ("hypothesis", "cv2", "scipy", "torchmetrics", "matplotlib", "typer", "rich", "safetensors", "onnx", "viser")


def run(command: list[str], seconds: float, **environment: str) -> tuple[int, str]:
    """Exit status (124: out of time) and output of a command run beside the installed package."""
    try:
        done = subprocess.run(
            command,
            cwd=FOLDER,
            env={**os.environ, "PYTHONPATH": str(SITE), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        return 124, (late.stdout or b"").decode(errors="replace") if isinstance(
            late.stdout, bytes
        ) else late.stdout or ""
    return done.returncode, done.stdout


def machine() -> dict[str, Any]:
    """The GPU, and the versions of all that takes part."""
    import torch

    if not torch.cuda.is_available():
        raise SystemExit(
            "gpu-check needs an NVIDIA GPU that torch can use; torch.cuda.is_available() is False here. "
            "Without one, `make test` runs the kernels on the CPU."
        )
    properties = torch.cuda.get_device_properties(0)
    nvcc = shutil.which("nvcc")
    return {
        "gpu": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "torch_cuda": torch.version.cuda,
        "nvcc": subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]
        if nvcc
        else None,
        "commit": subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
        ).stdout.strip(),
    }


def build() -> dict[str, Any]:
    """Installs the package with its CUDA kernels into FOLDER/site."""
    started = time.perf_counter()
    shutil.rmtree(SITE, ignore_errors=True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "install", "--no-build-isolation", "--no-deps", "--no-index"]
    command += ["--target", str(SITE), str(ROOT), "--config-settings=cmake.define.POSEREN_CUDA=ON"]
    status, output = run(command, 300)
    if status:
        raise SystemExit(f"the build failed with status {status}:\n{output[-6000:]}")
    return {"seconds": round(time.perf_counter() - started, 1)}


def test() -> dict[str, Any]:
    """All tests that can be imported here, with a missing GPU as a failure."""
    missing = [name for name in OPTIONAL if importlib.util.find_spec(name) is None]
    left_out = []
    for path in sorted((ROOT / "python_tests").glob("test_*.py")):
        needs = [name for name in missing if re.search(rf"^(import|from) {name}\b", path.read_text(), re.MULTILINE)]
        if needs:
            left_out.append({"module": path.name, "needs": needs})
    report = FOLDER / "tests.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml")]
    command += [f"--rootdir={ROOT}", f"--junitxml={report}", str(ROOT / "python_tests")]
    command += [f"--ignore={ROOT / 'python_tests' / entry['module']}" for entry in left_out]
    started = time.perf_counter()
    status, output = run(command, TEST_SECONDS, FAIL_WITHOUT_CUDA="1")
    (FOLDER / "tests.log").write_text(output)
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
        "modules_left_out": left_out,
        "tail": output.splitlines()[-15:],
    }


def sanitize() -> list[dict[str, Any]]:
    """compute-sanitizer over every op at small sizes."""
    tool = shutil.which("compute-sanitizer")
    if not tool:
        return [{"tool": "compute-sanitizer", "status": None, "why": "not on this machine"}]
    rows = []
    for check in ("memcheck", "racecheck"):
        command = [tool, "--tool", check, "--error-exitcode", "9", sys.executable, str(ROOT / "tools" / "gpu_ops.py")]
        status, output = run([*command, "--small"], SANITIZER_SECONDS)
        rows.append({"tool": check, "status": status, "tail": output.splitlines()[-5:]})
    return rows


def time_ops() -> dict[str, Any]:
    """Median milliseconds of every op, by CUDA events."""
    status, output = run([sys.executable, str(ROOT / "tools" / "gpu_ops.py")], 90)
    lines = [line for line in output.splitlines() if line.startswith("{")]
    return {"status": status, "rows": [json.loads(line) for line in lines], "tail": output.splitlines()[-3:]}


def main() -> int:
    """0 when everything passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "gpu-check.json")
    out = parser.parse_args().out
    report: dict[str, Any] = {"machine": machine()}
    parts = {"build": build, "timings": time_ops, "sanitizer": sanitize, "tests": test}
    for name, part in parts.items():
        report[name] = part()
        out.write_text(json.dumps(report, indent=1) + "\n")  # what is known so far is kept
        print(name, json.dumps(report[name])[:400], flush=True)
    failed = report["tests"]["status"] or report["timings"]["status"]
    failed = failed or any(row["status"] for row in report["sanitizer"])
    print("gpu-check:", "FAILED" if failed else "all green", "->", out)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
