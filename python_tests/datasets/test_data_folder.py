# SPDX-License-Identifier: MIT
"""A folder of one's own frames as a dataset: what `poseren render` and `poseren live --record` write."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from helpers.command_line import exit_status
from torch.utils.data import DataLoader

from poseren_ext.datasets.base import DatasetError, NoCenterError
from poseren_ext.datasets.folder import Folder
from poseren_ext.datasets.packs.dataset import PackedDataset
from poseren_ext.datasets.packs.writer import write_pack
from poseren_ext.datasets.registry import dataset_name, detect, open_dataset
from poseren_ext.datasets.sample import collate
from poseren_ext.io.pose_files import read_poses
from poseren_ext.synthetic import SyntheticHands
from poseren_ext.synthetic.export import export_frames

FRAMES = 4


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own") / "frames"
    export_frames(SyntheticHands(3, "test"), folder, FRAMES)
    return folder


@pytest.fixture
def copied(rendered: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(rendered, tmp_path / "frames"))


@pytest.fixture
def recording(rendered: Path, tmp_path: Path) -> Path:
    """The same frames in units of 0.125 mm, of which the second has no pose."""
    folder = tmp_path / "recording"
    folder.mkdir()
    uvd, lines = read_poses(rendered / "labels.txt"), []
    for i in range(FRAMES):
        depth = cv2.imread(str(rendered / "depth" / f"{i:06d}.png"), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(folder / f"{i:06d}.png"), (depth.astype(np.uint32) * 8).clip(max=65535).astype(np.uint16))
        line: dict[str, Any] = {"frame": i, "outcome": "lost" if i == 1 else "tracked", "file": f"{i:06d}.png"}
        line |= {"hands": []}
        lines.append(line if i == 1 else line | {"hands": [{"hand": "right", "uvd": uvd[i].tolist()}]})
    fx, fy, cx, cy = map(float, (rendered / "camera.txt").read_text().split())
    camera = {"fx": fx, "fy": fy, "cx": cx, "cy": cy, "width": 640, "height": 480}
    (folder / "recording.json").write_text(json.dumps({"camera": camera, "depth_unit": 0.125}))
    (folder / "poses.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_what_render_writes_is_a_dataset(rendered: Path) -> None:
    assert detect(rendered) == "folder"  # and not ICVL, which has labels.txt too
    frames = open_dataset(rendered)
    assert len(frames) == FRAMES
    np.testing.assert_allclose(frames.uvd, read_poses(rendered / "labels.txt"), atol=1e-3)
    sample = frames[1]
    assert sample.depth.shape == (480, 640)
    np.testing.assert_allclose(sample.center, read_poses(rendered / "centers.txt")[1, 0], atol=1e-3)
    assert (frames.info.camera.width, frames.info.camera.height) == (640, 480)
    mirrored = open_dataset(rendered, hand="left")[1]
    assert torch.equal(mirrored.depth.int(), sample.depth.int().flip(-1))


def test_a_recording_is_a_dataset_of_its_frames_with_poses(rendered: Path, recording: Path) -> None:
    assert detect(recording) == "folder"
    frames = open_dataset(recording, centers=read_poses(rendered / "centers.txt")[[0, 2, 3], 0])
    assert frames.names == ["000000.png", "000002.png", "000003.png"]
    ours, theirs = frames[1].depth, open_dataset(rendered)[2].depth
    near = theirs.int() < 8000
    torch.testing.assert_close(ours[near], theirs[near].float())  # mm for any unit


@pytest.mark.parametrize(
    ("given", "name"), [("NYU", "nyu"), ("Icvl", "icvl"), (" MSRA ", "msra"), ("FOLDER", "folder")]
)
def test_names_of_datasets_in_any_case(given: str, name: str) -> None:
    assert dataset_name(given) == name


def _drop_camera(root: Path) -> None:
    (root / "camera.txt").unlink()


def _write(name: str, text: str) -> Callable[[Path], None]:
    return lambda root: (root / name).write_text(text) and None


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_drop_camera, "camera.txt: no such file; expected fx fy cx cy"),
        (_write("camera.txt", "1 2 3"), "camera.txt: 3 numbers; expected four numbers"),
        (_write("camera.txt", "-476 476 313 242"), "camera.txt: camera fx is -476.0"),
        (_write("labels.txt", "1 2 3\n"), "1 lines for 4 frames"),
        (_write("labels.txt", ("1 2 500 " * 15 + "\n") * 4), "15 joints; expected those of one of"),
        (_write("labels.txt", "1 2 x\n"), "line 1, value 3: 'x' is not a number"),
        (_write("list.txt", "../a.png\n"), "outside the folder"),
        (_write("list.txt", ""), "list.txt: empty"),
        (_write("recording.json", "{}"), "recording.json: not the settings of a recording"),
        (_write("centers.txt", "1 2 3\n"), "centers.txt"),
        (lambda root: (root / "depth" / "000002.png").unlink(), "000002.png: no such file"),
    ],
)
def test_damaged_folders(copied: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(copied)
    with pytest.raises((DatasetError, FileNotFoundError, ValueError), match=message):
        Folder(copied)


@pytest.mark.parametrize(
    ("line", "message"),
    [("{", "line 1: not the result"), ('{"hands": [{"uvd": [[1, 2]]}], "file": "a"}', "line 1: not the result")],
)
def test_damaged_recordings(recording: Path, line: str, message: str) -> None:
    (recording / "poses.jsonl").write_text(line + "\n")
    with pytest.raises(DatasetError, match=message):
        Folder(recording)


def test_own_frames_are_checked_packed_and_evaluated(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status("data", "check", copied) == 0
    out = capsys.readouterr().out
    assert "OK       folder all: 4 labelled frames" in out
    assert "mm behind the surface" in out
    pack = copied.parent / "own.pack"
    assert exit_status("data", "pack", copied, pack, "--workers", 0, "--dataset", "FOLDER") == 0
    assert PackedDataset(pack).info.skeleton == "msra21"
    assert exit_status("data", "pack", copied, copied.parent / "h.pack", "--workers", 0, "--skeleton", "hands17") == 0
    assert PackedDataset(copied.parent / "h.pack").info.skeleton == "hands17"
    capsys.readouterr()
    assert exit_status("eval", "--gt", copied, "--pred", copied / "labels.txt") == 0  # camera and joints of the folder
    assert "0.000" in capsys.readouterr().out


def test_own_frames_train_a_model_that_is_compared_on_them(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The experiment's errors are those of what `predict` writes with the same camera file and centres."""
    root = copied.parent
    pack, model, poses = root / "own.pack", root / "run" / "model.safetensors", root / "poses.txt"
    fields = ["channels=[4, 8, 8]", "init_widths=[8, 8]", "refine_widths=[8, 8]", "init_steps=1", "refine_steps=1"]
    fields += ["batch=4", "validate_every=0", "weight_dtype=float32"]
    assert exit_status("data", "pack", copied, pack, "--workers", 0) == 0
    assert exit_status("train", "compact", f"data={pack}", *fields, "--out", root / "run") == 0
    geometry = ["--centers", copied / "centers.txt", "--camera", copied / "camera.txt"]
    assert exit_status("predict", copied / "depth", "--model", model, *geometry, "--out", poses) == 0
    capsys.readouterr()
    assert exit_status("eval", "--gt", copied, "--pred", poses) == 0
    evaluated = capsys.readouterr().out
    options = ["--dataset", "folder", "--root", copied, "--weights", model, "--centers", copied / "centers.txt"]
    assert exit_status("experiment", "fig10", *options, "--out", root / "results") == 0
    assert f"recorded frames: FOLDER, test split, {FRAMES} frames" in capsys.readouterr().out
    camera = np.loadtxt(copied / "camera.txt")
    predicted, truth = (_in_space(read_poses(file), camera) for file in (poses, copied / "labels.txt"))
    error = np.linalg.norm(predicted - truth, axis=-1).mean()
    assert f"{error:.3f}" in evaluated
    result = json.loads((root / "results" / "fig10" / "result.json").read_text())
    assert result["error_mm"]["Pose-REN"][0][3] == pytest.approx(error, abs=0.01)


