# SPDX-License-Identifier: MIT
"""`poseren render`: synthetic hands as files, one archive, or a contact sheet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

PICTURES = (".png", ".pdf", ".svg")


def render_command(
    out: Annotated[
        Path, typer.Argument(help="A folder of 16-bit PNGs and labels; *.npz: one file; *.png, .pdf, .svg: a sheet.")
    ],
    frames: Annotated[int, typer.Option("--frames", min=1, help="How many.")] = 32,
    first: Annotated[int, typer.Option("--first", min=0, help="Index of the first frame of the endless set.")] = 0,
    seed: Annotated[int, typer.Option("--seed", help="Draws poses, places, backgrounds and noise.")] = 1,
    split: Annotated[str, typer.Option("--split", help="train, validation or test: other subjects.")] = "train",
    skeleton: Annotated[str, typer.Option("--skeleton", help="msra21, nyu14, icvl16 or hands17.")] = "msra21",
    camera: Annotated[str, typer.Option("--camera", help="nyu, icvl, msra, hands17 or sr305.")] = "sr305",
    sequence: Annotated[bool, typer.Option("--sequence", help="One hand that moves, not a new one a frame.")] = False,
) -> None:
    """Render synthetic depth frames with their joints, for training, for other tools, and for the eye.

    The same seed gives the same frames, in any number and on any machine. A folder holds depth/*.png (mm), labels.txt
    and centers.txt (u v d, a line a frame), list.txt and camera.txt.

    [bold]Examples[/bold]

    poseren render hands.png --split test

    poseren render train/ --frames 1000 --skeleton nyu14 --camera nyu

    poseren render moving.npz --sequence --frames 90
    """
    from poseren_ext.cli._console import console, progress
    from poseren_ext.geometry.camera import CAMERAS
    from poseren_ext.geometry.skeleton import SKELETONS
    from poseren_ext.plotting import check_path
    from poseren_ext.synthetic import SyntheticHands, SyntheticSequence
    from poseren_ext.synthetic.export import export_frames, export_stack

    for name, known, option in ((camera, CAMERAS, "--camera"), (skeleton, SKELETONS, "--skeleton")):
        if name not in known:
            raise typer.BadParameter(f"{name!r}; expected one of {', '.join(known)}", param_hint=option)
    kind = SyntheticSequence if sequence else SyntheticHands
    hands = kind(seed, cast("Any", split), skeleton=skeleton, camera=CAMERAS[camera])
    suffix = out.suffix.lower()
    with progress() as bar:
        task = bar.add_task("frames", total=None if suffix in PICTURES else frames)

        def advance(done: int) -> None:
            bar.update(task, completed=done)

        if suffix in PICTURES:
            from poseren_ext.plotting.contact_sheet import contact_sheet

            contact_sheet(hands, check_path(out), frames)
        elif suffix == ".npz":
            export_stack(hands, out, frames, first, advance)
        else:
            if out.exists() and (not out.is_dir() or any(out.iterdir())):
                raise FileExistsError(f"{out} exists and is not an empty folder; name another")
            export_frames(hands, out, frames, first, advance)
    console(stderr=True).print(f"{frames} frames in {out}", markup=False, soft_wrap=True)
