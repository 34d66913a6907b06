# SPDX-License-Identifier: MIT
"""`poseren eval`: label and prediction files in, the paper's tables and figures out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from poseren_ext.cli._evaluate_hands import HANDS, evaluate_hand_files
from poseren_ext.cli.options import CAMERA_HELP, Dataset, Overwrite, Space, check_outputs

if TYPE_CHECKING:
    from rich.table import Table

    from poseren_ext.datasets.info import DatasetInfo
    from poseren_ext.evaluation.metrics import Evaluation
    from poseren_ext.geometry.camera import Camera
    from poseren_ext.geometry.skeleton import Skeleton
    from poseren_ext.io.pose_conventions import AxesConvention
    from poseren_ext.io.pose_files import Poses


@dataclass(frozen=True)
class _Reading:
    """How prediction files are read."""

    file_format: Space
    axes: str
    order: str | None
    columns: slice | None
    key: str | None
    select: slice | None


def evaluate_command(
    gt: Annotated[
        Path,
        typer.Option(
            "--gt",
            help="Label file: one line u v d of every joint per frame; a folder of your own frames; or a .csv file "
            "with any number of hands per frame.",
        ),
    ],
    pred: Annotated[
        list[str],
        typer.Option(
            "--pred",
            help="NAME=FILE, FILE (what predict writes: .txt, .csv, .json, .npz, .parquet; or .mat), or a folder of "
            "such files; repeat for more systems.",
        ),
    ],
    dataset: Annotated[
        Dataset, typer.Option("--dataset", case_sensitive=False, help="Whose camera and joints the files have.")
    ] = "nyu",
    camera: Annotated[
        str | None, typer.Option("--camera", help=f"{CAMERA_HELP} Default: the dataset's.", show_default=False)
    ] = None,
    frames: Annotated[
        str | None,
        typer.Option("--frames", help="Labelled frames to compare, A:B counted from 0; files may hold just them."),
    ] = None,
    file_format: Annotated[
        Space, typer.Option("--format", case_sensitive=False, help="uvd in pixels and mm, or xyz in mm.")
    ] = "uvd",
    axes: Annotated[
        str,
        typer.Option("--axes", help="With --format xyz: mapping to camera axes (+x right, +y down, +z forward)."),
    ] = "x,y,z",
    order: Annotated[
        str | None, typer.Option("--order", help="For each of the dataset's joints, its index in the files: i,j,...")
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option("--columns", help="Columns of text files to read, A:B counted from 0; 1: skips the first."),
    ] = None,
    key: Annotated[str | None, typer.Option("--key", help="Name of the array in .mat files.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all numbers; - for stdout.")] = None,
    markdown: Annotated[Path | None, typer.Option("--markdown", help="Write the tables as Markdown.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write the tables as a page for browsers.")] = None,
    latex: Annotated[
        Path | None, typer.Option("--latex", help="Write the tables for LaTeX (package booktabs), the best in bold.")
    ] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Write curves and bars: .png, .pdf or .svg.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Measure predictions against labels: mean 3D and 2D error, success rates, every joint.

    With labels in a .csv file (what render --scenes writes), every frame has any number of hands: predicted hands (what
    predict --max-hands 2 writes) are paired with labelled ones, and missed hands and false detections are counted.

    [bold]Examples[/bold]

    poseren eval --dataset nyu --gt labels.txt --pred Pose-REN=Pose-REN.txt

    poseren eval --dataset msra --gt labels.txt --pred demo=joints.csv --pred mine=joints.json

    poseren eval --dataset icvl --gt labels.txt --pred predictions/ --plot icvl.png --json icvl.json --latex icvl.tex

    poseren eval --dataset msra --gt labels.txt --pred mine=xyz.txt --format xyz --axes x,-y,-z

    poseren eval --gt scenes/hands.csv --pred predicted.csv
    """
    from poseren_ext._utils.atomic_files import write_atomic
    from poseren_ext.cli._comparison import compare, to_html, to_latex, to_markdown
    from poseren_ext.cli._console import console
    from poseren_ext.datasets.registry import dataset_info, open_dataset

    if plot is not None:
        from poseren_ext.plotting import check_path

        check_path(plot)
    by_viewpoint = None if plot is None else plot.with_stem(f"{plot.stem}-viewpoints")
    check_outputs(json_file, markdown, html, latex, plot, by_viewpoint, overwrite=overwrite)
    hands = gt / HANDS if (gt / HANDS).is_file() else gt
    if hands.suffix.lower() == ".csv":
        for option, given in (("--plot", plot), ("--html", html), ("--latex", latex)):
            if given is not None:
                raise typer.BadParameter("not for labels in a .csv file", param_hint=option)
        evaluate_hand_files(hands, _systems(pred), _camera_of(hands, camera, dataset), json_file, markdown)
        return
    if gt.is_dir():
        own = open_dataset(gt, "folder")
        info, gt = own.info, own.labels
    elif dataset == "folder":
        raise typer.BadParameter("folder; expected a folder with a camera file and labels", param_hint="--gt")
    else:
        info = dataset_info(dataset)
    reading = _Reading(file_format, axes, order, _slice(columns, "--columns"), key, _slice(frames, "--frames"))
    results = _results(gt, pred, info, camera, reading)
    skeleton = info.skeleton
    tables = compare(info.name, results, skeleton)
    text = json.dumps({"dataset": info.name, "labels": str(gt), "systems": [asdict(one) for one in results]}, indent=1)
    if json_file == Path("-"):
        print(text)
    else:
        out = console()
        for table, best in zip(tables, (len(results) - 1, len(skeleton.joints)), strict=True):
            for part in _tables(table.title, table.columns, table.rows, best=best, width=out.width):
                out.print(part)
        if json_file is not None:
            write_atomic(json_file, text + "\n")
    for path, write in ((markdown, to_markdown), (html, to_html), (latex, to_latex)):
        if path is not None:
            write_atomic(path, write(tables))
    if plot is not None:
        _plot(plot, info.name, results, skeleton)


