# SPDX-License-Identifier: MIT
"""The experiments that run networks: on synthetic hands with several seeds, or on a dataset with given weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from statistics import correlation, mean, stdev

import torch
from torch import Tensor

from poseren_ext.datasets.sample import FrameBatch
from poseren_ext.evaluation.labelled_frames import frame_errors, measure, measure_stages
from poseren_ext.evaluation.methods import InitPose, MeanPose, Refined
from poseren_ext.evaluation.metrics import Evaluation
from poseren_ext.experiments.bench import Bench, Models
from poseren_ext.experiments.published import MEAN_POSE_AFTER_TEN_STAGES, TABLE_2
from poseren_ext.experiments.report import Difference, Report, Table, spread_of
from poseren_ext.experiments.synthetic import NARROW_RATIO, PAPER_RATIO
from poseren_ext.plotting import plot_cascade, plot_comparison, plot_iterations, plot_qualitative, plot_viewpoints

STAGES = 3
LONGEST = 10
"""Iterations of figures 10 and 12."""

Results = Mapping[str, Sequence[Evaluation]]
"""System -> its evaluation with every seed."""


def _systems(training: Models, names: Sequence[str], *, stages: int) -> dict[str, Evaluation]:
    """Init-CNN, then each variant refined from it."""
    models = training.models(names)
    initial = InitPose(next(iter(models.values())))
    results = {"Init-CNN": measure(training.test, "Init-CNN", initial)}
    for name, model in models.items():
        results[name] = measure(training.test, name, Refined(initial, model, stages))
    return results


def _over_seeds(
    trainings: Sequence[Models], run: Callable[[Models], dict[str, Evaluation]]
) -> dict[str, list[Evaluation]]:
    every = [run(training) for training in trainings]
    return {name: [one[name] for one in every] for name in every[0]}


def _table(results: Results) -> Table:
    rows = [
        [
            name,
            spread_of([one.mean_3d for one in seeds]),
            spread_of([one.mean_2d for one in seeds]),
            *(spread_of([one.success(t) for one in seeds]) for t in (20.0, 40.0)),
        ]
        for name, seeds in results.items()
    ]
    columns = ["system", "3D (mm)", "2D (px)", "frames within 20 mm (%)", "within 40 mm (%)"]
    return Table("Mean errors, and frames whose largest joint error is within a threshold", columns, rows)


def _heading(bench: Bench, which: str, seeds: int) -> str:
    """Title of a picture: the data, and the seed if there are several."""
    return f"{bench.heading}, {which}" if seeds > 1 else bench.heading


def _claim(report: Report, results: Results, better: str, worse: str, claim: str, why_not: str = "") -> None:
    """Notes whether an ordering of the paper is reproduced, with the paired difference and its confidence interval."""
    if better not in results or worse not in results:
        absent = better if better not in results else worse
        report.notes.append(f"{claim}: not tested, there are no weights of {absent}.")
        return
    pairs = zip(results[better], results[worse], strict=True)
    difference = Difference([other.mean_3d - one.mean_3d for one, other in pairs])
    reason = f" {why_not}" if why_not and not difference.positive else ""
    report.notes.append(f"{claim}: {difference.verdict} ({worse} minus {better}: {difference}).{reason}")
    report.data.setdefault("differences_mm", {})[f"{worse} minus {better}"] = difference.values


def _compared(
    name: str, title: str, bench: Bench, skeleton: str, names: Sequence[str], *, stages: int = STAGES
) -> tuple[Report, dict[str, list[Evaluation]]]:
    trainings = bench.trainings(skeleton)
    results = _over_seeds(trainings, lambda training: _systems(training, names, stages=stages))
    report = Report(name, title, bench.source(skeleton), tables=[_table(results)])
    first = [seeds[0] for seeds in results.values()]
    report.figures["comparison"] = plot_comparison(
        first, skeleton=trainings[0].test.skeleton, title=_heading(bench, "seed 1", len(results["Init-CNN"]))
    )
    report.data["systems"] = {system: [asdict(one) for one in seeds] for system, seeds in results.items()}
    return report, results


def _whole(name: str, title: str, skeleton: str, bench: Bench) -> Report:
    report, results = _compared(name, title, bench, skeleton, ("REN-9x6x6", "Pose-REN"))
    _claim(report, results, "Pose-REN", "Init-CNN", "The cascade improves on its initial pose")
    _claim(report, results, "Pose-REN", "REN-9x6x6", "Pose-REN is better than REN-9x6x6")
    if (viewpoints := [seeds[0] for seeds in results.values()])[0].viewpoint is not None:
        report.figures["viewpoints"] = plot_viewpoints(
            viewpoints, title=_heading(bench, "seed 1", len(results["Init-CNN"]))
        )
    return report


def fig9(bench: Bench) -> Report:
    """Pose-guided regions against a grid, with the same numbers of regions and weights and one iteration."""
    names = ("REN-4x6x6", "guided-4x6x6", "REN-9x6x6", "guided-9x6x6")
    title = "Figure 9: pose-guided regions against a grid"
    report, results = _compared("fig9", title, bench, "nyu14", names, stages=1)
    for regions in ("4x6x6", "9x6x6"):
        _claim(
            report, results, f"guided-{regions}", f"REN-{regions}", f"Guided {regions} regions are better than a grid"
        )
    for name in names:
        why_not = _own_error(results, name) if name in results and name.startswith("REN") else ""
        _claim(report, results, name, "Init-CNN", f"{name} is better than the Init-CNN that it starts from", why_not)
    return report


def _own_error(results: Results, name: str) -> str:
    """Why a grid may not improve on the Init-CNN."""
    note = "A grid does not use the initial pose, so this is an independent second network, not a refinement"
    own, init = ([one.mean_3d for one in results[system]] for system in (name, "Init-CNN"))
    if len(own) < 3:
        return f"{note}."
    difference = [before - after for before, after in zip(init, own, strict=True)]
    return (
        f"{note}: over the seeds its error has a correlation of {correlation(own, init):+.2f} with the Init-CNN's, and "
        f"the difference has {correlation(difference, init):+.2f}."
    )


def _curves(training: Models, starts: Mapping[str, Refined]) -> dict[str, list[float]]:
    return {
        start: [one.mean_3d for one in measure_stages(training.test, start, cascade)]
        for start, cascade in starts.items()
    }


def _iterations(
    name: str, title: str, bench: Bench, run: Callable[[Models], dict[str, list[float]]]
) -> tuple[Report, dict[str, list[list[float]]]]:
    every = [run(training) for training in bench.trainings()]
    curves = {start: [one[start] for one in every] for start in every[0]}
    average = {start: [mean(step) for step in zip(*seeds, strict=True)] for start, seeds in curves.items()}
    spread = None
    if len(every) > 1:
        spread = {start: [stdev(step) for step in zip(*seeds, strict=True)] for start, seeds in curves.items()}
    report = Report(name, title, bench.source(), data={"error_mm": curves})
    steps = range(max(len(values) for values in average.values()))
    rows = [[str(step), *(spread_of([seed[step] for seed in seeds]) for seeds in curves.values())] for step in steps]
    report.tables.append(Table("Mean 3D error (mm) after each iteration", ["iterations", *curves], rows))
    report.figures["iterations"] = plot_iterations(
        average, title=_heading(bench, f"mean of {len(every)} seeds", len(every)), spread=spread
    )
    return report, curves


def fig10(bench: Bench) -> Report:
    """Error over the number of iterations, 0 to 10."""

    def run(training: Models) -> dict[str, list[float]]:
        model = training.models(["Pose-REN"])["Pose-REN"]
        return _curves(training, {"Pose-REN": Refined(InitPose(model), model, LONGEST)})

    report, curves = _iterations("fig10", "Figure 10: the number of iterations", bench, run)
    for seed, curve in enumerate(curves["Pose-REN"], start=1):
        rest = max(curve[3:]) - min(curve[3:])
        report.notes.append(
            f"Seed {seed}: {curve[0]:.2f} mm before, {curve[1]:.2f} after one iteration, {curve[3]:.2f} after three; "
            f"from there to ten it moves within {rest:.2f} mm."
        )
    return report


def fig11(bench: Bench) -> Report:
    """Other methods' poses as initial poses."""
    trainings = bench.trainings()

    def run(training: Models) -> dict[str, Evaluation]:
        model = training.models(["Pose-REN"])["Pose-REN"]
        own = measure(training.test, "Init-CNN", InitPose(model)).mean_3d
        results: dict[str, Evaluation] = {}
        for name, initial in (training.initial(own) | {"Init-CNN": InitPose(model)}).items():
            start, *_, end = measure_stages(training.test, name, Refined(initial, model, STAGES))
            results |= {name: start, f"{name}, refined": end}
        return results

    results = _over_seeds(trainings, run)
    report = Report("fig11", "Figure 11: other initial poses", bench.source(), tables=[_table(results)])
    names = list(results)[::2]
    shown = [name for name in names if f"{name}, scaled" not in names]
    first = [replace(results[one][0], name=one) for name in shown for one in (name, f"{name}, refined")]
    report.figures["comparison"] = plot_comparison(
        first, skeleton=trainings[0].test.skeleton, title=_heading(bench, "seed 1", len(results["Init-CNN"]))
    )
    report.data["systems"] = {name: [asdict(one) for one in seeds] for name, seeds in results.items()}
    report.notes.append(bench.initial_note)
    for name in names:
        why = (
            "These networks themselves end at "
            f"{spread_of([one.mean_3d for one in results['Init-CNN, refined']])} mm, from any start: a start that is "
            "better than that can only be spoilt. The scaled one stands to them as the published one to the paper's."
        )
        _claim(report, results, f"{name}, refined", name, f"The cascade improves {name}", why)
    report.notes.append(_order(results, names))
    return report


