# SPDX-License-Identifier: MIT
"""Packs as datasets like any other."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from torch.utils.data import Dataset

from poseren_ext.datasets.augmentation import Augmentation
from poseren_ext.datasets.base import DatasetError, PathLike
from poseren_ext.datasets.packs.tiles import KEPT, SIDE, Kinds, Pixels, untile
from poseren_ext.datasets.packs.writer import FORMAT, FORMAT_VERSION, PackInfo, checksum
from poseren_ext.datasets.sample import Hand, Sample
from poseren_ext.geometry.skeleton import SKELETONS, Skeleton
from poseren_ext.io.depth_files import MAX_PIXELS

REMEDY = "Pack the dataset again (poseren data pack)"
_DTYPES = {"U8": "<u1", "U16": "<u2", "I32": "<i4", "I64": "<i8", "F32": "<f4"}
_STORED = {  # types of the arrays
    **dict.fromkeys(("first", "crc32"), "<i8"),
    **dict.fromkeys(("window", "far"), "<i4"),
    **dict.fromkeys(("center", "uvd"), "<f4"),
    **{"tiles": "<u2", "kinds": "|u1"},
}
_FRAMES = ("uint16", "int32", "float16", "float32")
_INDEX = ("first", "crc32", "window", "far", "center", "uvd", "names", "subjects")


class PackedDataset(Dataset[Sample]):
    """A pack as a dataset: the samples of the dataset that was packed, without decoding an image.

    Depth is whole frames in which every pixel that a crop (of the pack's cube, augmented at most as the pack says) can
    tell apart is as it was; the others hold the frame's largest depth. Safe in DataLoader workers, and picklable.

    Args:
        path: the file.
        hand: the hand that the samples show; frames of the other one come mirrored. None: as recorded.

    Attributes:
        info: what was packed.
        names: of the frames.
        subjects: of the frames.
        uvd: float32 [N, J, 3], not mirrored.
        centers: float32 [N, 3], not mirrored.

    Raises:
        FileNotFoundError: The file does not exist.
        DatasetError: The file is not a pack, is truncated, or its checksum is wrong.
    """

    def __init__(self, path: PathLike, *, hand: Hand | None = None) -> None:
        self.path = Path(path)
        self.info, self._arrays = _open(self.path)
        self.hand: Hand = hand or self.info.hand
        if self.hand not in ("left", "right"):
            raise ValueError(f"hand is {hand!r}; expected 'left', 'right' or None for the hand that was recorded")
        self.names = _words(self._arrays["names"])
        self.subjects = _words(self._arrays["subjects"])
        self.uvd: npt.NDArray[np.float32] = self._arrays["uvd"]
        self.centers: npt.NDArray[np.float32] = self._arrays["center"]

    @property
    def skeleton(self) -> Skeleton:
        """Of the joints."""
        return SKELETONS[self.info.skeleton]

    def __len__(self) -> int:
        return self.info.frames

    def __getitem__(self, index: int) -> Sample:
        """One frame.

        Raises:
            IndexError: The index is outside the dataset.
            DatasetError: the frame does not match its checksum.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"frame {index} asked for; there are {len(self)}")
        index %= len(self)
        uvd = torch.from_numpy(self.uvd[index].copy())
        sample = Sample(
            depth=torch.from_numpy(self._frame(index)),
            camera=self.info.camera,
            uvd=uvd,
            center=torch.from_numpy(self.centers[index].copy()),
            name=self.names[index],
            subject=self.subjects[index],
            hand=self.info.hand,
            index=index,
        )
        return sample if sample.hand == self.hand else sample.mirrored()

    def require(self, augmentation: Augmentation, cube: float) -> None:
        """Refuses crops that would look at what was not packed.

        Raises:
            ValueError: The cube is larger, or the augmentation wider, than the pack allows.
        """
        if cube > self.info.cube:
            raise ValueError(f"cube is {cube:g} mm; {self.path} was packed for {self.info.cube:g}. {REMEDY} with it")
        reach = augmentation.reach() * cube / self.info.cube
        if reach > self.info.reach + 1e-9:
            raise ValueError(
                f"{augmentation} reaches {reach:.3f} half edges of the cube from the centre; {self.path} holds "
                f"{self.info.reach:.3f}. {REMEDY} for this augmentation"
            )

    def damaged(self) -> Iterator[int]:
        """Positions of the frames that do not match their checksums, as they are found: reads the whole file."""
        for index in range(len(self)):
            try:
                self._parts(index)
            except DatasetError:
                yield index

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The pack's arrays; tiles and kinds are mapped, not read."""
        return dict(self._arrays)

    def __getstate__(self) -> dict[str, Any]:
        # Every process maps the file itself.
        return {"path": self.path, "hand": self.hand}

    def __setstate__(self, state: dict[str, Any]) -> None:
        PackedDataset.__init__(self, state["path"], hand=state["hand"])

    def _parts(self, index: int) -> tuple[Kinds, Pixels]:
        """Kinds [rows, columns] and tiles [K, 8, 8] of a frame, checked."""
        (tile, cell), (last_tile, last_cell) = self._arrays["first"][index : index + 2].tolist()
        _, _, rows, columns = self._arrays["window"][index].tolist()
        kinds: Kinds = np.asarray(self._arrays["kinds"][cell:last_cell])
        tiles: Pixels = np.asarray(self._arrays["tiles"][tile:last_tile])
        if zlib.crc32(tiles.data, zlib.crc32(kinds.data)) != int(self._arrays["crc32"][index]):
            raise DatasetError(f"{self.path}: frame {index} ({self.names[index]}) is damaged: checksum. {REMEDY}")
        return kinds.reshape(rows, columns), tiles

    def _frame(self, index: int) -> npt.NDArray[Any]:
        kinds, tiles = self._parts(index)
        far = int(self._arrays["far"][index])
        width, height = self.info.camera.width, self.info.camera.height
        assert width is not None
        assert height is not None  # known since it was opened
        frame = np.full((height, width), far, np.uint16)
        row, column = (SIDE * int(first) for first in self._arrays["window"][index, :2])
        if int((kinds == KEPT).sum()) != len(tiles):
            raise DatasetError(f"{self.path}: frame {index} has {len(tiles)} tiles for other kinds. {REMEDY}")
        inside = untile(kinds, tiles, far)
        frame[row : row + inside.shape[0], column : column + inside.shape[1]] = inside
        if self.info.dtype == "uint16" and self.info.unit == 1.0:
            return frame
        return np.asarray(frame * np.float32(self.info.unit), self.info.dtype)


