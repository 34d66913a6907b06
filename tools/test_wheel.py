# SPDX-License-Identifier: MIT
"""Does a wheel hold what it should, and work in an environment that has nothing but torch and the wheel?"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Mapping
from pathlib import Path

TOOLS = Path(__file__).parent

REQUIRED = (
    "poseren_ext/__init__.py",
    "poseren_ext/py.typed",
    "poseren_ext/_C.pyi",
    "poseren_ext/libposeren_ops.so",
    "poseren_ext/weights/demo.safetensors",
    "poseren_ext/weights/demo.md",
    ".dist-info/licenses/LICENSE",
    ".dist-info/entry_points.txt",
)
"""Files that a wheel has: names, or how they end."""
UNWANTED = (".cpp", ".cu", ".h", ".pyc", "libtorch", "libc10", "libcudart", "hostsim")
"""What no file's name may hold: sources, the libraries of others, the test-only runtime."""


def main() -> None:
    """Check every wheel that was named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheels", nargs="+", type=Path)
    parser.add_argument("--torch", default="torch", help="what to install first, such as torch==2.13.0")
    parser.add_argument("--python", default=sys.executable, help="interpreter that the environment is made of")
    arguments = parser.parse_args()
    for wheel in arguments.wheels:
        with zipfile.ZipFile(wheel) as archive:
            faults = content_faults({entry.filename: entry.external_attr >> 16 for entry in archive.infolist()})
        if faults:
            raise SystemExit(f"{wheel}: {'; '.join(faults)}")
        with tempfile.TemporaryDirectory() as folder:
            try_out(wheel.resolve(), Path(folder), arguments.torch, arguments.python)
        print(f"{wheel}: good")


def content_faults(modes: Mapping[str, int]) -> list[str]:
    """What is wrong with a wheel whose files have these modes."""
    faults = [f"no {name}" for name in REQUIRED if not any(file.endswith(name) for file in modes)]
    faults += [f"{file} does not belong in it" for file in modes for name in UNWANTED if name in Path(file).name]
    faults += [f"{file} cannot be read by all" for file, mode in modes.items() if mode and mode & 0o444 != 0o444]
    return faults


def try_out(wheel: Path, folder: Path, torch: str, python: str) -> None:
    """Install torch and the wheel into a new environment, and use them there."""
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
    """Run a command in the folder, away from the sources; its output shows when it fails."""
    result = subprocess.run([str(part) for part in command], cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{result.stdout}{result.stderr}")


if __name__ == "__main__":
    main()
