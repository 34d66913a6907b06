# SPDX-License-Identifier: MIT
"""`poseren predict`: depth files in, a prediction file out, frame by frame, so that an interrupted run continues."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from poseren_ext.cli import options

if TYPE_CHECKING:
    import numpy.typing as npt

    from poseren_ext.inference.estimator import Estimator
    from poseren_ext.io.depth_files import FrameFile
    from poseren_ext.io.pose_files import PoseWriter


def predict_command(
    inputs: options.Inputs,
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write: one line per frame, u v d of each joint.")],
    camera: options.Camera = None,
    depth_unit: options.DepthUnit = None,
    model: options.Model = "demo",
    hand: options.HandOption = None,
    stages: options.Stages = 3,
    cube: options.Cube = 150.0,
    centers: options.Centers = None,
    init: Annotated[
        Path | None,
        typer.Option("--init", help="Initial poses, a prediction file of another method. Default: Init-CNN."),
    ] = None,
    precision: options.PrecisionOption = options.Precision.FLOAT32,
    tta: options.Tta = 1,
    pattern: options.Pattern = "*",
    batch: Annotated[int, typer.Option("--batch", min=1, help="Frames per batch.")] = 16,
    device: options.Device = "cpu",
    overwrite: options.Overwrite = False,
    resume: options.Resume = False,
) -> None:
    """Write the joints of every frame, in the format that `poseren eval` and the field's scripts read.

    The output grows while the command runs; --resume continues it after an interruption. Next to FILE.txt, FILE.json
    records which frame each line belongs to, and the settings.

    [bold]Examples[/bold]

    poseren predict recording/ --camera sr305 --depth-unit 0.125 --out joints.txt

    poseren predict nyu/test --pattern 'depth_1_*' --camera nyu --model mine.safetensors --out mine.txt
    """
    from poseren_ext.cli._estimator import build_estimator
    from poseren_ext.io.depth_files import find_frames
    from poseren_ext.io.pose_files import PoseWriter, read_poses

    frames = find_frames(inputs, pattern)
    intrinsics, unit = options.resolve_camera(camera, depth_unit, inputs)
    options.check_outputs(out, overwrite=overwrite, resume=resume)
    estimator = build_estimator(
        model,
        intrinsics,
        hand=hand,
        cube=cube,
        stages=stages,
        depth_unit=unit,
        precision=precision,
        tta=tta,
        device=device,
    )
    joints = estimator.model.skeleton.num_joints
    settings = {
        "model": model,
        "camera": [intrinsics.fx, intrinsics.fy, intrinsics.cx, intrinsics.cy],
        "depth_unit": unit,
        "hand": estimator.hand,
        "stages": stages,
        "cube": cube,
        "precision": precision.value,
        "tta": tta,
        "centers": centers and str(centers),
        "init": init and str(init),
        "skeleton": estimator.model.skeleton.name,
        "frames": [str(frame) for frame in frames],
    }
    given = {
        "center": read_poses(centers, joints=1, frames=len(frames))[:, 0] if centers else None,
        "init_pose": read_poses(init, joints=joints, frames=len(frames)) if init else None,
    }
    with _alone(out):
        _agree(out, settings, overwrite)
        with PoseWriter(out, joints) as writer:
            _predict(_Run(estimator, frames, given, writer), batch)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Two runs at once would write every line twice: the second one is refused. The lock ends with its process."""
    import fcntl

    if out.suffix == ".json":
        raise typer.BadParameter(f"{out}: its .json is written beside it; name another, e.g. .txt", param_hint="--out")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"cannot write {out}: there is no folder {out.parent}; make it first")
    with out.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(f"another run writes to {out}; wait for it, or name another output") from None
        yield