def _order(results: Results, names: Sequence[str]) -> str:
    """Whether the final errors have the same order as the initial errors, on average over seeds."""
    pairs = sorted(
        (mean(e.mean_3d for e in results[n]), mean(e.mean_3d for e in results[f"{n}, refined"]), n) for n in names
    )
    path = "; ".join(f"{name} {start:.2f} to {end:.2f}" for start, end, name in pairs)
    ends = [end for _, end, _ in pairs]
    outcome = "appears" if ends == sorted(ends) else "appears in part"
    if ends[0] >= ends[-1]:
        outcome = "does NOT appear"
    return f"A better start ends better: {outcome} (mm, from the best start to the worst: {path})."


def fig12(bench: Bench) -> Report:
    """The mean pose as the initial pose: tested with the standard model and with a model trained for it."""

    def run(training: Models) -> dict[str, list[float]]:
        models = training.models(["Pose-REN", "mean-pose training"])
        standard = models["Pose-REN"]
        starts = {
            "from Init-CNN": Refined(InitPose(standard), standard, LONGEST),
            "from the mean pose": Refined(MeanPose(standard), standard, LONGEST),
        }
        if trained := models.get("mean-pose training"):
            starts["from the mean pose, trained so"] = Refined(MeanPose(trained), trained, LONGEST)
        return _curves(training, starts)

    report, curves = _iterations("fig12", "Figure 12: the mean pose as initial pose", bench, run)
    for name, seeds in curves.items():
        report.notes.append(
            f"{name}: {spread_of([seed[0] for seed in seeds])} mm to {spread_of([s[-1] for s in seeds])} mm."
        )
    report.notes.append(
        f"The paper on NYU: {TABLE_2['nyu'][1]:.2f} mm from Init-CNN; {MEAN_POSE_AFTER_TEN_STAGES:.2f} mm from the "
        "mean pose with the same model, after ten iterations; trained with the mean pose it comes close to the better "
        "start."
    )
    report.notes += _mean_pose_verdict(curves)
    return report


