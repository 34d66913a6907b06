# SPDX-License-Identifier: MIT
"""`poseren view`: depth, hand and cascade of a recording or a camera in the browser."""

from __future__ import annotations

import webbrowser
from contextlib import ExitStack
from typing import Annotated

import typer

from poseren_ext.cli import _option_values, options
from poseren_ext.cli.live import (
    LiveCamera,
    Paths,
    SmoothingOption,
    SourceOption,
    estimator_for,
    smoothing_settings,
)


def view_command(
    paths: Paths = None,
    source: SourceOption = None,
    camera: LiveCamera = None,
    depth_unit: options.DepthUnit = None,
    model: options.Model = "both",
    hand: options.HandOption = "auto",
    stages: options.Stages = 3,
    cube: options.Cube = 150.0,
    max_hands: options.MaxHands = 1,
    smoothing: SmoothingOption = "one-euro",
    stream: Annotated[
        bool, typer.Option("--stream", help="Play a recording like a camera: tracked, in order, repeated.")
    ] = False,
    rate: Annotated[float, typer.Option("--fps", min=0.1, help="Playback rate for recordings.")] = 15.0,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; 0.0.0.0 opens the page to the whole network.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 takes any.")] = 8080,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")] = True,
    camera_index: options.CameraIndex = 0,
    device: options.Device = "cpu",
) -> None:
    """Show frames, hands and the stages of the cascade in the browser, until Ctrl-C.

    The depth is a coloured point cloud that can be rotated and zoomed, with the cube, side and expected error of each
    hand. Sliders choose the frame and the stage. Next to it are the windows that the pose of the chosen stage places on
    the feature map. Needs the extra viewer.

    [bold]Examples[/bold]

    poseren view recording/ --camera sr305 --depth-unit 0.125

    poseren view --source realsense

    poseren view session/ --max-hands 2 --stream --port 9000 --no-browser
    """
    from poseren_ext.cli._console import say
    from poseren_ext.live import LiveEstimator, RecordingSource, open_source
    from poseren_ext.viewer import Viewer, view_recording, view_stream

    with ExitStack() as stack:
        lens = _option_values.parse_lens(camera) if camera is not None else None
        pace, kind = rate if stream else None, source or "folder"
        frames = open_source(kind, paths or (), rate=pace, loop=stream, device=camera_index, lens=lens)
        stack.callback(frames.close)
        chosen = {"hand": hand, "stages": stages, "cube": cube, "device": device}
        estimator = estimator_for(frames, model, depth_unit, **chosen)
        # A recording is shown frame by frame; a camera, and a recording played like one, as a stream.
        files = frames.files if isinstance(frames, RecordingSource) and not stream else []
        viewer = Viewer(estimator, host=host, port=port, frames=len(files), max_hands=max_hands)
        stack.callback(viewer.close)
        say(f"open {viewer.address} in a browser; press Ctrl-C to stop", stderr=True)
        if browser:
            webbrowser.open(viewer.address)
        if files:
            view_recording(viewer, files, rate=rate)
        else:
            settings = smoothing_settings(smoothing)
            live = LiveEstimator(estimator, max_hands=max_hands, smoothing=settings, return_stages=True)
            view_stream(viewer, live.run(frames))
