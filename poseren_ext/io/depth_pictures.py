# SPDX-License-Identifier: MIT
"""Depth frames from the bytes of a picture file: PNG, TIFF, PGM, EXR and MSRA's .bin.

Everything is checked before anything of the size that a header claims is allocated.
"""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from poseren_ext._utils.optional_libraries import import_library

DepthFrame = npt.NDArray[Any]
"""[H, W], uint16, int32, float16 or float32, in the file's own unit."""

MAX_FILE_BYTES = 2**28
"""Limit for a picture file, which is read as a whole."""
MAX_PIXELS = 2**24
"""Limit for a frame, checked before it is decoded: 4096 x 4096, 64 MiB in float32. No depth camera comes near it."""

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_EXR_SIGNATURE = b"\x76\x2f\x31\x01"
_COLOUR_TYPES = {0: "grey", 2: "RGB", 3: "palette", 4: "grey and alpha", 6: "RGBA"}


class FrameError(ValueError):
    """The file holds no depth frame; the message names the file, what it holds and what is expected."""


def decode_picture(path: Path, content: bytes) -> DepthFrame:
    """The depth frame in the content of a picture file.

    Args:
        path: the file, named in errors; its ending identifies MSRA's .bin, which has no signature.
        content: all bytes of the file.

    Returns:
        [H, W] as stored.

    Raises:
        FrameError: The content is not a depth frame, or is damaged.
        ModuleNotFoundError: The file is EXR and OpenEXR is not installed.
    """
    if content.startswith(_PNG_SIGNATURE):
        return _read_png(path, content)
    if path.suffix.lower() == ".bin":
        return _read_msra(path, content)
    if content.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return _read_tiff(path, content)
    if re.match(rb"P[1-7fF]\s", content):
        return _read_pgm(path, content)
    if content.startswith(_EXR_SIGNATURE):
        return _read_exr(path, content)
    if content.startswith(b"\xff\xd8"):
        raise FrameError(f"{path}: a JPEG, 8 bits and lossy: it cannot hold depth; save 16-bit grey PNG or .npy")
    raise FrameError(
        f"{path}: neither PNG, TIFF, PGM, EXR, MSRA .bin nor .npy/.npz; expected a depth frame in one of these"
    )


def _read_png(path: Path, content: bytes) -> DepthFrame:
    height, width, bits, colour = _check_png(path, content)
    if (bits, colour) not in ((16, 0), (8, 2)):
        kind = _COLOUR_TYPES.get(colour, "unknown")
        raise FrameError(
            f"{path}: a {bits}-bit {kind} PNG; depth needs a 16-bit grey PNG (or NYU's RGB encoding). "
            "Was it saved as a picture to look at? Save the camera's raw depth"
        )
    image = _decoded(content)
    if image is None:
        raise FrameError(f"{path}: a damaged PNG: its pixels cannot be read")
    if (image.shape, image.dtype) != ((height, width, 3)[: 2 if colour == 0 else 3], np.dtype(f"uint{bits}")):
        raise FrameError(f"{path}: a PNG with transparency or a palette; depth has neither: save it as plain depth")
    if colour == 0:
        return np.asarray(image, np.uint16)
    if image[..., 2].any():  # blue, green, red
        raise FrameError(
            f"{path}: a colour picture (8-bit RGB); expected depth: a 16-bit grey PNG, or NYU's encoding "
            "(green * 256 + blue, red 0)"
        )
    return np.asarray(image[..., 1] * np.uint16(256) + image[..., 0], np.uint16)


def _decoded(content: bytes) -> npt.NDArray[Any] | None:
    """The stored pixels of a PNG or TIFF; None if OpenCV cannot read them."""
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None


