# SPDX-License-Identifier: MIT
"""Synthetic right hands: procedural, labelled, deterministic by (seed, index)."""

from poseren_ext.data.synthetic.frames import SyntheticHands, Tiles
from poseren_ext.data.synthetic.sensor import Sensor

__all__ = ["Sensor", "SyntheticHands", "Tiles"]
