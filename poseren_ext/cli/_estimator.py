# SPDX-License-Identifier: MIT
"""An Estimator from the options of a command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from poseren_ext.cli._option_values import compute_device
from poseren_ext.cli.options import Hand, Precision

if TYPE_CHECKING:
    from poseren_ext.geometry.camera import Camera
    from poseren_ext.inference.estimator import Estimator


def build_estimator(
    model: str,
    camera: Camera,
    *,
    hand: Hand | None = None,
    cube: float = 150.0,
    stages: int = 3,
    depth_unit: float = 1.0,
    precision: Precision = "float32",
    tta: int = 1,
    device: str = "cpu",
) -> Estimator:
    """An estimator with a command's settings; `hand` None is the model's own hand.

    Raises:
        ValueError: the device is not available, or a setting is out of range.
        FileNotFoundError: there is no such model.
    """
    from poseren_ext.inference.estimator import Estimator
    from poseren_ext.models.files import BOTH, BUNDLED, load_model, packed_model

    place = compute_device(device)
    loaded = model if place.type == "cpu" or model == BOTH else load_model(model).to(place)
    one = next(iter(BUNDLED)) if model == BOTH else loaded
    own = (packed_model(one, precision) if isinstance(one, str) else one).config.hand
    return Estimator(
        loaded,
        camera=camera,
        hand=own if hand is None else hand,
        cube=cube,
        stages=stages,
        depth_unit=depth_unit,
        precision=precision,
        tta=tta,
        device=None if place.type == "cpu" else place,
    )
