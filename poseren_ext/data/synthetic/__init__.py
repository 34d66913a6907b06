# SPDX-License-Identifier: MIT
"""Synthetic right hands: procedural, labelled, deterministic by (seed, index)."""

from poseren_ext.data.synthetic.conventions import convert_joints
from poseren_ext.data.synthetic.frames import Frames, SyntheticHands, SyntheticSequence
from poseren_ext.data.synthetic.sensor import Sensor

__all__ = ["Frames", "Sensor", "SyntheticHands", "SyntheticSequence", "convert_joints"]
