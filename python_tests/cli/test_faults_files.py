# SPDX-License-Identifier: MIT
"""Faults while writing: earlier and finished files stay intact, and the message names the file."""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers.command_line import exit_status
from helpers.dataset_trees import icvl_tree
from helpers.faults import full_disk, make_read_only
from helpers.small_models import save_small_model, small_model
from helpers.trust_record import record

import poseren_ext
from poseren_ext._utils.atomic_files import atomic_file, atomic_path, write_atomic
from poseren_ext.datasets.icvl import ICVL
from poseren_ext.datasets.packs.dataset import PackedDataset
from poseren_ext.datasets.packs.writer import write_pack
from poseren_ext.io.depth_files import FrameFile
from poseren_ext.io.pose_files import write_poses
from poseren_ext.models import save
from poseren_ext.plotting import style
from poseren_ext.synthetic import SyntheticHands
from poseren_ext.synthetic.export import export_frames
from poseren_ext.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint

PACKAGE = Path(poseren_ext.__file__).parent

# Calls that write or execute files without the atomic writer, and the files that may contain them.
SUSPECT = {
    "write_text",
    "write_bytes",
    "imwrite",
    "savetxt",
    "savez",
    "savez_compressed",
    "copyfile",
    "copytree",
}
SUSPECT |= {"extractall", "unpack_archive", "symlink_to", "VideoWriter"}
MODULE_SUSPECT = {("torch", "save"), ("torch", "load"), ("np", "save"), ("np", "load"), ("json", "dump")}
MODULE_SUSPECT |= {
    (name, call) for name in ("pickle", "marshal", "shelve") for call in ("load", "loads", "dump", "dumps")
}
ALLOWED = {
    ("_utils/atomic_files.py", "open"),  # the one writer
    ("training/log.py", "open"),  # the log does too
    ("live/recording.py", "open"),  # and a recording's lines
    ("cli/live.py", "open"),  # and a live session's, where --out names a file or a pipe
    ("live/recording.py", "save"),  # into an atomic file
    ("io/depth_files.py", "load"),  # with allow_pickle=False, see below
    ("io/joint_files.py", "savez_compressed"),  # into an atomic file, or to standard output
    ("io/camera_files.py", "load"),  # with allow_pickle=False, see below
    ("io/joint_layout.py", "load"),  # with allow_pickle=False, see below
    ("io/joint_tables.py", "load"),  # with allow_pickle=False, see below
    ("training/run_folder.py", "write_text"),  # into the draft of an atomic file
    ("synthetic/export.py", "savez_compressed"),  # into an atomic file
    ("synthetic/scene_export.py", "savez_compressed"),  # into an atomic file
    ("plotting/video.py", "open"),  # the draft of an atomic file
    ("live/mcap_log.py", "open"),  # grows during a session; readers take what is there
}


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            function = node.func
            owner = getattr(getattr(function, "value", None), "id", "")
            name = getattr(function, "attr", getattr(function, "id", ""))
            text = [a.value for a in (*node.args, *(k.value for k in node.keywords)) if isinstance(a, ast.Constant)]
            writes = name == "open" and any(isinstance(t, str) and set(t) & set("wax+") and len(t) < 4 for t in text)
            attribute = isinstance(function, ast.Attribute)
            called = name in SUSPECT if attribute else name in ("eval", "exec")
            if writes or called or (owner, name) in MODULE_SUSPECT:
                yield name, node


def test_every_file_is_written_by_the_one_writer_and_none_is_unpickled() -> None:
    sources = sorted(path for path in PACKAGE.rglob("*.py"))
    assert len(sources) > 100
    found = {(str(path.relative_to(PACKAGE)), name, call.lineno) for path in sources for name, call in calls(path)}
    strangers = sorted(entry for entry in found if entry[:2] not in ALLOWED)
    assert not strangers, f"write with poseren_ext._utils.atomic_files: {strangers}"
    for path in sources:
        for name, call in calls(path):
            if name == "load":
                assert any(k.arg == "allow_pickle" and k.value.value is False for k in call.keywords)  # type: ignore[attr-defined]


# --- every writer on a full and on a read-only disk -----------------------------------------------------------------


def _picture(path: Path) -> None:
    style.save(style.new_figure(4, 3), path)


def _write_by_path(path: Path) -> None:
    with atomic_path(path) as draft:
        draft.write_bytes(bytes(9999))


