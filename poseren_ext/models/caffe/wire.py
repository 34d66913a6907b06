# SPDX-License-Identifier: MIT
"""Caffe's binary model files: a protobuf message of layers, read one layer at a time.

The schema is the part of caffe.proto that holds weights, in both of its layer formats. A file is walked field by field,
so that memory is bounded by its largest layer for any file; nothing in it is ever executed.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

MAX_FILE_BYTES = 2**31 - 1
"""protobuf's own limit: Caffe writes no larger file."""
MAX_LAYER_BYTES = 320 * 2**20
"""The released networks' largest layer (9216 x 2048) fits in float64 and with its gradients."""
MAX_FIELDS = 10_000
"""Fields of a network, layers among them; the released ones have fewer than 200."""

# Field numbers of NetParameter: the layers in the old and in the new format.
_OLD_LAYERS, _NEW_LAYERS = 2, 100


@dataclass(frozen=True)
class Layer:
    """A layer's name and its weights, as stored.

    Attributes:
        name: as in the network's description.
        shapes: of each blob; old files pad theirs with leading ones to four axes.
        blobs: flat float32 arrays.
    """

    name: str
    shapes: tuple[tuple[int, ...], ...]
    blobs: tuple[npt.NDArray[np.float32], ...]


def read_layers(path: str | os.PathLike[str]) -> Iterator[Layer]:
    """The layers of a ``.caffemodel`` file, in its order.

    Raises:
        FileNotFoundError: The file does not exist.
        ModuleNotFoundError: the protobuf library is not installed.
        ValueError: The file is empty, truncated, too large, or not a Caffe model.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no Caffe model {path}; check the path")
    size = path.stat().st_size if path.is_file() else 0
    if not 0 < size <= MAX_FILE_BYTES:
        raise _fault(path, f"it is a file of {size} bytes; a Caffe model has 1 to {MAX_FILE_BYTES}")
    layers = 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for number, start, end in _fields(path, data):
            if number not in (_OLD_LAYERS, _NEW_LAYERS):
                continue
            if end - start > MAX_LAYER_BYTES:
                raise _fault(path, f"layer {layers} claims {end - start} bytes; expected at most {MAX_LAYER_BYTES}")
            yield _layer(path, data[start:end], old=number == _OLD_LAYERS)
            layers += 1
    if not layers:
        raise _fault(path, "it holds no layers")


def _fields(path: Path, data: mmap.mmap) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of each length-delimited field of the outermost message; other fields are stepped over."""
    position, count = 0, 0
    while position < len(data):
        count += 1
        if count > MAX_FIELDS:
            raise _fault(path, f"it has more than {MAX_FIELDS} fields")
        key, position = _varint(path, data, position)
        number, kind = key >> 3, key & 7
        start = position
        if kind == 0:
            _, position = _varint(path, data, position)
        elif kind in (1, 5):
            position += 8 if kind == 1 else 4
        elif kind == 2:
            length, start = _varint(path, data, position)
            position = start + length
        if number == 0 or kind not in (0, 1, 2, 5):
            raise _fault(path, f"byte {start - 1} begins no protobuf field")
        if position > len(data):
            raise _fault(path, f"it is truncated: a field ends at byte {position}, the file at {len(data)}")
        if kind == 2:
            yield number, start, position


def _varint(path: Path, data: mmap.mmap, position: int) -> tuple[int, int]:
    """A variable-length integer and the position after it."""
    value = 0
    for shift in range(0, 64, 7):
        if position >= len(data):
            raise _fault(path, f"it is truncated at byte {len(data)}, within a number")
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise _fault(path, f"byte {position} is within a number of more than 64 bits")


def _layer(path: Path, encoded: bytes, *, old: bool) -> Layer:
    from google.protobuf.message import DecodeError

    message = _schema()["OldLayer" if old else "Layer"]()
    try:
        message.ParseFromString(encoded)
    except DecodeError as error:
        raise _fault(path, f"a layer of it cannot be decoded ({error})") from error
    name = message.name.decode("utf-8", "backslashreplace")
    blobs = tuple(message.blobs)
    return Layer(name, tuple(map(_shape, blobs)), tuple(_values(path, name, blob) for blob in blobs))


def _shape(blob: Any) -> tuple[int, ...]:
    return tuple(blob.shape.dim) if blob.HasField("shape") else (blob.num, blob.channels, blob.height, blob.width)


def _values(path: Path, name: str, blob: Any) -> npt.NDArray[np.float32]:
    """A blob's numbers as float32, from whichever of its two fields holds them."""
    encoded, dtype = (blob.double_data, "<f8") if blob.double_data else (blob.data, "<f4")
    data = encoded[0] if len(encoded) == 1 else b"".join(encoded)
    if len(data) % np.dtype(dtype).itemsize:
        raise _fault(path, f"a blob of layer {name!r} has {len(data)} bytes, no whole number of values")
    return np.frombuffer(data, dtype).astype(np.float32, copy=False)


@cache
def _schema() -> dict[str, Any]:
    """Message classes of the part of caffe.proto that is read.

    Blobs' values are declared as bytes: a packed field and a byte string are the same on the wire, and bytes become an
    array without a Python object for each of some hundred million numbers.
    """
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("reading Caffe models needs protobuf: pip install 'poseren_ext[caffe]'") from error
    Field = descriptor_pb2.FieldDescriptorProto
    once, many = Field.LABEL_OPTIONAL, Field.LABEL_REPEATED
    file = descriptor_pb2.FileDescriptorProto(name="poseren_ext/caffe.proto", package="poseren_ext.models.caffe")
    messages: dict[str, list[tuple[str, int, int, Any]]] = {
        "Shape": [("dim", 1, many, Field.TYPE_INT64)],
        "Blob": [
            *((axis, i + 1, once, Field.TYPE_INT32) for i, axis in enumerate(("num", "channels", "height", "width"))),
            ("data", 5, many, Field.TYPE_BYTES),
            ("shape", 7, once, "Shape"),
            ("double_data", 8, many, Field.TYPE_BYTES),
        ],
        "OldLayer": [("name", 4, once, Field.TYPE_BYTES), ("blobs", 6, many, "Blob")],
        "Layer": [("name", 1, once, Field.TYPE_BYTES), ("blobs", 7, many, "Blob")],
    }
    for message, fields in messages.items():
        description = file.message_type.add(name=message)
        for name, number, label, kind in fields:
            field = description.field.add(name=name, number=number, label=label)
            if isinstance(kind, str):
                field.type, field.type_name = Field.TYPE_MESSAGE, f".{file.package}.{kind}"
            else:
                field.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)  # type: ignore[no-untyped-call]
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.{name}"))  # type: ignore[no-untyped-call]
        for name in messages
    }


def _fault(path: Path, what: str) -> ValueError:
    return ValueError(
        f"{path} is no Caffe model that can be read: {what}. Expected a .caffemodel of the released system; download "
        "it again"
    )
