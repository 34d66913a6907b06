# SPDX-License-Identifier: MIT
"""Benchmarks against baselines: outputs are compared first, then times; lower bounds are reported beside them."""

from benchmarks.rows import Row, dump, load
from benchmarks.runner import SUBJECTS, run
from benchmarks.settings import Settings

__all__ = ["SUBJECTS", "Row", "Settings", "dump", "load", "run"]
