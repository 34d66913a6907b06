# SPDX-License-Identifier: MIT
"""`poseren live`: detect and track hands in the stream of a camera or of a recording."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer

from poseren_ext.cli import _option_values, options

if TYPE_CHECKING:
    from rich.table import Table

    from poseren_ext.inference.estimator import Estimator
    from poseren_ext.live import LiveEstimator, LiveResult, LiveStatistics, OneEuroSettings, Source


SourceKind: TypeAlias = Literal["realsense", "orbbec", "oak", "record3d", "kinect", "folder", "npz"]
Smoothing: TypeAlias = Literal["one-euro", "off"]

Paths: TypeAlias = Annotated[
    list[Path] | None,
    typer.Argument(help="Recorded frames: folders, images, .npy, .npz, .bag, .mcap, .mkv or .r3d.", show_default=False),
]
SourceOption: TypeAlias = Annotated[
    SourceKind | None,
    typer.Option(
        "--source",
        case_sensitive=False,
        help="A camera (kinect: OpenCV built with OpenNI2), or folder or npz for recordings. Default: a recording if "
        "paths are given, else realsense.",
        show_default=False,
    ),
]
LiveCamera: TypeAlias = Annotated[
    str | None,
    typer.Option("--camera", help=f"{options.CAMERA_HELP} Default: what the source reports.", show_default=False),
]
SmoothingOption: TypeAlias = Annotated[
    Smoothing, typer.Option("--smoothing", case_sensitive=False, help="Filter of the joints over time.")
]
_PERIOD = 1.0  # seconds between two lines where stderr is not a terminal


def live_command(
    paths: Paths = None,
    source: SourceOption = None,
    camera: LiveCamera = None,
    depth_unit: options.DepthUnit = None,
    model: options.Model = "both",
    hand: options.HandOption = "auto",
    stages: options.Stages = 3,
    cube: options.Cube = 150.0,
    precision: options.PrecisionOption = "float32",
    tta: options.Tta = 1,
    max_hands: options.MaxHands = 1,
    smoothing: SmoothingOption = "one-euro",
    frames: Annotated[int | None, typer.Option("--frames", min=1, help="Stop after this many frames.")] = None,
    record: Annotated[Path | None, typer.Option("--record", help="Record frames and poses to a new folder.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write one line of JSON per frame; - for standard output."),
    ] = None,
    mcap: Annotated[
        Path | None, typer.Option("--mcap", help="Write hands to an MCAP file, for Foxglove and ROS tools.")
    ] = None,
    rerun: options.RerunOption = None,
    space: options.SpaceOption = None,
    unit: options.OutputUnit = "mm",
    frame: options.FrameOption = None,
    extrinsics: options.Extrinsics = None,
    order: options.OrderOption = None,
    headless: Annotated[bool, typer.Option("--headless", help="Show nothing while running.")] = False,
    rate: Annotated[
        float | None,
        typer.Option("--fps", help="Playback rate for recordings. Default: unlimited.", show_default=False),
    ] = None,
    loop: Annotated[bool, typer.Option("--loop", help="Repeat a recording until interrupted.")] = False,
    camera_index: options.CameraIndex = 0,
    device: options.Device = "cpu",
    overwrite: options.Overwrite = False,
) -> None:
    """Detect and track hands in a stream; show the outcome, frame rate and latency.

    A hand keeps its track number and its side while hands cross or are hidden for up to a second. Invalid frames
    (repeated, resized, empty) are skipped and counted. The exit status is 1 when the camera is lost or no hand was ever
    detected. Lines of --out have uvd and xyz in mm, or joints as --space, --output-unit, --frame and --order say.

    [bold]Examples[/bold]

    poseren live --source realsense --record session/

    poseren live recording/ --camera sr305 --depth-unit 0.125 --loop --fps 30

    poseren live session.bag --max-hands 2 --headless --out poses.jsonl

    poseren live --source realsense --headless --out - | my-app

    poseren live --source realsense --rerun viewer --mcap hands.mcap
    """
    from poseren_ext.cli._console import say
    from poseren_ext.live import LiveEstimator, Recorder, open_source, result_line
    from poseren_ext.live.mcap_log import McapLog

    options.check_outputs(out, mcap, options.rerun_file(rerun), overwrite=overwrite)
    chosen = (space, frame, extrinsics, order) != (None,) * 4 or unit != "mm"
    layout = _option_values.joint_layout("xyz", space, unit, frame, extrinsics, order) if chosen else None
    with ExitStack() as stack:
        lens = _option_values.parse_lens(camera) if camera is not None else None
        stream = open_source(
            source_kind(source, paths), paths or (), rate=rate, loop=loop, device=camera_index, lens=lens
        )
        stack.callback(stream.close)
        settings = {"hand": hand, "stages": stages, "cube": cube, "precision": precision, "tta": tta, "device": device}
        estimator = estimator_for(stream, model, depth_unit, **settings)
        if layout is not None:
            layout.check(estimator.model.skeleton)
        live = LiveEstimator(estimator, max_hands=max_hands, smoothing=smoothing_settings(smoothing))
        recorder = None
        writers: list[Callable[[LiveResult], None]] = []
        if record is not None:
            recorder = stack.enter_context(Recorder(record, estimator.camera, estimator.depth_unit))
            writers.append(recorder.write)
        if mcap is not None:
            writers.append(stack.enter_context(McapLog(mcap, layout)).write)
        if rerun is not None:
            writers.append(stack.enter_context(_rerun(rerun, estimator)))
        write_line = stack.enter_context(_lines(out))
        try:
            with _shown(live.statistics, headless) as show:
                for result in live.run(stream):
                    for write in writers:
                        write(result)
                    if write_line is not None:
                        write_line(result_line(result, layout) + "\n")
                    show(result)
                    if live.statistics.frames == frames:
                        break
        finally:
            kept = f"; {recorder.frames} frames in {recorder.folder}" if recorder is not None else ""
            say(f"{summary(live.statistics)}{kept}", stderr=True)
    _require_a_hand(live)


def smoothing_settings(smoothing: Smoothing) -> OneEuroSettings | None:
    """Parameters of the filter; None without smoothing."""
    from poseren_ext.live import OneEuroSettings

    return None if smoothing == "off" else OneEuroSettings()


def source_kind(source: SourceKind | None, paths: Sequence[Path] | None) -> str:
    """The source that the options ask for; recordings are recognised by their paths."""
    return source or ("folder" if paths else "realsense")


def estimator_for(stream: Source, model: str, depth_unit: float | None, **settings: Any) -> Estimator:
    """An estimator with the camera of the source, and the unit of the options or else of the source.

    Raises:
        ValueError: the source does not know its camera's intrinsics, and the options did not give them.
    """
    from poseren_ext.cli._estimator import build_estimator

    if stream.camera is None:
        raise ValueError("the source does not report its camera's intrinsics; give --camera fx,fy,cx,cy")
    unit = depth_unit if depth_unit is not None else stream.depth_unit or 1.0
    return build_estimator(model, stream.camera, depth_unit=unit, **settings)


@contextmanager
def _rerun(target: str, estimator: Estimator) -> Iterator[Callable[[LiveResult], None]]:
    """A function that logs a result for the rerun viewer."""
    from poseren_ext.plotting.rerun_log import RerunLog

    with RerunLog(target, estimator.camera, estimator.model.skeleton) as log:

        def write(result: LiveResult) -> None:
            depth = None if result.outcome == "skipped" else result.frame.depth * estimator.depth_unit
            hands = [(hand.track, hand.pose.joints, hand.pose.uvd) for hand in result.hands]
            log.write(result.frame.number, result.time, depth, hands)

        yield write


@contextmanager
def _lines(out: Path | None) -> Iterator[Callable[[str], object] | None]:
    """A function that writes a line at once, and never half of one, even when the disk fills up."""
    from poseren_ext._utils.atomic_files import append_whole

    if out is None:
        yield None
    elif out == Path("-"):
        yield lambda line: print(line, end="", flush=True)
    else:
        with out.open("wb", buffering=0) as file:
            yield lambda line: append_whole(file, line.encode())


@contextmanager
def _shown(statistics: LiveStatistics, headless: bool) -> Iterator[Any]:
    """A function to call with every result: it updates a table on a terminal, or prints one line per second."""
    from rich.live import Live

    from poseren_ext.cli._console import console, say

    screen = console(stderr=True)
    if headless:
        yield lambda result: None
    elif screen.is_terminal:
        with Live(console=screen, auto_refresh=False, transient=True) as display:
            shown = 0.0

            def update(result: LiveResult) -> None:
                nonlocal shown
                if time.perf_counter() - shown > 0.1:
                    shown = time.perf_counter()
                    display.update(_table(statistics, result), refresh=True)

            yield update
    else:
        printed = time.perf_counter()

        def print_line(result: LiveResult) -> None:
            nonlocal printed
            if time.perf_counter() - printed > _PERIOD:
                printed = time.perf_counter()
                say(summary(statistics), stderr=True)

        yield print_line


def _table(statistics: LiveStatistics, result: LiveResult) -> Table:
    from rich.table import Table

    rows = [
        ["now", ", ".join([result.outcome, *(f"{hand.pose.hand[0]} hand {hand.track}" for hand in result.hands)])],
        ["frames/s", f"{statistics.rate:.1f}"],
        ["latency, ms (50, 95, 99 %)", " ".join(f"{statistics.latency(p):.1f}" for p in (50, 95, 99))],
        *([name, str(count)] for name, count in statistics.outcomes.most_common()),
        *([f"  {name}", str(count)] for name, count in statistics.reasons.most_common(5)),
        *([["dropped by the camera", str(statistics.dropped)]] if statistics.dropped else []),
    ]
    shown = Table(title=f"frame {statistics.frames}; press Ctrl-C to stop", title_justify="left", show_header=False)
    for row in rows:
        shown.add_row(*row)
    return shown


def summary(statistics: LiveStatistics) -> str:
    """The statistics of a stream so far, in one line."""
    parts = [f"{statistics.frames} frames"]
    parts += [f"{count} {name}" for name, count in statistics.outcomes.most_common()]
    if statistics.reasons:
        parts.append(
            "re-detections: " + ", ".join(f"{name} {count}" for name, count in statistics.reasons.most_common())
        )
    if statistics.dropped:
        parts.append(f"{statistics.dropped} dropped by the camera")
    times = "/".join(f"{statistics.latency(percent):.1f}" for percent in (50, 95, 99))
    parts.append(f"{statistics.rate:.1f} frames/s, latency {times} ms (50/95/99 %)")
    return "; ".join(parts)


def _require_a_hand(live: LiveEstimator) -> None:
    """Fail when no frame gave a pose, with the most frequent reason."""
    statistics = live.statistics
    if statistics.poses == 0:
        reason = statistics.reasons.most_common(1)[0][0] if statistics.reasons else "the stream had no frames"
        advice = live.unit_advice()
        unit = f"; {advice}" if advice else ""
        raise ValueError(
            f"no hand in any of {statistics.frames} frames: {reason}{unit}. `poseren doctor` checks recorded frames"
        )
