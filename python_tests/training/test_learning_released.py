# SPDX-License-Identifier: MIT
"""The recipe "released" learns at full width, as fast as the authors' training logs."""

from pathlib import Path

import pytest
from helpers.full_width_learning import require_learning


def test_init_cnn_learns_upright_hands_with_the_recipe_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measured: untrained 82.0 mm, mean pose 41.0 mm, after 150 steps 36.3 mm.

    With a loss that is averaged over the coordinates, which is 42 times smaller, the error stays near 80 mm.
    """
    require_learning("released", steps=150, below=39.0, folder=tmp_path, patch=monkeypatch)
