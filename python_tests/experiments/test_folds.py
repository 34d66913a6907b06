# SPDX-License-Identifier: MIT
"""MSRA's nine folds from one command, on a small folder in its format."""

from pathlib import Path

import numpy as np
import pytest
from helpers.command_line import exit_status
from helpers.dataset_trees import msra_tree
from helpers.docs_blocks import block_not_run, changed, commands

from poseren_ext.datasets.msra import MSRA
from poseren_ext.experiments.folds import prepare_folder
from poseren_ext.io.pose_files import read_poses

SMALL = (
    *("init_steps=1", "refine_steps=1", "batch=4", "channels=[4, 4, 8]", "init_widths=[8, 8]", "refine_widths=[8, 8]"),
    *("stages=1", "validate_every=0", "init_epochs=0", "refine_epochs=0"),
)


def run(root: Path, out: Path, *fields: str) -> int:
    """The command of docs/data.md with small networks."""
    (command,) = commands(block_not_run("data.md", "poseren folds"))
    _, *arguments = changed(command, *fields, "--workers", "0", device="cpu", out=str(out))
    return exit_status(*[root if argument == "msra/" else argument for argument in arguments])


def test_nine_folds_are_trained_predicted_and_joined(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, out = tmp_path / "msra", tmp_path / "folds"
    msra_tree(root)
    assert run(root, out, *SMALL) == 0, capsys.readouterr().err
    text = capsys.readouterr().out
    everyone = MSRA(root, "all")
    np.testing.assert_allclose(read_poses(out / "labels.txt"), everyone.uvd, atol=1e-3)
    joined = read_poses(out / "predictions.txt", joints=21, frames=len(everyone))
    for subject in range(9):
        own = read_poses(out / f"P{subject}.txt")
        of_subject = [i for i, name in enumerate(everyone.subjects) if name == f"P{subject}"]
        np.testing.assert_array_equal(joined[of_subject], own)
        assert f"P{subject}" in text
        config = (out / f"P{subject}" / "config.toml").read_text()
        assert f"without-P{subject}.pack" in config
        assert 'skeleton = "msra21"' in config
    assert not list(out.glob("*.pack"))
    assert (out / "folds" / "viewpoints.png").exists()
    assert "all subjects" in text
    # A run that was stopped continues: models that are there are not trained again.
    model = (out / "P3" / "model.safetensors").read_bytes()
    (out / "P3.txt").unlink()
    assert run(root, out, *SMALL) == 1
    assert "--resume continues the folds" in capsys.readouterr().err
    assert run(root, out, *SMALL, "--resume") == 0, capsys.readouterr().err
    assert (out / "P3" / "model.safetensors").read_bytes() == model
    np.testing.assert_array_equal(read_poses(out / "predictions.txt"), joined)


def test_an_earlier_call_is_replaced_when_asked_and_nothing_else(tmp_path: Path) -> None:
    for name in ("P0.txt", "predictions.txt", "notes.txt", "P4/checkpoint.safetensors", "P4/mine.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    with pytest.raises(FileExistsError, match="resume=True continues the folds"):
        prepare_folder(tmp_path, overwrite=False, resume=False)
    prepare_folder(tmp_path, overwrite=False, resume=True)
    assert (tmp_path / "P0.txt").exists()
    prepare_folder(tmp_path, overwrite=True, resume=False)
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["P4/mine.txt", "notes.txt"]


def test_another_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, tmp_path / "out", *SMALL) == 1
    assert "MSRA's labels" in capsys.readouterr().err
