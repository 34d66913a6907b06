# SPDX-License-Identifier: MIT
"""Draws the pictures of the documentation with this package: `python -m tools.pictures [NAME ...]`."""

from __future__ import annotations

import argparse
from pathlib import Path

from poseren_ext.plotting import save
from tools.pictures import concepts, ops
from tools.pictures.material import Material

FOLDER = Path(__file__).parents[2] / "docs" / "pictures"
LARGEST = 300_000  # bytes, so that pages load fast
DRAWINGS = {**concepts.DRAWINGS, **ops.DRAWINGS}


def main() -> None:
    """Draw the named pictures, or all."""
    parser = argparse.ArgumentParser(prog="python -m tools.pictures", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(DRAWINGS)}; default: all")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(DRAWINGS))
    if unknown:
        parser.error(f"no picture is named {', '.join(unknown)}")
    material = Material.make()
    for name in arguments.names or DRAWINGS:
        path = arguments.folder / f"{name}.png"
        save(DRAWINGS[name](material), path)
        size = path.stat().st_size
        print(f"{path.name}: {size / 1000:.0f} kB")
        if size > LARGEST:
            raise SystemExit(f"{path} has {size} bytes; expected at most {LARGEST}")


if __name__ == "__main__":
    main()
