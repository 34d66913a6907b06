# SPDX-License-Identifier: MIT
"""Synthetic right hands: procedural, labelled, deterministic by (seed, index)."""

from poseren_ext.synthetic.conventions import convert_joints
from poseren_ext.synthetic.frames import SyntheticHands, SyntheticSequence
from poseren_ext.synthetic.sensor import Sensor
from poseren_ext.synthetic.splits import SPLIT_KINDS, TrainingHands, split_hands
from poseren_ext.synthetic.varied_frames import VariedHands

__all__ = [
    "SPLIT_KINDS",
    "Sensor",
    "SyntheticHands",
    "SyntheticSequence",
    "TrainingHands",
    "VariedHands",
    "convert_joints",
    "split_hands",
]
