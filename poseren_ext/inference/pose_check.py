# SPDX-License-Identifier: MIT
"""Whether a model can estimate the hand of a frame: the errors that it predicts for a right and for a left hand."""

from __future__ import annotations

import os

import numpy as np

from poseren_ext.geometry.camera import Camera
from poseren_ext.inference.diagnosis import Finding, Image, Region
from poseren_ext.inference.estimator import Estimator, Hand
from poseren_ext.inference.forearm import forearm_remark
from poseren_ext.inference.hand_pose import UNCERTAIN_MM
from poseren_ext.models import PoseREN
from poseren_ext.models.files import BOTH, load_model

_BETTER_MM = 5.0  # by which the predicted error of the other hand is smaller if the frame shows it


class PoseCheck:
    """Compares the predicted errors of both hands at the centre that was found.

    Args:
        model: as for `Estimator`.
        hand: which hand the frames are said to show; None is the model's own.
        cube: half edge of the cube around the hand, mm.
    """

    def __init__(
        self, model: PoseREN | str | os.PathLike[str] = BOTH, hand: Hand | None = None, cube: float = 150.0
    ) -> None:
        self._model = model if model == BOTH else load_model(model)
        self._name = str(model) if isinstance(model, str | os.PathLike) else ""
        self._hand: Hand = hand or (self._model.config.hand if isinstance(self._model, PoseREN) else "right")
        self._cube = cube
        self._estimators: dict[tuple[Camera, float], dict[str, Estimator]] = {}

    def __call__(self, depth: Image, region: Region) -> Finding | None:
        """What the predicted errors say; None if the hand cannot be estimated, or the model predicts none.

        The form of a forearm is reported without predicted errors too.

        Args:
            depth: the frame as stored [H, W].
            region: where its hand was found.
        """
        hands = self._estimators.setdefault((region.camera, region.unit), {})
        errors: dict[str, float] = {}
        for side in ("right", "left"):
            if side not in hands:
                hands[side] = Estimator(
                    self._model, camera=region.camera, depth_unit=region.unit, hand=side, cube=self._cube
                )
            try:
                error = hands[side](depth, center=np.array(region.center, np.float32)).error_mm
            except ValueError:  # the centre has findings of its own
                return None
            if error is None:
                remark = forearm_remark(region)
                return Finding("note", "hand", remark) if remark else None
            errors[side] = float(error)
        own = min(errors, key=errors.__getitem__) if self._hand == "auto" else self._hand
        return judge(own, errors, self._name, forearm_remark(region))


def judge(own: str, errors: dict[str, float], model: str = "", remark: str = "") -> Finding:
    """The finding for a hand and the predicted errors of both, mm.

    Args:
        own: "right" or "left": what the frames are said to show.
        errors: of each of the two.
        model: its name.
        remark: why a pose may be uncertain, with the remedy; empty if nothing is known.
    """
    other = "left" if own == "right" else "right"
    expects = f"the model expects a mean joint error of {errors[own]:.0f} mm for a {own} hand"
    both = f"{expects}, {errors[other]:.0f} mm for a {other} one"
    if errors[other] <= min(UNCERTAIN_MM, errors[own] - _BETTER_MM):
        return Finding("note", "pose", f"{both}: this looks like a {other} hand; give --hand {other}")
    if errors[own] <= UNCERTAIN_MM:
        return Finding("fine", "pose", both)
    if remark:
        return Finding("note", "pose", f"{both}: the pose is uncertain: {remark}")
    remedy = "look at the picture; turn the palm to the camera"
    if model not in ("any_view", BOTH):
        remedy += ", or use --model both, which knows every side"
    reason = "the back of a hand, a covered hand, or no hand?"
    return Finding("note", "pose", f"{both}: the pose is uncertain ({reason}); {remedy}")
