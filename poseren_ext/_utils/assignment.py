# SPDX-License-Identifier: MIT
"""Optimal assignment of few items to few items, such as the hands of one frame."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

LARGEST = 12
"""Largest number of columns: the search visits each subset of them once."""


def assign(costs: Sequence[Sequence[float]]) -> list[tuple[int, int]]:
    """Pair rows with columns: as many pairs as possible, with the least sum of costs among those.

    Exact, like the Hungarian algorithm, by dynamic programming over the sets of used columns.

    Args:
        costs: one row of costs per row item, all of the same length; infinity forbids a pair.

    Returns:
        Pairs (row, column), by row.

    Raises:
        ValueError: The rows differ in length, a cost is NaN, or there are more than LARGEST columns.
    """
    columns = len(costs[0]) if costs else 0
    if any(len(row) != columns for row in costs):
        raise ValueError("the rows of costs differ in length")
    if any(math.isnan(cost) for row in costs for cost in row):
        raise ValueError("a cost is NaN; infinity forbids a pair")
    if columns > LARGEST:
        raise ValueError(f"{columns} columns; expected at most {LARGEST}")

    @cache
    def best(row: int, used: int) -> tuple[int, float, tuple[tuple[int, int], ...]]:
        """Negative number of pairs, sum of costs and the pairs, for the rows from `row` on."""
        if row == len(costs):
            return 0, 0.0, ()
        found = best(row + 1, used)
        for column, cost in enumerate(costs[row]):
            if math.isfinite(cost) and not used >> column & 1:
                pairs, total, chosen = best(row + 1, used | 1 << column)
                found = min(found, (pairs - 1, total + cost, ((row, column), *chosen)))
        return found

    return list(best(0, 0)[2])
