# SPDX-License-Identifier: MIT
"""Hostile input for every reader and every op: seeds, mutations, harnesses, and a driver (`python -m fuzz`)."""
