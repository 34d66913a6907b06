# SPDX-License-Identifier: MIT
import json
import re
import subprocess
import sys
from functools import partial
from xml.etree import ElementTree

import numpy as np
import pytest
from helpers.published_data import PUBLISHED, needs_published_data

from poseren_ext.geometry.camera import CAMERAS, uvd_to_xyz, xyz_to_uvd
from poseren_ext.io.pose_files import write_poses

RNG = np.random.default_rng(0)
LABELS = RNG.uniform((100, 80, 400), (540, 400, 900), (12, 14, 3)).round(3)
CLOSE, FAR = LABELS + np.array([0, 0, 3]), LABELS - np.array([0, 0, 12])


@pytest.fixture
def files(tmp_path):
    write_poses(tmp_path / "gt.txt", LABELS)
    (tmp_path / "pred").mkdir()
    write_poses(tmp_path / "pred" / "close.txt", CLOSE)
    write_poses(tmp_path / "pred" / "far.txt", FAR)
    return tmp_path


@pytest.fixture
def run(files, poseren):
    """Run `poseren eval` on the labels."""
    return partial(poseren, "eval", "--gt", files / "gt.txt")


def systems(file):
    return {one["name"]: one for one in json.loads(file.read_text())["systems"]}


def test_tables_and_files(run, files):
    code, out, err = run(
        *("--pred", files / "pred", "--pred", f"same={files / 'gt.txt'}", "--json", files / "r.json"),
        *("--markdown", files / "r.md", "--plot", files / "r.png"),
    )
    assert (code, err) == (0, "")
    assert out.index("far") < out.index("close") < out.index("same")  # the largest error first
    result = systems(files / "r.json")
    assert result["same"]["mean_3d"] == 0
    assert result["close"]["mean_3d"] > 3
    assert result["far"]["success_max"][10] == 0
    assert result["close"]["success_max"][10] == 100
    assert f"{result['far']['mean_3d']:.3f}" in out
    markdown = (files / "r.md").read_text()
    assert "| thumb root 1 |" in markdown
    assert f"{result['close']['mean_3d']:.3f}" in markdown
    assert (files / "r.png").stat().st_size > 10000


def test_tables_for_browsers_and_latex_hold_the_numbers_and_mark_the_best(run, files):
    hostile = "<script>a_b & 5%"
    given = ("--pred", f"{hostile}={files / 'pred' / 'close.txt'}", "--pred", files / "pred" / "far.txt")
    written = ("--html", files / "r.html", "--latex", files / "r.tex", "--json", files / "r.json")
    assert run(*given, *written)[0] == 0
    result = systems(files / "r.json")
    page = ElementTree.parse(files / "r.html")
    cells = [[cell.text for cell in row.iter() if cell.text] for row in page.iter("tr")]
    rows = {row[0]: row for row in cells}
    assert not list(page.iter("script"))
    for name in (hostile, "far"):
        assert float(rows[name][1]) == pytest.approx(result[name]["mean_3d"], abs=5e-4)
        assert float(rows[name][3]) == pytest.approx(result[name]["success_max"][10], abs=5e-4)
    bold = [cell.text for cell in page.iter("b")]
    assert (rows[hostile][1] in bold, rows[hostile][3] in bold, rows["far"][1] in bold) == (True, True, False)

    latex = (files / "r.tex").read_text()
    lines = [line.removesuffix(" \\\\").split(" & ") for line in latex.splitlines() if line.endswith("\\\\")]
    assert len({len(line) for line in lines[:3]}) == 1
    table = {line[0]: line for line in lines}
    assert table["far"][1] == rows["far"][1]
    escaped = r"<script>a\_b \& 5\%"
    (own,) = [line for line in latex.splitlines() if line.startswith(escaped)]
    assert own.removeprefix(escaped).split(" & ")[1] == rf"\textbf{{{rows[hostile][1]}}}"
    assert lines[0][3] == r"$\leq$ 10 mm (\%)"


