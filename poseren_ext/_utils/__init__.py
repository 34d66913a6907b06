# SPDX-License-Identifier: MIT
"""Helpers that know nothing of hands: arrays, atomic files, random numbers, CUDA graphs."""
