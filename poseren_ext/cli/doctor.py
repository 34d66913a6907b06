# SPDX-License-Identifier: MIT
"""`poseren doctor`: check frames, camera and depth unit, draw what was found, and say what to change."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from poseren_ext.cli import _option_values, options

if TYPE_CHECKING:
    from poseren_ext.geometry.camera import Camera
    from poseren_ext.inference.diagnosis import Checkup, Finding
    from poseren_ext.inference.pose_check import PoseCheck
    from poseren_ext.io.depth_files import FrameFile

_STYLES = {"fine": "green", "note": "yellow", "fault": "bold red"}
_WORDS = {"fine": "OK", "note": "WARNING", "fault": "ERROR"}
_ROWS = 4


def doctor_command(
    inputs: options.Inputs,
    camera: options.Camera = None,
    depth_unit: options.DepthUnit = None,
    cube: options.Cube = 150.0,
    model: options.Model = "both",
    hand: options.HandOption = None,
    picture: Annotated[
        Path | None,
        typer.Option("--picture", help="Draw depth, valid pixels, hand, cube and crop: .png, .pdf or .svg."),
    ] = None,
    frames: Annotated[int, typer.Option("--frames", min=1, help="Number of frames to check, spread evenly.")] = 8,
    pattern: options.Pattern = "*",
    json_file: options.Json = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Check depth unit, range, intrinsics, hand detection and the model's predicted error; say what to change.

    The exit status is 1 when there is an ERROR; after a WARNING, look at the picture.

    [bold]Examples[/bold]

    poseren doctor recording/ --camera sr305 --depth-unit 0.125 --picture doctor.png

    poseren doctor frame.npy --camera 475.07,475.07,315.9,245.3
    """
    from poseren_ext._utils.atomic_files import write_atomic
    from poseren_ext.cli._console import say
    from poseren_ext.inference.diagnosis import summarize, worst
    from poseren_ext.inference.pose_check import PoseCheck
    from poseren_ext.io.depth_files import find_frames, seen_through
    from poseren_ext.plotting import check_path, save

    if picture is not None:
        check_path(picture)
    options.check_outputs(picture, json_file, overwrite=overwrite)
    lens, unit = _option_values.resolve_camera(camera, depth_unit, inputs)
    files = seen_through(find_frames(inputs, pattern), lens)
    count = min(frames, len(files))
    chosen = [files[(2 * i + 1) * len(files) // (2 * count)] for i in range(count)]
    pose = PoseCheck(model, hand, cube)
    checkups = _examine(chosen, lens.camera, unit, cube, pose)
    findings = summarize(checkups)
    drawn = ""
    drawable = [checkup for checkup in checkups if checkup.depth.ndim == 2 and checkup.depth.size]
    if picture is not None and drawable:
        from poseren_ext.plotting.checkup import plot_checkups

        shown = sorted(drawable, key=lambda checkup: ("fault", "note", "fine").index(checkup.kind))[:_ROWS]
        save(plot_checkups(shown, depth_unit=unit, cube=cube), picture)
        drawn = f"; picture: {picture}"
    report = json.dumps(_report(checkups, findings), indent=1)
    if json_file is not None and json_file != options.STDOUT:
        write_atomic(json_file, report + "\n")
    if json_file == options.STDOUT:
        print(report)
    else:
        for finding in findings:
            say(f"{finding.check}: {finding.text}", label=f"{_WORDS[finding.kind]:7}", style=_STYLES[finding.kind])
        say(f"checked {count} of {len(files)} frames: {_summary(findings)}{drawn}")
    if worst(findings) == "fault":
        raise typer.Exit(1)


def _examine(
    files: Sequence[FrameFile], camera: Camera, depth_unit: float, cube: float, pose: PoseCheck
) -> list[Checkup]:
    from dataclasses import replace

    import numpy as np

    from poseren_ext.cli._console import progress
    from poseren_ext.inference.diagnosis import Checkup, Finding, examine

    checkups = []
    with progress() as bar:
        for file in bar.track(files, description="frames"):
            name = file.path.name if file.index is None else f"{file.path.name}[{file.index}]"
            try:
                checkup = examine(file.read(), camera, depth_unit=depth_unit, cube=cube, name=name)
                posed = checkup.region and pose(checkup.depth, checkup.region)
                checkups.append(replace(checkup, findings=(*checkup.findings, posed)) if posed else checkup)
            except (OSError, ValueError) as error:
                fault = Finding("fault", "frame", str(error))
                checkups.append(Checkup(name, np.zeros((0, 0), np.uint16), (fault,), None))
    return checkups


def _summary(findings: Sequence[Finding]) -> str:
    counts = {kind: sum(finding.kind == kind for finding in findings) for kind in ("fault", "note")}
    words = {"fault": "error", "note": "warning"}
    parts = [f"{count} {words[kind]}{'s' * (count > 1)}" for kind, count in counts.items() if count]
    return " and ".join(parts) or "no problems"


def _report(checkups: Sequence[Checkup], findings: Sequence[Finding]) -> dict[str, Any]:
    from dataclasses import asdict

    from poseren_ext.inference.diagnosis import worst

    return {
        "verdict": worst(findings),
        "findings": [asdict(finding) for finding in findings],
        "frames": [
            {
                "name": checkup.name,
                "verdict": checkup.kind,
                "center_uvd": checkup.region and checkup.region.center,
                "depth_unit": checkup.region and checkup.region.unit,
                "findings": [asdict(finding) for finding in checkup.findings],
            }
            for checkup in checkups
        ],
    }
