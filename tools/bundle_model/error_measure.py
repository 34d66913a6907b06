# SPDX-License-Identifier: MIT
"""How well a model knows its own errors, and which hand it sees, on the test splits.

`python -m tools.bundle_model.error_measure MODEL --frames 512` prints the section of a model card.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from poseren_ext.datasets.sample import FrameBatch
from poseren_ext.evaluation.metrics import joint_errors
from poseren_ext.geometry.camera import uvd_to_xyz
from poseren_ext.inference.estimator import Estimator, Hand
from poseren_ext.inference.hand_pose import UNCERTAIN_MM
from poseren_ext.models import PoseREN, load_model
from poseren_ext.models.files import BOTH
from poseren_ext.synthetic import SPLIT_KINDS, split_hands
from tools.bundle_model.measure import STAGES, TEST_FRAMES, test_parts

Floats = npt.NDArray[np.float64]
_DECILES = 10
_FEWEST = 10
"""Wrong frames of a split from which on its area under the curve is stated: that of two frames is chance."""
_SAME_MM = 80.0  # from the given centre: detections nearer to it are of the same hand
_SEARCHED_MM = (150.0, 1900.0)  # depths of the surfaces that wrong centres are on


@dataclass(frozen=True)
class ErrorResult:
    """Predicted and true mean joint errors in mm of one test split, each [2, N].

    Attributes:
        kind: name of the split.
        right: the hand that the frame shows, at the given centre.
        wrong: the other hand, at the same centre.
        elsewhere: the right hand, at a centre on any visible surface: wrong centres, and cubes without a hand.
        detected: [M] whether hand="auto" takes the right hand where the library finds it itself.
    """

    kind: str
    right: Floats
    wrong: Floats
    elsewhere: Floats
    detected: npt.NDArray[np.bool_]

    @property
    def hand_share(self) -> float:
        """Share of the frames in which hand="auto" takes the right hand at the given centre.

        The other hand of a mirrored frame has the same crops, so this holds for any mixture of left and right hands.
        """
        return float(np.mean(self.right[0] <= self.wrong[0]))

    @property
    def auto_mm(self) -> float:
        """Mean joint error with hand="auto", likewise."""
        return float(np.mean(np.where(self.right[0] <= self.wrong[0], self.right[1], self.wrong[1])))


def measure_errors(
    model: PoseREN | str, kinds: Sequence[str] = SPLIT_KINDS, *, frames: int = TEST_FRAMES, folder: Path | None = None
) -> list[ErrorResult]:
    """Measures the error head of a model, or those of both bundled models together; arguments as of `measure`.

    Raises:
        ValueError: the model has no error head.
    """
    if model != BOTH:
        model = load_model(model)
        if model.error is None:
            raise ValueError("the model has no error head; add one: python -m tools.bundle_model.error_head")
    return [_measure_split(model, kind, frames, folder) for kind in kinds]


def _measure_split(model: PoseREN | str, kind: str, count: int, folder: Path | None) -> ErrorResult:
    one = load_model("demo" if model == BOTH else model)
    hands = split_hands(kind, skeleton=one.skeleton.name)  # type: ignore[arg-type]  # refuses unknown names
    rng = np.random.default_rng(hands.seed)
    sides: list[Hand] = ["right", "left"] if one.config.hand == "right" else ["left", "right"]
    right, wrong = (Estimator(model, camera=hands.camera, hand=side, cube=hands.cube, stages=STAGES) for side in sides)
    auto = Estimator(model, camera=hands.camera, hand="auto", cube=hands.cube, stages=STAGES)
    results: list[list[Floats]] = [[], [], []]
    detected = []
    for part in test_parts(hands, count, folder and folder / kind):
        looks = ((right, part.center), (wrong, part.center), (right, _elsewhere(part, rng)))
        for result, (estimator, center) in zip(results, looks, strict=True):
            pose = estimator(part.depth, center=center)
            error = joint_errors(torch.as_tensor(pose.joints).double(), part.xyz.double()).mean(1)
            result.append(np.stack([np.asarray(pose.error_mm, np.float64), error.numpy()]))
        found = auto(part.depth, missing="nan")
        centers = (torch.as_tensor(found.center), part.center)
        own, given = (uvd_to_xyz(center, hands.camera, check=False) for center in centers)
        same = ((own - given).norm(dim=1) < _SAME_MM).numpy()
        detected.append((np.array(found.hand) == sides[0])[same])
    return ErrorResult(kind, *(np.concatenate(result, 1) for result in results), np.concatenate(detected))


def _elsewhere(part: FrameBatch, rng: np.random.Generator) -> torch.Tensor:
    """Centres [B, 3] 20 mm behind any visible pixel; as given where nothing is in range."""
    centers = part.center.clone()
    for row, depth in enumerate(part.depth.numpy()):
        v, u = np.nonzero((depth > _SEARCHED_MM[0]) & (depth < _SEARCHED_MM[1]))
        if len(v):
            k = rng.integers(len(v))
            centers[row] = torch.tensor([float(u[k]), float(v[k]), float(depth[v[k], u[k]]) + 20.0])
    return centers


def auc(score: Floats, wrong: npt.NDArray[np.bool_]) -> float:
    """Probability that a wrong one has a larger score than another one, ties half; NaN if there is only one kind."""
    order, (bad, good) = np.unique(score, return_inverse=True)[1], (wrong.sum(), (~wrong).sum())
    if not bad or not good:
        return float("nan")
    counts = np.bincount(order)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    return float((ranks[order][wrong].sum() - bad * (bad + 1) / 2) / (bad * good))


def error_summary(results: Sequence[ErrorResult]) -> str:
    """Markdown: the right hand by split, both areas under the curve, and predicted against true errors by decile."""
    right, wrong, elsewhere = (
        np.concatenate([getattr(result, name) for result in results], 1) for name in ("right", "wrong", "elsewhere")
    )
    half = right.shape[1] // 2  # one wrong input for each right one, half of them the wrong hand
    mixed = np.concatenate([right, wrong[:, ::2][:, :half], elsewhere[:, 1::2][:, :half]], 1)
    areas = [auc(values[0], values[1] > UNCERTAIN_MM) for values in (right, mixed)]
    rows = [
        f"| {one.kind} | {one.hand_share:.1%} | {one.right[1].mean():.2f} | {one.auto_mm:.2f} | {_area(one.right)} |"
        for one in results
    ]
    auto = float(np.mean([one.auto_mm for one in results]))
    share = float(np.mean([one.hand_share for one in results]))
    rows.append(f"| all | {share:.1%} | {right[1].mean():.2f} | {auto:.2f} | {areas[0]:.3f} |")
    order = np.argsort(right[0], kind="stable")
    deciles = [right[:, part].mean(1) for part in np.array_split(order, _DECILES)]
    flagged = right[0] > UNCERTAIN_MM
    taken = float(np.mean(np.concatenate([one.detected for one in results])))
    return "\n".join(
        [
            '| split | right hand taken by `hand="auto"` | mm, hand given | mm, `auto` | AUC |',
            "| --- " * 5 + "|",
            *rows,
            "",
            f"AUC: how well `error_mm` tells errors over {UNCERTAIN_MM:.0f} mm; not stated "
            f"of fewer than {_FEWEST} such frames. With as many wrong inputs as right ones (half of them the wrong "
            "hand, half a centre on any visible surface, most of those without a hand): "
            f"{areas[1]:.3f}. Of the right inputs {flagged.mean():.1%} are reported as uncertain; "
            f"{(right[1] > UNCERTAIN_MM).mean():.1%} are wrong by more. Of the wrong inputs "
            f"{(mixed[0, right.shape[1] :] > UNCERTAIN_MM).mean():.1%} are reported.",
            "",
            "Right inputs by deciles of the predicted error, mm:",
            "",
            f"| predicted | {' | '.join(f'{p:.1f}' for p, _ in deciles)} |",
            "| --- " * (_DECILES + 1) + "|",
            f"| true | {' | '.join(f'{t:.1f}' for _, t in deciles)} |",
            "",
            f"Where the library finds the hand itself, `auto` takes the right one in {taken:.1%} of the frames.",
        ]
    )


def _area(right: Floats) -> str:
    wrong = right[1] > UNCERTAIN_MM
    few = wrong.sum() < _FEWEST
    return f"- ({wrong.sum()} wrong)" if few else f"{auc(right[0], wrong):.3f} ({wrong.sum()} wrong)"


def main() -> None:
    """Prints the measures of a model."""
    parser = argparse.ArgumentParser(prog="python -m tools.bundle_model.error_measure", description=__doc__)
    parser.add_argument("model", help="a model file, demo, any_view or both")
    parser.add_argument("--frames", type=int, default=TEST_FRAMES, help="of each test split")
    parser.add_argument("--folder", type=Path, help="keeps the rendered frames here")
    given = parser.parse_args()
    print(error_summary(measure_errors(given.model, frames=given.frames, folder=given.folder)))


if __name__ == "__main__":
    torch.set_num_threads(min(2, torch.get_num_threads()))
    main()
