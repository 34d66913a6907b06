# SPDX-License-Identifier: MIT
"""The machine that a figure was measured on."""

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
_LIBRARIES = ("torch", "numpy", "opencv-python", "onnxruntime", "torchvision", "kornia")


def describe(device: str, threads: int) -> dict[str, Any]:
    """Processor, device, threads, versions and commit."""
    machine: dict[str, Any] = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "build": {key: str(value) for key, value in _native.build_info().items()},
        "isa": os.environ.get("POSEREN_ISA", "the best here"),
        "python": platform.python_version(),
        "poseren_ext": __version__,
        "commit": _commit(),
        "libraries": {name: found for name in _LIBRARIES if (found := _version(name))},
    }
    if device == "cuda":
        machine["gpu"] = torch.cuda.get_device_name()
    return machine


def set_threads(count: int) -> None:
    """The same number of threads for PyTorch and OpenCV; ONNX Runtime takes it at each session."""
    import cv2

    torch.set_num_threads(count)
    cv2.setNumThreads(count)


def keep_freed_memory() -> None:
    """Freed memory is used again, whatever its size, in this process from now on.

    glibc hands blocks of 32 MB and more back to the system at once: beyond that size every call pays for fresh pages,
    many times what the work costs, and a curve of the cost shows the allocator. With other C libraries nothing changes.
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
    """Of the checkout that the package runs from, with a + where files differ from it."""
    folder = Path(__file__).parent
    try:
        commit = _git(folder, "rev-parse", "--short", "HEAD")
        return commit + (
            "+" if _git(folder, "status", "--porcelain", "--untracked-files=no", "..", "../../csrc") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()
