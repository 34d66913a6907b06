# SPDX-License-Identifier: MIT
"""`poseren doctor`: do these frames, this camera and this unit make sense? A picture, and what to change."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from poseren_ext.cli.predict import CAMERA_HELP, CUBE_HELP, INPUTS_HELP, PATTERN_HELP, UNIT_HELP, UNIT_NAMES

if TYPE_CHECKING:
    from poseren_ext.geometry.camera import Camera
    from poseren_ext.inference.diagnosis import Checkup, Finding
    from poseren_ext.io.depth_files import FrameFile

_STYLES = {"fine": "green", "note": "yellow", "fault": "bold red"}
_ROWS = 4


def doctor_command(
    inputs: Annotated[list[Path], typer.Argument(help=INPUTS_HELP)],
    camera: Annotated[str, typer.Option("--camera", help=CAMERA_HELP)],
    depth_unit: Annotated[float, typer.Option(*UNIT_NAMES, help=UNIT_HELP)] = 1.0,
    cube: Annotated[float, typer.Option("--cube", min=1.0, help=CUBE_HELP)] = 150.0,
    picture: Annotated[
        Path | None,
        typer.Option("--picture", help="Draw it: depth, valid pixels, hand, cube, crop (.png, .pdf, .svg)."),
    ] = None,
    frames: Annotated[int, typer.Option("--frames", min=1, help="How many to look at, spread over all.")] = 8,
    pattern: Annotated[str, typer.Option("--pattern", help=PATTERN_HELP)] = "*",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the findings too; - for stdout.")] = None,
) -> None:
    """Say whether unit, range, intrinsics and the hand's centre make sense, and what to change where not.

    Exit status 1 when something is at fault; a note is worth a look at the picture.

    [bold]Examples[/bold]

    poseren doctor recording/ --camera sr305 --depth-unit 0.125 --picture doctor.png

    poseren doctor frame.npy --camera 475.07,475.07,315.9,245.3
    """
    from poseren_ext.cli._console import console, write_text
    from poseren_ext.geometry.camera import Camera
    from poseren_ext.inference.diagnosis import summarize, worst
    from poseren_ext.io.depth_files import find_frames
    from poseren_ext.plotting import check_path, save

    if not 0 < depth_unit < float("inf"):
        raise typer.BadParameter(f"{depth_unit}; expected a positive number of mm", param_hint=UNIT_NAMES[0])
    intrinsics = Camera.parse(camera)
    if picture is not None:
        check_path(picture)
    files = find_frames(inputs, pattern)
    count = min(frames, len(files))
    chosen = [files[(2 * i + 1) * len(files) // (2 * count)] for i in range(count)]
    checkups = _examine(chosen, intrinsics, depth_unit, cube)
    findings = summarize(checkups)
    drawn = ""
    drawable = [checkup for checkup in checkups if checkup.depth.ndim == 2 and checkup.depth.size]
    if picture is not None and drawable:
        from poseren_ext.plotting.checkup import plot_checkups

        shown = sorted(drawable, key=lambda checkup: ("fault", "note", "fine").index(checkup.kind))[:_ROWS]
        save(plot_checkups(shown, depth_unit=depth_unit, cube=cube), picture)
        drawn = f"; picture: {picture}"
    report = json.dumps(_report(checkups, findings), indent=1)
    if json_file is not None and json_file != Path("-"):
        write_text(json_file, report + "\n")
    if json_file == Path("-"):
        print(report)
    else:
        out = console()
        for finding in findings:
            out.print(f"[{_STYLES[finding.kind]}]{finding.kind:>5}[/]  ", end="")
            out.print(f"{finding.check}: {finding.text}", markup=False, soft_wrap=True)
        summary = {"fine": "all is well", "note": "works, with notes", "fault": "results would be wrong"}
        out.print(f"{count} of {len(files)} frames: {summary[worst(findings)]}{drawn}", markup=False, soft_wrap=True)
    if worst(findings) == "fault":
        raise typer.Exit(1)


def _examine(files: Sequence[FrameFile], camera: Camera, depth_unit: float, cube: float) -> list[Checkup]:
    import numpy as np

    from poseren_ext.cli._console import progress
    from poseren_ext.inference.diagnosis import Checkup, Finding, examine

    checkups = []
    with progress() as bar:
        for file in bar.track(files, description="frames"):
            name = file.path.name if file.index is None else f"{file.path.name}[{file.index}]"
            try:
                checkups.append(examine(file.read(), camera, depth_unit=depth_unit, cube=cube, name=name))
            except (OSError, ValueError) as error:
                fault = Finding("fault", "frame", str(error))
                checkups.append(Checkup(name, np.zeros((0, 0), np.uint16), (fault,), None))
    return checkups


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
