# SPDX-License-Identifier: MIT
"""`poseren live`: a camera's or a recording's frames, the hand in each, as it comes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from poseren_ext.cli.predict import CAMERA_HELP, CUBE_HELP, HAND_HELP, MODEL_HELP, UNIT_HELP, UNIT_NAMES

if TYPE_CHECKING:
    from rich.table import Table

    from poseren_ext.geometry.camera import Camera
    from poseren_ext.inference.estimator import Estimator, Hand
    from poseren_ext.live import LiveEstimator, LiveResult, LiveStatistics, Source
    from poseren_ext.models.files import Precision

SOURCE_HELP = "realsense, kinect (OpenCV's OpenNI2 devices), folder or npz (recordings)."
PATHS_HELP = "Recorded frames, with --source folder or npz."
_PERIOD = 1.0  # seconds between two plain lines


def live_command(
    paths: Annotated[list[Path] | None, typer.Argument(help=PATHS_HELP, show_default=False)] = None,
    source: Annotated[str, typer.Option("--source", help=SOURCE_HELP)] = "realsense",
    camera: Annotated[str | None, typer.Option("--camera", help=f"{CAMERA_HELP} Default: the source's own.")] = None,
    depth_unit: Annotated[
        float | None, typer.Option(*UNIT_NAMES, help=f"{UNIT_HELP} Default: the source's own, or 1.")
    ] = None,
    model: Annotated[str, typer.Option("--model", help=MODEL_HELP)] = "demo",
    hand: Annotated[str, typer.Option("--hand", help=HAND_HELP)] = "auto",
    stages: Annotated[int, typer.Option("--stages", min=0, help="How often to refine.")] = 3,
    cube: Annotated[float, typer.Option("--cube", help=CUBE_HELP)] = 150.0,
    precision: Annotated[str, typer.Option("--precision", help="float32, bfloat16 or int8 weights.")] = "float32",
    track: Annotated[bool, typer.Option("--track/--no-track", help="Start from the last frame's pose.")] = True,
    frames: Annotated[int | None, typer.Option("--frames", min=1, help="Stop after so many frames.")] = None,
    record: Annotated[Path | None, typer.Option("--record", help="Keep frames and poses in a new folder.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write a line of JSON a frame; - for stdout, to pipe into an app."),
    ] = None,
    headless: Annotated[bool, typer.Option("--headless", help="Show nothing while running.")] = False,
    rate: Annotated[float | None, typer.Option("--fps", help="Of a recording. Default: as fast as it goes.")] = None,
    loop: Annotated[bool, typer.Option("--loop", help="Begin a recording again at its end.")] = False,
    device: Annotated[int, typer.Option("--device", min=0, help="Which of several cameras.")] = 0,
) -> None:
    """Find and follow a hand in a stream; show what is found, frame rate and latency.

    A hand that was found is followed from its last pose, and looked for anew when it is lost. Frames that are none
    (repeated, resized, empty) are skipped and counted. Exit status 1 when the camera is gone or no hand was ever seen.

    [bold]Examples[/bold]

    poseren live --source realsense --record session/

    poseren live --source folder recording/ --camera sr305 --depth-unit 0.125 --loop --fps 30

    poseren live --source realsense --headless --out - | my-app
    """
    from poseren_ext.cli._console import console
    from poseren_ext.live import LiveEstimator, Recorder, open_source, result_line

    messages = console(stderr=True)
    with ExitStack() as stack:
        stream = open_source(source, paths or (), rate=rate, loop=loop, device=device)
        stack.callback(stream.close)
        settings = {"hand": hand, "stages": stages, "cube": cube, "precision": precision}
        estimator = estimator_for(stream, model, camera, depth_unit, **settings)
        live = LiveEstimator(estimator, track=track)
        recorder = None
        if record is not None:
            recorder = stack.enter_context(Recorder(record, estimator.camera, estimator.depth_unit))
        write_line = stack.enter_context(_lines(out))
        try:
            with _shown(live.statistics, headless) as show:
                for result in live.run(stream):
                    if recorder is not None:
                        recorder.write(result)
                    if write_line is not None:
                        write_line(result_line(result) + "\n")
                    show(result)
                    if live.statistics.frames == frames:
                        break
        finally:
            kept = f"; {recorder.frames} frames in {recorder.folder}" if recorder is not None else ""
            messages.print(f"{summary(live.statistics)}{kept}", markup=False, soft_wrap=True)
    _require_a_hand(live)


def estimator_for(
    stream: Source, model: str, camera: str | None, depth_unit: float | None, **settings: Any
) -> Estimator:
    """An estimator with what the user said, and what the source knows where the user said nothing.

    Raises:
        ValueError: nobody knows the intrinsics.
    """
    from poseren_ext.geometry.camera import Camera
    from poseren_ext.inference.estimator import Estimator

    chosen: Camera | None = Camera.parse(camera) if camera is not None else stream.camera
    if chosen is None:
        raise ValueError("the source does not know its camera's intrinsics; give --camera fx,fy,cx,cy")
    return Estimator(
        model,
        camera=chosen,
        hand=cast("Hand", settings["hand"]),
        cube=settings["cube"],
        stages=settings["stages"],
        depth_unit=depth_unit if depth_unit is not None else stream.depth_unit or 1.0,
        precision=cast("Precision", settings["precision"]),
    )


@contextmanager
def _lines(out: Path | None) -> Iterator[Callable[[str], object] | None]:
    """A function that writes a line at once, whole even on a disk that gets full."""
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
    """A function to call with every result: a table that is kept up to date, or a line a second."""
    from rich.live import Live

    from poseren_ext.cli._console import console

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
        told = time.perf_counter()

        def tell(result: LiveResult) -> None:
            nonlocal told
            if time.perf_counter() - told > _PERIOD:
                told = time.perf_counter()
                screen.print(summary(statistics), markup=False, soft_wrap=True)

        yield tell


def _table(statistics: LiveStatistics, result: LiveResult) -> Table:
    from rich.table import Table

    rows = [
        ["now", f"{result.outcome}{', ' + result.pose.hand[0] + ' hand' if result.pose else ''}"],
        ["frames/s", f"{statistics.rate:.1f}"],
        ["latency, ms (50, 95, 99 %)", " ".join(f"{statistics.latency(p):.1f}" for p in (50, 95, 99))],
        *([name, str(count)] for name, count in statistics.outcomes.most_common()),
        *([f"  {name}", str(count)] for name, count in statistics.reasons.most_common(5)),
        *([["dropped by the camera", str(statistics.dropped)]] if statistics.dropped else []),
    ]
    shown = Table(title=f"frame {statistics.frames}; Ctrl-C ends", title_justify="left", show_header=False)
    for row in rows:
        shown.add_row(*row)
    return shown


def summary(statistics: LiveStatistics) -> str:
    """A stream so far, in one line."""
    parts = [f"{statistics.frames} frames"]
    parts += [f"{count} {name}" for name, count in statistics.outcomes.most_common()]
    if statistics.reasons:
        parts.append("because: " + ", ".join(f"{name} {count}" for name, count in statistics.reasons.most_common()))
    if statistics.dropped:
        parts.append(f"{statistics.dropped} dropped by the camera")
    times = "/".join(f"{statistics.latency(percent):.1f}" for percent in (50, 95, 99))
    parts.append(f"{statistics.rate:.1f} frames/s, latency {times} ms (50/95/99 %)")
    return "; ".join(parts)


def _require_a_hand(live: LiveEstimator) -> None:
    """No pose at all is a failure: it says why."""
    statistics = live.statistics
    if statistics.poses == 0:
        reason = statistics.reasons.most_common(1)[0][0] if statistics.reasons else "there were none"
        raise ValueError(
            f"no hand in any of {statistics.frames} frames: {reason}. `poseren doctor` looks at recorded frames"
        )