WRITERS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "model": ("a.safetensors", lambda path: save(small_model("msra21", spread=0.5), path)),
    "checkpoint": ("a.safetensors", lambda path: write_checkpoint(path, Checkpoint({"w": torch.zeros(5000)}, {}))),
    "poses": ("a.txt", lambda path: write_poses(path, np.ones((200, 14, 3)))),
    "text": ("a.json", lambda path: write_atomic(path, "x" * 9999)),
    "picture": ("a.png", _picture),
    "any other file": ("a.onnx", _write_by_path),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_a_failed_write_leaves_everything_as_it_was(
    name: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, write = WRITERS[name]
    path = tmp_path / file
    path.write_bytes(b"the last good one")
    write(tmp_path / f"b{path.suffix}")  # that it can be written, and all that is imported and cached on the way
    before = {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()}
    if fault == "full":
        with full_disk(1000), pytest.raises(OSError, match=rf"cannot write .*{file}"):
            write(path)
    else:
        make_read_only(monkeypatch)
        with pytest.raises(
            OSError, match=rf"cannot write .*{file}: Read-only file system; what was there is untouched"
        ):
            write(path)
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == before
    record("faults", f"{fault} disk while writing {name}", injected=1, kept="the file before")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes to read-only folders")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(PermissionError, match=r"cannot write .*a\.txt"):
        write_atomic(tmp_path / "a.txt", "text")


def test_faults_inside_the_block_are_passed_on_as_they_are(tmp_path: Path) -> None:
    for open_draft in (atomic_file, atomic_path):
        with pytest.raises(FileNotFoundError, match="the source is gone"), open_draft(tmp_path / "a.txt"):
            raise FileNotFoundError("the source is gone")
    assert not list(tmp_path.iterdir())


def test_exported_frames_end_with_their_list(tmp_path: Path) -> None:
    hands = SyntheticHands(1, "test", skeleton="msra21")
    with full_disk(2000), pytest.raises(OSError, match=r"cannot write .*000000\.png"):
        export_frames(hands, tmp_path / "set", 2)
    assert not [path for path in (tmp_path / "set").rglob("*") if path.is_file()]


# --- commands in the middle of their work ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    folder = tmp_path / "recording"
    folder.mkdir()
    rows, columns = np.mgrid[:120, :160]
    for i in range(7):
        disc = (rows - 60) ** 2 + (columns - 60 - 5 * i) ** 2 < 110
        cv2.imwrite(str(folder / f"{i}.png"), np.where(disc, 500, 0).astype(np.uint16))
    return folder


def predict(recording: Path, model: Path, out: Path, *more: str) -> int:
    given = ("--camera=120,120,80,60", f"--model={model}", f"--out={out}", "--batch=2")
    return exit_status("predict", recording, *given, *more)


def test_predict_on_a_full_disk_keeps_whole_lines_and_continues(
    recording: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(recording, model, tmp_path / "whole.txt") == 0
    whole = (tmp_path / "whole.txt").read_bytes()
    out = tmp_path / "out.txt"
    with full_disk(max(len(whole) * 5 // 7, (tmp_path / "whole.txt.json").stat().st_size + 100)):
        assert predict(recording, model, out) == 1
    assert "it holds 4 frames: make room, then resume" in " ".join(capsys.readouterr().err.split())
    assert out.read_bytes() == b"".join(whole.splitlines(keepends=True)[:4])
    assert predict(recording, model, out, "--resume") == 0
    assert out.read_bytes() == whole
    record("faults", "full disk during predict", injected=1, kept="all whole lines; resumed, byte-identical file")


def test_predict_when_a_frame_vanishes(
    recording: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = FrameFile.read

    def vanishing(self: FrameFile) -> object:
        (recording / "5.png").unlink(missing_ok=True)
        return read(self)

    monkeypatch.setattr(FrameFile, "read", vanishing)
    assert predict(recording, model, tmp_path / "out.txt") == 3
    assert "5.png: no such file" in " ".join(capsys.readouterr().err.split())
    assert "nan" in (tmp_path / "out.txt").read_text().splitlines()[5]
    record("faults", "a frame vanishing during predict", injected=1, kept="the 6 other frames; it is named")


def test_packing_when_a_frame_vanishes_keeps_the_last_pack(tmp_path: Path) -> None:
    icvl_tree(tmp_path / "icvl")
    dataset = ICVL(tmp_path / "icvl", "test")
    write_pack(dataset, tmp_path / "icvl.pack")
    before = (tmp_path / "icvl.pack").read_bytes()
    dataset.path(3).unlink()
    with pytest.raises(FileNotFoundError, match=f"{dataset.path(3).name}: no such file"):
        write_pack(dataset, tmp_path / "icvl.pack")
    assert (tmp_path / "icvl.pack").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["icvl", "icvl.pack"]
    record("faults", "a frame vanishing during data pack", injected=1, kept="the pack before; the frame is named")


def test_a_pack_that_is_deleted_or_replaced_is_read_to_its_end(tmp_path: Path) -> None:
    icvl_tree(tmp_path / "icvl")
    path = tmp_path / "icvl.pack"
    write_pack(ICVL(tmp_path / "icvl", "test"), path)
    pack = PackedDataset(path)
    write_pack(ICVL(tmp_path / "icvl", "train"), path)  # takes the name; the old file lives while it is mapped
    path.unlink()
    assert not list(pack.damaged())
    record("faults", "a pack replaced and deleted during its use", injected=2, kept="every frame, checksums right")


def test_a_checkpoint_survives_the_ones_that_fail(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    for step in range(4):
        write_checkpoint(path, Checkpoint({"w": torch.full((5000,), float(step))}, {"step": step}))
        with full_disk(1000), pytest.raises(OSError, match="the last good one is untouched"):
            write_checkpoint(path, Checkpoint({"w": torch.zeros(5000)}, {"step": 99}))
        assert read_checkpoint(path).state == {"step": step}
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [path.name, f"{path.name}.previous"]
    record("faults", "full disk at a checkpoint", injected=4, kept="the last good one and the one before")
