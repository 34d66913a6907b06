# SPDX-License-Identifier: MIT
"""The experiments on datasets in their own format, with small networks of random weights."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from helpers.dataset_trees import (
    HANDS17_CAMERA,
    ICVL_CAMERA,
    NYU_CAMERA,
    hands17_tree,
    icvl_tree,
    msra_tree,
    nyu_tree,
    project,
)
from helpers.small_models import small_model

from poseren_ext.datasets.nyu import NYU
from poseren_ext.evaluation.labelled_frames import measure
from poseren_ext.evaluation.methods import InitPose, Refined
from poseren_ext.experiments.dataset import DatasetBench
from poseren_ext.geometry.camera import CAMERAS, uvd_to_xyz
from poseren_ext.io.pose_files import write_poses
from poseren_ext.models import PoseREN, save


@pytest.fixture(scope="module")
def nyu(tmp_path_factory):
    """A tree of NYU with 3 test frames: its folder, the joints in mm, the hands' centres."""
    root = tmp_path_factory.mktemp("nyu")
    xyz = nyu_tree(root, splits=("test",))["test"]
    centers = root / "centers.txt"
    write_poses(centers, project(xyz.mean(1, keepdims=True), NYU_CAMERA))
    return root, xyz, centers


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save(small_model("nyu14"), path)
    return path


@pytest.fixture
def run(tmp_path, poseren):
    return partial(poseren, "experiment", "--out", tmp_path / "results")


def _result(tmp_path, name):
    return json.loads((tmp_path / "results" / name / "result.json").read_text())


def test_errors_are_those_of_the_model_on_the_frames(nyu, weights, tmp_path, run):
    root, xyz, centers = nyu
    code, out, err = run("fig5", "--dataset", "nyu", "--root", root, "--weights", weights, "--centers", centers)
    assert (code, err) == (0, "")
    result = _result(tmp_path, "fig5")
    assert "recorded frames: NYU, test split, 3 frames, NOT the whole: 8252 frames were distributed" in result["source"]
    assert "centres from centers.txt; weights given: Pose-REN = small.safetensors" in result["source"]
    assert "synthetic" not in json.dumps(result)
    assert "not tested, there are no weights of REN-9x6x6" in out

    model = small_model("nyu14")
    frames = NYU(root, "test", centers=centers)
    for name, stages in (("Init-CNN", 0), ("Pose-REN", 3)):
        distances = []
        for number in range(3):
            sample = frames[number]
            batch = next(iter(DatasetBench("nyu", root, {"Pose-REN": weights}, centers=centers).test.batches()))
            uvd = Refined(InitPose(model), model, stages).estimate(batch)[number]
            assert torch.equal(batch.depth[number], sample.depth.float())
            found = uvd_to_xyz(uvd.double(), CAMERAS["nyu"]).numpy()
            distances.append(np.linalg.norm(found - xyz[number], axis=-1).mean())
        (given,) = result["systems"][name]
        assert given["frames"] == 3
        assert given["mean_3d"] == pytest.approx(np.mean(distances), abs=1e-3)  # labels are stored with 3 decimals


@pytest.mark.parametrize("name", ["table1", "fig9", "fig10", "fig11", "fig12", "fig13", "fig14", "table2"])
def test_every_experiment_runs_on_a_dataset(nyu, weights, tmp_path, run, name):
    root, _, centers = nyu
    options = ("--dataset", "nyu", "--root", root, "--weights", weights, "--centers", centers)
    code, out, err = run(name, *options, "--weights", f"w/o structure={weights}")
    assert (code, err) == (0, "")
    assert "recorded frames: NYU" in out
    folder = tmp_path / "results" / name
    assert {path.suffix for path in folder.iterdir()} == {".json", ".md", ".png"}
    if name == "table2":
        assert "Structure helps: does NOT appear (w/o structure minus Pose-REN: +0.000 mm)" in out
    if name == "fig11":
        assert "are simulated" in out


def test_predictions_of_others_as_a_start(nyu, weights, tmp_path, run):
    root, xyz, centers = nyu
    write_poses(tmp_path / "other.txt", project(xyz + 10, NYU_CAMERA))
    options = ("--dataset", "nyu", "--root", root, "--weights", weights, "--centers", centers)
    code, out, _ = run("fig11", *options, "--start", f"Other={tmp_path / 'other.txt'}")
    assert code == 0
    assert "Other from other.txt" in out
    systems = _result(tmp_path, "fig11")["systems"]
    assert list(systems) == ["Other", "Other, refined", "Init-CNN", "Init-CNN, refined"]
    assert systems["Other"][0]["mean_3d"] == pytest.approx(np.sqrt(300), abs=2e-3)
    assert systems["Other, refined"][0]["mean_3d"] != systems["Other"][0]["mean_3d"]


