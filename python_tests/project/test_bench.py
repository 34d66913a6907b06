# SPDX-License-Identifier: MIT
"""The benchmarks themselves: rows, interleaving, moved windows, comparison of outputs. No figure is checked."""

from __future__ import annotations

import importlib.util
import json
import time
import weakref
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

from benchmarks import SUBJECTS, Row, Settings, dump, load, run, test_benchmarks
from benchmarks.__main__ import app
from benchmarks.baselines import exported, image
from benchmarks.baselines.network import PlainCascade, PlainEstimator, gather_regions, index_regions
from benchmarks.equality import assert_equal
from benchmarks.material import CAMERA, FAR, NEAR, Material, draw_frames
from benchmarks.report import COLUMNS, cells, detail_lines, growth_curves, markdown
from benchmarks.rows import CannotRun, Comparison, Probe, Target, make_rows
from benchmarks.runner import COMPARISONS
from benchmarks.subjects import frame
from benchmarks.subjects.crop import needed_bytes, rectangles
from benchmarks.subjects.growth import judge_linear, keeping_results
from benchmarks.subjects.refine import needed_work
from benchmarks.timing import interleaved_medians, time_limit
from benchmarks.trajectory import load_trajectories, moved_shares, windows
from poseren_ext import ops

MACHINE = {"processor": "P", "threads": 2, "libraries": {"torch": "2"}, "commit": "abc"}


@pytest.fixture(scope="module")
def material():
    return Material(Settings.tiny())


def a_row(name="work", **changes):
    values = {"device": "cpu", "dtype": "float32", "batch": 1, "ours_ms": 1.0, "baselines": {"a": 3.0, "b": None}}
    values |= {
        "ratio": {"a": 3.0},
        "lower_bound_ms": 0.5,
        "params": {},
        "machine": MACHINE,
        "unavailable": {"b": "not here"},
    }
    return Row(name=name, **(values | changes))


def test_implementations_are_interleaved_and_each_round_begins_with_another_one():
    calls = []
    medians = interleaved_medians(
        {name: lambda i, name=name: calls.append(name) for name in "ab"}, seconds=0, cold=True
    )
    assert set(medians) == {"a", "b"}
    assert "".join(calls) == "aabb" + "abbaabbaab"  # twice each to estimate, then five rounds


def test_median_is_of_the_call():
    medians = interleaved_medians({"slow": lambda i: time.sleep(0.004), "idle": lambda i: None}, seconds=0, cold=False)
    assert 4 <= medians["slow"] < 40
    assert medians["idle"] < 1


def test_fastest_call_counts_where_asked_for():
    naps = iter([0.02, 0.002] * 20)
    times = interleaved_medians({"nap": lambda i: time.sleep(next(naps))}, seconds=0, cold=True, fastest=["nap"])
    assert 2 <= times["nap"] < 10


def test_time_limit_ends_what_is_too_long():
    with pytest.raises(TimeoutError, match=r"0\.05 s"), time_limit(0.05):
        time.sleep(5)
    with time_limit(5):
        pass


def test_rows_have_ratios_lower_bounds_reasons_and_verdicts():
    comparison = Comparison(
        name="work",
        device="cpu",
        batch=2,
        ours={"float32": len, "int8": len},
        baselines={"a": len, "gone": CannotRun("is not installed")},
        check=lambda: None,
        limits={"a copy": len},
        probes={"read": [Probe(len, 10), Probe(len, 20)]},
        lower_bound=lambda costs: {"float32": 60 * costs["read"]},
        targets={"float32": [Target(4, ("a", "gone"), or_within=(1.3, "a copy")), Target(most_ms=1)]},
        moved={"int8": [1.0, 0.2]},
    )
    assert {"probe/read/0", "probe/read/1"} == set(comparison.named_probes()) < set(comparison.calls())
    times = {"ours/float32": 2.0, "ours/int8": 1.0, "baseline/a": 6.0}
    times |= {"probe/read/0": 0.9, "probe/read/1": 0.6, "limit/a copy": 1.6}
    wide, narrow = make_rows(comparison, times, {})
    assert wide.ratio == {"a": 3.0}
    assert wide.baselines == {"a": 6.0, "gone": None}
    assert wide.unavailable == {"gone": "is not installed"}
    assert wide.lower_bound_ms == pytest.approx(1.8)
    assert wide.params == {"limits": {"a copy": 1.6}}
    assert cells(wide)[COLUMNS.index("lower bound (ms)")] == "1.8, 1.6 a copy"
    assert [target["met"] for target in wide.targets] == [True, False]  # not 4x, but within 1.3x of a copy
    assert (narrow.ratio, narrow.lower_bound_ms, narrow.moved) == ({"a": 6.0}, None, [1.0, 0.2])


