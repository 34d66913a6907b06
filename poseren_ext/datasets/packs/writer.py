# SPDX-License-Identifier: MIT
"""Packs: the hand regions of a dataset in one memory-mapped file that trains without decoding an image.

A pack is a safetensors file. Its arrays: ``tiles`` uint16 [T, 8, 8] of all frames one after the other, ``kinds`` uint8
[C] of all frames' windows (see ``data.tiles``); for each frame ``window`` int32 [N, 4], ``far`` int32 [N], ``first``
int64 [N + 1, 2] (first tile and first kind), ``uvd`` float32 [N, J, 3], ``center`` float32 [N, 3], ``crc32`` int64 [N]
(of its kinds, then its tiles); ``names`` and ``subjects``, lines of UTF-8. The metadata say what was packed, and hold a
checksum of everything but kinds and tiles.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt
from torch.utils.data import DataLoader, Dataset

from poseren_ext._utils.atomic_files import atomic_file
from poseren_ext.datasets.augmentation import PAPER, Augmentation
from poseren_ext.datasets.base import DatasetError, DepthDataset, PathLike
from poseren_ext.datasets.packs.tiles import SIDE, TiledFrame, tile_frame
from poseren_ext.datasets.sample import Hand
from poseren_ext.geometry.camera import Camera

FORMAT, FORMAT_VERSION = "poseren_pack", "1"

Arrays: TypeAlias = Mapping[str, npt.NDArray[Any]]

_HEADER = 16384  # bytes in front of the arrays; what the header leaves is blank
_CODES = {"uint8": "U8", "uint16": "U16", "int32": "I32", "int64": "I64", "float32": "F32"}  # safetensors' own names


@dataclass(frozen=True)
class PackInfo:
    """What a pack holds.

    Attributes:
        dataset: key in ``CAMERAS``.
        split: the split of its reader.
        skeleton: key in ``SKELETONS``.
        hand: which hand the frames show.
        camera: intrinsics and size of the frames.
        cube: half edge of the cube that crops take, mm.
        reach: how far crops may look from the centre, in half edges of the cube.
        unit: mm per stored unit.
        dtype: of the frames that were packed, and of those that are given back.
        rounding: largest difference between a kept pixel and its frame, mm; 0: every crop is the same to the bit.
        frames: N.
    """

    dataset: str
    split: str
    skeleton: str
    hand: Hand
    camera: Camera
    cube: float
    reach: float
    unit: float
    dtype: str
    rounding: float
    frames: int

    def to_json(self) -> str:
        """The fields as one line of JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> PackInfo:
        """The inverse of :meth:`to_json`.

        Raises:
            TypeError: The fields are others.
            ValueError: The text is not JSON, or has no camera.
        """
        values = json.loads(text)
        return cls(**{**values, "camera": Camera(**values["camera"])})


def write_pack(
    dataset: DepthDataset,
    path: PathLike,
    *,
    split: str = "",
    cube: float = 150.0,
    augmentation: Augmentation | None = None,
    unit: float = 1.0,
    workers: int = 0,
    progress: Callable[[int], None] | None = None,
    skip: Callable[[str, Exception], None] | None = None,
) -> PackInfo:
    """Pack a dataset into one file, which is written atomically.

    Args:
        dataset: frames as recorded; their centres are packed with them.
        path: the file, by convention ``*.pack``; replaced where it exists.
        split: noted in the file.
        cube: half edge of the cube that crops will take, mm.
        augmentation: the widest that crops will be taken with; by default the paper's.
        unit: mm per stored unit; whole millimetres are what the datasets hold.
        workers: processes that decode.
        progress: called with the number of frames done.
        skip: called with the name of each frame that has no hand region or cannot be read, and the error; such frames
            are left out. None raises the first such error.

    Raises:
        ValueError: There are no frames, they are mirrored, or the cube or unit is not positive.
        FileNotFoundError, FrameError, DatasetError: A frame cannot be read, or has no centre, and `skip` is None.
        OSError: the disk is full or not writable; what was at `path` is left as it was.
    """
    if len(dataset) == 0:
        raise ValueError("the dataset has no frames to pack")
    if dataset.hand != dataset.skeleton.hand:
        raise ValueError("the dataset is mirrored; pack it as recorded, and mirror it when reading: hand=...")
    if not (cube > 0 and unit > 0):
        raise ValueError(f"cube is {cube} and unit {unit}; expected positive numbers of mm")
    reach = (augmentation or PAPER).reach()
    frames = _Tiler(dataset, cube, reach, unit)
    loader = DataLoader(frames, batch_size=None, num_workers=workers, collate_fn=_as_it_is)
    path = Path(path)
    with atomic_file(path) as file, tempfile.TemporaryFile(dir=path.parent) as kinds:
        file.write(b" " * _HEADER)
        arrays, rounding = _write_frames(_kept(dataset, loader, progress, skip), file, kinds)
        kept = arrays.pop("kept")
        if not len(kept):
            raise DatasetError("no frame has a hand region; check the depth unit, or give centres")
        info = PackInfo(
            dataset=dataset.info.name,
            split=split,
            skeleton=dataset.skeleton.name,
            hand=dataset.hand,
            camera=dataset.camera,
            cube=float(cube),
            reach=reach,
            unit=float(unit),
            dtype=str(dataset.read(int(kept[0])).dtype),
            rounding=rounding,
            frames=len(kept),
        )
        names, subjects = ([words[i] for i in kept.tolist()] for words in (dataset.names, dataset.subjects))
        arrays |= {"uvd": dataset.uvd[kept], "names": _lines(names), "subjects": _lines(subjects)}
        _write_rest(file, kinds, arrays, info)
    return info


