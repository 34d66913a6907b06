# SPDX-License-Identifier: MIT
"""Changes of the relief of rendered surfaces."""

from __future__ import annotations

import torch

from poseren_ext._utils.counter_rng import Counter
from poseren_ext.synthetic import TrainingHands
from poseren_ext.synthetic.relief import surface_means, vary_relief


def test_means_stay_within_a_surface() -> None:
    depth = torch.full((1, 7, 9), 500.0)
    depth[:, :, 4:] = 600.0  # another surface
    depth[:, 2, 1] = 509.0  # a bump
    depth[:, :, 8] = 0.0  # nothing
    means = surface_means(depth)
    assert means[0, 2, 1] == 501.0  # (8 x 500 + 509) / 9
    assert means[0, 1, 0] == 500.0 + 9.0 / 9.0
    assert bool((means[:, :, 4:8] == 600.0).all())
    assert bool((means[:, :, 8] == 0.0).all())
    assert bool((means[:, 5:, :4] == 500.0).all())


def test_half_of_the_frames_are_smoothed_and_waves_are_slow_and_some_mm_high() -> None:
    rng = Counter(4, torch.arange(200))
    flat = vary_relief(torch.full((200, 96, 96), 700.0), rng) - 700.0
    assert 0.5 < float(flat.std()) < 4.0
    steepest = (flat[:, 1:] - flat[:, :-1]).abs().amax((1, 2)) / flat.abs().amax((1, 2))
    assert float(steepest.quantile(0.95)) < 0.15  # from one pixel to the next
    rough = 700.0 + 5.0 * torch.randn(200, 96, 96, generator=torch.Generator().manual_seed(1))
    relief = vary_relief(rough, rng) - 700.0 - flat  # the waves, which do not depend on the depth, taken off
    kept = relief.std((1, 2)) > 4.5
    assert 0.4 < float(kept.float().mean()) < 0.6
    assert float(relief[~kept].std((1, 2)).max()) < 2.0  # the mean of nine has a third of the deviation


def test_the_relief_of_a_frame_depends_on_its_index_alone_and_nothing_stays_nothing() -> None:
    index = torch.arange(40)
    changed, plain = TrainingHands(5).tiles(index, size=48), TrainingHands(5, relief=False).tiles(index, size=48)
    assert torch.equal(TrainingHands(5).tiles(index[7:9], size=48).depth, changed.depth[7:9])
    assert torch.equal(changed.depth == 0.0, plain.depth == 0.0)
    assert torch.equal(changed.uvd, plain.uvd)
    assert bool((changed.depth != plain.depth).flatten(1).any(1).all())
