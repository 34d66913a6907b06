# SPDX-License-Identifier: MIT
import json
import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from helpers.published_data import PUBLISHED, needs_published_data

from poseren_ext.datasets.sample import FrameBatch
from poseren_ext.experiments import NAMES, figures, published
from poseren_ext.experiments.bench import SyntheticBench
from poseren_ext.experiments.report import Difference, Report, Table
from poseren_ext.experiments.simulated_methods import NYU_INIT_ERROR, NYU_JOINT_ERRORS, NoisyPoses
from poseren_ext.experiments.synthetic import NARROW_RATIO, PAPER_RATIO, SCALES, VARIANTS, Scale, same_weights
from poseren_ext.geometry.camera import CAMERAS, uvd_to_xyz, xyz_to_uvd
from poseren_ext.geometry.skeleton import SKELETONS
from poseren_ext.io.pose_files import write_poses
from poseren_ext.models import RegionEnsemble

NYU = SKELETONS["nyu14"]
MICRO = Scale("micro", 2, 2, 8, (4, 4, 8), 8, (8, 8), 16, 2, 8, 2)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """All experiments share one folder of models, as on the command line."""
    return SyntheticBench(MICRO, tmp_path_factory.mktemp("models"), lambda what, step, steps: None)


def test_every_experiment_has_a_way_to_run():
    assert set(figures.EXPERIMENTS) == set(NAMES)
    assert set(published.EXPERIMENTS) <= set(NAMES)


@pytest.mark.parametrize("name", ["fig9", "table2"])
def test_variants_are_compared(bench, tmp_path, name):
    report = figures.EXPERIMENTS[name](bench)
    systems = {
        "fig9": ("REN-4x6x6", "guided-4x6x6", "REN-9x6x6", "guided-9x6x6"),
        "table2": ("w/o structure", "Pose-REN", "w/o structure, narrow", "Pose-REN, narrow"),
    }
    assert set(report.data["systems"]) == {"Init-CNN", *systems[name]}
    for seeds in report.data["systems"].values():
        assert len(seeds) == 2
        assert all(math.isfinite(one["mean_3d"]) and one["frames"] == 8 for one in seeds)
    assert any("seed by seed" in note for note in report.notes)
    folder = report.write(tmp_path)
    assert (folder / "comparison.png").stat().st_size > 10_000
    assert json.loads((folder / "result.json").read_text())["systems"] == json.loads(json.dumps(report.data["systems"]))
    page = (folder / "README.md").read_text()
    assert "synthetic hands (nyu14), scale micro" in page
    assert "![comparison](comparison.png)" in page
    assert "±" in page


@pytest.mark.parametrize("name", ["fig10", "fig12"])
def test_iterations(bench, name):
    report = figures.EXPERIMENTS[name](bench)
    for seeds in report.data["error_mm"].values():
        assert [len(curve) for curve in seeds] == [11, 11]
    assert len(report.tables[0].rows) == 11
    assert report.notes


def test_simulated_initial_poses(bench):
    report = figures.fig11(bench)
    for name in (*NYU_JOINT_ERRORS, "Init-CNN"):
        assert f"{name}, refined" in report.data["systems"]
    (start, _) = report.data["systems"]["DeepPrior"]
    assert start["mean_3d"] == pytest.approx(20.75, rel=0.15)  # eight frames
    assert any("simulated" in note for note in report.notes)
    assert any(note.startswith("A better start ends better:") for note in report.notes)
    for start, scaled, init in zip(
        *(report.data["systems"][name] for name in ("DeepPrior", "DeepPrior, scaled", "Init-CNN")), strict=True
    ):
        factor = init["mean_3d"] / NYU_INIT_ERROR
        assert scaled["mean_3d"] == pytest.approx(factor * start["mean_3d"], rel=1e-3)


def test_pictures_of_hands(bench, tmp_path):
    for name, stem in (("fig13", "stages"), ("fig14", "qualitative")):
        report = figures.EXPERIMENTS[name](bench)
        assert (report.write(tmp_path) / f"{stem}.png").stat().st_size > 50_000


def test_models_are_trained_once(bench):
    trained = []
    again = SyntheticBench(MICRO, bench.folder, lambda what, step, steps: trained.append(what))
    training = again.trainings()[0]
    training.models(["Pose-REN"])
    assert not trained
    assert {path.stem for path in training.folder.iterdir()} >= {"Init-CNN", "Pose-REN", "wo-structure", "REN-4x6x6"}


def test_scales_and_variants(bench):
    assert list(SCALES) == ["tiny", "small", "full"]
    training = replace(bench, scale=SCALES["small"]).trainings()[0]
    heads = {name: training.config(variant).model().refine for name, variant in VARIANTS.items()}
    assert {head.num_joints for head in heads.values()} == {14}
    paper = {one: RegionEnsemble(heads[one]) for one in ("Pose-REN", "w/o structure")}
    size = {one: sum(p.numel() for p in head.parameters()) for one, head in paper.items()}
    assert size["w/o structure"] == pytest.approx(size["Pose-REN"], rel=0.03)
    assert same_weights(NYU, (2048, 2048), 64)[0] == pytest.approx(2304, rel=0.02)  # the paper's choice


def test_noise_has_the_published_errors():
    errors = NYU_JOINT_ERRORS["DeepPrior"]
    count, camera = 3000, CAMERAS["nyu"]
    truth = xyz_to_uvd(torch.randn(count, 14, 3) * 40 + torch.tensor([0.0, 0.0, 700.0]), camera)
    cameras = camera.tensor().expand(count, 4)
    noisy = NoisyPoses(truth, cameras, errors, seed=5)
    everything = FrameBatch(torch.zeros(count, 1, 1), cameras, truth[:, 0], truth, torch.arange(count))
    uvd = noisy.estimate(everything)
    apart = (uvd_to_xyz(uvd, camera) - uvd_to_xyz(truth, camera)).norm(dim=-1).mean(0)
    torch.testing.assert_close(apart, torch.tensor(errors), rtol=0.05, atol=0)
    torch.testing.assert_close(noisy.estimate(everything[torch.tensor([7, 2999, 0])]), uvd[[7, 2999, 0]])


