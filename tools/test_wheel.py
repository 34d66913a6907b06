# SPDX-License-Identifier: MIT
"""Checks the contents of wheels and source archives, and runs wheels in a fresh environment."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

TOOLS = Path(__file__).parent

REQUIRED = (
    "poseren_ext/__init__.py",
    "poseren_ext/py.typed",
    "poseren_ext/_C.pyi",
    "poseren_ext/libposeren_ops.so",
    "poseren_ext/weights/demo.safetensors",
    "poseren_ext/weights/demo.md",
    "poseren_ext/weights/any_view.safetensors",
    "poseren_ext/weights/any_view.md",
    "poseren_ext/weights/detector.safetensors",
    "poseren_ext/weights/detector.md",
    "poseren_ext/weights/detector_proposals.onnx",
    "poseren_ext/weights/detector_verifier.onnx",
    ".dist-info/licenses/LICENSE",
    ".dist-info/entry_points.txt",
)
"""Files that a wheel must contain: ends of their paths."""
UNWANTED = (".cpp", ".cu", ".h", ".pyc", "libtorch", "libc10", "libcudart", "hostsim")
"""Parts of file names that a wheel must not contain: sources, libraries of other packages, test tools."""

ARCHIVED = (
    "CMakeLists.txt",
    "LICENSE",
    "Makefile",
    "README.md",
    "cmake/isa.cmake",
    "csrc/module.cpp",
    "poseren_ext/py.typed",
    "poseren_ext/weights/demo.safetensors",
    "python_tests/conftest.py",
    "requirements/build.txt",
)
"""Some files that a source archive must contain."""
STRAYS = (".venv", "build/", "dist/", "docs/", "runs/", "site/")
"""Beginnings of paths that a source archive must not contain: build products."""


def main() -> None:
    """Check every file given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, help="wheels and source archives")
    parser.add_argument("--torch", default="torch", help="torch requirement to install first, such as torch==2.13.0")
    parser.add_argument("--python", default=sys.executable, help="interpreter of the environment")
    arguments = parser.parse_args()
    for path in arguments.files:
        if faults := faults_of(path):
            raise SystemExit(f"{path}: {'; '.join(faults)}")
        if path.suffix == ".whl":
            with tempfile.TemporaryDirectory() as folder:
                run_wheel(path.resolve(), Path(folder), arguments.torch, arguments.python)
        print(f"{path}: OK")


def faults_of(path: Path) -> list[str]:
    """Faults of the contents of a wheel or a source archive."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            return content_faults({entry.filename: entry.external_attr >> 16 for entry in wheel.infolist()})
    with tarfile.open(path) as archive:
        return archive_faults(archive.getnames())


def archive_faults(paths: Iterable[str]) -> list[str]:
    """Faults of a source archive with these paths, all below one folder."""
    names = [path.partition("/")[2] for path in paths]
    faults = [f"no {name}" for name in ARCHIVED if name not in names]
    return faults + [
        f"{name} does not belong in it" for name in names if name.startswith(STRAYS) or name.endswith(".so")
    ]


def content_faults(modes: Mapping[str, int]) -> list[str]:
    """Faults of a wheel with these files and their modes."""
    faults = [f"no {name}" for name in REQUIRED if not any(file.endswith(name) for file in modes)]
    faults += [f"{file} does not belong in it" for file in modes for name in UNWANTED if name in Path(file).name]
    faults += [f"{file} cannot be read by all" for file, mode in modes.items() if mode and mode & 0o444 != 0o444]
    return faults


def run_wheel(wheel: Path, folder: Path, torch: str, python: str) -> None:
    """Install torch and the wheel into a new environment and run them."""
    if Path(python).resolve() == Path(sys.executable).resolve():
        venv.create(folder / "venv", with_pip=True)
    else:
        run(folder, python, "-m", "venv", "venv")
    bin_folder = folder / "venv" / "bin"
    pip = (bin_folder / "python", "-m", "pip", "--disable-pip-version-check", "--quiet")
    run(folder, *pip, "install", torch)
    run(folder, *pip, "install", wheel)
    run(folder, *pip, "check")
    cuda = "--cuda" if wheel.parent.name.startswith("cu") else "--cpu"
    run(folder, bin_folder / "python", "-I", TOOLS / "smoke.py", cuda, wheel.name.split("-")[1])
    run(folder, bin_folder / "poseren", "--help")
    run(folder, bin_folder / "poseren", "demo", "--frames", "8", "--out", "demo.png")
    if not (folder / "demo.png").exists():
        raise SystemExit("poseren demo wrote no picture")


def run(folder: Path, *command: object) -> None:
    """Run a command in the folder, away from the sources; show its output if it fails."""
    result = subprocess.run([str(part) for part in command], cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{result.stdout}{result.stderr}")


if __name__ == "__main__":
    main()
