# SPDX-License-Identifier: MIT
"""Packed datasets: written once, then read in any order."""
