# SPDX-License-Identifier: MIT
"""Metrics of the paper's section 4.2, as torchmetrics classes and as one function.

The metrics take joints in millimetres of the camera frame (pixels for the 2D error), accumulate in float64 and sum
their states over processes, so that training, `poseren eval` and the experiments share them. `evaluate` computes all of
them from uvd joints, the format of the published files.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from poseren_ext.evaluation.viewpoint import ViewpointCurve, ViewpointError
from poseren_ext.geometry.camera import CameraLike, uvd_to_xyz
from poseren_ext.geometry.skeleton import Skeleton

Over = Literal["max", "mean", "joint"]

THRESHOLDS_MM: tuple[float, ...] = tuple(float(t) for t in range(81))


def joint_errors(prediction: Tensor, target: Tensor) -> Tensor:
    """Euclidean distance of every joint from its label.

    Args:
        prediction: joints [B, J, D], float32 or float64; D is 3 for mm, 2 for pixels.
        target: labels of the same shape.

    Returns:
        float64 [B, J], in the unit of the joints.

    Raises:
        TypeError: The dtype is an integer or half precision, which cannot represent a joint precisely enough.
        ValueError: The shapes differ or have no joint axis, or a coordinate is NaN or infinite.
    """
    for name, value in (("prediction", prediction), ("target", target)):
        if value.dtype not in (torch.float32, torch.float64):
            raise TypeError(f"{name} is {value.dtype}; errors are measured in float32 or float64: convert it first")
    if prediction.shape != target.shape or prediction.dim() != 3:
        raise ValueError(
            f"prediction is {list(prediction.shape)} and target {list(target.shape)}; "
            "both must be [frames, joints, coordinates]"
        )
    for name, value in (("prediction", prediction), ("target", target)):
        bad = (~torch.isfinite(value)).any(-1).nonzero()
        if len(bad):
            frame, joint = bad[0].tolist()
            raise ValueError(
                f"{name}: joint {joint} of frame {frame} is NaN or infinite ({len(bad)} such joints); "
                "every frame counts: repair the file or evaluate a range of frames that has none"
            )
    error: Tensor = torch.linalg.vector_norm(prediction.double() - target.double(), dim=-1)
    return error


class _JointMetric(Metric):
    """Base of the metrics: converts a batch of joints to errors [B, J] for `_add`."""

    full_state_update = False

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add a batch: prediction and target [B, J, D]; raises the same errors as `joint_errors`."""
        self._add(joint_errors(prediction, target))

    def _add(self, error: Tensor) -> None:
        raise NotImplementedError


class MeanError3D(_JointMetric):
    """Mean distance over frames and joints, mm (table 1). Update with joints in mm [B, J, 3]."""

    higher_is_better = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def _add(self, error: Tensor) -> None:
        self.total += error.sum()
        self.count += error.numel()

    def compute(self) -> Tensor:
        """The mean, float64 []; NaN if no batch was added."""
        return self.total / self.count