def _mean_pose_verdict(curves: Mapping[str, list[list[float]]]) -> list[str]:
    """Which results of figure 12 are reproduced, from the errors by iteration of each initial pose and seed."""
    own, standard = curves["from Init-CNN"], curves["from the mean pose"]
    last = Difference([b[-1] - a[-1] for a, b in zip(own, standard, strict=True)])
    notes = [f"The mean pose as a start ends worse than Init-CNN's: {last.verdict} (after ten iterations: {last})."]
    trained = curves.get("from the mean pose, trained so")
    if trained is None:
        return notes
    for step in (1, 2, LONGEST):
        gain = Difference([a[step] - b[step] for a, b in zip(standard, trained, strict=True)])
        notes.append(
            f"Training with the mean pose improves on the standard model, both started from it, at iteration {step}: "
            f"{gain.verdict} ({gain})."
        )
    rest = Difference([b[-1] - a[-1] for a, b in zip(own, trained, strict=True)])
    notes.append(f"What is left between it and the start from Init-CNN after ten iterations: {rest}.")
    return notes


def table2(bench: Bench) -> Report:
    """With and without the structure of the hand, at equal numbers of weights, for wide and narrow finger layers."""
    title = "Table 2: with and without the hand's structure"
    names = ("w/o structure", "Pose-REN", "w/o structure, narrow", "Pose-REN, narrow")
    report, results = _compared("table2", title, bench, "nyu14", names)
    paper = ", ".join(
        f"{dataset.upper()} {without - structured:.3f}" for dataset, (without, structured) in TABLE_2.items()
    )
    report.notes.append(f"The paper's differences, mm: {paper}.")
    _claim(report, results, "Pose-REN", "w/o structure", "Structure helps")
    if "Pose-REN, narrow" in results:
        report.notes.append(
            f"In the networks called narrow, the finger layers have {NARROW_RATIO:g} weights for each weight of the "
            f"region layers; the paper and the others have {PAPER_RATIO:.2f}. Narrow finger layers are a bottleneck, "
            "and only the network with structure has to pass everything through five of them."
        )
        narrow = "Structure helps with narrow finger layers"
        _claim(report, results, "Pose-REN, narrow", "w/o structure, narrow", narrow)
    return report