def test_a_narrow_terminal_cuts_no_number(run, files, monkeypatch):
    """Tables are split where they are too wide, and every part says which system its numbers are of."""
    names = [f"system-{letter}" for letter in "abcdefg"]
    pred = [text for name in names for text in ("--pred", f"{name}={files / 'pred' / 'far.txt'}")]
    _, wide, _ = run(*pred)
    monkeypatch.setattr("poseren_ext.cli._console._WIDE", 60)
    code, narrow, _ = run(*pred)
    assert code == 0
    assert max(map(len, narrow.splitlines())) <= 60
    assert "…" not in narrow
    cells = [sorted(text for text in re.findall(r"\d+\.\d{2,3}", out)) for out in (wide, narrow)]
    assert cells[0] == cells[1]
    assert narrow.count("thumb root 1") > 1


@pytest.mark.parametrize("option", ["--json", "--markdown", "--html", "--latex", "--plot"])
def test_files_that_exist_are_not_replaced_unasked(run, files, option):
    mine = files / ("mine.png" if option == "--plot" else "mine.txt.json")
    mine.write_text("mine")
    code, _, err = run("--pred", files / "pred" / "far.txt", option, mine)
    assert (code, "exists; --overwrite replaces it" in err) == (1, True)
    assert mine.read_text() == "mine"
    assert run("--pred", files / "pred" / "far.txt", option, mine, "--overwrite")[0] == 0
    assert mine.read_bytes() != b"mine"


def test_json_to_stdout_is_json_alone(run, files):
    code, out, _ = run("--pred", files / "pred" / "far.txt", "--json", "-")
    assert code == 0
    assert json.loads(out)["systems"][0]["name"] == "far"


def test_frames(run, files):
    write_poses(files / "part.txt", FAR[3:7])
    for prediction in (files / "pred" / "far.txt", files / "part.txt"):
        assert run("--pred", prediction, "--frames", "3:7", "--json", files / "r.json", "--overwrite")[0] == 0
        (result,) = systems(files / "r.json").values()
        assert result["frames"] == 4
    code, _, err = run("--pred", files / "part.txt")
    assert code == 1
    assert "part.txt: 4 lines; the labels have 12" in err
    assert err.count("\n") == 1
    assert run("--pred", files / "part.txt", "--frames", "3")[0] == 2
    assert "frames 3:70 asked for" in run("--pred", files / "part.txt", "--frames", "3:70")[2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda poses: poses * (1, 1, 1e-3), "depths look like metres"),
        (lambda poses: poses * (1, 1, -1), "a joint has depth|depths are negative"),
    ],
)
def test_depths_are_checked_for_a_camera_without_a_size_too(run, files, change, message):
    write_poses(files / "wrong.txt", change(FAR))
    code, _, err = run("--pred", files / "wrong.txt", "--camera", "588.03,587.07,320,240")
    assert code == 1
    assert re.search(message, err)


@pytest.mark.parametrize("separator", [",", ";", ", "])
def test_another_separator_is_named(run, files, separator):
    (files / "c.txt").write_text((files / "pred" / "far.txt").read_text().replace(" ", separator))
    code, _, err = run("--pred", files / "c.txt")
    assert code == 1
    assert "separated by spaces" in err