def _check_png(path: Path, content: bytes) -> tuple[int, int, int, int]:
    """Check every chunk of a PNG, because decoders return half an image for half a file.

    Returns:
        Height, width, bit depth and colour type, before anything of that size is allocated.
    """
    place, header = len(_PNG_SIGNATURE), None
    while place + 12 <= len(content):
        length, kind = struct.unpack(">I4s", content[place : place + 8])
        end = place + 12 + length
        if end > len(content):
            break
        (expected,) = struct.unpack(">I", content[end - 4 : end])
        if zlib.crc32(content[place + 4 : end - 4]) != expected:
            raise FrameError(f"{path}: a damaged PNG: the checksum of its {kind.decode('latin-1')} part is wrong")
        if header is None:  # decoders use the first chunk
            if (kind, length) != (b"IHDR", 13):
                raise FrameError(f"{path}: a damaged PNG: it does not begin with a header")
            width, height, bits, colour = struct.unpack(">IIBB", content[place + 8 : place + 18])
            require_sane(path, height, width)
            header = (height, width, bits, colour)
        if kind == b"IEND":
            return header
        place = end
    raise FrameError(f"{path}: a truncated PNG ({len(content)} bytes, its end is missing); copy or record it again")


def _read_msra(path: Path, content: bytes) -> DepthFrame:
    if len(content) < 24:
        raise FrameError(f"{path}: {len(content)} bytes; an MSRA .bin begins with six 32-bit numbers")
    width, height, left, top, right, bottom = struct.unpack("<6I", content[:24])
    require_sane(path, height, width)
    if not (left < right <= width and top < bottom <= height):
        raise FrameError(
            f"{path}: not an MSRA .bin: a box ({left}, {top})..({right}, {bottom}) in a {width}x{height} image "
            "is impossible"
        )
    pixels = (right - left) * (bottom - top)
    if len(content) != 24 + 4 * pixels:
        raise FrameError(
            f"{path}: {len(content)} bytes; an MSRA .bin with a box of {right - left}x{bottom - top} pixels has "
            f"{24 + 4 * pixels}: truncated or of another format"
        )
    depth = np.zeros((height, width), np.float32)
    depth[top:bottom, left:right] = np.frombuffer(content, "<f4", offset=24).reshape(bottom - top, right - left)
    return depth


def require_sane(path: Path, height: int, width: int) -> None:
    """Refuse a size that no depth frame has.

    Raises:
        FrameError: The frame has no pixel, or more than MAX_PIXELS.
    """
    if not 0 < height * width <= MAX_PIXELS:
        raise FrameError(
            f"{path}: its header says {width}x{height} pixels; expected 1 to {MAX_PIXELS}: damaged, or not depth"
        )


def _read_tiff(path: Path, content: bytes) -> DepthFrame:
    height, width, dtype = _check_tiff(path, content)
    image = _decoded(content)
    if image is None:
        raise FrameError(f"{path}: a damaged TIFF, or one with a compression that OpenCV does not read")
    if image.shape != (height, width) or image.dtype != dtype:
        raise FrameError(f"{path}: a TIFF of {image.dtype} {list(image.shape)}, but its header says something else")
    return np.asarray(image, np.int32 if dtype == np.int16 else np.float32 if dtype == np.float64 else dtype)


_TIFF_TYPES = {
    (1, 16): np.uint16,
    (2, 16): np.int16,
    (2, 32): np.int32,
    (3, 32): np.float32,
    (3, 64): np.float64,
}
"""Sample format (1: unsigned, 2: signed, 3: floating point) and bits of a TIFF, and the type that it is."""


def _check_tiff(path: Path, content: bytes) -> tuple[int, int, np.dtype[Any]]:
    """Height, width and type of the only page of a TIFF, from its directory (TIFF 6.0, section 2)."""
    order = "<" if content[:2] == b"II" else ">"
    if content[2:4] in (b"+\0", b"\0+"):
        raise FrameError(f"{path}: a BigTIFF; save it as plain TIFF or as 16-bit PNG")
    fields = {277: 1, 339: 1, 258: 1}  # samples per pixel, sample format, bits per sample: TIFF's defaults
    try:
        (place,) = struct.unpack_from(f"{order}I", content, 4)
        (count,) = struct.unpack_from(f"{order}H", content, place)
        for entry in range(place + 2, place + 2 + 12 * count, 12):
            tag, kind, number = struct.unpack_from(f"{order}HHI", content, entry)
            if kind in (3, 4) and number == 1:
                (fields[tag],) = struct.unpack_from(f"{order}{'H' if kind == 3 else 'I'}", content, entry + 8)
            elif tag == 258:
                fields[277] = max(2, number)  # bits of several samples
        (following,) = struct.unpack_from(f"{order}I", content, place + 2 + 12 * count)
        width, height = fields[256], fields[257]
    except (struct.error, KeyError):
        raise FrameError(f"{path}: a damaged TIFF: its directory cannot be read") from None
    require_sane(path, height, width)
    if following:
        raise FrameError(f"{path}: a TIFF of several pages; expected one frame per file (or .npy [N, H, W])")
    if fields[277] != 1 or (fields[339], fields[258]) not in _TIFF_TYPES:
        raise FrameError(
            f"{path}: a TIFF of {fields[277]} samples of {fields[258]} bits per pixel; depth needs one sample of 16 "
            "bits or float32. Was it saved as a picture to look at? Save the camera's raw depth"
        )
    return height, width, np.dtype(_TIFF_TYPES[fields[339], fields[258]])


