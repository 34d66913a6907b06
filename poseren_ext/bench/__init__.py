# SPDX-License-Identifier: MIT
"""Benchmarks: ours and every peer in turn on the same work, equality first, floors beside the figures."""

from poseren_ext.bench.rows import Row, dump, load
from poseren_ext.bench.runner import SUBJECTS, run
from poseren_ext.bench.settings import Settings

__all__ = ["SUBJECTS", "Row", "Settings", "dump", "load", "run"]
