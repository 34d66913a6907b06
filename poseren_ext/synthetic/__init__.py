# SPDX-License-Identifier: MIT
"""Synthetic right hands: procedural, labelled, deterministic by (seed, index)."""

from poseren_ext.synthetic.conventions import convert_joints
from poseren_ext.synthetic.frames import Frames, SyntheticHands, SyntheticSequence
from poseren_ext.synthetic.sensor import Sensor

__all__ = ["Frames", "Sensor", "SyntheticHands", "SyntheticSequence", "convert_joints"]
