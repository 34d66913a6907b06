# SPDX-License-Identifier: MIT
"""The models that come with the package, each with its card beside it."""

from pathlib import Path

BUNDLED: dict[str, Path] = {"demo": Path(__file__).parent / "demo.safetensors"}
"""Name -> file. ``demo``: a compact Pose-REN trained on synthetic hands; demo.md says how, and what it measures."""
