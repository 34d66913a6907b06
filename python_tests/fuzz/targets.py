# SPDX-License-Identifier: MIT
"""One harness per reader: it must accept a file or raise a documented exception; anything else is a finding.

Accepted files are compared with an independent reader: a file that is silently read wrongly is a finding too.
"""

from __future__ import annotations

import io
import json
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import cv2
import numpy as np
import safetensors.numpy
import safetensors.torch
import torch
from helpers import caffe_files
from helpers.small_models import save_small_model

from fuzz.mutate import PLAIN, Mutation, npz_member, png_chunks, several
from poseren_ext.datasets.base import read_table
from poseren_ext.datasets.packs.dataset import PackedDataset
from poseren_ext.datasets.packs.writer import checksum
from poseren_ext.geometry.camera import CAMERAS
from poseren_ext.geometry.skeleton import Skeleton
from poseren_ext.inference.prediction_file import PredictionFile
from poseren_ext.inference.prediction_rows import FrameOutcome
from poseren_ext.io.depth_files import MAX_PIXELS, find_frames
from poseren_ext.io.joint_files import Format, joint_rows, write_rows
from poseren_ext.io.joint_layout import JointLayout
from poseren_ext.io.joint_tables import read_joint_table
from poseren_ext.io.pose_files import read_poses
from poseren_ext.models import load
from poseren_ext.models.caffe import networks
from poseren_ext.models.config import ModelConfig
from poseren_ext.training import read_config
from poseren_ext.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint

JOINTS = np.array([[10.0, -20.0, 400.0], [0.5, 5.0, 420.0]])

REFUSALS = (ValueError, OSError)
"""What a reader may raise for what is in a file."""


@dataclass(frozen=True)
class Target:
    """A reader under test.

    Attributes:
        suffix: of its files.
        seeds: valid files.
        read: reads one and checks what comes out; raises `REFUSALS`, or is at fault.
        mutations: that its files are mutated by.
        refusals: what it may raise.
    """

    suffix: str
    seeds: Callable[[], list[bytes]]
    read: Callable[[Path, bytes], None]
    mutations: tuple[Mutation, ...] = PLAIN
    refusals: tuple[type[Exception], ...] = REFUSALS

    def run(self, path: Path, data: bytes) -> bool:
        """Whether a file with these bytes is accepted.

        Raises:
            AssertionError, or anything but a refusal: a finding.
        """
        path.write_bytes(data)
        try:
            self.read(path, data)
        except self.refusals as error:
            refused = True
            message = str(error)
        else:
            refused, message = False, ""
        assert not refused or message, "a refusal without a message"
        return not refused

    def mutate(self, random: Random, data: bytes) -> bytes:
        """A mutation of a file."""
        return several(random, data, self.mutations)


# --- depth frames ---------------------------------------------------------------------------------------------------

DEPTH = (np.random.default_rng(0).integers(300, 1500, (12, 16)) * (np.indices((12, 16)).sum(0) % 5 > 0)).astype(
    np.uint16
)


def _png_seeds() -> list[bytes]:
    nyu = np.stack([DEPTH & 255, DEPTH >> 8, np.zeros_like(DEPTH)], -1).astype(np.uint8)
    return [cv2.imencode(".png", image)[1].tobytes() for image in (DEPTH, nyu, DEPTH.astype(np.uint8))]


def _read_frame(path: Path, data: bytes) -> None:
    frames = find_frames([path])
    frame = frames[0].read()
    assert frame.ndim == 2
    assert 0 < frame.size <= MAX_PIXELS
    assert str(frame.dtype) in ("uint16", "int32", "float16", "float32")
    expected = _SECOND[path.suffix](data, frame.shape)
    if expected is not None:
        np.testing.assert_array_equal(frame, expected.astype(frame.dtype))


def _png_again(data: bytes, shape: tuple[int, ...]) -> Any:
    """Read with Pillow; nothing to compare with if it is stricter or does not know a chunk."""
    from PIL import Image

    try:
        image = np.asarray(Image.open(io.BytesIO(data)))
    except Exception:
        return None
    # Transparency is no part of depth, and Pillow gives 16-bit images with it as 8-bit ones.
    if image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8:
        return image[..., 1].astype(np.uint16) * 256 + image[..., 2]
    return image if image.ndim == 2 and image.dtype.itemsize > 1 else None


