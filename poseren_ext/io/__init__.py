# SPDX-License-Identifier: MIT
"""Depth images and pose files."""