def test_a_target_without_any_baseline_is_neither_met_nor_missed():
    assert Target(2, ("gone",)).judge(1.0, {"gone": None}, {})["met"] is None


def test_a_target_reports_the_ratio_of_its_limit():
    comparison = Comparison(
        name="work",
        device="cpu",
        batch=1,
        ours={"float32": len},
        baselines={"a": len},
        check=lambda: None,
        limits={"least": len},
        targets={"float32": [Target(5, ("a",), limit="least")]},
    )
    (row,) = make_rows(comparison, {"ours/float32": 2.0, "baseline/a": 6.0, "limit/least": 1.5}, {})
    assert row.targets == [{"wanted": "5x a", "reached": 3.0, "met": False, "limit": "least", "limit_reaches": 4.0}]
    assert detail_lines(row)[-1] == "target 5x a: 3, not met (least would reach 4)"


def test_a_target_is_judged_by_the_fastest_baseline():
    verdict = Target(2, ("a", "b")).judge(1.0, {"a": 5.0, "b": 1.5, "c": 1.0}, {})
    assert verdict == {"wanted": "2x b", "reached": 1.5, "met": False}


def test_rows_survive_json(tmp_path):
    rows = [a_row(), a_row("other", baselines={}, ratio={}, unavailable={}, lower_bound_ms=None, moved=[1.0, 0.2])]
    (tmp_path / "rows.json").write_text(dump(rows))
    assert load(tmp_path / "rows.json") == rows
    needed = {
        "name",
        "device",
        "dtype",
        "batch",
        "ours_ms",
        "baselines",
        "ratio",
        "lower_bound_ms",
        "params",
        "machine",
    }
    assert needed <= set(json.loads(dump(rows))[0])
    (tmp_path / "other.json").write_text('[{"name": "work"}]')
    with pytest.raises(ValueError, match="not a results file"):
        load(tmp_path / "other.json")


@pytest.mark.parametrize(("got", "problem"), [([1.0, 2.2], "0.2 from"), ([1.0], "shape|gives")])
def test_different_outputs_are_refused(got, problem):
    with pytest.raises(AssertionError, match=problem):
        assert_equal("baseline", torch.tensor(got), torch.tensor([1.0, 2.0]), most=0.1)


def test_the_mean_difference_is_checked_too():
    with pytest.raises(AssertionError, match="on average"):
        assert_equal("baseline", torch.full((4,), 0.05), torch.zeros(4), most=0.1, mean=0.01)


def test_nothing_is_timed_when_outputs_differ(monkeypatch):
    monkeypatch.setattr(image, "center_numpy", lambda depth, near, far: image.center_opencv(depth, near, far) + 1)
    with pytest.raises(AssertionError, match="NumPy"):
        run(["center"], Settings.tiny())


def test_trajectories_move_as_many_windows_as_the_published(material):
    config = material.model.head.config
    trajectories = load_trajectories(512)
    poses = trajectories.targets(config)
    moved = moved_shares(poses, config)
    assert moved[0] == 1
    assert 0.20 <= sum(moved[1:3]) <= 0.25
    arrived = (windows(poses[1], config) == windows(poses[0], config)).flatten(1).all(1)
    assert torch.equal(poses[-1][arrived], poses[1][arrived])
    if "published" in trajectories.source:
        motion = 150 * (trajectories.final - trajectories.initial).norm(dim=-1).mean()
        assert float(motion) == pytest.approx(8.2, abs=0.3)


def test_fitted_model_goes_through_the_trajectories():
    settings = Settings(threads=1, widths=(160, 160), frames=16)
    material = Material(settings)
    wanted = material.trajectories.targets(material.model.head.config)
    poses, _ = ops.cascade_refine(material.features, material.initial, material.head("float32"), stages=4)
    error = 150 * (poses - wanted).norm(dim=-1).mean((1, 2))  # mm, of each stage
    assert float(error.max()) < 1
    assert moved_shares(poses, material.model.head.config) == pytest.approx(
        moved_shares(wanted, material.model.head.config), abs=0.03
    )


