# SPDX-License-Identifier: MIT
"""`poseren view`: depth, hand and cascade in the browser, of a recording or of a camera."""

from __future__ import annotations

import webbrowser
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from poseren_ext.cli.live import PATHS_HELP, SOURCE_HELP, estimator_for
from poseren_ext.cli.predict import CAMERA_HELP, CUBE_HELP, HAND_HELP, MODEL_HELP, UNIT_HELP, UNIT_NAMES


def view_command(
    paths: Annotated[list[Path] | None, typer.Argument(help=PATHS_HELP, show_default=False)] = None,
    source: Annotated[str, typer.Option("--source", help=SOURCE_HELP)] = "folder",
    camera: Annotated[str | None, typer.Option("--camera", help=f"{CAMERA_HELP} Default: the source's own.")] = None,
    depth_unit: Annotated[
        float | None, typer.Option(*UNIT_NAMES, help=f"{UNIT_HELP} Default: the source's own, or 1.")
    ] = None,
    model: Annotated[str, typer.Option("--model", help=MODEL_HELP)] = "demo",
    hand: Annotated[str, typer.Option("--hand", help=HAND_HELP)] = "auto",
    stages: Annotated[int, typer.Option("--stages", min=0, help="How often to refine.")] = 3,
    cube: Annotated[float, typer.Option("--cube", help=CUBE_HELP)] = 150.0,
    stream: Annotated[
        bool, typer.Option("--stream", help="Take a recording as a camera's stream: tracked, in its order, in a loop.")
    ] = False,
    rate: Annotated[float, typer.Option("--fps", min=0.1, help="Of a recording that plays.")] = 15.0,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on. 0.0.0.0 lets the whole network look.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 takes any.")] = 8080,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page.")] = True,
    device: Annotated[int, typer.Option("--device", min=0, help="Which of several cameras.")] = 0,
) -> None:
    """Look at frames, hands and the cascade's stages in the browser, until Ctrl-C.

    The depth is a coloured point cloud to turn and zoom; sliders go over the frames and over the stages; beside it the
    windows that the chosen stage's pose puts on the feature grid. Needs the extra viewer.

    [bold]Examples[/bold]

    poseren view recording/ --camera sr305 --depth-unit 0.125

    poseren view --source realsense

    poseren view session/ --stream --port 9000 --no-browser
    """
    from poseren_ext.cli._console import console
    from poseren_ext.live import LiveEstimator, RecordingSource, open_source
    from poseren_ext.viewer import Viewer, view_recording, view_stream

    with ExitStack() as stack:
        frames = open_source(source, paths or (), rate=rate if stream else None, loop=stream, device=device)
        stack.callback(frames.close)
        settings = {"hand": hand, "stages": stages, "cube": cube, "precision": "float32"}
        estimator = estimator_for(frames, model, camera, depth_unit, **settings)
        # A recording is looked at frame by frame; a camera, and a recording that stands for one, streams.
        files = frames.files if isinstance(frames, RecordingSource) and not stream else []
        viewer = Viewer(estimator, host=host, port=port, frames=len(files))
        stack.callback(viewer.close)
        console(stderr=True).print(f"{viewer.address} shows it; Ctrl-C ends", markup=False, soft_wrap=True)
        if browser:
            webbrowser.open(viewer.address)
        if files:
            view_recording(viewer, files, rate=rate)
        else:
            view_stream(viewer, LiveEstimator(estimator, return_stages=True).run(frames))
