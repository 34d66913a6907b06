# SPDX-License-Identifier: MIT
"""Description of the machine that a benchmark runs on."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from poseren_ext import __version__
from poseren_ext.ops import _native

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h
_LIBRARIES = ("torch", "numpy", "opencv-python", "onnxruntime", "openvino", "torchvision", "kornia")


def describe(device: str, threads: int) -> dict[str, Any]:
    """Describe the machine: processor, device, threads, versions and commit."""
    machine: dict[str, Any] = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "build": {key: str(value) for key, value in _native.build_info().items()},
        "isa": os.environ.get("POSEREN_ISA", "best available"),
        "python": platform.python_version(),
        "poseren_ext": __version__,
        "commit": _commit(),
        "libraries": {name: found for name in _LIBRARIES if (found := _version(name))},
    }
    if device == "cuda":
        machine["gpu"] = torch.cuda.get_device_name()
    return machine


def set_threads(count: int) -> None:
    """Set the number of threads of PyTorch and OpenCV; ONNX Runtime and OpenVINO take it with each model."""
    import cv2

    torch.set_num_threads(count)
    cv2.setNumThreads(count)


def keep_freed_memory() -> None:
    """Make glibc reuse freed memory of any size in this process.

    glibc returns blocks of 32 MB and more to the system at once. Beyond that size every call pays for page faults,
    which cost many times more than the work, and a growth curve would show the allocator. No effect with other C
    libraries.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Commit of the checkout that the benchmarks run from, followed by + if tracked files differ from it."""
    folder = Path(__file__).parent
    try:
        commit = _git(folder, "rev-parse", "--short", "HEAD")
        return commit + (
            "+"
            if _git(folder, "status", "--porcelain", "--untracked-files=no", ".", "../poseren_ext", "../csrc")
            else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()