def _bin_again(data: bytes, shape: tuple[int, ...]) -> Any:
    _, _, left, top, right, bottom = np.frombuffer(data[:24], "<u4").tolist()
    frame = np.zeros(shape, np.float32)
    frame[top:bottom, left:right].flat = np.frombuffer(data[24:], "<f4")
    return frame


def _numpy_again(data: bytes, shape: tuple[int, ...]) -> Any:
    loaded = np.load(io.BytesIO(data), allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return loaded if loaded.ndim == 2 else loaded[0]
    names = [name for name in loaded.files if len(loaded.files) == 1 or name in ("depth", "depths", "frames")]
    array = loaded[names[0]]
    return array if array.ndim == 2 else array[0]


_SECOND = {".png": _png_again, ".bin": _bin_again, ".npy": _numpy_again, ".npz": _numpy_again}


def _bin_seeds() -> list[bytes]:
    box = np.arange(20, dtype="<f4") + 400
    return [np.array([16, 12, 3, 4, 8, 8], "<u4").tobytes() + box.tobytes()]


def _numpy_seeds(save: Callable[..., None]) -> list[bytes]:
    seeds = []
    for array in (DEPTH, DEPTH[None].astype(">i4"), np.stack([DEPTH] * 3).astype("f2"), np.asfortranarray(DEPTH, "f8")):
        file = io.BytesIO()
        save(file, array)
        seeds.append(file.getvalue())
    return seeds


# --- texts ----------------------------------------------------------------------------------------------------------


def _text_seeds(joints: int = 2, name: str = "") -> list[bytes]:
    rows = np.random.default_rng(1).uniform(0, 900, (4, 3 * joints))
    return ["".join(f"{name}{' '.join(f'{value:.3f}' for value in row)}\n" for row in rows).encode()]


def _read_labels(path: Path, data: bytes) -> None:
    poses = read_poses(path)
    lines = [line.split() for line in data.decode("ascii").splitlines()]
    # Python takes 0_1 as a number; in a file it is a name, which may stand in the first column only.
    rows = [[float(word) for column, word in enumerate(line) if column or "_" not in word] for line in lines]
    np.testing.assert_array_equal(poses.reshape(len(poses), -1), np.array(rows))
    assert np.isfinite(poses).all()


def _continue_labels(path: Path, data: bytes) -> None:
    """A file of predictions is resumed after its last whole line; the lines before stay as they were."""
    whole = data[: data.rfind(b"\n") + 1]
    lines = whole.count(b"\n")
    names = [str(index) for index in range(lines + 1)]
    skeleton = Skeleton("two", ("a", "b"), (), (), (), (), "right")
    settings: dict[str, Any] = {"settings": {}, "digests": {}}
    path.unlink()
    try:
        with PredictionFile(
            path, names, skeleton, JointLayout(), "txt", "nan", **settings, resume=False, overwrite=False
        ):
            pass
        path.write_bytes(data)
        with PredictionFile(
            path, names, skeleton, JointLayout(), "txt", "nan", **settings, resume=True, overwrite=False
        ) as file:
            assert file.done == lines
            file.write([FrameOutcome(np.ones((2, 3)), np.ones((2, 3)), "right")])
        after = path.read_bytes()
        assert after.startswith(whole)
        assert after[len(whole) :] == b"1.000 1.000 1.000 1.000 1.000 1.000\n"
    finally:
        path.with_name(f"{path.name}.json").unlink(missing_ok=True)


def _read_table(path: Path, data: bytes) -> None:
    names, values = read_table(path, 6, "a name and 6 numbers")
    assert values.shape == (len(names), 6)
    rows = [line.split() for line in data.decode("ascii").splitlines() if line.strip()]
    assert names == [row[0] for row in rows]
    np.testing.assert_array_equal(values, np.array([[float(word) for word in row[1:]] for row in rows]))
    assert all((path.parent / name).resolve().is_relative_to(path.parent.resolve()) for name in names)


def _toml_seeds() -> list[bytes]:
    text = 'recipe = "compact"\nseed = 3\nchannels = [4, 8, 8]\ninit_widths = [16, 16]\nrefine_widths = [8, 8]\n'
    return [text.encode(), b'recipe = "paper"\nbatch = 7\nlearning_rate = 0.001\ndecay = 0.5\nskeleton = "nyu14"\n']


def _read_toml(path: Path, data: bytes) -> None:
    config = read_config(path)
    assert all(math.isfinite(value) for value in vars(config).values() if isinstance(value, float))
    assert ModelConfig.from_json(config.model().to_json()) == config.model()


def _read_json(path: Path, data: bytes) -> None:
    config = ModelConfig.from_json(data.decode())
    assert ModelConfig.from_json(config.to_json()) == config


# --- weights and packs ----------------------------------------------------------------------------------------------


@cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="poseren-fuzz-")  # removed when the process ends


