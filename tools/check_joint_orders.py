# SPDX-License-Identifier: MIT
"""Compares our joint orders with the constants of the libraries that define them, without importing the libraries.

    pip download --no-deps -d wheels mediapipe smplx pyopenxr
    python -m tools.check_joint_orders wheels

Last run with mediapipe 1.2.3, smplx 0.1.28 and pyopenxr 1.1.6501: all equal. dex-retargeting's indices are tested in
python_tests/inference/test_retargeting.py.
"""

from __future__ import annotations

import ast
import sys
import zipfile
from pathlib import Path

from poseren_ext.geometry.joint_orders import joint_names

# For each order: the wheel, the file, and the name of the enumeration or list in it.
SOURCES = {
    "mediapipe": ("mediapipe", "mediapipe/tasks/python/vision/hand_landmarker.py", "HandLandmark"),
    "openxr26": ("pyopenxr", "xr/enums.py", "HandJointEXT"),
    "mano": ("smplx", "smplx/joint_names.py", "JOINT_NAMES"),
}
PINKY = {"little": "pinky"}
OPENXR_PARTS = {"metacarpal": "metacarpal", "proximal": "mcp", "intermediate": "pip", "distal": "dip", "tip": "tip"}
OPENXR_THUMB = {"metacarpal": "cmc", "proximal": "mcp", "distal": "ip", "tip": "tip"}
MANO_PARTS = {"1": "mcp", "2": "pip", "3": "dip"}
MANO_THUMB = {"1": "cmc", "2": "mcp", "3": "ip"}


def constants(folder: Path, library: str, file: str, name: str) -> list[str]:
    """The names of an enumeration by value, or the strings of a list."""
    (wheel,) = folder.glob(f"{library}-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        tree = ast.parse(archive.read(file))
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name == name:
            pairs = [
                (ast.literal_eval(one.value), ast.unparse(one.targets[0]))
                for one in node.body
                if isinstance(one, ast.Assign)
            ]
            return [member for value, member in sorted(pairs) if value >= 0]
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return list(ast.literal_eval(node.value))
    raise SystemExit(f"{wheel.name}: no {name} in {file}")


def as_ours(order: str, names: list[str]) -> list[str]:
    """The library's names in our words."""
    if order == "mano":  # the hand joints of SMPL-X; tips are vertices, listed at the end
        hand = [name.removeprefix("right_") for name in names if name.startswith("right_")]
        fingers = ("index", "middle", "pinky", "ring", "thumb")
        chain = [name for name in hand if name[:-1] in fingers and name[-1].isdigit()]
        parts = [f"{name[:-1]} {(MANO_THUMB if name.startswith('thumb') else MANO_PARTS)[name[-1]]}" for name in chain]
        return ["wrist", *parts, *(f"{name} tip" for name in hand if name in fingers)]
    ours = []
    for name in names:
        finger, _, part = name.lower().replace("_finger", "").partition("_")
        if part and order == "openxr26":
            part = (OPENXR_THUMB if finger == "thumb" else OPENXR_PARTS)[part]
        ours.append(f"{PINKY.get(finger, finger)} {part}".strip())
    return ours


def main() -> int:
    """Print a line per order; the exit status is the number of differences."""
    folder, different = Path(sys.argv[1]), 0
    for order, source in SOURCES.items():
        theirs = as_ours(order, constants(folder, *source))
        equal = theirs == list(joint_names(order))
        different += not equal
        print(f"{order}: {len(theirs)} joints of {source[0]}, {'equal' if equal else f'different: {theirs}'}")
    return different


if __name__ == "__main__":
    sys.exit(main())
