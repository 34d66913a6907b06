# SPDX-License-Identifier: MIT
"""The accuracy of a model on whole frames of synthetic hands that training never saw, by test split.

`python -m tools.bundle_model.measure MODEL --frames 512` prints the table of a model card.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from poseren_ext.datasets.sample import FrameBatch
from poseren_ext.evaluation.metrics import joint_errors
from poseren_ext.geometry.camera import uvd_to_xyz
from poseren_ext.inference.estimator import Estimator
from poseren_ext.inference.hand_detection import find_hands
from poseren_ext.io.depth_files import find_frames
from poseren_ext.io.pose_files import read_poses
from poseren_ext.models import PoseREN, load_model
from poseren_ext.models.files import BOTH
from poseren_ext.ops import normalize_pose
from poseren_ext.reference import moved_windows
from poseren_ext.synthetic import SPLIT_KINDS, SyntheticHands, split_hands
from poseren_ext.synthetic.export import export_frames, stored_depth

TEST_FRAMES = 2048
"""Frames of each split in a model card."""
STAGES = 3
LARGE_ERROR = 30.0
"""Mean joint error in mm from which on a frame counts as wrong."""
_BATCH = 32


@dataclass(frozen=True)
class SplitResult:
    """A model on one test split; errors are mean joint errors in mm of one rotation.

    Attributes:
        kind: name of the split.
        seed: of its frames.
        mean_pose_mm: error of the model's mean pose at the given centres.
        stage_mm: of the initial pose and of each stage, at the given centres.
        own_mm: of the last stage at the centres that the library finds; frames without one count as the mean pose.
        paired_mm: the same at the nearer to the true centre of two centres that the library finds: another hand in the
            frame that is found first costs nothing here.
        lost: share of the frames in which the library finds no hand.
        cube_share: share of the frames whose cube, at the library's own centre, holds all joints.
        frame_mm: [N] error of the last stage of every frame, given centres.
        own_frame_mm: [N] the same, own centres.
        joint_mm: last stage, each joint, given centres.
        moved: share of the windows that moved at each stage.
    """

    kind: str
    seed: int
    mean_pose_mm: float
    stage_mm: tuple[float, ...]
    own_mm: float
    paired_mm: float
    lost: float
    cube_share: float
    frame_mm: tuple[float, ...]
    own_frame_mm: tuple[float, ...]
    joint_mm: tuple[float, ...]
    moved: tuple[float, ...]

    @property
    def wrong(self) -> float:
        """Share of the frames that are wrong by more than `LARGE_ERROR`, given centres."""
        return float(np.mean(np.asarray(self.frame_mm) > LARGE_ERROR))


def measure(
    model: PoseREN | str, kinds: Sequence[str] = SPLIT_KINDS, *, frames: int = TEST_FRAMES, folder: Path | None = None
) -> list[SplitResult]:
    """Measures a model on test splits: what `poseren render --split-kind`, `predict` and `eval` give.

    Args:
        model: knows right hands; as for `Estimator`.
        kinds: names of the splits.
        frames: of each split.
        folder: keeps the rendered frames, one folder per split, for other models; by default they are not kept.
    """
    return [_measure_split(model, kind, frames, folder) for kind in kinds]


def _measure_split(model: PoseREN | str, kind: str, count: int, folder: Path | None) -> SplitResult:
    skeleton = load_model("demo" if model == BOTH else model).skeleton.name
    hands = split_hands(kind, skeleton=skeleton)  # type: ignore[arg-type]  # refuses unknown names
    estimator = Estimator(model, camera=hands.camera, cube=hands.cube, stages=STAGES)
    packed = estimator.model
    errors, own, paired, means, moved, lost, held = [], [], [], [], [], [], []
    for part in test_parts(hands, count, folder and folder / kind):
        mean_uvd = part.to_uvd(packed.mean_pose.expand(len(part.center), -1, -1))
        estimated = estimator(part.depth, center=part.center, return_stages=True, missing="nan").stages
        stages = torch.as_tensor(estimated)
        stages = torch.where(stages.isnan(), mean_uvd, stages)  # hands that are hidden entirely
        errors.append(_errors(stages, part))
        means.append(_errors(mean_uvd[None], part)[0])
        uvd, center, found = _own(estimator, part, mean_uvd)
        own.append(_errors(uvd[None], part)[0])
        paired.append(_errors(_paired(estimator, part, mean_uvd)[None], part)[0])
        truth = normalize_pose(part.uvd, center, hands.camera, cube=hands.cube)
        held.append(found & (truth.abs() <= 1.0).all(2).all(1))
        lost.append(~found)
        poses = [part.normalized(stage) for stage in stages]
        moved.append(moved_windows(torch.stack(poses), packed.head.config)[1:])
    error, own_error = torch.cat(errors, 1), torch.cat(own)
    return SplitResult(
        kind=kind,
        seed=hands.seed,
        mean_pose_mm=float(torch.cat(means).mean()),
        stage_mm=tuple(error.mean((1, 2)).tolist()),
        own_mm=float(own_error.mean()),
        paired_mm=float(torch.cat(paired).mean()),
        lost=float(torch.cat(lost).float().mean()),
        cube_share=float(torch.cat(held).float().mean()),
        frame_mm=tuple(error[-1].mean(1).tolist()),
        own_frame_mm=tuple(own_error.mean(1).tolist()),
        joint_mm=tuple(error[-1].mean(0).tolist()),
        moved=tuple(torch.cat(moved, 1).float().mean((1, 2)).tolist()),
    )


def test_parts(hands: SyntheticHands, count: int, folder: Path | None) -> Iterator[FrameBatch]:
    """The first frames of a set, a batch at a time: rendered, or read from a folder, which is filled if need be."""
    if folder is None:
        for first in range(0, count, _BATCH):
            frames = hands.frames(torch.arange(first, min(first + _BATCH, count)))
            yield replace(frames, depth=torch.from_numpy(stored_depth(frames.depth)))
        return
    names = folder / "list.txt"
    if not names.exists() or len(names.read_text().splitlines()) < count:
        export_frames(hands, folder, count)
    uvd = torch.from_numpy(read_poses(folder / "labels.txt"))[:count]
    center = torch.from_numpy(read_poses(folder / "centers.txt", joints=1))[:count, 0].float()
    files = find_frames([folder / "depth"])[:count]
    for first in range(0, count, _BATCH):
        part = slice(first, min(first + _BATCH, count))
        depth = torch.from_numpy(np.stack([file.read() for file in files[part]]))
        camera = hands.camera.tensor().expand(len(depth), 4)
        yield FrameBatch(depth, camera, center[part], uvd[part], torch.arange(count)[part], hands.cube)


def _own(estimator: Estimator, part: FrameBatch, otherwise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Joints [B, J, 3] and centres [B, 3] where the library finds hands, and in which frames it does: bool [B].

    Frames without a hand get the joints of `otherwise`.
    """
    uvd, centers = otherwise.clone(), part.center.clone()
    found = torch.zeros(len(part.depth), dtype=torch.bool)
    for i, depth in enumerate(part.depth):
        try:
            result = estimator(depth)
        except ValueError:  # no hand in the frame
            continue
        uvd[i], centers[i] = torch.as_tensor(result.uvd), torch.as_tensor(result.center)
        found[i] = True
    return uvd, centers, found