def _folder() -> Path:
    return Path(_temporary().name)


@cache
def _model_seed() -> bytes:
    return save_small_model(_folder() / "tiny.safetensors").read_bytes()


def _model_seeds() -> list[bytes]:
    return [_model_seed()]


def _read_model(path: Path, data: bytes) -> None:
    model = load(path)
    expected = safetensors.torch.load(data)
    for name, tensor in model.state_dict().items():
        assert torch.isfinite(tensor).all()
        assert torch.equal(tensor, expected[name].float())


def safetensors_header(random: Random, data: bytes) -> bytes:
    """The JSON header of a safetensors file changed in a place, its length made right again."""
    size = int.from_bytes(data[:8], "little")
    header = several(random, data[8 : 8 + size], PLAIN)
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def _config_seeds() -> list[bytes]:
    size = int.from_bytes(_model_seed()[:8], "little")
    return [json.loads(_model_seed()[8 : 8 + size])["__metadata__"]["config"].encode()]


def _checkpoint_seeds() -> list[bytes]:
    path = _folder() / "checkpoint.safetensors"
    write_checkpoint(path, Checkpoint({"a": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(3)}, {"step": 4}))
    return [path.read_bytes()]


def _read_checkpoint(path: Path, data: bytes) -> None:
    checkpoint = read_checkpoint(path)
    assert checkpoint.state == {"step": 4}
    assert torch.equal(checkpoint.tensors["a"], torch.arange(6.0).reshape(2, 3))


@cache
def _pack_seed() -> bytes:
    from helpers.dataset_trees import icvl_tree

    from poseren_ext.datasets.icvl import ICVL
    from poseren_ext.datasets.packs.writer import write_pack

    icvl_tree(_folder() / "icvl")
    write_pack(ICVL(_folder() / "icvl", "test"), _folder() / "icvl.pack")
    return (_folder() / "icvl.pack").read_bytes()


def signed_pack(random: Random, data: bytes) -> bytes:
    """The index, labels or metadata of a pack changed, and signed again: what only its checks can refuse."""
    try:
        arrays = safetensors.numpy.load(data)
        size = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + size])["__metadata__"]
        if random.random() < 0.4:
            metadata["pack"] = several(random, metadata["pack"].encode(), PLAIN).decode("latin-1")
        else:
            name = random.choice(sorted(arrays))
            array = arrays[name]
            if array.size and random.random() < 0.7:
                array = array.copy()
                extreme = random.choice([0, 1, -1, 7, 2**31 - 1, -(2**31), 65536])
                array.flat[random.randrange(array.size)] = np.array(extreme).astype(array.dtype)
            else:
                array = random.choice([array[:-1], array[:0], array.reshape(-1), array.astype(np.int32)])
            arrays[name] = array
        small = {name: array for name, array in arrays.items() if name not in ("tiles", "kinds")}
        metadata["crc32"] = str(checksum(metadata["pack"], small))
        return safetensors.numpy.save(arrays, metadata)
    except Exception:  # what is too far from a pack to be signed
        return several(random, data, PLAIN)


