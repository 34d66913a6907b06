# SPDX-License-Identifier: MIT
"""Training on a packed dataset: Init-CNN, given initial poses, the mean pose; what does not fit is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.dataset_trees import nyu_tree

from poseren_ext.datasets.nyu import NYU
from poseren_ext.datasets.packs.dataset import PackedDataset
from poseren_ext.datasets.packs.writer import write_pack
from poseren_ext.geometry.crop_transforms import move_pose
from poseren_ext.io.pose_files import PoseFileError, write_poses
from poseren_ext.models import PoseREN
from poseren_ext.ops import normalize_pose
from poseren_ext.training import TrainConfig, Trainer
from poseren_ext.training.initial_poses import initial_poses
from poseren_ext.training.streams import open_stream

FRAMES = 10


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """A tiny training on a tiny pack, beside it a file of initial poses, 5 pixels off the labels."""
    root = tmp_path_factory.mktemp("pack")
    nyu_tree(root / "nyu", frames=FRAMES, splits=("train",))
    write_pack(NYU(root / "nyu"), root / "nyu.pack")
    write_poses(root / "initial.txt", PackedDataset(root / "nyu.pack").uvd + np.float32([5.0, 0.0, 0.0]))
    return TrainConfig(
        data=str(root / "nyu.pack"),
        validation_data=str(root / "nyu.pack"),
        skeleton="nyu14",
        initial=str(root / "initial.txt"),
        channels=(4, 8, 8),
        init_widths=(16, 16),
        refine_widths=(8, 8),
        batch=4,
        init_steps=0,
        refine_steps=4,
        stages=2,
        warmup=1,
        validate_every=4,
    )


def test_a_pack_trains_from_its_own_init_cnn(tmp_path: Path, config: TrainConfig) -> None:
    model = Trainer(dataclasses.replace(config, initial="init", init_steps=4), tmp_path).run()
    pack = PackedDataset(config.data)
    uvd, centers = torch.from_numpy(pack.uvd.copy()), torch.from_numpy(pack.centers.copy())
    assert torch.allclose(model.mean_pose, normalize_pose(uvd, centers, pack.info.camera).mean(0), atol=1e-3)
    rows = (tmp_path / "log.csv").read_text().splitlines()
    assert [len(row.split(",")[-1].split()) for row in rows[1:]] == [1, 4]  # validated on the pack, each stage


def test_a_pack_trains_from_the_poses_of_a_file(tmp_path: Path, config: TrainConfig) -> None:
    Trainer(config, tmp_path).run()
    stream = open_stream(config, "refine")
    batch = stream.batch(1)
    given = initial_poses(config, PoseREN.build(config.model()), stream)(batch, batch.crop)
    pack = PackedDataset(config.data)
    uvd, centers = (torch.from_numpy(part[batch.index.numpy()].copy()) for part in (pack.uvd, pack.centers))
    expected = normalize_pose(uvd + torch.tensor([5.0, 0.0, 0.0]), centers, pack.info.camera)
    assert torch.allclose(given, move_pose(expected, batch.transform), atol=1e-4)
    assert float((given - batch.pose).norm(dim=-1).mean()) > 0.01


def test_what_does_not_fit_the_pack_is_refused(tmp_path: Path, config: TrainConfig) -> None:
    with pytest.raises(ValueError, match="shows nyu14 right; the configuration says msra21 right"):
        Trainer(dataclasses.replace(config, skeleton="msra21"), tmp_path)
    with pytest.raises(ValueError, match="shows nyu14 right; the configuration says nyu14 left"):
        Trainer(dataclasses.replace(config, hand="left"), tmp_path)
    with pytest.raises(ValueError, match="name a pack"):
        Trainer(dataclasses.replace(config, validation_data=""), tmp_path)
    Path(tmp_path / "short.txt").write_text(" ".join(["1.0"] * 42) + "\n")
    with pytest.raises(PoseFileError, match="1 lines; the labels have 10"):
        Trainer(dataclasses.replace(config, initial=str(tmp_path / "short.txt")), tmp_path / "run").run()


def test_the_released_recipe_shifts_for_init_cnn_alone(config: TrainConfig) -> None:
    config = dataclasses.replace(config, translation=10.0, refine_translation=0.0)
    shifts = [open_stream(config, phase).batch(0).transform[:, :, 2].abs().max() for phase in ("init", "refine")]
    assert float(shifts[0]) > 0.02
    assert float(shifts[1]) == 0.0
