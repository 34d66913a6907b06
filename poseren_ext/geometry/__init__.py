# SPDX-License-Identifier: MIT
"""Cameras, skeletons and transforms of crops."""
