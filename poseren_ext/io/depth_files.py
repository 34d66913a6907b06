# SPDX-License-Identifier: MIT
"""Depth frames from files, as stored: nothing is rescaled, and a file that cannot be depth is refused.

Formats: 16-bit grey PNG, NYU's PNG (8-bit RGB, depth = green * 256 + blue), 16-bit and float32 TIFF, 16-bit PGM, EXR
(extra ``exr``), MSRA's ``.bin`` (a box of float32 in a frame), and numpy's ``.npy`` and ``.npz`` with one frame [H, W]
or many [N, H, W]. Recordings of other software (ROS bags, MCAP, .mkv, .r3d) are read frame by frame, see
`poseren_ext.io.recordings`.
"""

from __future__ import annotations

import io
import lzma
import math
import os
import re
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from poseren_ext.io.depth_pictures import (
    MAX_FILE_BYTES,
    MAX_PIXELS,
    DepthFrame,
    FrameError,
    decode_picture,
    require_sane,
)
from poseren_ext.io.recordings import is_recording, open_recording

if TYPE_CHECKING:
    from poseren_ext.geometry.lens import Lens

__all__ = ["MAX_FILE_BYTES", "MAX_PIXELS", "DepthFrame", "FrameError", "FrameFile", "find_frames", "read_depth"]

SUFFIXES = (".png", ".tif", ".tiff", ".pgm", ".exr", ".bin", ".npy", ".npz")

MAX_ARRAY_BYTES = 2**30
"""Limit for an array in an .npz, which is unpacked as a whole; an .npy is mapped and may have any size."""

# The types that the ops read, and those that others are converted to without loss (float64 to float32: a nanometre at
# a metre).
_STORED_AS = {
    np.dtype(given): np.dtype(kept)
    for given, kept in (
        ("uint16", "uint16"),
        ("int16", "int32"),
        ("int32", "int32"),
        ("float16", "float16"),
        ("float32", "float32"),
        ("float64", "float32"),
    )
}
_ARRAY_KEYS = ("depth", "depths", "frames")


# What numpy and zipfile raise for files of another kind, and for damaged, encrypted or unknown archives. Numpy parses
# the name of a type as Python, hence SyntaxError and TokenError.
_UNREADABLE = (
    SyntaxError,
    MemoryError,
    ValueError,
    TypeError,
    OverflowError,
    EOFError,
    OSError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    tokenize.TokenError,
)


@dataclass(frozen=True)
class FrameFile:
    """Where one frame is.

    Attributes:
        path: the file.
        index: which of the file's frames, where it holds many.
        lens: lens that distorts the stored frames, which `read` corrects.
    """

    path: Path
    index: int | None = None
    lens: Lens | None = None

    def __str__(self) -> str:
        return f"{self.path}" if self.index is None else f"{self.path}[{self.index}]"

    def read(self) -> DepthFrame:
        """The frame, undistorted; raises as `read_depth` does.

        Raises:
            FrameError: The frame has another size than its camera.
        """
        depth = read_depth(self.path, self.index)
        try:
            return depth if self.lens is None else self.lens.undistort(depth)
        except ValueError as error:
            raise FrameError(f"{self}: {error}") from None


def seen_through(frames: Iterable[FrameFile], lens: Lens) -> list[FrameFile]:
    """The same frames, with the distortion of a lens to correct; unchanged for a lens without distortion."""
    return [replace(frame, lens=lens) for frame in frames] if lens.distorts else list(frames)


def find_frames(paths: Iterable[str | os.PathLike[str]], pattern: str = "*") -> list[FrameFile]:
    """The frames in files and folders, in order; those of a folder sorted by name with numbers as numbers.

    Hidden files, such as the AppleDouble files ``._*`` that macOS writes, are not frames. A folder without frames but
    with a subfolder ``depth``, as `poseren render` makes, stands for that subfolder.

    Args:
        paths: files, and folders (without their subfolders).
        pattern: which files of a folder, as in a shell: "depth_1_*".

    Returns:
        One entry per frame. Numpy files and recordings are opened to count their frames, images are not. A numpy file
        that cannot be read is one entry, whose `read` says why.

    Raises:
        FileNotFoundError: there is no such file or folder, or no depth file in the folder.
        ModuleNotFoundError: the library that reads a recording is not installed.
        FrameError: a recording has no depth frames.
    """
    found: list[FrameFile] = []
    for path in map(Path, paths):
        if is_recording(path):
            found.extend(_frames_of_recording(path))
            continue
        if path.is_dir():
            files = _files_of(path, pattern)
        elif path.is_file():
            files = [path]
        else:
            raise FileNotFoundError(f"{path}: no such file or folder")
        found.extend(frame for file in files for frame in _frames_of(file))
    return found


def _frames_of_recording(path: Path) -> list[FrameFile]:
    return [FrameFile(path, index) for index in range(len(open_recording(path)))]


def _files_of(folder: Path, pattern: str) -> list[Path]:
    """The depth files of a folder, or of its subfolder "depth"."""
    for place in (folder, folder / "depth"):
        if place.is_dir():
            files = [
                file
                for file in place.glob(pattern)
                if file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and not file.is_dir()
            ]
            if files:
                return sorted(files, key=_natural)
    raise FileNotFoundError(f"{folder}: no file {pattern} that ends in {', '.join(SUFFIXES)}")