def test_foreign_conventions(run, files):
    xyz = uvd_to_xyz(CLOSE, CAMERAS["nyu"])[:, ::-1]
    write_poses(files / "xyz.txt", xyz * (1, -1, 1))
    order = ",".join(map(str, range(13, -1, -1)))
    right = ("--pred", files / "xyz.txt", "--format", "xyz", "--axes", "x,-y,z", "--order", order)
    assert run(*right, "--json", files / "a.json")[0] == 0
    assert run("--pred", files / "pred" / "close.txt", "--json", files / "b.json")[0] == 0
    other, own = systems(files / "a.json")["xyz"], systems(files / "b.json")["close"]
    assert other["mean_3d"] == pytest.approx(own["mean_3d"], abs=2e-3)
    code, _, err = run("--pred", files / "xyz.txt")
    assert code == 1
    assert "they look like xyz in millimetres" in err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("\n", "\n\n", 1), "line 2: no values"),
        (lambda text: text.replace(text.split()[7], "nan", 1), "line 1, value 8: nan"),
        (
            lambda text: "\n".join(line.rsplit(" ", 3)[0] for line in text.splitlines()),
            "39 values are 13 joints, but --dataset nyu has 14",
        ),
        (lambda text: "", "empty"),
    ],
)
def test_bad_predictions(run, files, change, message):
    file = files / "pred" / "far.txt"
    file.write_text(change(file.read_text()))
    code, out, err = run("--pred", file, "--json", files / "r.json")
    assert (code, out) == (1, "")
    assert message in err
    assert err.startswith("poseren: error: ")
    assert not (files / "r.json").exists()


def change_text(path, change):
    """A copy of a prediction file with its text changed; `change` gives text or bytes."""
    made = change(path.read_text())
    copy = path.with_name(f"changed-{path.name}")
    copy.write_bytes(made if isinstance(made, bytes) else made.encode())
    return copy


def named(text, name):
    return "".join(f"{name(i)} {line}\n" for i, line in enumerate(text.splitlines()))


@pytest.mark.parametrize(
    ("change", "options"),
    [
        (lambda text: b"\xef\xbb\xbf" + text.encode(), ()),
        (lambda text: text.encode("utf-16"), ()),
        (lambda text: b"\xfe\xff" + text.encode("utf-16-be"), ()),
        (lambda text: text.encode("utf-16-le"), ()),
        (lambda text: text.encode("utf-32"), ()),
        (lambda text: text.replace("\n", "\r\n"), ()),
        (lambda text: text.replace(" ", "\t"), ()),
        (lambda text: text + "\n \n\n", ()),
        (lambda text: text.rstrip("\n"), ()),
        (lambda text: named(text, "frame_{:06d}.png".format), ()),
        (lambda text: named(text, "test_seq_1/image_{:04d}.png".format), ("--columns", "1:")),
        (lambda text: named(text, str), ("--columns", "1:")),
        (lambda text: "".join(f"{line} 0.9 seen\n" for line in text.splitlines()), ("--columns", ":42")),
        (lambda text: named(text, lambda i: f"{i} a.png"), ("--columns", "2:44")),
    ],
)
def test_foreign_text_files_give_the_same_numbers(run, files, change, options):
    file = change_text(files / "pred" / "far.txt", change)
    code, _, err = run("--pred", f"far={file}", *options, "--json", files / "a.json")
    assert (code, err) == (0, "")
    run("--pred", files / "pred" / "far.txt", "--json", files / "b.json")
    assert systems(files / "a.json") == systems(files / "b.json")


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    ("shape", "options"),
    [
        (lambda poses: {"uvd": poses}, ()),
        (lambda poses: {"uvd": poses[None]}, ()),
        (lambda poses: {"uvd": poses.reshape(len(poses), -1)}, ()),
        (lambda poses: {"uvd": poses.transpose(1, 2, 0)}, ()),
        (lambda poses: {"uvd": poses, "other": np.zeros(3)}, ("--key", "uvd")),
    ],
)
def test_matlab_results(run, files, shape, options, dtype):
    scipy_io = pytest.importorskip("scipy.io")
    scipy_io.savemat(files / "r.mat", {k: v.astype(dtype) for k, v in shape(FAR).items()})
    code, _, err = run("--pred", f"far={files / 'r.mat'}", *options, "--json", files / "a.json")
    assert (code, err) == (0, "")
    run("--pred", files / "pred" / "far.txt", "--json", files / "b.json")
    ours, own = systems(files / "a.json")["far"], systems(files / "b.json")["far"]
    assert ours["mean_3d"] == pytest.approx(own["mean_3d"], abs=1e-3)


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (
            lambda io, path: io.savemat(path, {"a": FAR, "b": FAR}),
            (),
            "several arrays; the file holds a [12, 14, 3], b",
        ),
        (lambda io, path: io.savemat(path, {"a": FAR}), ("--key", "z"), "no array of numbers named 'z'"),
        (lambda io, path: io.savemat(path, {"a": np.zeros((2, 5))}), (), "a has shape [2, 5]; expected"),
        (lambda io, path: io.savemat(path, {"a": FAR * np.nan}), (), "frame 0 holds NaN"),
        (
            lambda io, path: io.savemat(path, {"a": FAR[:, :12]}),
            (),
            "36 values are 12 joints, but --dataset nyu has 14",
        ),
        (lambda io, path: path.write_bytes(b"MATLAB 7.3 MAT-file" + bytes(600)), (), "MATLAB 7.3 file (HDF5)"),
        (lambda io, path: path.write_bytes(bytes(512) + b"\x89HDF\r\n\x1a\n"), (), "save(..., '-v7')"),
        (lambda io, path: path.write_bytes(b"MATLAB 5.0 MAT-file" + bytes(30)), (), "not a readable MATLAB file"),
        (lambda io, path: io.savemat(path, {"a": FAR * (1, 1, 0)}), (), "look like metres"),
        (lambda io, path: io.savemat(path, {"a": np.where(FAR > 880, 0, FAR)}), (), "a joint has depth 0"),
    ],
)
def test_matlab_faults(run, files, content, options, message):
    scipy_io = pytest.importorskip("scipy.io")
    content(scipy_io, files / "r.mat")
    code, out, err = run("--pred", files / "r.mat", *options)
    assert (code, out) == (1, "")
    assert message in err
    assert "r.mat" in err