_SHOWN = "The frames are spread evenly, not chosen; where there are several seeds, the first is shown."


def _normalized(batch: FrameBatch, uvd: Tensor) -> Tensor:
    return batch.normalized(uvd.to(batch.depth.device)).cpu()


def fig13(bench: Bench) -> Report:
    """The stages of the cascade."""
    training = bench.trainings()[0]
    model = training.models(["Pose-REN"])["Pose-REN"]
    batch, truth = training.test.some(6)
    stages = Refined(InitPose(model), model, STAGES).estimate_stages(batch).cpu()
    poses = torch.stack([_normalized(batch, stage) for stage in stages])
    errors = torch.stack([frame_errors(stage, truth, batch.camera.cpu()) for stage in stages])
    report = Report("fig13", "Figure 13: the stages of the cascade", bench.source())
    report.figures["stages"] = plot_cascade(
        batch.crop(96).cpu(), poses, training.test.skeleton, truth=_normalized(batch, truth), errors=errors
    )
    report.data["error_mm"] = errors.tolist()
    report.notes.append(_SHOWN)
    return report


def fig14(bench: Bench) -> Report:
    """REN-9x6x6, Pose-REN and the truth on the same hands."""
    training = bench.trainings()[0]
    models = training.models(["REN-9x6x6", "Pose-REN"])
    batch, truth = training.test.some(7)
    initial = InitPose(models["Pose-REN"])
    rows = {name: _normalized(batch, Refined(initial, model, STAGES).estimate(batch)) for name, model in models.items()}
    rows["truth"] = _normalized(batch, truth)
    report = Report("fig14", "Figure 14: qualitative results", bench.source())
    report.notes.append(_SHOWN)
    report.figures["qualitative"] = plot_qualitative(batch.crop(96).cpu(), rows, training.test.skeleton)
    return report


EXPERIMENTS: dict[str, Callable[[Bench], Report]] = {
    "table1": lambda bench: _whole("table1", "Table 1: mean errors", "nyu14", bench),
    "fig5": lambda bench: _whole("fig5", "Figure 5: comparison, NYU's joints", "nyu14", bench),
    "fig6": lambda bench: _whole("fig6", "Figure 6: comparison, ICVL's joints", "icvl16", bench),
    "fig7": lambda bench: _whole("fig7", "Figure 7: comparison, MSRA's joints", "msra21", bench),
    "fig8": lambda bench: _whole("fig8", "Figure 8: error over the viewpoint, MSRA's joints", "msra21", bench),
    "fig9": fig9,
    "fig10": fig10,
    "fig11": fig11,
    "fig12": fig12,
    "table2": table2,
    "fig13": fig13,
    "fig14": fig14,
}
"""Name -> function that runs the experiment."""
