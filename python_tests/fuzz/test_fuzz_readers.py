# SPDX-License-Identifier: MIT
"""Readers with hostile files: earlier findings, seeds, a thousand mutations of each, and decompression bombs."""

from __future__ import annotations

import importlib.util
import io
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from pathlib import Path
from random import Random

import numpy as np
import pytest
from helpers.trust_record import record

from fuzz import NATIVE, OPS, READERS
from fuzz.__main__ import FINDINGS, kept
from fuzz.__main__ import main as fuzz_main
from fuzz.op_cases import CASES
from fuzz.op_targets import NATIVE_TARGETS
from fuzz.targets import TARGETS
from poseren_ext.datasets.base import DatasetError, read_table
from poseren_ext.io import number_tables
from poseren_ext.io.depth_files import MAX_ARRAY_BYTES, MAX_FILE_BYTES, MAX_PIXELS, FrameError, find_frames, read_depth
from poseren_ext.io.pose_files import PoseFileError, read_poses

SECONDS = 1.2
"""Of mutations of each reader, 50 to 1500: what `make fuzz` does for longer."""


def test_the_driver_lists_every_target() -> None:
    assert tuple(TARGETS) == READERS
    assert tuple(CASES) == OPS
    assert tuple(NATIVE_TARGETS) == NATIVE
    assert sum(path.stat().st_size for path in FINDINGS.iterdir()) < 200_000


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", READERS)
def test_mutated_files_are_read_right_or_refused(name: str, tmp_path: Path) -> None:
    target, random, accepted, tried = TARGETS[name], Random(f"{name} 1"), 0, 0
    path = tmp_path / f"case{target.suffix}"
    seeds = target.seeds()
    assert all(target.run(path, seed) for seed in seeds[:2])
    for finding in kept(name):
        target.run(path, finding.read_bytes())
    end = time.monotonic() + SECONDS
    while tried < 50 or (tried < 1500 and time.monotonic() < end):
        data = target.mutate(random, random.choice(seeds))
        began = time.monotonic()
        accepted += target.run(path, data)
        assert time.monotonic() - began < 10
        tried += 1
    assert 0 < accepted < tried  # both ways are taken
    record("readers", name, tried=tried, accepted=accepted, replayed=len(kept(name)))


def test_the_fuzzer_is_guided_and_keeps_what_guides_it(tmp_path: Path) -> None:
    """The driver of `make fuzz`, briefly; the second run begins with the corpus of the first."""
    kept_inputs = []
    for _ in range(2):
        command = [sys.executable, "-m", "fuzz", "--seconds=3", "--jobs=2", f"--corpus={tmp_path}", "labels", "bin"]
        done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        reported = sorted(line.split(":")[1].strip() for line in done.stdout.splitlines())  # in any order
        assert reported == ["bin", "labels"]
        kept_inputs.append({path.name for path in tmp_path.glob("*/corpus/*")})
    if importlib.util.find_spec("atheris"):
        assert "atheris" in done.stdout
        assert len(kept_inputs[0]) > 2
        assert len(kept_inputs[1] & kept_inputs[0]) > 2
    else:
        assert "generator" in done.stdout


def test_a_finding_is_told_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fuzz.__main__.FINDINGS", tmp_path)
    python = sys.executable
    for ending in ("raise KeyError('oops')", "__import__('os').abort()"):  # as an exception and as a crash
        script = tmp_path / "python"
        script.write_text(f"#!{python}\nimport sys\nfrom pathlib import Path\n")
        with script.open("a") as file:
            file.write(f"Path(sys.argv[5], 'case.txt').write_bytes({ending[:5].encode()!r})\n{ending}\n")
        script.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(script))
        monkeypatch.setattr(sys, "argv", ["fuzz", "labels", f"--corpus={tmp_path / 'corpus'}"])
        with pytest.raises(SystemExit, match="findings in labels"):
            fuzz_main()
        (finding,) = tmp_path.glob("labels-*")
        assert finding.read_bytes() == ending[:5].encode()
        finding.unlink()