@pytest.mark.parametrize(("line", "values"), [(1, "0 " * 42), (3, "0 " * 42), (12, "5 5 0 " + "1 2 500 " * 13)])
def test_predictions_without_depth_are_named_by_line(run, files, line, values):
    lines = (files / "pred" / "far.txt").read_text().splitlines()
    lines[line - 1] = values
    (files / "zero.txt").write_text("\n".join(lines))
    code, _, err = run("--pred", files / "zero.txt", "--pred", files / "pred" / "close.txt")
    assert code == 1
    assert f"zero.txt, line {line}: a joint has depth 0" in err
    assert "1 of 12 frames" in err


@pytest.mark.parametrize(
    ("dataset", "joints", "meant"), [("nyu", 21, "msra or hands17"), ("nyu", 16, "icvl"), ("MSRA", 14, "nyu")]
)
def test_another_dataset_is_suggested(run, files, dataset, joints, meant):
    poses = RNG.uniform((100, 80, 400), (200, 200, 900), (3, joints, 3))
    write_poses(files / "gt.txt", poses)
    code, _, err = run("--dataset", dataset, "--pred", files / "pred" / "far.txt")
    assert code == 1
    assert f"Did you mean --dataset {meant}?" in err


def test_a_numbered_first_column_is_suspected(run, files):
    file = change_text(files / "pred" / "far.txt", lambda text: named(text, str))
    assert "skip it: --columns 1:" in run("--pred", file)[2]


@pytest.mark.parametrize("order", ["13,12,11,10,9,8,7,6,5,4,3,2,1,0", "6,7,8,9,10,11,12,13,3,4,5,1,2,0"])
def test_another_joint_order_is_suggested(run, files, order):
    permutation = [int(part) for part in order.split(",")]
    stored = np.empty_like(CLOSE)
    stored[:, permutation] = CLOSE
    write_poses(files / "order.txt", stored)
    code, _, err = run("--pred", files / "order.txt")
    assert code == 0
    assert "WARNING" in err
    assert f"with --order {order}" in err
    assert run("--pred", files / "order.txt", "--order", order)[2] == ""


