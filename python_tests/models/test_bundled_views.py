# SPDX-License-Identifier: MIT
"""What the bundled model knows: a coarse limit that its card undercuts."""

from __future__ import annotations

from poseren_ext.models import load_model
from poseren_ext.synthetic import split_hands
from poseren_ext.training.synthetic_batches import render_store
from poseren_ext.training.validation import label_store, stage_errors, stage_poses


def test_palms_are_known_to_a_centimetre() -> None:
    labels = label_store(render_store(split_hands("palm"), 0, 96), 150.0)
    poses = stage_poses(load_model("demo"), labels.crop)
    assert float(stage_errors(poses[-1:], labels, 150.0).mean()) < 8.5