class MeanError2D(MeanError3D):
    """Mean distance in the image over frames and joints, pixels (table 1). Update with joints as uv or uvd."""

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add a batch of joints in pixels [B, J, 2 or 3]; a third coordinate is ignored."""
        super().update(prediction[..., :2], target[..., :2])


class PerJointError(_JointMetric):
    """Mean distance of each joint over the frames (equation 13), mm.

    Args:
        num_joints: J.
    """

    higher_is_better = False
    total: Tensor
    frames: Tensor

    def __init__(self, num_joints: int) -> None:
        super().__init__()
        self.add_state("total", torch.zeros(num_joints, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("frames", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def _add(self, error: Tensor) -> None:
        if error.shape[1] != self.total.numel():
            raise ValueError(f"{error.shape[1]} joints given; this metric was made for {self.total.numel()}")
        self.total += error.sum(0)
        self.frames += len(error)

    def compute(self) -> Tensor:
        """Mean error of each joint, float64 [J]."""
        return self.total / self.frames


def _over(error: Tensor, over: Over) -> Tensor:
    """The values that are compared with a threshold: the largest or mean error per frame, or the error per joint."""
    if over == "max":
        return error.amax(1)
    return error.mean(1) if over == "mean" else error.flatten()


def _checked_over(over: Over) -> Over:
    if over not in ("max", "mean", "joint"):
        raise ValueError(f"over={over!r}: expected 'max' or 'mean' (of a frame's joints) or 'joint' (each on its own)")
    return over


class SuccessRate(_JointMetric):
    """Fraction of frames (or of joints) whose error is at most a threshold (equation 14).

    Args:
        over: "max": largest joint error of a frame; "mean": mean joint error of a frame; "joint": each joint error.
        thresholds: T thresholds, mm.
    """

    higher_is_better = True
    hits: Tensor
    count: Tensor
    thresholds: Tensor

    def __init__(self, over: Over = "max", thresholds: Sequence[float] = THRESHOLDS_MM) -> None:
        super().__init__()
        self.over = _checked_over(over)
        self.register_buffer("thresholds", torch.tensor(thresholds, dtype=torch.float64), persistent=False)
        self.add_state("hits", torch.zeros(len(thresholds), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def _add(self, error: Tensor) -> None:
        value = _over(error, self.over).sort().values
        self.hits += torch.searchsorted(value, self.thresholds.to(value), right=True)
        self.count += value.numel()

    def compute(self) -> Tensor:
        """Fraction of errors that are at most each threshold, float64 [T]."""
        return self.hits.double() / self.count


class SuccessAUC(_JointMetric):
    """Area under the success curve between two thresholds, as a fraction of the best possible; exact, not sampled.

    Args:
        over: as in `SuccessRate`.
        low: first threshold, mm.
        high: last threshold, mm.
    """

    higher_is_better = True
    area: Tensor
    count: Tensor

    def __init__(self, over: Over = "max", low: float = 0.0, high: float = 80.0) -> None:
        super().__init__()
        if not 0 <= low < high:
            raise ValueError(f"low={low}, high={high}: expected 0 <= low < high, in mm")
        self.over, self.low, self.high = _checked_over(over), low, high
        self.add_state("area", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def _add(self, error: Tensor) -> None:
        # The success curve of a frame with error e is a step from 0 to 1 at e, so its area is high - max(low, e).
        value = _over(error, self.over)
        self.area += (self.high - value.clamp(self.low, self.high)).sum() / (self.high - self.low)
        self.count += value.numel()

    def compute(self) -> Tensor:
        """The area, float64 [], 0..1."""
        return self.area / self.count


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of one system on one set of labels.

    Attributes:
        name: name of the system.
        frames: number of frames.
        joints: names of the J joints.
        mean_3d: mean joint error, mm.
        mean_2d: mean distance in the image, pixels.
        per_joint: mean error of each joint, mm, J values.
        thresholds: T thresholds, mm.
        success_max: percent of frames whose largest joint error is within each threshold, T values.
        success_mean: the same for the mean joint error of a frame.
        success_joint: percent of all joints within each threshold.
        auc: area under `success_max` from 0 to 80 mm, percent of the best possible.
        viewpoint: errors by yaw and pitch of the hand (figure 8); None unless requested.
    """

    name: str
    frames: int
    joints: tuple[str, ...]
    mean_3d: float
    mean_2d: float
    per_joint: tuple[float, ...]
    thresholds: tuple[float, ...]
    success_max: tuple[float, ...]
    success_mean: tuple[float, ...]
    success_joint: tuple[float, ...]
    auc: float
    viewpoint: dict[str, ViewpointCurve] | None = None

    def success(self, threshold: float, over: Over = "max") -> float:
        """Percent of frames within a threshold (mm), which must be one of `thresholds`."""
        if threshold not in self.thresholds:
            raise ValueError(f"{threshold} mm is not among the {len(self.thresholds)} thresholds that were evaluated")
        curves = {"max": self.success_max, "mean": self.success_mean, "joint": self.success_joint}
        return curves[_checked_over(over)][self.thresholds.index(threshold)]

    def to_json(self) -> str:
        """This result as JSON text; `from_json` is the inverse."""
        return json.dumps(asdict(self), indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Evaluation:
        """Read a result that `to_json` wrote.

        Raises:
            ValueError: The text is not such a result.
        """
        try:
            fields = json.loads(text)
            curves = fields.pop("viewpoint")
            values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
            viewpoint = {axis: ViewpointCurve.from_lists(**curve) for axis, curve in curves.items()} if curves else None
            return cls(**values, viewpoint=viewpoint)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"not an evaluation written by this package: {error}") from error