@pytest.mark.parametrize("shift", [20, 45])
@pytest.mark.parametrize("wrong", ["x,-y,z", "-x,y,z", "-x,-y,z"])
def test_the_sign_of_an_axis_is_suggested(run, files, shift, wrong):
    # A hand near the optical axis: a wrong sign moves it only a little.
    xyz = RNG.uniform(-shift, shift, (12, 14, 3)) + np.array([0, 0, 500])

    write_poses(files / "gt.txt", xyz_to_uvd(xyz, CAMERAS["nyu"]))
    write_poses(files / "xyz.txt", xyz + 1)
    code, _, err = run("--pred", files / "xyz.txt", "--format", "xyz", "--axes", wrong)
    assert "--format xyz --axes x,y,z" in err or "--format uvd" in err
    assert code == (0 if "WARNING" in err else 1)


def test_joints_are_chosen_from_more(run, files):
    more = np.repeat(CLOSE, 2, 1)
    write_poses(files / "more.txt", more)
    assert "name its joints in the file with --order" in run("--pred", files / "more.txt")[2]
    code, _, err = run("--pred", files / "more.txt", "--order", ",".join(str(2 * j) for j in range(14)))
    assert (code, err) == (0, "")
    code, _, err = run("--pred", files / "more.txt", "--order", ",".join(str(3 * j) for j in range(14)))
    assert (code, "--order names joint 39" in err) == (1, True)


def test_an_equals_sign_in_a_path_is_part_of_it(run, files):
    folder = files / "lr=0.01"
    folder.mkdir()
    (folder / "p.txt").write_text((files / "pred" / "far.txt").read_text())
    code, out, _ = run("--pred", folder / "p.txt", "--pred", f"ours={folder / 'p.txt'}")
    assert code == 0
    assert " p " in out
    assert " ours " in out


def test_wrong_usage(run, files):
    pred = ("--pred", files / "pred" / "far.txt")
    for wrong in (("--dataset", "coco"), ("--format", "abc"), ("--frames", "a:b"), ("--unknown",)):
        code, out, err = run(*pred, *wrong)
        assert (code, out) == (2, ""), wrong
        assert wrong[0] in err
    assert run()[0] == 2  # no prediction
    for wrong, message in (
        (("--pred", files / "nothing.txt"), "no such file"),
        ((*pred, *pred), "two predictions are called 'far'"),
        ((*pred, "--order", "1,2"), "14 different indices"),
        ((*pred, "--axes", "1,2", "--format", "xyz"), "expected x, y and z"),
        ((*pred, "--camera", "0,1,2,3"), "fx"),
        ((*pred, "--json", files / "no" / "r.json"), "there is no folder"),
        ((*pred, "--plot", files / "r.txt"), ".png"),
    ):
        code, _, err = run(*wrong)
        assert code == 1, wrong
        assert message in err
        assert err.count("\n") == 1


def test_commands_import_what_they_need_when_they_run():
    code = (
        "import poseren_ext, sys; before = set(sys.modules); import poseren_ext.cli; print(*set(sys.modules) - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    imported = {name.split(".")[0] for name in done.stdout.split()}
    assert not imported & {"torch", "torchmetrics", "cv2", "matplotlib", "numpy", "scipy", "safetensors"}


@needs_published_data
def test_published_pose_ren(poseren):
    folder = PUBLISHED / "nyu"
    pred = ("--pred", f"Pose-REN={folder / 'predictions' / 'Pose-REN.txt'}")
    code, out, _ = poseren("eval", "--dataset", "nyu", "--gt", folder / "test_groundtruth_uvd.txt", *pred)
    assert code == 0
    assert "11.811" in out
    assert "5.528" in out
