# SPDX-License-Identifier: MIT
"""Benchmarks: ours and every peer in turn on the same work, equality first, floors beside the figures."""

from benchmarks.rows import Row, dump, load
from benchmarks.runner import SUBJECTS, run
from benchmarks.settings import Settings

__all__ = ["SUBJECTS", "Row", "Settings", "dump", "load", "run"]