@pytest.mark.parametrize(
    ("values", "half", "verdict"),
    [
        ([1.0], math.inf, "appears"),
        ([-1.0], math.inf, "does NOT appear"),
        ([1.0, 1.2, 0.8], 0.4968, "appears with every seed"),
        ([1.0, -0.1, 1.1, 1.2, 0.9, 1.0, 1.1, 1.0], 0.3453, "appears"),
        ([1.0, -1.0], 12.706, "is not decided by these seeds"),
        ([-1.0, -1.1, -0.9, -1.0], 0.1299, "does NOT appear"),
        ([0.0] * 30, 0.0, "is not decided by these seeds"),
    ],
)
def test_a_paired_difference_has_a_confidence_interval(values, half, verdict):
    difference = Difference(values)
    assert difference.half_width == pytest.approx(half, abs=1e-3)  # by hand: t * s / sqrt(n)
    assert difference.verdict == verdict


def test_the_ratio_of_finger_to_region_weights():
    for scale in SCALES.values():
        for ratio in (PAPER_RATIO, NARROW_RATIO):
            region, finger = scale.widths(ratio)
            weights = 5 * 3 * region * finger / (11 * 7 * 7 * scale.channels[2] * region)
            assert weights == pytest.approx(ratio, rel=0.03)
    assert SCALES["full"].widths() == (2048, 2048)


def test_report_as_markdown():
    report = Report("x", "Title", "some data", notes=["a note"], tables=[Table("T", ["a", "b"], [["1", "2"]])])
    assert report.markdown() == "# Title\n\nData: some data\n\nT\n\n| a | b |\n| :-- | --: |\n| 1 | 2 |\n\n- a note\n"


@pytest.fixture
def run(tmp_path, poseren):
    return partial(poseren, "experiment", "--out", tmp_path / "results")


def test_bad_input(run, tmp_path):
    assert run("fig99")[0] == 2
    assert run("fig9", "--scale", "huge")[0] == 2
    for name in ("table1", "fig7", "table2"):
        code, out, err = run(name, "--data", tmp_path)
        assert (code, out) == (1, "")
        assert "leave --data out" in err
    assert "final poses" in run("fig10", "--data", tmp_path)[2]
    assert "expected" in run("fig14", "--data", tmp_path)[2]


def test_msra_files_of_ones_own(run, tmp_path):
    folder = tmp_path / "data" / "msra"
    (folder / "predictions").mkdir(parents=True)
    torch.manual_seed(0)
    labels = xyz_to_uvd(torch.randn(40, 21, 3).double() * 40 + torch.tensor([0, 0, 400.0]), CAMERAS["msra"]).numpy()
    write_poses(folder / "test_groundtruth_uvd.txt", labels)
    write_poses(folder / "predictions" / "Pose-REN.txt", labels + 1)
    for name, stem in (("fig7", "comparison"), ("fig8", "viewpoints")):
        code, out, _ = run(name, "--data", tmp_path / "data")
        assert code == 0
        assert "MSRA (40 frames)" in out
        assert (tmp_path / "results" / name / f"{stem}.png").exists()


@needs_published_data
def test_table_1_on_published_predictions(run, tmp_path):
    code, out, err = run("table1", "--data", PUBLISHED)
    assert (code, err) == (0, "")
    for row in (
        ("Pose-REN", "11.81", "11.8109", "5.53", "5.5279"),
        ("Mask R-CNN", "27.61", "no file", "8.25", "no file"),
    ):
        line = next(line for line in out.splitlines() if row[0] in line)
        assert [cell.strip() for cell in line.strip("│").split("│")] == list(row)
    assert "DeepModel: its published predictions give 17.04 mm, the paper prints 16.90 mm" in out
    assert "No prediction file is published for Mask R-CNN, JTSC, Madadi et al." in out
    assert len(json.loads((tmp_path / "results" / "table1" / "result.json").read_text())["systems"]) == 9


@needs_published_data
@pytest.mark.parametrize("name", ["fig5", "fig6", "fig9", "fig11", "table2"])
def test_other_experiments_on_published_predictions(run, name):
    code, out, err = run(name, "--data", PUBLISHED)
    assert (code, err) == (0, "")
    assert ("6.791" if name == "fig6" else "11.811") in out


@needs_published_data
def test_published_predictions_on_the_recorded_frame(run, tmp_path):
    for name, stem in (("fig13", "stages"), ("fig14", "qualitative")):
        code, out, err = run(name, "--data", PUBLISHED)
        assert (code, err) == (0, "")
        assert "depth_1_0000001.png" in out
        assert (tmp_path / "results" / name / f"{stem}.png").stat().st_size > 10_000
    result = json.loads((tmp_path / "results" / "fig13" / "result.json").read_text())
    assert result["error_mm"]["Pose-REN"] == [pytest.approx(6.41, abs=0.005)]
    code, _, err = run("fig13", "--data", _without_frames(tmp_path), "--overwrite")
    assert code == 1
    assert "none of the frames that test_list.txt names" in err


def _without_frames(tmp_path):
    """The published files of NYU, but no frame."""
    (tmp_path / "data").mkdir()
    folder = tmp_path / "data" / "nyu"
    folder.mkdir()
    for path in (PUBLISHED / "nyu").glob("*.txt"):
        (folder / path.name).symlink_to(path)
    return folder.parent
