# SPDX-License-Identifier: MIT
"""What the bundled models know, by view: coarse limits that their cards undercut."""

from __future__ import annotations

import pytest

from poseren_ext.models import load_model
from poseren_ext.synthetic import split_hands
from poseren_ext.synthetic.splits import SplitKind
from poseren_ext.training.synthetic_batches import render_store
from poseren_ext.training.validation import label_store, stage_errors, stage_poses


@pytest.mark.parametrize(
    ("name", "kind", "largest"),
    [("demo", "palm", 8.5), ("any_view", "palm", 14.0), ("any_view", "back", 32.0), ("any_view", "egocentric", 32.0)],
)
def test_errors_by_view(name: str, kind: SplitKind, largest: float) -> None:
    labels = label_store(render_store(split_hands(kind), 0, 48), 150.0)
    poses = stage_poses(load_model(name), labels.crop)
    assert float(stage_errors(poses[-1:], labels, 150.0).mean()) < largest
