# SPDX-License-Identifier: MIT
"""Training on hands from every side, with Init-CNN learning beside the refining stages."""

from __future__ import annotations

from pathlib import Path

import torch
from helpers.interrupted_training import interrupt_training
from helpers.tiny_training import TINY

from poseren_ext.models import PoseREN
from poseren_ext.training import Trainer, make_config
from poseren_ext.training.synthetic_batches import SyntheticStream

_MIXED = {**TINY, "init_steps": 2, "palm_share": 0.5}


def _trained(folder: Path, **changes: object) -> dict[str, torch.Tensor]:
    model: PoseREN = Trainer(make_config({**_MIXED, **changes}), folder).run()
    return model.state_dict()


def test_init_cnn_learns_beside_the_stages_where_asked(tmp_path: Path) -> None:
    alone = _trained(tmp_path / "alone", refine_steps=1)
    left = _trained(tmp_path / "left", refine_steps=4)
    beside = _trained(tmp_path / "beside", refine_steps=4, init_every=2)
    name = "init.head.pose_weight"
    assert torch.equal(alone[name], left[name])
    assert not torch.equal(alone[name], beside[name])


def test_a_resumed_mixture_is_bit_identical(tmp_path: Path) -> None:
    whole = _trained(tmp_path / "whole", init_every=3)

    config = make_config({**_MIXED, "init_every": 3})
    interrupt_training(config, tmp_path / "cut", "refine", 4)
    resumed = Trainer(config, tmp_path / "cut", resume=True).run().state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_the_mixture_of_a_stream_follows_the_configuration() -> None:
    palms, mixed = (SyntheticStream(make_config({**TINY, "palm_share": share})).batch(0) for share in (1.0, 0.0))
    assert palms.pose.shape == mixed.pose.shape
    assert not torch.equal(palms.pose, mixed.pose)