def test_a_hand_that_the_model_does_not_know_is_mirrored(tmp_path):
    """ICVL's are left hands, the model knows right ones: frames, labels and given poses are mirrored alike."""
    xyz = icvl_tree(tmp_path)
    path = tmp_path / "icvl.safetensors"
    left = small_model("icvl16")
    right = PoseREN.build(replace(left.config, hand="right"))
    right.load_state_dict(left.state_dict())
    save(right, path)
    truth = np.concatenate([xyz["Testing/test_seq_1.txt"], xyz["Testing/test_seq_2.txt"]])
    write_poses(tmp_path / "truth.txt", project(truth, ICVL_CAMERA))
    given = DatasetBench("icvl", tmp_path, {"Pose-REN": path}, starts={"truth": tmp_path / "truth.txt"})
    model = given.models(["Pose-REN"])["Pose-REN"]
    assert "mirrored to show right hands" in given.source()
    start = measure(given.test, "truth", given.initial(15.0)["truth"])
    assert start.frames == 5
    assert start.mean_3d < 2e-3
    assert measure(given.test, "Init-CNN", InitPose(model)).mean_3d > 1
    with pytest.raises(ValueError, match="no other initial poses for icvl"):
        DatasetBench("icvl", tmp_path, {"Pose-REN": path}).initial(15.0)


def test_msra_by_subject(tmp_path, run):
    msra_tree(tmp_path / "tree")
    save(small_model("msra21"), tmp_path / "msra.safetensors")
    options = ("--root", tmp_path / "tree", "--weights", tmp_path / "msra.safetensors", "--subject", 4)
    code, out, _ = run("fig8", "--dataset", "msra", *options)
    assert code == 0
    assert "MSRA, test split, subject P4, 17 frames" in out
    assert (tmp_path / "results" / "fig8" / "viewpoints.png").stat().st_size > 10_000


def test_hands17_has_labels_in_its_training_split_only(tmp_path, run):
    xyz = hands17_tree(tmp_path / "tree")
    save(small_model("hands17"), tmp_path / "hands17.safetensors")
    write_poses(tmp_path / "centers.txt", project(xyz.mean(1, keepdims=True), HANDS17_CAMERA))
    options = ("--dataset", "hands17", "--root", tmp_path / "tree", "--weights", tmp_path / "hands17.safetensors")
    code, _, err = run("fig10", *options)
    assert code == 1
    assert "3 of the 3 frames of hands17's test split have no labels" in err
    code, out, _ = run("fig10", *options, "--split", "train", "--centers", tmp_path / "centers.txt")
    assert code == 0
    assert "HANDS17, train split, 3 frames" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fig10", "--root", "ROOT", "--weights", "FILE"], "expected one of nyu"),
        (["fig10", "--dataset", "nyu", "--weights", "FILE"], "expected the folder of nyu"),
        (["fig6", "--dataset", "nyu", "--root", "ROOT", "--weights", "FILE"], "fig6 is of icvl"),
        (["fig10", "--dataset", "nyu", "--root", "ROOT"], "expected those of Pose-REN"),
        (["fig10", "--dataset", "nyu", "--root", "ROOT", "--weights", "mine=FILE"], "mine is no variant"),
        (["fig10", "--dataset", "nyu", "--root", "ROOT", "--weights", "FILE", "--weights", "FILE"], "given twice"),
        (["fig11", "--dataset", "nyu", "--root", "ROOT", "--weights", "FILE", "--start", "FILE"], "NAME=FILE"),
        (["fig10", "--dataset", "icvl", "--root", "ROOT", "--weights", "FILE"], "gives the joints of nyu14"),
        (["fig10", "--dataset", "nyu", "--data", "ROOT"], "choose one"),
        (["fig10", "--dataset", "nyu", "--root", "nowhere", "--weights", "FILE"], "no such file"),
    ],
)
def test_refusals(nyu, weights, run, arguments, message):
    root, _, _ = nyu
    code, out, err = run(*(text.replace("ROOT", str(root)).replace("FILE", str(weights)) for text in arguments))
    assert code != 0
    assert out == ""
    assert message in " ".join(err.replace("│", " ").split())