def _camera_of(labels: Path, camera: str | None, dataset: Dataset) -> Camera:
    """Intrinsics of labelled hands: as given, of the camera file next to them, or the dataset's."""
    from poseren_ext.cli._option_values import parse_camera
    from poseren_ext.datasets.folder import has_settings, read_settings
    from poseren_ext.datasets.registry import dataset_info

    if camera is not None:
        return parse_camera(camera)
    if has_settings(labels.parent):
        return read_settings(labels.parent)[0].camera
    return dataset_info(dataset).camera


def _results(
    gt: Path, pred: Sequence[str], info: DatasetInfo, camera_text: str | None, reading: _Reading
) -> list[Evaluation]:
    """Every system's errors, the largest first, as in the paper's legends."""
    from poseren_ext.cli._option_values import parse_camera
    from poseren_ext.evaluation.metrics import evaluate
    from poseren_ext.io.joint_tables import JointNamesError, read_frame_poses, tells_its_joints
    from poseren_ext.io.pose_conventions import AxesConvention, parse_order
    from poseren_ext.io.pose_files import JointCountError, read_poses, require_uvd

    skeleton, select = info.skeleton, reading.select
    joints = len(skeleton.joints)
    camera = parse_camera(camera_text) if camera_text else info.camera
    convention = AxesConvention.parse(reading.axes)
    permutation = parse_order(reading.order, joints) if reading.order else None
    try:
        every = read_poses(gt, joints=joints, in_front=True)
        require_uvd(gt, every, camera.width, camera.height)
        labels = every if select is None else read_poses(gt, joints=joints, select=select)
        results = []
        for name, file in _systems(pred).items():
            if file.is_file() and tells_its_joints(file):
                poses = read_frame_poses(file, skeleton.joints, camera, frames=len(every), select=select)
                require_uvd(file, poses, camera.width, camera.height)
            else:
                poses = _as_told(file, reading, convention, permutation, camera, labels, len(every))
            results.append(evaluate(poses, labels, camera, skeleton=skeleton, name=name, viewpoint=info.by_viewpoint))
    except JointCountError as error:
        raise ValueError(f"{error}. {_joints_hint(error.found, info)}") from None
    except JointNamesError as error:
        raise ValueError(f"{error}. {_names_hint(error.names, info)}") from None
    return sorted(results, key=lambda one: -one.mean_3d)


def _as_told(
    file: Path,
    reading: _Reading,
    convention: AxesConvention,
    permutation: Sequence[int] | None,
    camera: Camera,
    labels: Poses,
    frames: int,
) -> Poses:
    """u, v, d of a file of numbers alone, read as the options tell."""
    from poseren_ext.cli._console import console
    from poseren_ext.io.pose_conventions import reorder, require_plausible, suggest_options, xyz_file_to_uvd
    from poseren_ext.io.pose_files import read_poses, require_uvd

    uvd = reading.file_format == "uvd"
    stored = read_poses(
        file,
        joints=labels.shape[1] if permutation is None else None,
        frames=frames,
        select=reading.select,
        columns=reading.columns,
        key=reading.key,
        in_front=uvd,
    )
    stored = stored if permutation is None else reorder(file, stored, permutation)
    poses = stored if uvd else xyz_file_to_uvd(file, stored, camera, convention)
    if uvd:
        require_uvd(file, poses, camera.width, camera.height)
    require_plausible(file, stored, poses, labels, camera)
    better = suggest_options(stored, poses, labels, camera, file_format=reading.file_format, axes=reading.axes)
    if better:
        console(stderr=True).print(f"WARNING: {file}: {better}", markup=False, soft_wrap=True)
    return poses