def _natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    parts = re.split(r"(\d+)", path.name, flags=re.ASCII)  # every second part is a number
    return [(int(part), "") if place % 2 else (-1, part) for place, part in enumerate(parts)], path.name


def _frames_of(path: Path) -> Iterator[FrameFile]:
    if path.suffix.lower() not in (".npy", ".npz"):
        yield FrameFile(path)
        return
    try:
        array = _numpy_array(path)
    except (FrameError, OSError):
        yield FrameFile(path)  # reading it says what is wrong; the other files are not affected
        return
    if array.ndim == 2:
        yield FrameFile(path)
    else:
        yield from (FrameFile(path, index) for index in range(len(array)))


def read_depth(path: str | os.PathLike[str], index: int | None = None) -> DepthFrame:
    """Read one depth frame.

    Args:
        path: a file of one of the formats above.
        index: which frame of a numpy file [N, H, W], or of a recording.

    Returns:
        DepthFrame: [H, W] as stored: uint16, int32, float16 or float32, in the file's unit (mm for the datasets).

    Raises:
        FileNotFoundError: there is no such file.
        FrameError: the file is damaged, is another kind of image (8-bit, colour, JPEG), holds an array of another
            shape or type, or more than MAX_FILE_BYTES, MAX_PIXELS or MAX_ARRAY_BYTES.
    """
    path = Path(path)
    if is_recording(path) and index is not None:
        return open_recording(path).read(index)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    suffix = path.suffix.lower()
    if suffix in (".npy", ".npz"):
        return _read_numpy(path, index)
    if index is not None:
        raise FrameError(f"{path}: there is no frame {index}; only .npy and .npz files and recordings hold many frames")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise FrameError(f"{path}: {path.stat().st_size} bytes; expected at most {MAX_FILE_BYTES} for one frame")
    content = path.read_bytes()
    if not content:
        raise FrameError(f"{path}: the file is empty")
    return decode_picture(path, content)


def _read_numpy(path: Path, index: int | None) -> DepthFrame:
    array = _numpy_array(path)
    if array.ndim == 3:
        if index is None:
            if len(array) != 1:
                raise FrameError(f"{path}: {len(array)} frames; choose one by its index (find_frames lists them)")
            index = 0
        if not 0 <= index < len(array):
            raise FrameError(f"{path}: there is no frame {index}; it holds 0..{len(array) - 1}")
        array = array[index]
    elif index is not None:
        raise FrameError(f"{path}: there is no frame {index}; it holds one frame")
    with np.errstate(over="ignore"):  # float64 beyond float32's range becomes infinite, which is no depth
        return np.array(
            array, dtype=_STORED_AS[array.dtype.newbyteorder("=")], order="C"
        )  # a copy, which the caller may modify


def _numpy_array(path: Path) -> npt.NDArray[Any]:
    """The array of frames, checked for type and rank; of an .npy only what is used is read from the disk."""
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == b"PK"
        array = (
            _unpacked(path, path.stat().st_mtime_ns, path.stat().st_size)
            if zipped
            else np.load(path, mmap_mode="r", allow_pickle=False)
        )
    except FrameError:
        raise
    except _UNREADABLE as error:
        raise FrameError(f"{path}: not a readable numpy file ({error}); truncated, or saved with pickle?") from None
    if array.dtype.newbyteorder("=") not in _STORED_AS:
        kinds = ", ".join(str(dtype) for dtype in _STORED_AS)
        raise FrameError(f"{path}: an array of {array.dtype}; depth is one of {kinds}")
    if array.ndim in (3, 4) and array.shape[-1] == 1 and array.shape[-2] > 1:
        array = array[..., 0]  # one channel
    elif array.ndim == 4 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise FrameError(f"{path}: an array of shape {list(array.shape)}; expected [H, W] or [N, H, W]")
    require_sane(path, *array.shape[-2:])
    return array


@lru_cache(maxsize=1)
def _unpacked(path: Path, modified: int, size: int) -> npt.NDArray[Any]:
    """The array of an archive, read-only: cached, so that it is unpacked once and not once per frame."""
    return _member(path)


def _member(path: Path) -> npt.NDArray[Any]:
    """The array of an .npz: unpacked only when its size is the one of its header and within the limit."""
    with zipfile.ZipFile(path) as archive:
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        chosen = list(members) if len(members) == 1 else [name for name in members if name in _ARRAY_KEYS]
        if len(chosen) != 1:
            held, wanted = ", ".join(members) or "nothing", " or ".join(_ARRAY_KEYS)
            raise FrameError(f"{path}: holds {held}; expected one array, or one named {wanted}")
        size = members[chosen[0]].file_size
        if size > MAX_ARRAY_BYTES:
            raise FrameError(
                f"{path}: {chosen[0]} takes {size} bytes unpacked; expected at most {MAX_ARRAY_BYTES}: save it "
                "as .npy, which is read piece by piece"
            )
        with archive.open(members[chosen[0]]) as file:
            content = file.read(size + 1)  # never more, however much the archive would unpack to
    header = io.BytesIO(content)
    version = np.lib.format.read_magic(header)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read_header(header)
    place = header.tell()
    if dtype.hasobject or len(content) - place != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{len(content) - place} bytes for an array {list(shape)} of {dtype}")
    return np.frombuffer(content, dtype, offset=place).reshape(shape, order="F" if fortran else "C")