def _paired(estimator: Estimator, part: FrameBatch, otherwise: Tensor) -> Tensor:
    """Joints [B, J, 3] at the nearer to the true centre of at most two centres that the library finds in each frame.

    Frames without a hand, or with one that is out of range, get the joints of `otherwise`.
    """
    uvd, camera = otherwise.clone(), estimator.camera
    for i, depth in enumerate(part.depth):
        found = torch.tensor([hand.center for hand in find_hands(depth, camera, 2)])
        if len(found):
            xyz = uvd_to_xyz(torch.cat([part.center[i : i + 1], found]), camera, check=False)
            nearest = found[(xyz[1:] - xyz[0]).norm(dim=1).argmin()]
            with suppress(ValueError):  # out of range
                uvd[i] = torch.as_tensor(estimator(depth, center=nearest).uvd)
    return uvd


def _errors(uvd: Tensor, part: FrameBatch) -> Tensor:
    """Joint errors of uvd [S, B, J, 3]: float64 [S, B, J], mm."""
    truth, camera = part.xyz.double(), part.camera.double()
    return torch.stack([joint_errors(uvd_to_xyz(stage.double(), camera, check=False), truth) for stage in uvd])


def split_table(results: Sequence[SplitResult]) -> str:
    """Markdown: a row for each split, and one for all."""

    def row(name: str, values: Sequence[float]) -> str:
        *millimetres, wrong, cube, lost = values
        shares = [f"{100 * share:.1f} %" for share in (wrong, cube, lost)]
        return f"| {name} | {' | '.join([f'{value:.2f}' for value in millimetres] + shares)} |"

    rows = []
    for result in results:
        values = [result.mean_pose_mm, result.stage_mm[0], result.stage_mm[-1], result.own_mm, result.paired_mm]
        rows.append([*values, result.wrong, result.cube_share, result.lost])
    lines = [row(result.kind, values) for result, values in zip(results, rows, strict=True)]
    lines.append(row("all", np.mean(rows, 0).tolist()))
    columns = ("mean pose", "Init-CNN", "last stage", "own centre", "nearer of two", "over 30 mm", "cube holds all")
    return "\n".join([f"| split | {' | '.join(columns)} | no hand |", "| --- " * 9 + "|", *lines])


def main() -> None:
    """Prints the table of a model."""
    parser = argparse.ArgumentParser(prog="python -m tools.bundle_model.measure", description=__doc__)
    parser.add_argument("model", help="a model file, demo, any_view or both")
    parser.add_argument("--frames", type=int, default=TEST_FRAMES, help="of each split")
    parser.add_argument("--folder", type=Path, help="keeps the rendered frames here")
    parser.add_argument("--splits", nargs="+", default=SPLIT_KINDS, choices=SPLIT_KINDS)
    given = parser.parse_args()
    print(split_table(measure(given.model, given.splits, frames=given.frames, folder=given.folder)))


if __name__ == "__main__":
    torch.set_num_threads(min(2, torch.get_num_threads()))
    main()
