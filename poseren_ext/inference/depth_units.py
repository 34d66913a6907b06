# SPDX-License-Identifier: MIT
"""The likely depth unit of frames whose hand is missing, too near or too far in the unit that was given."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from poseren_ext.geometry.camera import Camera
from poseren_ext.inference.errors import HandDistanceError
from poseren_ext.inference.hand_detection import find_hands
from poseren_ext.inference.input_frames import FARTHEST_HAND, NEAREST_HAND, UNITS
from poseren_ext.inference.surface_detection import SLAB

_USUAL_DISTANCE, _DISTANCE_SPREAD = 550.0, 0.45
_PALM_RADIUS, _RADIUS_SPREAD = 40.0, 0.6
"""mm and standard deviations of the logarithm: a palm is seen from the side too, and its disc is then smaller."""
UNFITTING = 9.0
"""`unit_cost` of a unit in which no hand is found, and its largest value."""


def unit_cost(distance: float, palm_radius: float | None = None) -> float:
    """How unlikely a hand is: squared deviations from the usual distance and palm, in standard deviations.

    Args:
        distance: from the camera, mm.
        palm_radius: radius of the largest disc inside the hand, mm; None where it is not known.
    """
    cost = (math.log(distance / _USUAL_DISTANCE) / _DISTANCE_SPREAD) ** 2
    if palm_radius:
        cost += (math.log(palm_radius / _PALM_RADIUS) / _RADIUS_SPREAD) ** 2
    return min(cost, UNFITTING)


def ranked_units(costs: Mapping[float, float]) -> list[float]:
    """Units by their costs; millimetres before an equally likely unit."""
    return sorted(costs, key=lambda unit: (costs[unit], unit != 1))


def nearest_palm(frame: npt.NDArray[Any], camera: Camera, unit: float) -> tuple[float, float] | None:
    """How far away a hand is in this unit, and the radius of the largest disc inside it, mm; None where none is."""
    depth = np.asarray(frame, np.float32) * np.float32(unit)
    # What is farther needs no search: in a wrong unit that may be kilometres.
    found = find_hands(np.where(depth <= FARTHEST_HAND + SLAB, depth, 0), camera, 1, method="surface")
    if not found or not NEAREST_HAND <= found[0].center[2] <= FARTHEST_HAND:
        return None
    distance = found[0].center[2]
    pixels = float(cv2.distanceTransform(np.uint8(found[0].mask), cv2.DIST_L2, 3).max())
    return distance, pixels * distance / camera.fx


def other_units(frame: npt.NDArray[Any], camera: Camera, unit: float) -> dict[float, tuple[float, float]]:
    """The other units in which a frame has a hand, with its distance and palm radius in mm; the likeliest first."""
    found = {other: palm for other in UNITS if other != unit and (palm := nearest_palm(frame, camera, other))}
    return {other: found[other] for other in ranked_units({other: unit_cost(*found[other]) for other in found})}


def unit_advice(frame: npt.NDArray[Any], camera: Camera, unit: float) -> str:
    """Units with which the frame has a hand, as advice to the user; empty if there is none."""
    options = [
        f"{other:g} ({UNITS[other]}; {palm[0]:.0f} mm away)" for other, palm in other_units(frame, camera, unit).items()
    ]
    return f"a hand is there with depth_unit={' or '.join(options)}" if options else ""


def check_distances(centers: Tensor, depth_unit: float, *, allow: bool = False) -> Tensor:
    """Refuse hands at distances at which no depth camera sees a hand.

    Args:
        centers: [B, 3] u, v (pixels), d (mm); NaN where there is none.
        depth_unit: mm per stored unit.
        allow: give NaN for such a hand, and warn, instead of an error.

    Returns:
        The centres.

    Raises:
        HandDistanceError: a hand is outside NEAREST_HAND..FARTHEST_HAND.
    """
    wrong = (centers[:, 2] < NEAREST_HAND) | (centers[:, 2] > FARTHEST_HAND)
    if not bool(wrong.any()):
        return centers
    i = int(wrong.nonzero()[0])
    distance = float(centers[i, 2])
    stored = distance / depth_unit
    likely = [unit for unit in UNITS if unit != depth_unit and 200 <= stored * unit <= 1200]
    likely.sort(key=lambda unit: unit_cost(stored * unit))
    names = [f"{unit:g} ({UNITS[unit]}; {stored * unit:.0f} mm away)" for unit in likely]
    advice = f"pass depth_unit={' or '.join(names)}" if names else "check depth_unit and the frame"
    message = (
        f"the hand in frame {i} is {distance:.0f} mm away with depth_unit={depth_unit:g}; expected "
        f"{NEAREST_HAND:g} to {FARTHEST_HAND:g} mm: {advice}"
    )
    if not allow:
        raise HandDistanceError(message)
    warnings.warn(f"{message}; it has no joints", stacklevel=3)
    return centers.masked_fill(wrong[:, None], torch.nan)
