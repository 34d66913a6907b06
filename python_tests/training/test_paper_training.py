# SPDX-License-Identifier: MIT
"""The recipes "paper" and "released" train as the paper and the authors' code do."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.upright_hands import write_nyu
from torch import Tensor

from poseren_ext.cli import main
from poseren_ext.datasets.packs.dataset import PackedDataset
from poseren_ext.evaluation.metrics import joint_errors
from poseren_ext.geometry.camera import uvd_to_xyz
from poseren_ext.geometry.crop_transforms import move_pose
from poseren_ext.io.pose_files import read_poses, write_poses
from poseren_ext.models import load
from poseren_ext.ops import depth_crop, normalize_pose
from poseren_ext.training import TrainConfig, Trainer, make_config, read_config
from poseren_ext.training.pack_batches import CropBatch

TINY = {"channels": [4, 8, 8], "init_widths": [16, 16], "refine_widths": [8, 8], "skeleton": "nyu14"}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def caffe_loss(pose: Tensor, target: Tensor, sigma: float) -> Tensor:
    """Caffe's SmoothL1Loss layer, written out: summed over all numbers, divided by the batch."""
    x = (pose - target).abs()
    each = torch.where(x < 1 / sigma**2, 0.5 * (sigma * x) ** 2, x - 0.5 / sigma**2)
    return each.sum() / len(pose)