def _in_space(uvd: np.ndarray[Any, Any], camera: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    (fx, fy, cx, cy), (u, v, d) = camera, np.moveaxis(uvd.astype(np.float64), -1, 0)
    return np.stack([(u - cx) * d / fx, (v - cy) * d / fy, d], -1)


@pytest.mark.parametrize("workers", [0, 1])
def test_packing_skips_frames_without_a_hand_and_lists_them(
    copied: Path, capsys: pytest.CaptureFixture[str], workers: int
) -> None:
    (copied / "centers.txt").unlink()
    cv2.imwrite(str(copied / "depth" / "000000.png"), np.zeros((480, 640), np.uint16))
    frames = Folder(copied)
    with pytest.raises(NoCenterError, match=r"000000\.png: no pixel between"):
        write_pack(frames, copied.parent / "a.pack")
    pack = copied.parent / "own.pack"
    assert exit_status("data", "pack", copied, pack, "--workers", workers) == 0
    captured = capsys.readouterr()
    kept = [i for i in range(FRAMES) if ((frames.read(i) >= 1) & (frames.read(i) <= 650)).any()]
    assert 0 < len(kept) < FRAMES
    assert f"{len(kept)} frames" in captured.out
    assert f"WARNING: skipped {FRAMES - len(kept)} of 4 frames without a hand region: depth/000000.png" in captured.err
    packed = PackedDataset(pack)
    assert packed.names == [f"depth/{i:06d}.png" for i in kept]
    np.testing.assert_array_equal(packed.uvd, frames.uvd[kept])
    torch.testing.assert_close(packed[0].center, frames[kept[0]].center)
    assert not list(packed.damaged())


def test_an_unreadable_frame_does_not_end_packing(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copied / "depth" / "000002.png").write_bytes(b"\x89PNG damaged")
    assert exit_status("data", "pack", copied, copied.parent / "own.pack", "--workers", 0) == 3
    captured = capsys.readouterr()
    assert "ERROR: skipped:" in captured.err
    assert "000002.png" in captured.err
    assert "1 of 4 frames cannot be read" in captured.err
    assert len(PackedDataset(copied.parent / "own.pack")) == 3


def test_a_pack_of_nothing_is_refused(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copied / "centers.txt").unlink()
    for path in (copied / "depth").iterdir():
        cv2.imwrite(str(path), np.zeros((480, 640), np.uint16))
    assert exit_status("data", "pack", copied, copied.parent / "own.pack", "--workers", 0) == 1
    assert "no frame has a hand region" in capsys.readouterr().err
    assert not (copied.parent / "own.pack").exists()


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_of_a_data_loader_give_the_frames(rendered: Path, start: str) -> None:
    frames = Folder(rendered)
    batches = DataLoader(frames, batch_size=2, num_workers=1, collate_fn=collate, multiprocessing_context=start)
    for batch, first in zip(batches, (0, 2), strict=True):
        expected = collate([frames[first], frames[first + 1]])
        for name in ("depth", "camera", "uvd", "xyz", "center", "index"):
            torch.testing.assert_close(getattr(batch, name), getattr(expected, name), rtol=0, atol=0)
        assert batch.names == expected.names