def _agree(out: Path, settings: dict[str, Any], overwrite: bool) -> None:
    """Record what the output is of; refuse to continue an output that is of something else."""
    from poseren_ext.cli._console import write_text

    record = out.with_suffix(".json")
    if overwrite:
        out.write_bytes(b"")  # not removed: its lock is held
    elif out.exists() and out.stat().st_size:
        try:
            before = json.loads(record.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise ValueError(
                f"{out} exists, but {record} does not say of which run; name another output, or pass --overwrite to "
                "replace it"
            ) from None
        known = before.get("frames", [])
        # A recording may have grown since: what is there are its first frames still.
        same_frames = isinstance(known, list) and settings["frames"][: len(known)] == known
        changed = [
            key for key in settings if before.get(key) != settings[key] and not (key == "frames" and same_frames)
        ]
        if changed:
            raise ValueError(
                f"{out} holds predictions with another {', '.join(changed)}; use another --out, or --overwrite"
            )
    write_text(record, json.dumps(settings, indent=1) + "\n")


def _predict(run: _Run, batch: int) -> None:
    """All frames that are not there yet, with progress on stderr."""
    from rich.progress import Progress

    from poseren_ext.cli._console import console

    messages, writer, total = console(stderr=True), run.writer, len(run.frames)
    first = writer.done
    if first:
        messages.print(f"{writer.path}: {first} of {total} frames are there; continuing", markup=False, soft_wrap=True)
    began = time.perf_counter()
    try:
        with Progress(console=messages, disable=not messages.is_terminal) as progress:
            task = progress.add_task("predict", total=total, completed=first)
            for start in range(first, total, batch):
                run.write(start, min(start + batch, total))
                progress.update(task, completed=writer.done)
    except KeyboardInterrupt:
        text = f"interrupted: {writer.done} of {total} frames are in {writer.path}; run again to continue"
        messages.print(text, markup=False, soft_wrap=True)
        raise
    seconds = time.perf_counter() - began
    speed = f", {(total - first) / seconds:.1f} frames/s" if total > first else ""
    messages.print(f"{total} frames in {writer.path}{speed}", markup=False, soft_wrap=True)


@dataclass
class _Run:
    """What is predicted, with what, and where it goes; the first frame's size is everyone's."""

    estimator: Estimator
    frames: Sequence[FrameFile]
    given: dict[str, npt.NDArray[Any] | None]
    writer: PoseWriter
    size: tuple[int, ...] | None = None

    def write(self, start: int, stop: int) -> None:
        """Predict frames start to stop; where one is at fault, keep those before it and say which it is."""
        images, fault = self._read(start, stop)
        try:
            if images:
                self._append(images, slice(start, start + len(images)))
        except ValueError:
            for i, image in enumerate(images, start):
                try:
                    self._append([image], slice(i, i + 1))
                except ValueError as error:
                    raise self._at_fault(i, error) from error
        if fault is not None:
            raise fault

    def _append(self, images: list[npt.NDArray[Any]], part: slice) -> None:
        given = {name: None if value is None else value[part] for name, value in self.given.items()}
        uvd = self.estimator(images, init_pose=given["init_pose"], center=given["center"]).uvd
        self.writer.append(cast("npt.NDArray[Any]", uvd))  # numpy in, numpy out

    def _read(self, start: int, stop: int) -> tuple[list[npt.NDArray[Any]], Exception | None]:
        """The frames up to the first that cannot be read, and what is wrong with that one."""
        images: list[npt.NDArray[Any]] = []
        for i in range(start, stop):
            try:
                image = self.frames[i].read()
                self.size = self.size or image.shape
                if image.shape != self.size:
                    (h, w), (height, width) = image.shape, self.size
                    raise ValueError(f"{w}x{h} pixels, the frames before have {width}x{height}: one run, one camera")
            except (OSError, ValueError) as error:
                return images, self._at_fault(i, error)
            images.append(image)
        return images, None

    def _at_fault(self, i: int, error: Exception) -> ValueError:
        message = str(error).removeprefix(f"{self.frames[i].path}: ")
        kept = f"; the {i} frames before it are in {self.writer.path}" if i else ""
        return ValueError(f"{self.frames[i]}: {message}{kept}")
