# SPDX-License-Identifier: MIT
"""Training: configurations, samples, the optimizer, and a short training from end to end."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from poseren_ext.geometry.crop_transforms import restore_pose
from poseren_ext.geometry.skeleton import SKELETONS
from poseren_ext.models import HeadConfig, PoseREN, load
from poseren_ext.synthetic import SPLIT_KINDS, SyntheticHands
from poseren_ext.training import RECIPES, TrainConfig, Trainer, make_config, read_config
from poseren_ext.training.muon import Muon, orthogonalize
from poseren_ext.training.plan import plan_phases
from poseren_ext.training.streams import open_stream
from poseren_ext.training.synthetic_batches import SyntheticStream, render_tiles
from poseren_ext.training.validation import stage_errors, stage_poses
from tools.bundle_model.card import bundle

SMALL = TrainConfig(channels=(4, 8, 8), init_widths=(16, 16), refine_widths=(8, 8), batch=6, chunk=16, reuse=2)


def test_a_file_and_overrides_make_a_configuration(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('recipe = "paper"\nbatch = 32\ninit_widths = [64, 32]\nlearning_rate = 1\n')
    config = read_config(path, ["batch=16", "schedule=cosine", "init_steps = 7"])
    assert config == dataclasses.replace(
        RECIPES["paper"],
        batch=16,
        init_widths=(64, 32),
        learning_rate=1.0,
        schedule="cosine",
        init_steps=7,
        init_epochs=0,
    )
    assert make_config(json.loads(config.to_json())) == config
    assert read_config() == RECIPES["compact"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("batch", "expected field=value"),
        ("bach=3", "unknown field 'bach'"),
        ("recipe=secret", "expected one of compact, bundled, paper, released"),
        ("batch=0.5", "batch is 0.5; expected an integer like 64"),
        ("init_widths=[1]", "init_widths is"),
        ("init_widths=[1, 2.5]", "init_widths is 2.5"),
        ("seed=true", "seed is True"),
        ("schedule=3", "schedule is 3"),
        ("optimizer=magic", "optimizer is 'magic'; expected one of muon, adamw, sgd"),
        ("precision=bf8", "precision is 'bf8'"),
        ("stages=0", "stages is 0; expected 1 to 20"),
    ],
)
def test_faulty_configurations_say_what_is_wrong(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("[", r"\[")):
        read_config(overrides=[override])


def test_the_published_recipes() -> None:
    paper, released = RECIPES["paper"], RECIPES["released"]
    assert (paper.optimizer, paper.learning_rate, paper.momentum, paper.weight_decay) == ("sgd", 1e-3, 0.9, 5e-4)
    assert (paper.batch, paper.rotation, paper.translation, paper.scale, paper.dropout) == (128, 180.0, 10.0, 0.1, 0.5)
    assert (paper.init_epochs, paper.refine_epochs, paper.poses, paper.stages) == (100, 100, "stored", 2)
    assert (paper.loss, paper.loss_beta, paper.refine_rate, paper.bias_rate) == ("sum", 1.0, 1.0, 1.0)
    assert (released.loss, released.loss_beta, released.bias_rate, released.poses) == ("sum", 0.01, 2.0, "repeated")
    model = paper.model()
    assert model.refine == HeadConfig.pose_ren(SKELETONS["msra21"])
    ablation = make_config({"recipe": "paper", "refine_head": "without_structure"})
    assert ablation.refine_widths == (2304, 2048)
    assert ablation.model().refine == HeadConfig.without_structure(SKELETONS["msra21"])
    grid = make_config({"recipe": "paper", "init_head": "ren_9x6x6", "refine_head": "guided_4x6x6"}).model()
    assert (grid.init.map_dropout, grid.refine.map_dropout) == (0.5, 0.0)


@pytest.mark.parametrize(
    ("skeleton", "rotation", "shifts", "steps", "rates"),
    [
        ("nyu14", 15, (10, 0), 160_000, (1e-3, 1e-3)),
        ("icvl16", 15, (10, 10), 160_000, (1e-3, 1e-3)),
        ("msra21", 180, (10, 10), 80_000, (1e-2, 1e-3)),
    ],
)
def test_the_authors_settings_differ_between_datasets(
    skeleton: str, rotation: float, shifts: tuple[float, float], steps: int, rates: tuple[float, float]
) -> None:
    config = make_config({"recipe": "released", "skeleton": skeleton})
    assert (config.rotation, config.translation, config.refine_translation) == (rotation, *shifts)
    assert [plan.steps for plan in plan_phases(config, 100)] == [steps, steps, steps]
    assert (config.learning_rate, config.learning_rate * config.refine_rate) == pytest.approx(rates)


def test_epochs_become_steps_of_each_stages_own_training_set() -> None:
    config = make_config({"recipe": "paper", "batch": 10, "init_epochs": 3, "refine_epochs": 2, "stages": 3})
    plans = plan_phases(config, 25)
    assert [(plan.name, plan.samples, plan.steps) for plan in plans] == [
        ("init", 25, 8),
        ("stage_1", 25, 5),
        ("stage_2", 50, 10),
        ("stage_3", 75, 15),
    ]
    assert [plan.sets for plan in plans] == [(), (0,), (0, 1), (0, 1, 2)]
    repeated = plan_phases(dataclasses.replace(config, poses="repeated"), 25)
    assert [plan.sets for plan in repeated] == [(), (0,), (0, 0), (0, 0, 0)]
    assert make_config({"recipe": "paper", "init_steps": 7}).init_epochs == 0
    with pytest.raises(ValueError, match="the stream of synthetic frames has no end"):
        plan_phases(dataclasses.replace(config, poses="unrolled"), 0)


@pytest.mark.parametrize(
    "override",
    [
        *("learning_rate=0", "learning_rate=-1", "refine_rate=-2", "output_rate=-1", "bias_rate=0", "momentum=1"),
        *("momentum=-0.1", "weight_decay=-1", "clip=-1", "warmup=-5", "init_steps=-1", "refine_steps=-1"),
        *("init_epochs=-1", "seed=-1", "seed=4294967296", "cube=0", "cube=1500", "cube=0.15", "validate_every=-1"),
        *("log_every=0", "checkpoint_every=0", "validation_frames=0", "dropout=1", "dropout=-0.1", "rotation=400"),
        *("translation=-1", "scale=1", "depth_shift=-1", "difficulty=2", "decay=0", "decay=1.5", "loss_beta=0"),
        *("frames=0", "chunk=0", "reuse=0", "accumulate=0", "accumulate=65", "stages=21", "learning_rate=inf"),
    ],
)
def test_a_number_out_of_range_is_refused_by_name(override: str) -> None:
    name = override.partition("=")[0]
    with pytest.raises(ValueError, match=rf"^(the field )?{name} is .*; expected (at|a|\d)"):
        read_config(overrides=[override])


def test_batches_depend_on_the_step_alone() -> None:
    forward = SyntheticStream(SMALL)
    first = [forward.batch(step) for step in range(8)]
    again = SyntheticStream(SMALL)
    for step in (7, 2):  # any order, across chunks: steps 5 and 6 lie on the border of 32 shown frames
        batch = again.batch(step)
        assert torch.equal(batch.crop, first[step].crop)
        assert torch.equal(batch.pose, first[step].pose)
    parts = [again.batch(5, slice(start, start + 3)) for start in (0, 3)]
    assert torch.allclose(torch.cat([part.crop for part in parts]), first[5].crop, atol=1e-5)


def test_each_frame_is_shown_as_often_as_said() -> None:
    stream = SyntheticStream(dataclasses.replace(SMALL, batch=16, depth_shift=0.0))
    shown = [restore_pose(batch.pose, batch.transform) for batch in (stream.batch(0), stream.batch(1))]
    alike = torch.cdist(shown[0].flatten(1), shown[1].flatten(1)) < 1e-3
    assert torch.equal(alike.sum(0), torch.ones(16, dtype=torch.long))
    assert not torch.equal(alike, torch.eye(16, dtype=torch.bool))  # in another order
    assert not torch.allclose(
        stream.batch(0).crop.sum((1, 2, 3)).sort()[0], stream.batch(1).crop.sum((1, 2, 3)).sort()[0]
    )


def test_labels_move_with_the_augmented_crop() -> None:
    """The surface is found in front of the moved joints, as in a crop that was not moved."""
    stream = SyntheticStream(dataclasses.replace(SMALL, batch=64, chunk=64))
    batch = stream.batch(0)
    column = ((batch.pose[..., :2] + 1) * 47.5).round().long()
    inside = ((column >= 0) & (column < 96)).all(-1)
    at = column.clamp(0, 95)
    surface = batch.crop[torch.arange(64)[:, None], 0, at[..., 1], at[..., 0]]
    front = (batch.pose[..., 2] - surface)[inside & (surface < 1.0)] * 150.0
    assert float(inside.float().mean()) > 0.9
    assert float((surface[inside] < 1.0).float().mean()) > 0.9
    assert 5.0 < float(front.median()) < 25.0
    assert float((front > -10.0).float().mean()) > 0.95


def test_errors_are_zero_for_the_truth_and_known_for_a_shift() -> None:
    frames = render_tiles(SyntheticHands(2, "test"), 0, 12)
    truth = frames.poses(torch.arange(12))[None]
    assert float(stage_errors(truth, frames).max()) < 1e-2
    away = truth + torch.tensor([0.0, 0.0, 0.1])
    shift = stage_errors(away, frames)
    # 15 mm along the ray: a little more than along the axis.
    assert float(shift.min()) + 1e-3 >= 15.0
    assert float(shift.max()) < 19.0


def test_newton_schulz_makes_matrices_orthogonal() -> None:
    torch.manual_seed(0)
    for shape in ((3, 16, 144), (5, 40, 8), (1, 20, 32)):
        values = torch.linalg.svdvals(orthogonalize(torch.randn(shape)))
        assert float(values.min()) > 0.5
        assert float(values.max()) < 1.3


def test_muon_solves_a_small_regression() -> None:
    torch.manual_seed(0)
    x, target = torch.randn(256, 12), torch.randn(1, 7, 12)
    y = x @ target[0].T + 0.3
    weight, bias = torch.nn.Parameter(torch.zeros(1, 7, 12)), torch.nn.Parameter(torch.zeros(7))
    optimizer = Muon([{"params": [weight], "lr": 0.1}, {"params": [bias], "lr": 0.02, "orthogonal": False}])
    for step in range(300):
        for group, rate in zip(optimizer.param_groups, (0.1, 0.02), strict=True):
            group["lr"] = rate * (1 - step / 300)
        loss = torch.nn.functional.mse_loss(x @ weight[0].T + bias, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss) < 1e-3
    assert torch.allclose(weight, target, atol=0.05)
    with pytest.raises(ValueError, match="no closure"):
        optimizer.step(lambda: 0.0)


def test_muon_keeps_no_denormal_momentum() -> None:
    """The momentum of units without gradients decays; from about 1e-38 on each product would take a hundred cycles."""
    torch.manual_seed(0)
    parameters = [torch.nn.Parameter(torch.zeros(2, 8, 16)), torch.nn.Parameter(torch.zeros(16))]
    optimizer = Muon([{"params": parameters[:1]}, {"params": parameters[1:], "orthogonal": False}])
    for step in range(1000):
        for parameter in parameters:
            parameter.grad = torch.full_like(parameter, 1e-4)
            if step > 0:
                parameter.grad[..., :4] = 0.0
        optimizer.step()
        for parameter, name in zip(parameters, ("momentum", "mean"), strict=True):
            momentum = optimizer.state[parameter][name]
            assert bool(((momentum == 0) | (momentum.abs() >= 1e-15)).all())
            assert bool((momentum[..., 4:] > 1e-6).all())
    assert bool((optimizer.state[parameters[0]]["momentum"][..., :4] == 0).all())


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer": "adamw", "learning_rate": 1e-3},
        {"optimizer": "sgd", "learning_rate": 0.1},
        {"precision": "bf16"},
        {"initial": "mean", "init_steps": 0},
        {"refine_head": "guided_9x6x6", "init_head": "ren_4x6x6"},
    ],
)
def test_every_kind_of_training_runs(tmp_path: Path, change: dict[str, object]) -> None:
    steps = {"init_steps": 3, "refine_steps": 3, "validate_every": 3, "validation_frames": 8, "stages": 2, "warmup": 1}
    config = dataclasses.replace(SMALL, **{**steps, **change})
    model = Trainer(config, tmp_path).run()
    assert load(tmp_path / "model.safetensors").config == model.config
    last = (tmp_path / "log.csv").read_text().splitlines()[-1].split(",")
    errors = [float(error) for error in last[-1].split()]
    assert len(errors) == 4
    assert all(20.0 < error < 400.0 for error in errors)


def test_accumulated_parts_make_the_same_step(tmp_path: Path) -> None:
    steps = {"init_steps": 2, "refine_steps": 2, "validate_every": 0, "stages": 2}
    models = [
        Trainer(dataclasses.replace(SMALL, accumulate=parts, **steps), tmp_path / str(parts)).run() for parts in (1, 3)
    ]
    for a, b in zip(*(model.parameters() for model in models), strict=True):
        assert torch.allclose(a, b, atol=1e-3)


def test_synthetic_frames_have_no_pose_file(tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL, initial="poses.txt", init_steps=0, validate_every=0)
    with pytest.raises(ValueError, match="give 'init' or 'mean'"):
        Trainer(config, tmp_path).run()
    with pytest.raises(FileNotFoundError):
        open_stream(dataclasses.replace(SMALL, data=str(tmp_path / "none.pack")), "init")


def test_a_short_training_halves_the_mean_pose_s_error(tmp_path: Path) -> None:
    """Init-CNN and two stages, from nothing, in about 20 seconds."""
    config = TrainConfig(
        channels=(8, 16, 32),
        init_widths=(64, 64),
        refine_widths=(16, 64),
        batch=16,
        init_steps=330,
        refine_steps=120,
        stages=2,
        chunk=512,
        reuse=40,
        validate_every=1000,
        validation_frames=16,
    )
    model = Trainer(config, tmp_path / "run").run()
    unseen = render_tiles(SyntheticHands(5, "test"), 0, 64)
    errors = stage_errors(stage_poses(model, unseen.crop(96), stages=2), unseen).mean((1, 2))
    mean = float(stage_errors(model.mean_pose.expand(1, 64, -1, -1), unseen).mean())
    assert mean > 75.0  # turned over the whole circle, the mean pose is a bad guess
    assert float(errors[-1]) < mean / 2
    results = bundle(tmp_path / "run", "Made by a test.", tmp_path / "small.safetensors", frames=8)
    card = (tmp_path / "small.md").read_text()
    assert [result.kind for result in results] == list(SPLIT_KINDS)
    assert all(
        f"| {result.kind} | {result.mean_pose_mm:.2f} | {result.stage_mm[0]:.2f} |" in card for result in results
    )
    assert f"{sum(p.numel() for p in model.parameters()):,}" in card
    assert isinstance(load(tmp_path / "small.safetensors"), PoseREN)


def test_a_step_makes_its_batch_in_few_operations() -> None:
    """Each is a launch on a GPU. All but the crop is made once a turn through the frames."""

    class Counting(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = function(*args, **(kwargs or {}))
            shares = isinstance(result, torch.Tensor) and any(
                isinstance(given, torch.Tensor)
                and given.untyped_storage().data_ptr() == result.untyped_storage().data_ptr()
                for given in args
            )
            self.count += not shares
            return result

    stream = SyntheticStream(dataclasses.replace(SMALL, batch=4))
    stream.batch(0)
    with Counting() as step:
        stream.batch(1)
    with Counting() as turn:
        stream.batch(4)
    assert step.count == 3  # frames gathered, the cube filled in, crops made
    assert turn.count > 100
