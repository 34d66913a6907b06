# SPDX-License-Identifier: MIT
"""`poseren predict`: the joints of depth files, written to one file frame by frame."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from poseren_ext.cli import _option_values, options
from poseren_ext.cli._errors import INCOMPLETE, INTERRUPTED, in_options

if TYPE_CHECKING:
    from poseren_ext.inference.batch import FramePredictor, PredictionReport, Watch
    from poseren_ext.inference.prediction_rows import FrameOutcome

_NAMED = 10  # frames without a result that are listed at the end; the record has all


def predict_command(
    inputs: options.Inputs,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="File to write: .txt, .csv, .json, .npz or .parquet; - for standard output."),
    ],
    camera: options.Camera = None,
    depth_unit: options.DepthUnit = None,
    model: options.Model = "both",
    hand: options.HandOption = None,
    max_hands: options.MaxHands = 1,
    stages: options.Stages = 3,
    cube: options.Cube = 150.0,
    centers: options.Centers = None,
    init: Annotated[
        Path | None,
        typer.Option("--init", help="Initial poses, a prediction file of another method. Default: Init-CNN."),
    ] = None,
    precision: options.PrecisionOption = "float32",
    tta: options.Tta = 1,
    missing: options.MissingOption = "nan",
    file_format: options.FormatOption = None,
    space: options.SpaceOption = None,
    unit: options.OutputUnit = "mm",
    frame: options.FrameOption = None,
    extrinsics: options.Extrinsics = None,
    order: options.OrderOption = None,
    pattern: options.Pattern = "*",
    batch: Annotated[int, typer.Option("--batch", min=1, help="Frames per batch.")] = 16,
    workers: options.Workers = None,
    device: options.Device = "cpu",
    video: Annotated[
        Path | None, typer.Option("--video", help="Also draw the frames with their joints: FILE.mp4 or FILE.gif.")
    ] = None,
    rate: options.VideoRate = 30.0,
    rerun: options.RerunOption = None,
    overwrite: options.Overwrite = False,
    resume: options.Resume = False,
) -> None:
    """Write the joints of every frame to one file. Text files are those that `poseren eval` and others' scripts read.

    Text files have one line per frame: u v d of each joint (pixels, pixels, mm), space separated. A frame without a
    hand, or that cannot be read, does not stop the run: its line is nan (--missing), it is named at the end, and the
    exit status is 3. With --max-hands 2, which text files cannot hold, there is one line per hand, with the frame, the
    number of the hand in it and its side. --resume continues an interrupted run. FILE.json records settings, frames and
    missing frames.

    [bold]Examples[/bold]

    poseren predict recording/ --camera sr305 --depth-unit 0.125 --out joints.txt

    poseren predict nyu/test --pattern 'depth_1_*' --camera nyu --model mine.safetensors --out mine.txt

    poseren predict recording/ --out joints.csv --output-unit m --order mediapipe

    poseren predict recording/ --hand auto --max-hands 2 --out hands.csv

    poseren predict recording/ --out joints.csv --video hands.mp4
    """
    from poseren_ext.io.depth_files import find_frames, seen_through

    options.check_outputs(out, overwrite=overwrite, resume=resume)
    if resume and (video is not None or rerun is not None):
        hint = "--video" if video is not None else "--rerun"
        raise typer.BadParameter("not together with --resume; it shows a whole run", param_hint=hint)
    options.check_outputs(video, options.rerun_file(rerun), overwrite=overwrite)
    frames = find_frames(inputs, pattern)  # before torch is imported, which takes seconds

    from poseren_ext.cli._console import progress, say
    from poseren_ext.cli._estimator import build_estimator
    from poseren_ext.inference.batch import FramePredictor, describe_run, predict_frames
    from poseren_ext.io.joint_files import format_of
    from poseren_ext.io.pose_files import read_poses

    stdout = out == options.STDOUT
    chosen = (file_format or "txt") if stdout else format_of(out, file_format)
    default: options.Space = "uvd" if chosen == "txt" else "xyz"
    layout = _option_values.joint_layout(default, space, unit, frame, extrinsics, order)
    lens, stored = _option_values.resolve_camera(camera, depth_unit, inputs)
    frames = seen_through(frames, lens)
    estimator = build_estimator(
        model,
        lens.camera,
        hand=hand,
        cube=cube,
        stages=stages,
        depth_unit=stored,
        precision=precision,
        tta=tta,
        device=device,
    )
    joints = estimator.model.skeleton.num_joints
    if max_hands > 1 and (centers or init):
        raise typer.BadParameter("2; --centers and --init are for one hand per frame", param_hint="--max-hands")
    places = read_poses(centers, joints=1, frames=len(frames), nan=True)[:, 0] if centers else None
    poses = read_poses(init, joints=joints, frames=len(frames), nan=True) if init else None
    settings, digests = describe_run(
        estimator, model, precision=precision, centers=places, init_poses=poses, max_hands=max_hands
    )
    settings["distortion"] = list(lens.distortion)
    predictor = FramePredictor(
        estimator,
        frames,
        places,
        poses,
        max_hands,
        center_name=f"--centers {centers}",
        init_name=f"--init {init}",
    )
    done = 0
    try:
        with _shown(predictor, video, rate, rerun) as watch, progress() as bar:
            task = bar.add_task("frames", total=len(frames))

            def advance(count: int, total: int) -> None:
                nonlocal done
                done = count
                bar.update(task, completed=count)

            report = predict_frames(
                predictor,
                sys.stdout.buffer if stdout else out,
                settings=settings,
                digests=digests,
                layout=layout,
                file_format=chosen,
                missing=missing,
                batch=batch,
                workers=workers,
                resume=resume,
                overwrite=overwrite,
                progress=advance,
                watch=watch,
            )
    except KeyboardInterrupt:
        again = "" if stdout else f" in {out}; --resume continues"
        say(f"poseren: interrupted: {done} of {len(frames)} frames{again}", stderr=True)
        raise typer.Exit(INTERRUPTED) from None
    for line in _summary(report, out, missing):
        say(line, stderr=True)
    if report.uncertain:
        say(_uncertain(report), label="WARNING", style="yellow", stderr=True)
    if report.missing:
        raise typer.Exit(INCOMPLETE)


@contextmanager
def _shown(predictor: FramePredictor, video: Path | None, rate: float, rerun: str | None) -> Iterator[Watch | None]:
    """A function that adds frames to a video and a rerun recording; frames that cannot be read are left out."""
    if video is None and rerun is None:
        yield None
        return
    from poseren_ext.plotting.rerun_log import RerunLog
    from poseren_ext.plotting.video import hand_picture, open_video

    estimator, skeleton = predictor.estimator, predictor.estimator.model.skeleton
    with ExitStack() as stack:
        film = None if video is None else stack.enter_context(open_video(video, rate))
        log = None if rerun is None else stack.enter_context(RerunLog(rerun, estimator.camera, skeleton))

        def watch(start: int, outcomes: Sequence[FrameOutcome]) -> None:
            for index, outcome in enumerate(outcomes, start):
                try:
                    depth = predictor.read(index) * estimator.depth_unit
                except (OSError, ValueError):
                    continue
                hands = [one for one in (outcome, *outcome.others) if one.uvd is not None]
                if film is not None:
                    film.write(hand_picture(depth, [one.uvd for one in hands], skeleton))
                if log is not None:
                    log.write(index, index / rate, depth, [(n, one.xyz, one.uvd) for n, one in enumerate(hands, 1)])

        yield watch


def _uncertain(report: PredictionReport) -> str:
    """What to know of frames whose predicted error is large, the worst named."""
    from poseren_ext.inference.hand_pose import UNCERTAIN_MM

    worst = sorted(report.uncertain.items(), key=lambda item: -item[1])[:3]
    return (
        f"{len(report.uncertain)} of {report.frames} frames are uncertain: the model expects a mean joint error above "
        f"{UNCERTAIN_MM:.0f} mm ({', '.join(f'{name}: {error:.0f} mm' for name, error in worst)}). Check the hand "
        "(--hand), the centre and the frame; poseren doctor shows them"
    )


def _summary(report: PredictionReport, out: Path, missing: options.Missing) -> list[str]:
    """What was done, in a few lines."""
    new = report.frames - report.resumed
    where = "" if out == options.STDOUT else f" in {out}"
    speed = f", {new / report.seconds:.1f} frames/s" if new else ""
    before = f" ({report.resumed} of them from an earlier run)" if report.resumed else ""
    lines = [f"{report.frames} frames{where}{before}{speed}"]
    if report.missing_joints:
        lines.append(f"joints that the model does not have are nan: {', '.join(report.missing_joints)}")
    if report.missing:
        what = "left out" if missing == "skip" else "nan"
        lines.append(f"{len(report.missing)} of {report.frames} frames have no result ({what}):")
        shown = list(report.missing.items())[:_NAMED]
        lines += [f"  {name}: {in_options(reason)}" for name, reason in shown]
        if len(report.missing) > len(shown):
            rest = len(report.missing) - len(shown)
            lines.append(f"  and {rest} more" + ("" if out == options.STDOUT else f", listed in {out}.json"))
    return lines
