# SPDX-License-Identifier: MIT
"""kill -9 at random moments: finished output is intact, and a resumed run gives the result of an undisturbed one.

Four kills of each command in `make test`, sixty in `make soak` (POSEREN_KILLS).
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from random import Random

import cv2
import numpy as np
import pytest
import torch
from helpers.command_line import exit_status
from helpers.dataset_trees import icvl_tree
from helpers.faults import KILLS, killed, until_done
from helpers.live_frames import moving
from helpers.small_models import save_small_model
from helpers.trust_record import record
from safetensors.torch import load_file

from poseren_ext.datasets.packs.dataset import PackedDataset
from poseren_ext.io.pose_files import read_poses
from poseren_ext.training.checkpoint import read_checkpoint

TRAIN = (
    "channels=[4,8,8] init_widths=[16,16] refine_widths=[8,8] batch=8 init_steps=30 refine_steps=30 stages=2 chunk=16"
)
TRAIN += " reuse=2 warmup=2 log_every=1 validate_every=20 checkpoint_every=1 validation_frames=8"
CAMERA = "--camera=238,238,159.5,119.5"


@pytest.fixture
def random(request: pytest.FixtureRequest) -> Random:
    return Random(f"{request.node.name} 1")


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frames") / "recording"
    folder.mkdir()
    for i, depth in enumerate(moving(60)):
        cv2.imwrite(str(folder / f"{i:03d}.png"), depth)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")


def run(*arguments: object) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    status = exit_status(*arguments)
    torch.set_num_threads(before)
    assert status == 0


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.mark.timeout(60 + 20 * KILLS)
def test_train(tmp_path: Path, random: Random) -> None:
    run("train", "compact", *TRAIN.split(), "--out", tmp_path / "whole")
    folder, checkpoint = tmp_path / "run", tmp_path / "run" / "checkpoint.safetensors"
    steps = [0]

    def check() -> None:
        state = read_checkpoint(checkpoint).state
        steps.append(state["step"] + (20 if state["phase"] == "refine" else 0))
        assert steps[-1] >= steps[-2]
        text = (folder / "log.csv").read_bytes()
        assert text.endswith(b"\r\n")

    arguments = ["train", "compact", *TRAIN.split(), "--out", folder]
    kills = until_done(arguments, random, check, begun=checkpoint, again=("--resume",))
    assert kills == KILLS or steps[-1] > 0
    for name in ("model.safetensors", "checkpoint.safetensors"):
        one, other = load_file(folder / name), load_file(tmp_path / "whole" / name)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one), name
    logs = [list(csv.DictReader((tmp_path / part / "log.csv").open(newline=""))) for part in ("run", "whole")]
    # A resumed run restarts its running means at the checkpoint; with one row per step they are the same.
    kept = ("phase", "step", "loss", "learning_rate", "validation_mm")
    assert [[row[key] for key in kept] for row in logs[0]] == [[row[key] for key in kept] for row in logs[1]]
    assert names(folder) == names(tmp_path / "whole")  # no drafts of those that were killed
    record("faults", "kill -9 during train", injected=kills, kept="the last checkpoint; resumed, bit-identical")


@pytest.mark.timeout(60 + 20 * KILLS)
def test_predict(tmp_path: Path, recording: Path, model: Path, random: Random) -> None:
    arguments = ["predict", recording, CAMERA, "--model", model, "--batch", 1, "--out"]
    run(*arguments, tmp_path / "whole.txt")
    whole, out = (tmp_path / "whole.txt").read_bytes(), tmp_path / "out.txt"

    def check() -> None:
        lines = out.read_bytes()
        assert whole.startswith(lines)  # half a line at its end is dropped when the run is resumed

    kills = until_done([*arguments, out], random, check, begun=out, again=("--resume",))
    assert out.read_bytes() == whole
    assert len(read_poses(out)) == 60
    record("faults", "kill -9 during predict", injected=kills, kept="all whole lines; resumed, byte-identical file")


@pytest.mark.timeout(60 + 20 * KILLS)
def test_data_pack(tmp_path: Path, random: Random) -> None:
    icvl_tree(tmp_path / "icvl")
    folder, arguments = tmp_path / "packs", ["data", "pack", tmp_path / "icvl", "--workers", 0, "--split", "test"]
    folder.mkdir()
    pack = folder / "icvl.pack"
    run(*arguments, pack)
    before = pack.read_bytes()

    def check() -> None:
        assert pack.read_bytes() == before  # the old one or the new one: they are the same

    kills = until_done([*arguments, pack], random, check, begun=pack, again=("--overwrite",))
    check()
    assert not list(PackedDataset(pack).damaged())
    record("faults", "kill -9 during data pack", injected=kills, kept="the pack before, or the whole new one")


@pytest.mark.timeout(60 + 20 * KILLS)
def test_live_record(tmp_path: Path, recording: Path, model: Path, random: Random) -> None:
    frames = moving(60)
    for turn in range(KILLS):
        session = tmp_path / str(turn) / "session"
        arguments = ["live", "--source", "folder", recording, CAMERA, "--model", model, "--hand", "right"]
        arguments += ["--loop", "--headless", "--record", session, "--out", tmp_path / "out.jsonl"]
        assert killed(arguments, tmp_path / "out.jsonl", random.uniform(0, 0.3))
        (tmp_path / "out.jsonl").unlink()
        lines = [json.loads(line) for line in (session / "poses.jsonl").read_bytes().splitlines(keepends=True)]
        assert [line["frame"] for line in lines] == list(range(len(lines)))
        for line in lines:
            depth = cv2.imread(str(session / line["file"]), cv2.IMREAD_UNCHANGED)
            np.testing.assert_array_equal(depth, frames[line["frame"] % 60])
    record("faults", "kill -9 during live --record", injected=KILLS, kept="every frame that has a line; whole lines")