def _read_pack(path: Path, data: bytes) -> None:
    pack = PackedDataset(path)
    assert len(pack) <= 10
    damaged = set(pack.damaged())
    for index in range(len(pack)):
        refused = False
        try:
            sample = pack[index]
        except ValueError:
            refused = True
        if refused:
            assert index in damaged or "tiles for other kinds" in _why(pack, index)
            continue
        assert sample.depth.shape == (pack.info.camera.height, pack.info.camera.width)


def _why(pack: PackedDataset, index: int) -> str:
    try:
        pack[index]
    except ValueError as error:
        return str(error)
    return ""


@cache
def _caffe_seed(old: bool) -> bytes:
    layers = caffe_files.random_weights("nyu", "baseline", channels=1, width=3)
    return caffe_files.write(_folder() / "small.caffemodel", layers, old=old).read_bytes()


def _read_caffe(path: Path, data: bytes) -> None:
    model = networks.read_init_cnn(path, "nyu", widths=(3, 3), channels=(1, 2, 4))
    assert all(torch.isfinite(weight).all() for weight in model.state_dict().values())


def _joints_seeds(file_format: Format) -> list[bytes]:
    file = io.BytesIO()
    rows = [("a.png", 0, "left", 7.5, JOINTS), ("b.png", 0, "", math.nan, JOINTS * math.nan)]
    about = {"joint_names": ["a", "b c"], "space": "xyz", "units": ["mm"] * 3, "coordinate_frame": "camera"}
    write_rows(file, file_format, joint_rows(rows, 2), about)
    return [file.getvalue()]


def _read_joints(path: Path, data: bytes) -> None:
    """Whatever is accepted fits together; the joints of a JSON file are those that its parser finds."""
    table = read_joint_table(path)
    rows = len(table.frames)
    assert table.joints.shape == (rows, len(table.names), 3)
    assert len(table.hand_ids) == len(table.sides) == rows
    assert all(isinstance(one, str) for one in (*table.frames, *table.sides, *table.names))
    assert table.xyz(table.names, CAMERAS["sr305"]).shape == table.joints.shape
    if path.suffix == ".json":
        missing = [None] * 3
        for row, record in zip(table.joints, json.loads(data)["frames"], strict=True):
            expected = [joint or missing for joint in record["joints"] or [missing] * len(table.names)]
            np.testing.assert_array_equal(row, np.array(expected, np.float64))


TARGETS: dict[str, Target] = {
    "png": Target(".png", _png_seeds, _read_frame, (*PLAIN, png_chunks, png_chunks, png_chunks, png_chunks)),
    "bin": Target(".bin", _bin_seeds, _read_frame),
    "npy": Target(".npy", lambda: _numpy_seeds(np.save), _read_frame),
    "npz": Target(".npz", lambda: _numpy_seeds(np.savez_compressed) + _numpy_seeds(np.savez)[:2], _read_frame),
    "labels": Target(".txt", _text_seeds, _read_labels),
    "continued labels": Target(".txt", _text_seeds, _continue_labels),
    "table": Target(".txt", lambda: _text_seeds(name="a/0.png "), _read_table),
    "training toml": Target(".toml", _toml_seeds, _read_toml, refusals=(*REFUSALS, TypeError)),
    "model json": Target(".json", _config_seeds, _read_json, refusals=(*REFUSALS, TypeError)),
    "model": Target(".safetensors", _model_seeds, _read_model, (*PLAIN, safetensors_header, safetensors_header)),
    "checkpoint": Target(".safetensors", _checkpoint_seeds, _read_checkpoint, (*PLAIN, safetensors_header)),
    "pack": Target(".pack", lambda: [_pack_seed()], _read_pack, (*PLAIN, *[signed_pack] * 9)),
    "caffemodel": Target(".caffemodel", lambda: [_caffe_seed(False), _caffe_seed(True)], _read_caffe),
    "joints csv": Target(".csv", lambda: _joints_seeds("csv"), _read_joints),
    "joints json": Target(".json", lambda: _joints_seeds("json"), _read_joints),
    "joints npz": Target(".npz", lambda: _joints_seeds("npz"), _read_joints, (*PLAIN, *[npz_member] * 9)),
}