@pytest.mark.parametrize("kind", ["init", "refine"])
@pytest.mark.parametrize(("recipe", "sigma", "bias_rate"), [("paper", 1.0, 1.0), ("released", 10.0, 2.0)])
def test_five_steps_are_caffes_update_across_a_drop_of_the_learning_rate(
    recipe: str, sigma: float, bias_rate: float, kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"init_steps": 8, "refine_steps": 8, "batch": 8, "frames": 24, "validate_every": 0, "stages": 1}
    config = make_config({**TINY, **fields, "recipe": recipe, "learning_rate": 0.02, "refine_rate": 1.0})
    trainer = Trainer(config, tmp_path)
    if kind == "refine":
        trainer.start_phase("refine")
    parts = {"init": [trainer.model.init], "refine": [trainer.model.backbone, trainer.model.head]}[kind]
    with torch.no_grad():  # larger than the recipe's 0.001, so that gradients are too
        for part in parts:
            for parameter in part.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    weights = {id(p): p.detach().double().clone() for part in parts for p in part.parameters()}
    velocity = {key: torch.zeros_like(value) for key, value in weights.items()}
    masks: list[Tensor] = []

    def dropout(hidden: Tensor, p: float, training: bool = True) -> Tensor:
        masks.append((torch.rand(hidden.shape) >= p).to(hidden.dtype) / (1 - p))
        return hidden * masks[-1]

    monkeypatch.setattr("torch.nn.functional.dropout", dropout)
    for step in range(5):
        rate = 0.02 * 0.1 ** (step // 2)  # 8 steps: a tenth at every second one
        batch = trainer.stream.batch(step)
        pose = move_pose(trainer.poses[0][batch.index], batch.transform) if kind == "refine" else None
        masks.clear()
        trainer.advance(1)
        assert len(masks) == 2
        given = iter(list(masks))
        monkeypatch.setattr("torch.nn.functional.dropout", lambda h, p, training=True, g=given: h * next(g))
        after = {id(p): p.detach().clone() for part in parts for p in part.parameters()}
        modules = [part.double() for part in parts]
        with torch.no_grad():
            for part in modules:
                for p in part.parameters():
                    p.copy_(weights[id(p)])
        crop = batch.crop.double()
        features = crop if kind == "init" else modules[0](crop)
        predicted = modules[0](crop) if kind == "init" else modules[1](features, pose)
        loss = caffe_loss(predicted, batch.pose.double(), sigma)
        for part in modules:
            part.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for part in modules:
            for name, p in part.named_parameters():
                assert p.grad is not None
                own = rate * (bias_rate if name.endswith("bias") else 1.0)
                velocity[id(p)] = 0.9 * velocity[id(p)] + own * (p.grad + 5e-4 * p.detach())
                weights[id(p)] = weights[id(p)] - velocity[id(p)]
                torch.testing.assert_close(after[id(p)].double(), weights[id(p)], atol=1e-6, rtol=0)
        assert max(float(v.abs().max()) for v in velocity.values()) > 1e-4  # it moves
        for part in parts:
            part.float()
            for p in part.parameters():
                p.data.copy_(after[id(p)])
            part.zero_grad()
        monkeypatch.setattr("torch.nn.functional.dropout", dropout)


class Stopped(Exception):  # noqa: N818 (it is no error)
    """The training was stopped by the test."""


class StopAt:
    """Makes trainers that stop before a step of a phase."""

    def __init__(self, phase: str, step: int) -> None:
        self.phase, self.step = phase, step

    def __call__(self, config: TrainConfig, folder: Path) -> Trainer:
        outer = self

        class Stopping(Trainer):
            def _train_step(self, batch: CropBatch) -> Tensor:
                if (self.phase, self.step) == (outer.phase, outer.step):
                    raise Stopped
                return super()._train_step(batch)

        return Stopping(config, folder)


def command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as status:
        main([str(argument) for argument in arguments])
    return int(status.value.code or 0)


STAGED = {
    "recipe": "paper",
    "skeleton": "nyu14",
    "channels": [8, 16, 16],
    "init_widths": [64, 64],
    "refine_widths": [32, 64],
    "fully_connected": "he",
    "dropout": 0.0,
    "batch": 8,
    "learning_rate": 0.02,
    "refine_rate": 1.0,
    "init_epochs": 16,
    "refine_epochs": 12,
    "rotation": 15.0,
    "translation": 4.0,
    "refine_translation": 4.0,
    "validate_every": 0,
    "log_every": 10,
    "checkpoint_every": 20,
}


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthetic hands in NYU's format, checked, packed, and a two-stage run of the paper's recipe on them."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("staged")
    write_nyu(root / "nyu", {"train": 64, "test": 48})
    assert command("data", "check", root / "nyu", "--dataset", "nyu") == 0
    for split in ("train", "test"):
        assert command("data", "pack", root / "nyu", root / f"{split}.pack", "--split", split, "--workers", 0) == 0
    fields = [f"{name}={json.dumps(value)}" for name, value in STAGED.items() if name != "recipe"]
    assert command("train", "paper", *fields, f"data={root / 'train.pack'}", "--out", root / "run") == 0
    return root


def test_each_stage_says_which_samples_it_saw(staged: Path) -> None:
    init, first, second = json.loads((staged / "run" / "phases.json").read_text())
    assert (init["phase"], init["samples_per_epoch"], init["steps"]) == ("init", 64, 16 * 8)
    assert [(part["set"], part["from"], part["samples"]) for part in first["initial_poses"]] == [
        ("P^0", "Init-CNN", 64)
    ]
    assert [(part["set"], part["from"], part["samples"]) for part in second["initial_poses"]] == [
        ("P^0", "Init-CNN", 64),
        ("P^1", "R^1(P^0)", 64),
    ]
    assert second["samples_per_epoch"] == 2 * first["samples_per_epoch"] == 128
    assert (first["steps"], second["steps"]) == (12 * 8, 12 * 16)


def test_the_second_stage_starts_from_what_the_first_predicts_on_frames_as_they_are(
    staged: Path, tmp_path: Path
) -> None:
    """Stopped at the start of stage 2: the checkpoint holds R^1's training set; the sample moves with its crop."""
    run = tmp_path / "run"
    config = read_config(staged / "run" / "config.toml")
    with pytest.raises(Stopped):
        StopAt("stage_2", 0)(config, run).run()
    trainer = Trainer(config, run, resume=True)
    assert (trainer.phase, trainer.step, len(trainer.poses)) == ("stage_2", 0, 2)
    assert trainer.stream.samples == 2 * 64
    pack = PackedDataset(config.data)
    uvd, centers = torch.from_numpy(pack.uvd.copy()), torch.from_numpy(pack.centers.copy())
    truth = normalize_pose(uvd, centers, pack.info.camera)
    depth = torch.stack([pack[index].depth.float() for index in range(8)])
    crop = depth_crop(depth, centers[:8], pack.info.camera)
    with torch.inference_mode():
        initial = trainer.model.eval().init(crop)
    torch.testing.assert_close(trainer.poses[0][:8], initial, atol=2e-3, rtol=0)
    only_one = dataclasses.replace(config, stages=1)
    first = Trainer(only_one, tmp_path / "one").run()
    with torch.inference_mode():
        refined = first.head(first.backbone(crop), trainer.poses[0][:8])
    torch.testing.assert_close(trainer.poses[1][:8], refined, atol=2e-3, rtol=0)
    batch = trainer.stream.batch(3)
    assert trainer._initial is not None
    given = trainer._initial(batch, batch.crop)
    for sample, pose, transform, label in zip(batch.index, given, batch.transform, batch.pose, strict=True):
        chosen, frame = divmod(int(sample), 64)
        stored = trainer.poses[chosen][frame : frame + 1]
        torch.testing.assert_close(pose, move_pose(stored, transform[None])[0])
        torch.testing.assert_close(label, move_pose(truth[frame : frame + 1], transform[None])[0], atol=1e-4, rtol=0)
    convolutions = zip(trainer.model.backbone.parameters(), trainer.model.init.backbone.parameters(), strict=True)
    assert all(torch.equal(own, inits) for own, inits in convolutions)


@pytest.mark.parametrize(("phase", "step"), [("stage_1", 37), ("stage_2", 0), ("stage_2", 65)])
def test_a_stopped_stage_resumes_to_the_same_bits(phase: str, step: int, staged: Path, tmp_path: Path) -> None:
    config = read_config(staged / "run" / "config.toml")
    with pytest.raises(Stopped):
        StopAt(phase, step)(config, tmp_path / "run").run()
    Trainer(config, tmp_path / "run", resume=True).run()
    resumed, whole = load(tmp_path / "run" / "model.safetensors"), load(staged / "run" / "model.safetensors")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name


def test_the_error_falls_from_stage_to_stage_on_unseen_subjects(staged: Path) -> None:
    pack = PackedDataset(staged / "test.pack")
    centers, labels = staged / "centers.txt", staged / "labels.txt"
    write_poses(centers, pack.centers[:, None])
    write_poses(labels, pack.uvd)
    errors = []
    for stages in range(3):
        out = staged / f"P{stages}.txt"
        inputs = [staged / "nyu" / "test", "--pattern", "depth_1_*", "--camera", "nyu", "--centers", centers]
        model = ["--model", staged / "run" / "model.safetensors", "--stages", stages]
        assert command("predict", *inputs, *model, "--out", out) == 0
        assert command("eval", "--dataset", "nyu", "--gt", labels, "--pred", out) == 0
        predicted = torch.from_numpy(read_poses(out, joints=14, frames=len(pack)))
        xyz = [uvd_to_xyz(uvd.double(), pack.info.camera) for uvd in (predicted, torch.from_numpy(pack.uvd.copy()))]
        errors.append(float(joint_errors(*xyz).mean()))
    assert errors[0] > errors[1] > errors[2], errors
