# SPDX-License-Identifier: MIT
"""The experiments on synthetic hands, with models that the same command trains, with several seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean, stdev

import torch
from torch import Tensor

from poseren_ext import ops
from poseren_ext.estimators import FrameBatch, InitPose, MeanPose, Refined
from poseren_ext.evaluation import Evaluation
from poseren_ext.experiments.lab import Lab, Progress, Scale
from poseren_ext.experiments.noise import NYU_JOINT_ERRORS, NoisyPoses
from poseren_ext.experiments.report import Report, Table
from poseren_ext.plotting import plot_cascade, plot_comparison, plot_iterations, plot_qualitative, plot_viewpoints

STAGES = 3
LONGEST = 10
"""Iterations of figures 10 and 12."""


@dataclass(frozen=True)
class Bench:
    """What the experiments share: how much is trained, where models are kept, who is told."""

    scale: Scale
    folder: Path
    progress: Progress
    device: str = "cpu"

    def labs(self, skeleton: str = "nyu14") -> list[Lab]:
        """One lab a seed."""
        seeds = range(1, self.scale.seeds + 1)
        return [Lab(self.scale, skeleton, seed, self.folder, self.progress, self.device) for seed in seeds]

    def source(self, skeleton: str = "nyu14") -> str:
        """What the results are of, in words."""
        scale = self.scale
        return (
            f"synthetic hands ({skeleton}), scale {scale.name}: {scale.init_steps} + {scale.refine_steps} steps of "
            f"{scale.batch} frames, backbone {scale.channels}, widths {scale.widths}, {scale.seeds} seed(s); tested on "
            f"{scale.test_frames} frames of subjects that no training has seen"
        )


Results = Mapping[str, Sequence[Evaluation]]
"""System -> its evaluation with every seed."""


def _systems(lab: Lab, names: Sequence[str], *, stages: int) -> dict[str, Evaluation]:
    """Init-CNN, then each variant refined from it."""
    models = lab.models(names)
    initial = InitPose(next(iter(models.values())))
    results = {"Init-CNN": lab.test.measure("Init-CNN", initial)}
    for name, model in models.items():
        results[name] = lab.test.measure(name, Refined(initial, model, stages))
    return results


def _over_seeds(labs: Sequence[Lab], run: Callable[[Lab], dict[str, Evaluation]]) -> dict[str, list[Evaluation]]:
    every = [run(lab) for lab in labs]
    return {name: [one[name] for one in every] for name in every[0]}


def _spread(values: Sequence[float]) -> str:
    """Mean, and standard deviation over seeds where there are several."""
    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def _table(results: Results) -> Table:
    rows = [
        [
            name,
            _spread([one.mean_3d for one in seeds]),
            _spread([one.mean_2d for one in seeds]),
            *(_spread([one.success(t) for one in seeds]) for t in (20.0, 40.0)),
        ]
        for name, seeds in results.items()
    ]
    columns = ["system", "3D (mm)", "2D (px)", "frames within 20 mm (%)", "within 40 mm (%)"]
    return Table("Mean errors, and frames whose largest joint error is within a threshold", columns, rows)


def _claim(report: Report, results: Results, better: str, worse: str, claim: str) -> None:
    """Say whether one of the paper's orderings appears, with the difference of each seed."""
    pairs = zip(results[better], results[worse], strict=True)
    differences = [other.mean_3d - one.mean_3d for one, other in pairs]
    each = ", ".join(f"{difference:+.3f}" for difference in differences)
    if min(differences) > 0:
        outcome = "appears with every seed"
    elif max(differences) > 0:
        outcome = "appears with some seeds only"
    else:
        outcome = "does NOT appear"
    report.notes.append(f"{claim}: {outcome} ({worse} minus {better}, mm, seed by seed: {each}).")


def _compared(
    name: str, title: str, bench: Bench, skeleton: str, names: Sequence[str], *, stages: int = STAGES
) -> tuple[Report, dict[str, list[Evaluation]]]:
    labs = bench.labs(skeleton)
    results = _over_seeds(labs, lambda lab: _systems(lab, names, stages=stages))
    report = Report(name, title, bench.source(skeleton), tables=[_table(results)])
    first = [seeds[0] for seeds in results.values()]
    report.figures["comparison"] = plot_comparison(first, skeleton=labs[0].skeleton, title="synthetic hands, seed 1")
    report.data["systems"] = {system: [asdict(one) for one in seeds] for system, seeds in results.items()}
    return report, results