def _percent(metric: SuccessRate) -> tuple[float, ...]:
    return tuple((100 * metric.compute()).tolist())


def evaluate(
    prediction: np.ndarray | Tensor,
    target: np.ndarray | Tensor,
    camera: CameraLike,
    *,
    skeleton: Skeleton | None = None,
    name: str = "prediction",
    thresholds: Sequence[float] = THRESHOLDS_MM,
    viewpoint: bool = False,
) -> Evaluation:
    """Measure predicted joints against labels as the paper does (section 4.2).

    Args:
        prediction: joints as u, v (pixels), d (mm), [N, J, 3].
        target: labels of the same shape.
        camera: intrinsics that convert uvd to millimetres: one camera, or a tensor [N, 4] with one per frame.
        skeleton: skeleton with the names of the joints; without it they are numbered.
        name: name of the system, stored in the result.
        thresholds: thresholds of the success rates, mm.
        viewpoint: whether to compute errors by yaw and pitch; needs a skeleton with palm joints (such as MSRA's).

    Returns:
        The errors; none of them is NaN.

    Raises:
        TypeError: The dtype is half precision or an integer.
        ValueError: The shapes do not match, there are no frames, a joint is NaN or infinite, or the number of joints
            differs from that of the skeleton.
    """
    predicted, labels = (
        value if isinstance(value, Tensor) else torch.from_numpy(np.ascontiguousarray(value))
        for value in (prediction, target)
    )
    joint_errors(predicted, labels)  # validates the arguments before any conversion
    frames, joints = labels.shape[:2]
    if frames == 0:
        raise ValueError("no frames to evaluate")
    if skeleton is not None and len(skeleton.joints) != joints:
        raise ValueError(f"{joints} joints a frame given; {skeleton.name} has {len(skeleton.joints)}")
    predicted_mm, labels_mm = (uvd_to_xyz(value.double(), camera) for value in (predicted, labels))

    mean, per_joint, auc = MeanError3D(), PerJointError(joints), SuccessAUC()
    over: tuple[Over, ...] = ("max", "mean", "joint")
    rates = [SuccessRate(what, thresholds) for what in over]
    metrics: list[Metric] = [mean, per_joint, auc, *rates]
    by_viewpoint = None
    if viewpoint:
        if skeleton is None:
            raise ValueError("viewpoint=True needs the skeleton: its palm tells where the hand points")
        by_viewpoint = ViewpointError(skeleton)
        metrics.append(by_viewpoint)
    for metric in metrics:
        metric.update(predicted_mm, labels_mm)
    in_image = MeanError2D()
    in_image.update(predicted, labels)
    return Evaluation(
        name=name,
        frames=frames,
        joints=skeleton.joints if skeleton else tuple(f"Joint {j}" for j in range(joints)),
        mean_3d=float(mean.compute()),
        mean_2d=float(in_image.compute()),
        per_joint=tuple(per_joint.compute().tolist()),
        thresholds=tuple(float(t) for t in thresholds),
        success_max=_percent(rates[0]),
        success_mean=_percent(rates[1]),
        success_joint=_percent(rates[2]),
        auc=100 * float(auc.compute()),
        viewpoint=by_viewpoint.curves() if by_viewpoint else None,
    )