def _open(path: Path) -> tuple[PackInfo, dict[str, npt.NDArray[Any]]]:
    """What a pack holds, and its arrays: small ones read and checked, the others mapped."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected a pack (poseren data pack writes one)")
    try:
        with safe_open(path, framework="np") as file:  # checks the header and the file's length
            metadata = file.metadata() or {}
        if (metadata.get("format"), metadata.get("format_version")) != (FORMAT, FORMAT_VERSION):
            raise DatasetError(f"{path}: another kind of file, or another version; expected a pack. {REMEDY}")
        arrays = _map(path)
        info = PackInfo.from_json(metadata["pack"])
        small = {name: np.array(arrays[name]) for name in _INDEX}
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError, OverflowError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"{path}: not a readable pack ({error}): truncated or damaged. {REMEDY}") from error
    if str(checksum(metadata["pack"], small)) != metadata.get("crc32"):
        raise DatasetError(f"{path}: damaged: its labels or its index do not match their checksum. {REMEDY}")
    arrays |= small
    try:
        fault = _inconsistency(info, arrays)
    except (TypeError, ValueError, OverflowError) as error:  # what was not even of the right type
        fault = str(error)
    if fault:
        raise DatasetError(f"{path}: not a usable pack: {fault}. {REMEDY}")
    return info, arrays


def _inconsistency(info: PackInfo, arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    """What in a pack contradicts itself, if anything: a checksum tells damage, not who computed it."""
    height, width = info.camera.height, info.camera.width
    if info.skeleton not in SKELETONS or info.hand not in ("left", "right") or info.dtype not in _FRAMES:
        return f"skeleton {info.skeleton!r}, hand {info.hand!r}, dtype {info.dtype!r}"
    if height is None or width is None or not 0 < height * width <= MAX_PIXELS or height % SIDE or width % SIDE:
        return f"frames of {width}x{height} pixels; expected multiples of {SIDE}, at most {MAX_PIXELS} together"
    if not all(0 < value < math.inf for value in (info.cube, info.reach, info.unit)):
        return f"cube {info.cube}, reach {info.reach}, unit {info.unit}; expected positive numbers"
    missing = sorted(_STORED.keys() - arrays.keys())
    if missing:
        return f"{', '.join(missing)} missing"
    N, J, first, window = info.frames, len(SKELETONS[info.skeleton].joints), arrays["first"], arrays["window"]
    shapes = {"first": (N + 1, 2), "crc32": (N,), "window": (N, 4), "far": (N,), "center": (N, 3), "uvd": (N, J, 3)}
    shapes |= {"tiles": (len(arrays["tiles"]), SIDE, SIDE), "kinds": (arrays["kinds"].size,)}
    for name, shape in shapes.items():
        if (arrays[name].shape, arrays[name].dtype.str) != (shape, _STORED[name]):
            return f"{name} is {arrays[name].dtype.str} {list(arrays[name].shape)}, expected {_STORED[name]} {shape}"
    if (
        first[0].any()
        or (np.diff(first, axis=0) < 0).any()
        or first[-1].tolist() != [shapes["tiles"][0], *shapes["kinds"]]
    ):
        return "its frames do not follow one another"
    begin, size = window[:, :2].astype(np.int64), window[:, 2:].astype(np.int64)
    if (window < 0).any() or (begin + size > (height // SIDE, width // SIDE)).any():
        return "a window leaves its frame"
    if (size.prod(1) != np.diff(first[:, 1])).any() or (arrays["far"] < 0).any() or (arrays["far"] > 65535).any():
        return "a window, or a far depth, that does not fit its tiles"
    lines = {name: len(_words(arrays[name])) for name in ("names", "subjects")}
    return "" if set(lines.values()) == {N} else f"{lines} lines for {N} frames"


def _map(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The file's arrays, mapped."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    whole = np.memmap(path, np.uint8, "r", offset=8 + length)
    arrays = {}
    for name, entry in header.items():
        if name != "__metadata__":
            start, end = entry["data_offsets"]
            arrays[name] = whole[start:end].view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return arrays


def _words(lines: npt.NDArray[np.uint8]) -> list[str]:
    return lines.tobytes().decode().split("\n")