_PGM_NUMBER = re.compile(rb"(?:\s|#[^\n]*\n)+(\d{1,9})")


def _read_pgm(path: Path, content: bytes) -> DepthFrame:
    """Binary PGM of 16 bits, most significant byte first (netpbm's format description)."""
    numbers: list[int] = []
    place = 2
    while content.startswith(b"P5") and len(numbers) < 3:
        number = _PGM_NUMBER.match(content, place)
        if number is None:
            break
        place, numbers = number.end(), [*numbers, int(number[1])]
    if len(numbers) < 3:
        raise FrameError(f"{path}: not a binary grey PGM (P5) of sane size; save 16-bit PGM or 16-bit grey PNG")
    width, height, most = numbers
    require_sane(path, height, width)
    if not 255 < most < 65536:
        raise FrameError(f"{path}: a PGM of values up to {most}, which are not 16 bits; save the camera's raw depth")
    pixels = content[place + 1 :]
    if len(pixels) != 2 * width * height:
        raise FrameError(
            f"{path}: {len(pixels)} bytes of pixels; a {width}x{height} PGM of 16 bits has {2 * width * height}: "
            "truncated, or of several frames"
        )
    return np.frombuffer(pixels, ">u2").astype(np.uint16).reshape(height, width)


def _read_exr(path: Path, content: bytes) -> DepthFrame:
    """The depth of an OpenEXR image: its channel Z, or its only channel, or R where R, G and B are equal."""
    library = import_library("OpenEXR", "exr", "EXR files")
    try:
        header = library.File(str(path), header_only=True).header()
        (left, top), (right, bottom) = (corner.tolist() for corner in header["dataWindow"])
        require_sane(path, bottom - top + 1, right - left + 1)
        file = library.File(str(path), separate_channels=True)
        parts = len(file.parts)
        channels = {name: np.asarray(channel.pixels) for name, channel in file.channels().items()}
    except FrameError:
        raise
    except Exception as error:  # the bindings raise exceptions of several types for damaged files
        raise FrameError(f"{path}: not a readable EXR ({' '.join(str(error).split())})") from None
    if parts != 1:
        raise FrameError(f"{path}: an EXR of {parts} parts; expected one frame per file")
    colours = [channels[name] for name in "RGB" if name in channels]
    if "Z" in channels:
        depth = channels["Z"]
    elif len(channels) == 1:
        (depth,) = channels.values()
    elif len(colours) == 3 and all(np.array_equal(colours[0], other, equal_nan=True) for other in colours[1:]):
        depth = colours[0]
    else:
        raise FrameError(
            f"{path}: channels {', '.join(channels)}; expected depth: Z, a single channel, or equal R, G, B"
        )
    if depth.ndim != 2 or depth.dtype not in (np.float16, np.float32, np.uint32):
        raise FrameError(f"{path}: {depth.dtype} {list(depth.shape)}; expected half or float pixels [H, W]")
    if depth.dtype != np.uint32:
        return np.ascontiguousarray(depth)
    if int(depth.max()) > np.iinfo(np.int32).max:
        raise FrameError(f"{path}: values up to {int(depth.max())}; expected at most {np.iinfo(np.int32).max}")
    return np.ascontiguousarray(depth, np.int32)