_Tiled: TypeAlias = "tuple[TiledFrame, npt.NDArray[np.float32]]"


class _Tiler(Dataset["_Tiled | Exception"]):
    """Frames reduced to tiles, with their centres, in DataLoader workers; or why a frame is of no use."""

    def __init__(self, dataset: DepthDataset, cube: float, reach: float, unit: float) -> None:
        self.dataset, self.cube, self.reach, self.unit = dataset, cube, reach, unit

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> _Tiled | Exception:
        try:
            sample = self.dataset[index]
        except (ValueError, OSError) as error:
            return error
        depth, center = sample.depth.numpy(), sample.center.numpy()
        try:
            tiled = tile_frame(depth, center, sample.camera, cube=self.cube, reach=self.reach, unit=self.unit)
        except ValueError as error:
            return DatasetError(f"{self.dataset.path(index)}: {error}")
        return tiled, center


def _as_it_is(item: Any) -> Any:
    return item


def _kept(
    dataset: DepthDataset,
    loader: DataLoader[Any],
    progress: Callable[[int], None] | None,
    skip: Callable[[str, Exception], None] | None,
) -> Iterator[tuple[int, TiledFrame, npt.NDArray[np.float32]]]:
    """Position, tiles and centre of every frame that can be used."""
    for index, item in enumerate(loader):
        if not isinstance(item, Exception):
            yield index, *item
        elif skip is None:
            raise item
        else:
            skip(dataset.names[index], item)
        if progress is not None:
            progress(index + 1)


def _write_frames(
    frames: Iterator[tuple[int, TiledFrame, npt.NDArray[np.float32]]], file: BinaryIO, kinds: BinaryIO
) -> tuple[dict[str, npt.NDArray[Any]], float]:
    """Tiles to one file, kinds to another; the index of both, and the largest rounding."""
    positions, windows, fars, centers, checksums, first = [], [], [], [], [], [(0, 0)]
    rounding = 0.0
    for position, tiled, center in frames:
        kept, cells = tiled.tiles.astype("<u2").tobytes(), tiled.kinds.tobytes()
        file.write(kept)
        kinds.write(cells)
        positions.append(position)
        windows.append(tiled.window)
        fars.append(tiled.far)
        centers.append(center)
        checksums.append(zlib.crc32(kept, zlib.crc32(cells)))
        first.append((first[-1][0] + len(tiled.tiles), first[-1][1] + tiled.kinds.size))
        rounding = max(rounding, tiled.rounding)
    index: dict[str, npt.NDArray[Any]] = {
        "kept": np.array(positions, np.int64),
        "first": np.array(first, np.int64),
        "crc32": np.array(checksums, np.int64),
        "window": np.array(windows, np.int32).reshape(-1, 4),
        "far": np.array(fars, np.int32),
        "center": np.array(centers, np.float32).reshape(-1, 3),
    }
    return index, rounding


def _write_rest(file: BinaryIO, kinds: BinaryIO, arrays: Arrays, info: PackInfo) -> None:
    """The index, the labels and the kinds after the tiles, then the header in front."""
    tiles, cells = arrays["first"][-1].tolist()
    header: dict[str, Any] = {}
    place = 0

    def describe(name: str, dtype: str, shape: tuple[int, ...], size: int) -> None:
        nonlocal place
        header[name] = {"dtype": _CODES[dtype], "shape": list(shape), "data_offsets": [place, place + size]}
        place += size

    describe("tiles", "uint16", (tiles, SIDE, SIDE), 2 * SIDE * SIDE * tiles)
    for name in sorted(arrays, key=lambda name: -arrays[name].itemsize):  # so that each is aligned
        array = arrays[name]
        describe(name, str(array.dtype), array.shape, array.nbytes)
        file.write(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
    describe("kinds", "uint8", (cells,), cells)
    kinds.seek(0)
    shutil.copyfileobj(kinds, file, 1 << 20)
    text = info.to_json()
    metadata = {"format": FORMAT, "format_version": FORMAT_VERSION, "pack": text, "crc32": str(checksum(text, arrays))}
    content = json.dumps({"__metadata__": metadata, **header}).encode()
    if len(content) > _HEADER - 8:
        raise ValueError(f"the pack's header takes {len(content)} bytes; there is room for {_HEADER - 8}")
    file.seek(0)
    file.write((_HEADER - 8).to_bytes(8, "little") + content.ljust(_HEADER - 8))


def checksum(text: str, arrays: Arrays) -> int:
    """CRC-32 of a pack's metadata and of its arrays but kinds and tiles."""
    total = zlib.crc32(text.encode())
    for name in sorted(arrays):
        total = zlib.crc32(np.ascontiguousarray(arrays[name]).tobytes(), zlib.crc32(name.encode(), total))
    return total


def _lines(words: list[str]) -> npt.NDArray[np.uint8]:
    return np.frombuffer("\n".join(words).encode(), np.uint8)