def _whole(name: str, title: str, skeleton: str, bench: Bench) -> Report:
    report, results = _compared(name, title, bench, skeleton, ("REN-9x6x6", "Pose-REN"))
    _claim(report, results, "Pose-REN", "Init-CNN", "The cascade improves on its initial pose")
    _claim(report, results, "Pose-REN", "REN-9x6x6", "Pose-REN is better than REN-9x6x6")
    if (viewpoints := [seeds[0] for seeds in results.values()])[0].viewpoint is not None:
        report.figures["viewpoints"] = plot_viewpoints(viewpoints, title="synthetic hands, seed 1")
    return report


def fig9(bench: Bench) -> Report:
    """Pose-guided regions against a grid: as many regions, as many weights, one iteration."""
    names = ("REN-4x6x6", "guided-4x6x6", "REN-9x6x6", "guided-9x6x6")
    title = "Figure 9: pose-guided regions against a grid"
    report, results = _compared("fig9", title, bench, "nyu14", names, stages=1)
    for regions in ("4x6x6", "9x6x6"):
        _claim(
            report, results, f"guided-{regions}", f"REN-{regions}", f"Guided {regions} regions are better than a grid"
        )
    return report


def _curves(lab: Lab, starts: Mapping[str, Refined]) -> dict[str, list[float]]:
    return {
        start: [one.mean_3d for one in lab.test.measure_stages(start, cascade)] for start, cascade in starts.items()
    }


def _iterations(
    name: str, title: str, bench: Bench, run: Callable[[Lab], dict[str, list[float]]]
) -> tuple[Report, dict[str, list[list[float]]]]:
    every = [run(lab) for lab in bench.labs()]
    curves = {start: [one[start] for one in every] for start in every[0]}
    average = {start: [mean(step) for step in zip(*seeds, strict=True)] for start, seeds in curves.items()}
    spread = None
    if len(every) > 1:
        spread = {start: [stdev(step) for step in zip(*seeds, strict=True)] for start, seeds in curves.items()}
    report = Report(name, title, bench.source(), data={"error_mm": curves})
    steps = range(max(len(values) for values in average.values()))
    rows = [[str(step), *(_spread([seed[step] for seed in seeds]) for seeds in curves.values())] for step in steps]
    report.tables.append(Table("Mean 3D error (mm) after each iteration", ["iterations", *curves], rows))
    report.figures["iterations"] = plot_iterations(average, title="synthetic hands", spread=spread)
    return report, curves


def fig10(bench: Bench) -> Report:
    """Error over the number of iterations, 0 to 10."""

    def run(lab: Lab) -> dict[str, list[float]]:
        model = lab.models(["Pose-REN"])["Pose-REN"]
        return _curves(lab, {"Pose-REN": Refined(InitPose(model), model, LONGEST)})

    report, curves = _iterations("fig10", "Figure 10: the number of iterations", bench, run)
    for seed, curve in enumerate(curves["Pose-REN"], start=1):
        rest = max(curve[3:]) - min(curve[3:])
        report.notes.append(
            f"Seed {seed}: {curve[0]:.2f} mm before, {curve[1]:.2f} after one iteration, {curve[3]:.2f} after three; "
            f"from there to ten it moves within {rest:.2f} mm."
        )
    return report


def fig11(bench: Bench) -> Report:
    """Other initial poses, simulated: truth plus noise with the published methods' per-joint errors."""
    labs = bench.labs()

    def run(lab: Lab) -> dict[str, Evaluation]:
        model, test = lab.models(["Pose-REN"])["Pose-REN"], lab.test
        results: dict[str, Evaluation] = {}
        for name, errors in NYU_JOINT_ERRORS.items():
            noisy = NoisyPoses(test.uvd, test.camera, errors, seed=lab.seed)
            start, *_, end = test.measure_stages(name, Refined(noisy, model, STAGES))
            results |= {name: start, f"{name}, refined": end}
        start, *_, end = test.measure_stages("Init-CNN", Refined(InitPose(model), model, STAGES))
        return results | {"Init-CNN": start, "Init-CNN, refined": end}

    results = _over_seeds(labs, run)
    report = Report("fig11", "Figure 11: other initial poses", bench.source(), tables=[_table(results)])
    first = [replace(seeds[0], name=name) for name, seeds in results.items()]
    report.figures["comparison"] = plot_comparison(first, skeleton=labs[0].skeleton, title="synthetic hands, seed 1")
    report.data["systems"] = {name: [asdict(one) for one in seeds] for name, seeds in results.items()}
    report.notes.append(
        "DeepPrior, Feedback and DeepModel are simulated: the truth plus Gaussian noise whose mean length at each "
        "joint is the published method's mean error there (NYU); half of its variance is common to a frame's joints. "
        "Init-CNN is the lab's own."
    )
    for name in (*NYU_JOINT_ERRORS, "Init-CNN"):
        _claim(report, results, f"{name}, refined", name, f"The cascade improves {name}")
    return report