def test_needed_work_counts_weights_once_and_products_for_each_sample(material):
    config = material.model.head.config
    first, second = config.widths
    region, member = first * 64 * 49, second * first
    last = 42 * 5 * second
    moved = torch.zeros(2, 2, 11, dtype=torch.bool)
    moved[0] = True
    moved[1, 0, 2] = True  # the thumb's tip of the first sample
    work = needed_work(moved, config)
    assert work.weights == 11 * region + 15 * member + last + region + member + last
    assert work.products == 2 * (11 * region + 15 * member + last) + region + member + last
    assert work.milliseconds(read=2, product=0, size=4) == 8 * work.weights


@torch.no_grad()
def test_baselines_pool_and_refine_as_the_ops_do(material):
    config, features, pose = material.model.head.config, material.features, 2 * material.initial
    wanted = ops.pose_roi_pool(features, pose, config.joints)
    assert torch.equal(gather_regions(features, pose, config), wanted)
    assert torch.equal(index_regions(features, pose, config), wanted)
    cascade = ops.cascade_refine(features, material.initial, material.model.head)[0]
    close = {"atol": 1e-4, "rtol": 1e-4}  # the layers sum in another order than the kernel
    torch.testing.assert_close(PlainCascade(material.model.head, 3)(features, material.initial), cascade, **close)
    estimator = PlainEstimator(material.model, 3)
    torch.testing.assert_close(estimator(material.crops), cascade, **close)
    estimator.use_channels_last()
    torch.testing.assert_close(estimator(material.crops), cascade, **close)


def test_baselines_crop_holes_as_the_op_does(material):
    depth, center = material.frames[0], material.centers[0]
    wanted = ops.depth_crop(depth, center, CAMERA)[0]
    crop = image.crop_opencv_region(depth.numpy(), center.numpy(), CAMERA, holes=True)
    assert_equal("OpenCV", crop, wanted, most=1 / 8, mean=5e-3)


@pytest.mark.parametrize("size", [(60, 80), (480, 640)])
def test_drawn_frames_show_a_hand_in_front_of_nothing(size):
    frames = draw_frames(3, *size)
    inside = (frames.int() >= NEAR) & (frames.int() <= FAR)
    assert bool((inside | (frames.int() == 0)).all())
    assert bool((inside.float().mean((1, 2)) > 0.02).all())


@pytest.mark.parametrize("subject", [name for name in SUBJECTS if name not in ("refine", "frame")])
def test_every_subject_runs_and_gives_rows(subject):
    rows = run([subject], Settings.tiny())
    assert rows
    assert all(row.ours_ms > 0 and row.machine["threads"] == 1 for row in rows)
    assert all(row.lower_bound_ms is None or row.lower_bound_ms > 0 for row in rows)
    assert all(set(row.unavailable) == {name for name, ms in row.baselines.items() if ms is None} for row in rows)
    json.loads(dump(rows))


def test_refine_and_frame_say_how_many_windows_move(monkeypatch):
    # One export to ONNX takes seconds: the networks of the frame rows are not exported.
    absent = dict.fromkeys(exported.NAMES, CannotRun("left out"))
    monkeypatch.setattr(frame, "exported_networks", lambda *_: absent)
    settings = replace(Settings.tiny(), refine_batches=(1,))
    rows = [row for row in run(["refine", "frame"], settings) if row.baselines]
    for row in rows:
        missing = set(row.unavailable) & set(exported.NAMES)
        assert missing <= ({exported.BFLOAT16} if row.name == "cascade_refine" else set(exported.NAMES))
    assert {row.dtype for row in rows} == {"float32", "bfloat16", "int8"}
    assert all(len(row.moved) == 3 and row.moved[0] == 1 for row in rows)
    assert all("mean_shift_mm" in row.params for row in rows if row.name == "cascade_refine")
    assert all("ONNX Runtime, int8" in row.baselines and "torch.compile" in row.unavailable for row in rows)


def test_unknown_subject_and_absent_gpu_are_refused():
    with pytest.raises(ValueError, match="'speed'; expected one of center"):
        run(["speed"], Settings.tiny())
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no GPU"):
            run(["crop"], Settings(device="cuda"))


@pytest.mark.parametrize(("times", "met"), [([1.0, 2.0, 4.0], True), ([5.0, 5.0, 5.0], True), ([1.0, 2.0, 6.0], False)])
def test_growth_is_judged_by_the_cost_of_a_unit(times, met):
    assert judge_linear([1.0, 2.0, 4.0], times)["met"] is met


