# SPDX-License-Identifier: MIT
"""`poseren render`: synthetic hands as a folder of files, one archive, a contact sheet, or a video."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer

from poseren_ext.cli import options

if TYPE_CHECKING:
    from poseren_ext.synthetic import SyntheticHands
    from poseren_ext.synthetic.scenes import SyntheticScenes

_BATCH = 16
PICTURES = (".png", ".pdf", ".svg")
_OWN_FILES = re.compile(r"depth/\d{6,}\.png|(labels|centers|list|camera)\.txt|hands\.csv")
Split: TypeAlias = Literal["train", "validation", "test"]
SplitKind: TypeAlias = Literal["palm", "side", "back", "holding", "egocentric", "cluttered", "two_hands"]
CameraName: TypeAlias = Literal["nyu", "icvl", "msra", "hands17", "sr305"]


def render_command(
    context: typer.Context,
    out: Annotated[
        Path,
        typer.Argument(
            help="A new folder (16-bit PNGs, labels), a file .npz, a picture (.png, .pdf, .svg), a video (.mp4, .gif)."
        ),
    ],
    frames: Annotated[int, typer.Option("--frames", min=1, help="Number of frames.")] = 32,
    first: Annotated[int, typer.Option("--first", min=0, help="Index of the first frame.")] = 0,
    seed: options.Seed = 1,
    split: Annotated[
        Split, typer.Option("--split", case_sensitive=False, help="Split; no subject is in two splits.")
    ] = "train",
    split_kind: Annotated[
        SplitKind | None,
        typer.Option("--split-kind", case_sensitive=False, help="A test split of fixed subjects and random seed."),
    ] = None,
    skeleton: options.SkeletonOption = "msra21",
    camera: Annotated[
        CameraName,
        typer.Option("--camera", case_sensitive=False, help="Camera whose intrinsics and image size are used."),
    ] = "sr305",
    sequence: Annotated[
        bool, typer.Option("--sequence", help="One moving hand instead of a new hand in every frame.")
    ] = False,
    scenes: Annotated[
        bool, typer.Option("--scenes", help="Whole scenes with no hand, one or two: labels in hands.csv.")
    ] = False,
    rate: options.VideoRate = 30.0,
    overwrite: options.Overwrite = False,
) -> None:
    """Render synthetic depth frames with their joints, for training, other tools or inspection.

    The same seed gives the same frames on every machine; frame i does not depend on the number of frames. A folder
    holds depth/*.png (mm), labels.txt and centers.txt (one line u v d ... per frame), list.txt and camera.txt.

    [bold]Examples[/bold]

    poseren render hands.png --split test

    poseren render train/ --frames 1000 --skeleton nyu14 --camera nyu

    poseren render moving.npz --sequence --frames 90

    poseren render moving.mp4 --sequence --frames 90

    poseren render backs/ --split-kind back --frames 2048

    poseren render scenes/ --scenes --frames 1000 --split test
    """
    from poseren_ext.cli._console import progress, say
    from poseren_ext.geometry.camera import CAMERAS
    from poseren_ext.plotting import check_path
    from poseren_ext.plotting.video import VIDEOS
    from poseren_ext.synthetic import SyntheticHands, SyntheticSequence
    from poseren_ext.synthetic.export import export_frames, export_stack
    from poseren_ext.synthetic.scenes import SyntheticScenes
    from poseren_ext.synthetic.splits import split_hands

    if split_kind:
        _require_alone(context, "--split-kind", ("seed", "split", "sequence", "scenes"))
    if scenes:
        _require_alone(context, "--scenes", ("sequence",))

    suffix = out.suffix.lower()
    if scenes and suffix in VIDEOS:
        raise typer.BadParameter(f"{out}; expected a folder, .npz or a picture with --scenes", param_hint="OUT")
    if suffix in (*PICTURES, *VIDEOS, ".npz"):
        options.check_outputs(out, overwrite=overwrite)
    else:
        _require_own_folder(out, overwrite)
    joints, intrinsics = skeleton, CAMERAS[camera]
    hands: SyntheticHands
    if split_kind:
        hands = split_hands(split_kind, skeleton=joints, camera=intrinsics)
    else:
        kind = SyntheticSequence if sequence else SyntheticHands
        hands = kind(seed, split, skeleton=joints, camera=intrinsics)
    with progress() as bar:
        task = bar.add_task("frames", total=None if suffix in PICTURES else frames)

        def advance(done: int) -> None:
            bar.update(task, completed=done)

        if scenes:
            _render_scenes(SyntheticScenes(seed, split, joints, intrinsics), out, frames, first, advance)
        elif suffix in PICTURES:
            from poseren_ext.plotting.contact_sheet import contact_sheet

            contact_sheet(hands, check_path(out), frames)
        elif suffix in VIDEOS:
            _render_video(hands, out, rate, range(first, first + frames), advance)
        elif suffix == ".npz":
            export_stack(hands, out, frames, first, advance)
        else:
            export_frames(hands, out, frames, first, advance)
    say(f"{frames} frames in {out}", stderr=True)


def _render_video(
    hands: SyntheticHands, out: Path, rate: float, indices: range, advance: Callable[[int], None]
) -> None:
    """Draw frames with their joints into a video."""
    import torch

    from poseren_ext.geometry.camera import xyz_to_uvd
    from poseren_ext.geometry.skeleton import SKELETONS
    from poseren_ext.plotting.video import hand_picture, open_video

    with open_video(out, rate) as video:
        for start in range(0, len(indices), _BATCH):
            frames = hands.frames(torch.tensor(indices[start : start + _BATCH]))
            uvd = xyz_to_uvd(frames.xyz, hands.camera)
            for depth, joints in zip(frames.depth, uvd, strict=True):
                video.write(hand_picture(depth.numpy(), [joints], SKELETONS[hands.skeleton]))
            advance(min(start + _BATCH, len(indices)))


def _render_scenes(scenes: SyntheticScenes, out: Path, frames: int, first: int, advance: Callable[[int], None]) -> None:
    """Write scenes to a picture, an archive or a folder, by the name of the output."""
    from poseren_ext.plotting import check_path
    from poseren_ext.plotting.contact_sheet import scene_sheet
    from poseren_ext.synthetic.scene_export import export_scene_stack, export_scenes

    if out.suffix.lower() in PICTURES:
        scene_sheet(scenes, check_path(out), frames)
    elif out.suffix.lower() == ".npz":
        export_scene_stack(scenes, out, frames, first, advance)
    else:
        export_scenes(scenes, out, frames, first, advance)


def _require_alone(context: typer.Context, option: str, names: tuple[str, ...]) -> None:
    """Refuse options that another one excludes.

    Raises:
        typer.BadParameter: One of them was given.
    """
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(f"{option} excludes it; leave --{name} out", param_hint=f"--{name}")


def _require_own_folder(folder: Path, overwrite: bool) -> None:
    """Refuse a folder that is not empty; with `overwrite`, empty one that an earlier run made.

    Raises:
        FileExistsError: The folder holds files, and `overwrite` is not set or one was not written by `poseren render`.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise FileExistsError(f"{folder} is a file; give the name of a new folder")
    found = sorted(path for path in folder.rglob("*") if not path.is_dir())
    if not found:
        return
    if not overwrite:
        raise FileExistsError(f"folder {str(folder)!r} is not empty; --overwrite replaces it, or choose another name")
    strangers = [path for path in found if not _OWN_FILES.fullmatch(path.relative_to(folder).as_posix())]
    if strangers:
        raise FileExistsError(f"folder {str(folder)!r} holds {strangers[0].name}, which `poseren render` did not write")
    for path in found:
        path.unlink()