def png(width: int, height: int, compressed: bytes) -> bytes:
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)), (b"IDAT", compressed), (b"IEND", b"")]
    parts = [struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(("width", "height"), [(2**31 - 1, 2**31 - 1), (8192, 8192), (0, 8), (2**25, 1)])
def test_a_png_bomb_is_refused_before_it_is_decoded(
    tmp_path: Path, width: int, height: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png(width, height, zlib.compress(bytes(10**6))))
    monkeypatch.setattr("cv2.imdecode", None)  # calling it would be a TypeError
    with pytest.raises(FrameError, match=rf"its header says {width}x{height} pixels; expected 1 to {MAX_PIXELS}"):
        read_depth(path)


def zip_with(content: bytes, claimed: int, path: Path) -> Path:
    """An .npz of one member that claims another size than it has."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("depth.npy", content)
    data = bytearray(path.read_bytes())
    directory = data.rindex(b"PK\x01\x02")
    data[directory + 24 : directory + 28] = struct.pack("<I", claimed)
    path.write_bytes(data)
    return path


def npy(shape: tuple[int, ...], content: bytes) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<u2", "fortran_order": False, "shape": shape})
    return file.getvalue() + content


def test_an_npz_bomb_is_refused_by_its_size(tmp_path: Path) -> None:
    path = zip_with(npy((4, 4), bytes(32)), MAX_ARRAY_BYTES + 1, tmp_path / "bomb.npz")
    with pytest.raises(FrameError, match=f"takes {MAX_ARRAY_BYTES + 1} bytes unpacked; expected at most"):
        read_depth(path)


def test_an_npz_that_grows_beyond_what_it_claims_is_cut_there(tmp_path: Path) -> None:
    path = zip_with(npy((4, 4), bytes(50_000_000)), 160, tmp_path / "bomb.npz")
    assert path.stat().st_size < 10**6
    with pytest.raises(FrameError, match="not a readable numpy file"):
        read_depth(path)


def test_a_header_that_claims_more_than_there_is(tmp_path: Path) -> None:
    for name, shape in (("a.npz", (2**20, 2**30)), ("b.npz", (2**62, 4))):
        path = tmp_path / name
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("depth.npy", npy(shape, bytes(32)))
        with pytest.raises(FrameError, match="32 bytes for an array"):
            find_frames([path])[0].read()


def test_files_too_large_to_read_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large.png"
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)  # a hole: takes no disk
    with pytest.raises(FrameError, match=f"expected at most {MAX_FILE_BYTES} for one frame"):
        read_depth(path)
    monkeypatch.setattr(number_tables, "MAX_FILE_BYTES", 10)
    (tmp_path / "a.txt").write_text("1 2 3\n4 5 6\n")
    with pytest.raises(PoseFileError, match="12 bytes; expected at most 10: split it"):
        read_poses(tmp_path / "a.txt")


@pytest.mark.parametrize("name", ["/etc/passwd", "../a.png", "a/../../b.png"])
def test_a_table_names_no_file_outside_its_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "labels.txt").write_text(f"a.png 1 2 3\n{name} 1 2 3\n")
    with pytest.raises(DatasetError, match="outside the dataset's folder"):
        read_table(tmp_path / "labels.txt", 3, "a name and three numbers")


@pytest.mark.parametrize("word", ["1_0", "0x10", "1e999", "nan"])
def test_numbers_that_only_some_programs_read(tmp_path: Path, word: str) -> None:
    (tmp_path / "labels.txt").write_text(f"1 2 3\n1 2 {word}\n")
    with pytest.raises(PoseFileError, match="line 2, value 3"):
        read_poses(tmp_path / "labels.txt")
    (tmp_path / "table.txt").write_text(f"a 1 2 3\nb 1 2 {word}\n")
    with pytest.raises(DatasetError, match="line 2"):
        read_table(tmp_path / "table.txt", 3, "a name and three numbers")