def fig12(bench: Bench) -> Report:
    """The mean pose as a start: tested with the standard model, and trained for."""

    def run(lab: Lab) -> dict[str, list[float]]:
        models = lab.models(["Pose-REN", "mean-pose training"])
        standard, trained = models["Pose-REN"], models["mean-pose training"]
        starts = {
            "from Init-CNN": Refined(InitPose(standard), standard, LONGEST),
            "from the mean pose": Refined(MeanPose(standard), standard, LONGEST),
            "from the mean pose, trained so": Refined(MeanPose(trained), trained, LONGEST),
        }
        return _curves(lab, starts)

    report, curves = _iterations("fig12", "Figure 12: the mean pose as initial pose", bench, run)
    for name, seeds in curves.items():
        report.notes.append(
            f"{name}: {_spread([seed[0] for seed in seeds])} mm to {_spread([s[-1] for s in seeds])} mm."
        )
    return report


def table2(bench: Bench) -> Report:
    """With and without the hand's structure, with as many weights."""
    title = "Table 2: with and without the hand's structure"
    report, results = _compared("table2", title, bench, "nyu14", ("w/o structure", "Pose-REN"))
    _claim(report, results, "Pose-REN", "w/o structure", "Structure helps")
    return report


def _shown(lab: Lab, count: int) -> tuple[FrameBatch, Tensor, list[int]]:
    """The first test batch, its labels, and some frames of it, spread evenly."""
    batch = next(iter(lab.test.batches()))
    chosen = torch.linspace(0, len(batch.depth) - 1, count).long().tolist()
    return batch, lab.test.uvd[: len(batch.depth)], chosen


def _normalized(batch: FrameBatch, uvd: Tensor) -> Tensor:
    return ops.normalize_pose(uvd.to(batch.depth.device), batch.center, batch.camera, cube=batch.cube).cpu()


def fig13(bench: Bench) -> Report:
    """The stages of the cascade on unseen hands."""
    lab = bench.labs()[0]
    model = lab.models(["Pose-REN"])["Pose-REN"]
    batch, truth, chosen = _shown(lab, 6)
    stages = Refined(InitPose(model), model, STAGES).estimate_stages(batch)
    poses = torch.stack([_normalized(batch, stage) for stage in stages])
    report = Report("fig13", "Figure 13: the stages of the cascade", bench.source())
    report.figures["stages"] = plot_cascade(
        batch.crop(96)[chosen], poses[:, chosen], lab.skeleton, truth=_normalized(batch, truth)[chosen], cube=batch.cube
    )
    errors = [150 * (pose - _normalized(batch, truth)).norm(dim=-1).mean(-1)[chosen] for pose in poses]
    report.data["normalized_error_mm"] = [stage.tolist() for stage in errors]
    return report


def fig14(bench: Bench) -> Report:
    """REN-9x6x6, Pose-REN and the truth on the same unseen hands."""
    lab = bench.labs()[0]
    models = lab.models(["REN-9x6x6", "Pose-REN"])
    batch, truth, chosen = _shown(lab, 7)
    initial = InitPose(models["Pose-REN"])
    rows = {
        name: _normalized(batch, Refined(initial, model, STAGES).estimate(batch))[chosen]
        for name, model in models.items()
    }
    rows["truth"] = _normalized(batch, truth)[chosen]
    report = Report("fig14", "Figure 14: qualitative results", bench.source())
    report.figures["qualitative"] = plot_qualitative(batch.crop(96)[chosen], rows, lab.skeleton)
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
"""Name -> what runs it on synthetic hands."""
