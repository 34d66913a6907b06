# SPDX-License-Identifier: MIT
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from helpers.published_data import PUBLISHED, needs_published_data

from poseren_ext.cli import main
from poseren_ext.geometry.camera import CAMERAS, uvd_to_xyz
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
def run(files, capsys):
    """Run `poseren eval` on the labels: exit status, stdout, stderr."""

    def call(*arguments):
        with pytest.raises(SystemExit) as caught:
            main(["eval", "--gt", str(files / "gt.txt"), *map(str, arguments)])
        captured = capsys.readouterr()
        return caught.value.code, captured.out, captured.err

    return call


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


def test_json_to_stdout_is_json_alone(run, files):
    code, out, _ = run("--pred", files / "pred" / "far.txt", "--json", "-")
    assert code == 0
    assert json.loads(out)["systems"][0]["name"] == "far"


def test_frames(run, files):
    write_poses(files / "part.txt", FAR[3:7])
    for prediction in (files / "pred" / "far.txt", files / "part.txt"):
        assert run("--pred", prediction, "--frames", "3:7", "--json", files / "r.json")[0] == 0
        (result,) = systems(files / "r.json").values()
        assert result["frames"] == 4
    code, _, err = run("--pred", files / "part.txt")
    assert code == 1
    assert "part.txt: 4 lines; the labels have 12" in err
    assert err.count("\n") == 1
    assert run("--pred", files / "part.txt", "--frames", "3")[0] == 2
    assert "frames 3:70 asked for" in run("--pred", files / "part.txt", "--frames", "3:70")[2]


def test_foreign_conventions(run, files):
    xyz = uvd_to_xyz(CLOSE, CAMERAS["nyu"])[:, ::-1]
    write_poses(files / "xyz.txt", xyz * (1, -1, 1))
    order = ",".join(map(str, range(13, -1, -1)))
    right = ("--pred", files / "xyz.txt", "--format", "xyz", "--axes", "x,-y,z", "--order", order)
    assert run(*right, "--json", files / "a.json")[0] == 0
    assert run("--pred", files / "pred" / "close.txt", "--json", files / "b.json")[0] == 0
    foreign, own = systems(files / "a.json")["xyz"], systems(files / "b.json")["close"]
    assert foreign["mean_3d"] == pytest.approx(own["mean_3d"], abs=2e-3)
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
            "line 1: 39 values; expected 42",
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
        ((*pred, "--order", "1,2"), "every number from 0 to 13 once"),
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
def test_published_pose_ren(capsys):
    folder = PUBLISHED / "nyu"
    with pytest.raises(SystemExit) as caught:
        main(
            [
                *("eval", "--dataset", "nyu", "--gt", str(folder / "test_groundtruth_uvd.txt")),
                *("--pred", f"Pose-REN={folder / 'predictions' / 'Pose-REN.txt'}"),
            ]
        )
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert "11.811" in out
    assert "5.528" in out
