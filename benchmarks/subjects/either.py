# SPDX-License-Identifier: MIT
"""Benchmark of the estimator with either hand: both hands of a frame with their errors; the smaller one decides."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from benchmarks.equality import assert_equal
from benchmarks.material import CAMERA, DTYPES, FAR, NEAR, Material
from benchmarks.rows import Call, Comparison, Target
from benchmarks.subjects.refine import STAGES
from poseren_ext import ops
from poseren_ext.inference.estimator import Estimator, Hand
from poseren_ext.models import ErrorHead, ErrorHeadConfig, PoseREN
from poseren_ext.models.files import BOTH, BUNDLED

MOST_MS = 22.2
"""45 frames per second."""
_FRAMES = 64  # used one after the other


def comparisons(material: Material) -> Iterator[Comparison]:
    """One comparison: the published widths with an untrained error head, and the bundled models beside them."""
    settings, model = material.settings, material.model
    frames = list(material.frames[:_FRAMES])
    error = ErrorHead(ErrorHeadConfig(), model.skeleton, model.config.channels[-1], model.config.image_size)
    error = error.to(settings.device).eval().requires_grad_(False)
    published = PoseREN(model.init, model.backbone, model.head, model.skeleton, error=error).eval()

    def estimator(model: PoseREN | str, dtype: str = "int8", hand: Hand = "auto") -> Estimator:
        return Estimator(
            model,
            camera=CAMERA,
            hand=hand,
            stages=STAGES,
            precision=dtype,  # type: ignore[arg-type]  # one of DTYPES
            device=settings.device if isinstance(model, str) else None,
        )

    def check() -> None:
        either = _call(estimator(published, "float32"), frames)(0)
        right = _call(estimator(published, "float32", "right"), frames)(0)
        left = _call(estimator(published, "float32", "left"), frames)(0)
        wanted = right if float(right.error_mm) <= float(left.error_mm) else left
        assert_equal("either hand", either.uvd, wanted.uvd, most=0.5)

    yield Comparison(
        name="refine a frame, either hand and its error",
        device=settings.device,
        batch=1,
        ours={dtype: _call(estimator(published, dtype), frames) for dtype in DTYPES}
        | {f"{name}, int8": _call(estimator(name), frames) for name in (*BUNDLED, BOTH)},
        check=check,
        params={"height": 480, "width": 640, "stages": STAGES},
        cold=True,
        targets={"int8": [Target(most_ms=MOST_MS)]},
    )


def _call(estimator: Estimator, frames: list[Tensor]) -> Call:
    def call(i: int) -> object:
        frame = frames[i % len(frames)]
        return estimator(frame, center=ops.hand_center(frame, near=NEAR, far=FAR)[0])

    return call