def test_growth_keeps_results_up_to_its_memory():
    call = keeping_results(lambda i: torch.full((4,), float(i)), most=40)  # two of 16 bytes
    results = [call(i) for i in range(5)]
    assert [int(result[0]) for result in results] == [0, 1, 2, 3, 4]
    alive = [weakref.ref(result) for result in results]
    del results
    assert [reference() is not None for reference in alive] == [False, False, False, True, True]


def test_a_crop_needs_its_rows_once_or_two_for_each_of_its_own():
    far = 300 * CAMERA.fy / 100  # mm: 100 rows of the frame for 96
    near = 300 * CAMERA.fy / 400  # 400 rows: two for each
    columns = CAMERA.fx / CAMERA.fy
    needed = needed_bytes(torch.tensor([[320.0, 240.0, far], [320.0, 240.0, near]]))
    assert needed == pytest.approx(2 * columns * (100 * 100 + 400 * 192) + 2 * 4 * 96**2)


def test_as_much_is_read_where_the_crops_look():
    frames = torch.zeros(2, 480, 640, dtype=torch.uint16)
    frames[:, 180:300, 260:380] = 1
    center = torch.tensor([[317.3, 242.8, 750.0], [323.3, 238.8, 750.0]])
    part = rectangles(frames, center)
    crops = 2 * 4 * 96**2
    assert part.numel() * 2 == pytest.approx(needed_bytes(center) - crops, rel=0.02)
    assert part.sum(dtype=torch.int64) == frames.sum(dtype=torch.int64)


def test_command_writes_rows(tmp_path):
    file = tmp_path / "rows.json"
    result = CliRunner().invoke(app, ["crop", "--tiny", "--json", str(file)])
    assert result.exit_code == 0, result.output
    assert "depth_crop" in result.output
    assert "target 10x OpenCV" in result.output
    assert [row.name for row in load(file)] == ["depth_crop"]
    assert CliRunner().invoke(app, ["speed"]).exit_code == 2


def test_pytest_benchmark_runs_the_same_implementations(monkeypatch):
    monkeypatch.setenv("POSEREN_BENCH_TINY", "1")
    found, results = [], []
    test_benchmarks.pytest_generate_tests(SimpleNamespace(parametrize=lambda names, values: found.extend(values)))
    assert {subject for subject, _, _ in found} == set(COMPARISONS)
    assert ("pool", 1, "baseline/torchvision") in found
    assert ("refine", 0, "baseline/OpenVINO, bfloat16") in found
    for case in found[:2]:
        test_benchmarks.test_speed(lambda call: results.append(call()), *case)
    assert [len(result) for result in results] == [2, 2]  # centres of a batch: ours, PyTorch


def test_the_table_shows_the_fastest_baseline_of_the_same_precision():
    baselines = {"a": 3.0, "b": 2.0, "b, bfloat16": 1.5, "a, int8": 0.5}
    ratio = dict(baselines)
    rows = [a_row(dtype=dtype, baselines=baselines, ratio=ratio) for dtype in ("uint16", "bfloat16", "int8")]
    text = markdown([*rows, a_row(dtype="int8", moved=[1.0, 0.2]), a_row("alone", baselines={})])
    assert "| work | uint16 | 1 | 1.0 | 2.0 b | 2.0x | 0.500 |  |" in text
    assert "| work | bfloat16 | 1 | 1.0 | 1.5 b, bfloat16 | 1.5x | 0.500 |  |" in text
    assert "| work | int8 | 1 | 1.0 | 0.500 a, int8 | 0.5x | 0.500 |  |" in text
    assert "| work | int8 | 1 | 1.0 |  |  | 0.500 | 100 %, 20 % |" in text
    assert "alone" not in text
    assert "P, 2 threads, torch 2, commit abc" in text


def test_growth_has_one_plot_for_each_axis():
    rows = [a_row(params={"of": "op", "along": along, "value": v}) for along in ("batch", "stages") for v in (1, 2)]
    assert len(growth_curves(rows).axes) == 2
    assert growth_curves([a_row()]) is None


def test_table_goes_between_the_markers(tmp_path):
    path = Path(__file__).parents[2] / "tools" / "render_benchmarks.py"
    spec = importlib.util.spec_from_file_location("render_benchmarks", path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    text = f"before\n{tool.BEGIN}\nold\n{tool.END}\nafter\n"
    once = tool.replaced(text, "| new |", path)
    assert once == f"before\n{tool.BEGIN}\n\n| new |\n\n{tool.END}\nafter\n"
    assert tool.replaced(once, "| new |", path) == once
    with pytest.raises(SystemExit, match="expected the lines"):
        tool.replaced("no markers", "", path)
