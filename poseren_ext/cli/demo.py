# SPDX-License-Identifier: MIT
"""`poseren demo`: the cascade on hands that the model was not trained on, or on one's own frames."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from poseren_ext.cli import _option_values, options

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure

    from poseren_ext.geometry.camera import Camera
    from poseren_ext.geometry.lens import Lens
    from poseren_ext.inference.estimator import Estimator

VIEWS = {"palm": "palm", "side": "side", "back": "back", "held object": "holding"}
"""What synthetic frames show, and the test split that shows it; each has its share of the frames."""
_ROWS = 8  # of the picture


@dataclass(frozen=True)
class _Recording:
    """Frames [N][H, W], their names and camera; of synthetic ones what they show and the true joints [N, J, 3] mm."""

    frames: Sequence[Any]
    names: Sequence[str]
    camera: Camera
    title: str
    views: Sequence[str] = ()
    truth: torch.Tensor | None = None


@dataclass(frozen=True)
class _Refined:
    """uvd of all stages [T+1, N, J, 3], centres [N, 3], and the time in seconds for all frames, one at a time."""

    stages: torch.Tensor
    center: torch.Tensor
    seconds: float


def demo_command(
    inputs: Annotated[
        list[Path] | None,
        typer.Option("--input", help="Your depth files or folders; repeat. Default: synthetic hands."),
    ] = None,
    camera: options.Camera = None,
    depth_unit: options.DepthUnit = None,
    hand: options.HandOption = None,
    model: options.Model = "both",
    stages: Annotated[int, typer.Option("--stages", min=1, help="Number of refinement stages.")] = 3,
    frames: Annotated[int, typer.Option("--frames", min=len(VIEWS), help="Number of synthetic frames.")] = 16,
    seed: options.Seed = 7,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Picture (.png, .pdf, .svg) or video (.mp4, .gif) to write.")
    ] = Path("demo.png"),
    rate: options.VideoRate = 30.0,
    json_file: options.Json = None,
    device: options.Device = "cpu",
    overwrite: options.Overwrite = False,
) -> None:
    """Run the cascade and draw it stage by stage: one row per frame; initial pose, each stage, truth.

    A video shows every frame: initial pose, last stage, truth.

    Without --input the frames show synthetic hands of subjects that were not used in training: palms, sides, backs and
    held objects; in a video, moving palms. Their joints are known, so the errors are reported. --camera and
    --depth-unit describe the frames of --input.

    [bold]Examples[/bold]

    poseren demo

    poseren demo --input recording/ --camera sr305 --depth-unit 0.125 --out mine.png

    poseren demo --out hands.gif --fps 15
    """
    from poseren_ext._utils.atomic_files import write_atomic
    from poseren_ext.cli._console import console, say, table
    from poseren_ext.cli._estimator import build_estimator
    from poseren_ext.models.files import BOTH, load_model
    from poseren_ext.plotting import check_path, save
    from poseren_ext.plotting.video import VIDEOS

    is_video = out.suffix.lower() in VIDEOS
    if not is_video:
        check_path(out)
    options.check_outputs(out, json_file, overwrite=overwrite)
    if inputs:
        chosen, unit = _option_values.resolve_camera(camera, depth_unit, inputs)
        recording = _own(inputs, chosen)
    else:
        skeleton = load_model("demo" if model == BOTH else model).skeleton.name
        recording, unit = (_moving if is_video else _synthetic)(frames, seed, skeleton), 1.0
    estimator = build_estimator(model, recording.camera, hand=hand, stages=stages, depth_unit=unit, device=device)
    refined = _refine(estimator, recording)
    report = {"model": model, **_report(estimator, recording, refined)}
    if is_video:
        _write_video(out, rate, estimator, recording, refined)
    else:
        save(_picture(estimator, recording, refined), out)
    text = json.dumps(report, indent=1)
    if json_file == options.STDOUT:
        print(text)
        return
    say(f"Model {model!r} on {recording.title}")
    console().print(table(None, *_rows(report)))
    if "view_error_mm" in report:
        rows = [[view, f"{error:.2f}"] for view, error in report["view_error_mm"].items()]
        console().print(table(None, ["the camera sees", "last stage, mean joint error (mm)"], rows))
    if report["no_hand"]:
        say(f"No hand was found in {report['no_hand']} of them; the errors are those of the others")
    say(f"{report['frames_per_second']:.1f} frames/s, one frame at a time; {'video' if is_video else 'picture'}: {out}")
    if json_file is not None:
        write_atomic(json_file, text + "\n")


def _synthetic(count: int, seed: int, skeleton: str) -> _Recording:
    """Hands of every view."""
    import torch

    from poseren_ext._utils.arrays import joined
    from poseren_ext.synthetic import split_hands

    parts, views = [], []
    for number, (view, kind) in enumerate(VIEWS.items()):
        share = count // len(VIEWS) + (number < count % len(VIEWS))
        hands = split_hands(kind, "test", seed, skeleton=skeleton)  # type: ignore[arg-type]  # names of splits
        parts.append(hands.frames(torch.arange(share)))
        views += [view] * share
    names = [f"{view} {views[:i].count(view) + 1}" for i, view in enumerate(views)]
    title = f"{count} synthetic hands of people that were not used in training"
    frames = joined(parts)
    return _Recording(list(frames.depth), names, hands.camera, title, views, frames.xyz)


def _moving(count: int, seed: int, skeleton: str) -> _Recording:
    """One palm that moves."""
    import torch

    from poseren_ext.synthetic import SyntheticSequence

    sequence = SyntheticSequence(seed, "test", skeleton=skeleton)
    frames = sequence.frames(torch.arange(count))
    names = [f"frame {i}" for i in range(count)]
    title = f"{count} frames of a moving synthetic hand that was not used in training"
    return _Recording(list(frames.depth), names, sequence.camera, title, truth=frames.xyz)


def _own(inputs: Sequence[Path], lens: Lens) -> _Recording:
    import torch

    from poseren_ext.io.depth_files import find_frames, seen_through

    files = seen_through(find_frames(inputs), lens)
    images: list[Any] = []
    for file in files:
        image = file.read()
        if images and image.shape != images[0].shape:
            (height, width), (first_height, first_width) = image.shape, images[0].shape
            raise ValueError(
                f"{file} is {width}x{height} but {files[0]} is {first_width}x{first_height}; run each size separately"
            )
        images.append(image)
    names = [file.path.stem if file.index is None else f"{file.path.stem}[{file.index}]" for file in files]
    frames = [torch.from_numpy(image) for image in images]
    return _Recording(frames, names, lens.camera, f"{len(files)} frames from {inputs[0]}")


def _refine(estimator: Estimator, recording: _Recording) -> _Refined:
    """Run all frames one at a time, as they come from a camera; the first runs twice, to warm up."""
    import torch

    results = []
    began = time.perf_counter()
    for i, frame in enumerate([recording.frames[0], *recording.frames]):
        if i == 1:
            began = time.perf_counter()
        try:
            results.append(estimator(frame, return_stages=True, missing="raise" if recording.truth is None else "nan"))
        except ValueError as error:
            raise ValueError(f"{recording.names[max(i - 1, 0)]}: {error}") from error
    seconds = time.perf_counter() - began
    stages = torch.stack([torch.as_tensor(result.stages) for result in results[1:]], 1).cpu()
    return _Refined(stages, torch.stack([torch.as_tensor(result.center) for result in results[1:]]).cpu(), seconds)


def _report(estimator: Estimator, recording: _Recording, refined: _Refined) -> dict[str, Any]:
    """The numbers of each stage: error where the truth is known, motion of the joints, share of moved windows."""
    from poseren_ext.evaluation.metrics import joint_errors
    from poseren_ext.geometry.camera import uvd_to_xyz
    from poseren_ext.reference import moved_windows

    xyz = uvd_to_xyz(refined.stages, recording.camera, check=False)
    moved = moved_windows(_normalized(estimator, refined), estimator.model.config.refine)
    report: dict[str, Any] = {
        "frames": len(recording.frames),
        "frames_per_second": len(recording.frames) / refined.seconds,
        "windows_moved": moved.float().mean((1, 2)).tolist(),
    }
    found = xyz[0].isfinite().all(2).all(1)
    report["no_hand"] = int((~found).sum())
    if recording.truth is not None:
        errors = [joint_errors(stage[found], recording.truth[found]).mean(1) for stage in xyz]
        report["error_mm"] = [float(error.mean()) for error in errors]
    if recording.views:
        views = [view for view, has in zip(recording.views, found.tolist(), strict=True) if has]
        report["view_error_mm"] = {
            view: float(errors[-1][[one == view for one in views]].mean()) for view in dict.fromkeys(views)
        }
    report["motion_mm"] = [float(joint_errors(after[found], before[found]).mean()) for before, after in pairwise(xyz)]
    return report


def _normalized(estimator: Estimator, refined: _Refined) -> torch.Tensor:
    """Poses of all stages in normalised coordinates [T+1, N, J, 3]."""
    import torch

    from poseren_ext import ops

    return torch.stack(
        [ops.normalize_pose(s, refined.center, estimator.camera, cube=estimator.cube) for s in refined.stages]
    )


def _rows(report: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    errors, moved = report.get("error_mm"), report["windows_moved"]
    columns = ["pose", "mean joint error (mm)" if errors else "joints moved by (mm)", "regions recomputed (%)"]
    rows = []
    for stage in range(len(moved) + 1):
        value = errors[stage] if errors else report["motion_mm"][stage - 1] if stage else None
        rows.append(
            [
                f"stage {stage}" if stage else "initial pose",
                "" if value is None else f"{value:.2f}",
                "" if stage == 0 else f"{100 * moved[stage - 1]:.1f}",
            ]
        )
    return columns, rows


def _picture(estimator: Estimator, recording: _Recording, refined: _Refined) -> Figure:
    """The picture of frames spread evenly over the recording."""
    from poseren_ext.plotting import plot_cascade

    count = len(recording.frames)
    rows = min(_ROWS, count)
    chosen = [(2 * row + 1) * count // (2 * rows) for row in range(rows)]
    crops, truth = _crops(estimator, recording, refined, chosen)
    return plot_cascade(
        crops,
        _normalized(estimator, refined)[:, chosen],
        estimator.model.skeleton,
        truth=truth,
        cube=estimator.cube,
        labels=[recording.names[i] for i in chosen],
    )


def _write_video(path: Path, rate: float, estimator: Estimator, recording: _Recording, refined: _Refined) -> None:
    """The crop of every frame with the initial pose, the last one and, where it is known, the true one."""
    from poseren_ext.plotting.video import open_video, pose_panels

    poses, titles = _normalized(estimator, refined), ["initial pose", f"stage {len(refined.stages) - 1}", "truth"]
    with open_video(path, rate) as video:
        for index in range(len(recording.frames)):
            crop, truth = _crops(estimator, recording, refined, [index])
            panels = [poses[0, index], poses[-1, index], *([] if truth is None else truth)]
            video.write(pose_panels(crop[0, 0].numpy(), panels, titles[: len(panels)], estimator.model.skeleton))


def _crops(
    estimator: Estimator, recording: _Recording, refined: _Refined, chosen: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The crops [N, 1, S, S] of some frames, and their true poses in normalised coordinates [N, J, 3]."""
    import torch

    from poseren_ext import ops
    from poseren_ext.geometry.camera import xyz_to_uvd

    center, camera, cube = refined.center[chosen], estimator.camera, estimator.cube
    images = torch.stack([recording.frames[i] for i in chosen])
    crops = ops.depth_crop(images, center, camera, cube=cube, depth_unit=estimator.depth_unit)
    if recording.truth is None:
        return crops, None
    return crops, ops.normalize_pose(xyz_to_uvd(recording.truth[chosen], camera), center, camera, cube=cube)
