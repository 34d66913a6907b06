# SPDX-License-Identifier: MIT
"""Optimal assignment, compared with SciPy's Hungarian algorithm."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from poseren_ext._utils.assignment import assign


@pytest.mark.parametrize("seed", range(20))
def test_the_sum_of_costs_is_that_of_the_hungarian_algorithm(seed: int) -> None:
    random = np.random.default_rng(seed)
    costs = random.uniform(-5, 5, random.integers(1, 6, 2))
    pairs = assign(costs.tolist())
    rows, columns = linear_sum_assignment(costs)
    assert len(pairs) == len(rows) == len({row for row, _ in pairs}) == len({column for _, column in pairs})
    assert sum(costs[pair] for pair in pairs) == pytest.approx(costs[rows, columns].sum())


def test_forbidden_pairs_are_left_out_and_most_pairs_win() -> None:
    assert assign([[math.inf, 1.0], [math.inf, math.inf]]) == [(0, 1)]
    # One pair of cost 1 would be cheaper than these two.
    assert assign([[1.0, 50.0], [60.0, math.inf]]) == [(0, 1), (1, 0)]
    assert assign([]) == assign([[], []]) == []


@pytest.mark.parametrize("costs", [[[1.0], [1.0, 2.0]], [[math.nan]], [[0.0] * 13]])
def test_invalid_costs_are_refused(costs: list[list[float]]) -> None:
    with pytest.raises(ValueError, match=r"cost|columns"):
        assign(costs)