def _joints_hint(found: int, info: DatasetInfo) -> str:
    """The likely mistake behind files with another number of joints."""
    from poseren_ext.datasets.registry import DATASETS

    fitting = [name for name, reader in DATASETS.items() if reader.info.skeleton.num_joints == found]
    text = f"{3 * found} values are {found} joints, but --dataset {info.name} has {info.skeleton.num_joints}"
    if fitting:
        return f"{text}. Did you mean --dataset {' or '.join(fitting)}?"
    if found > info.skeleton.num_joints:
        return f"{text}; name its joints in the file with --order"
    return text


def _names_hint(names: Sequence[str], info: DatasetInfo) -> str:
    """The likely mistake behind files without some of the dataset's joints."""
    from poseren_ext.datasets.registry import DATASETS
    from poseren_ext.geometry.joint_orders import anatomy

    fitting = [name for name, reader in DATASETS.items() if set(anatomy(reader.info.skeleton)) <= set(names)]
    text = f"--dataset {info.name} has the joints of {info.skeleton.name}"
    return f"{text}. Did you mean --dataset {' or '.join(fitting)}?" if fitting else text


def _slice(text: str | None, option: str) -> slice | None:
    if text is None:
        return None
    first, colon, last = text.partition(":")
    if not colon or not all(part == "" or part.isdecimal() for part in (first, last)):
        raise typer.BadParameter(f"{text!r}; expected A:B, e.g. 0:2440", param_hint=option)
    return slice(int(first or 0), int(last) if last else None)


def _systems(pred: Sequence[str]) -> dict[str, Path]:
    """Names and files of --pred: NAME=FILE, FILE (named after itself), or a folder of files."""
    found: dict[str, Path] = {}
    for text in pred:
        name, equals, file = text.partition("=")
        if Path(text).exists() or ("/" in name and not Path(file).exists()):  # a path may hold = itself
            name, equals, file = "", "", text
        path = Path(file if equals else text)
        if path.is_dir():
            files = [(one.stem, one) for one in sorted(path.iterdir()) if _is_prediction(one)]
            if not files:
                raise FileNotFoundError(
                    f"{path}: no file of predictions in this folder (.txt, .mat, .csv, .json, .npz, .parquet)"
                )
        else:
            files = [(name if equals else path.stem, path)]
        for own, one in files:
            if own in found:
                raise ValueError(f"two predictions are called {own!r}: give them names with --pred NAME={one}")
            found[own] = one
    return found


def _is_prediction(path: Path) -> bool:
    """Whether a file in a folder of predictions is one, and not hidden or a record or table beside them."""
    from poseren_ext.io.joint_tables import is_joint_table

    if path.name.startswith(".") or not path.is_file():
        return False
    return path.suffix.lower() in (".txt", ".mat") or is_joint_table(path)


def _tables(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, best: int, width: int
) -> Iterator[Table]:
    """A table, in parts that repeat its first column where the terminal is narrower: no number is cut."""
    from poseren_ext.cli._console import table

    # A cell has a space on both sides and a line.
    first, *others = [3 + max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    start = 0
    while start < len(others):
        stop = start + 1
        while stop < len(others) and 1 + first + sum(others[start : stop + 1]) <= width:
            stop += 1
        chosen = [0, *range(start + 1, stop + 1)]
        part = [[row[column] for column in chosen] for row in rows]
        yield table(title if start == 0 else None, [columns[column] for column in chosen], part, best=best)
        start = stop


def _plot(path: Path, dataset: str, results: Sequence[Evaluation], skeleton: Skeleton) -> None:
    from poseren_ext.plotting import plot_comparison, plot_viewpoints, save

    title = f"{dataset.upper()}, {results[0].frames} frames"
    save(plot_comparison(results, skeleton=skeleton, title=title), path)
    if results[0].viewpoint is not None:
        save(plot_viewpoints(results, title=title), path.with_stem(f"{path.stem}-viewpoints"))
