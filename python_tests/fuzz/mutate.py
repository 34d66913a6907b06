# SPDX-License-Identifier: MIT
"""Mutations of files: of bytes, of length fields, and of whole parts of formats that are made of parts."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from random import Random

Mutation = Callable[[Random, bytes], bytes]

_EXTREMES = [0, 1, 2, 7, 8, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1]
_WORDS = [
    b"nan",
    b"inf",
    b"-inf",
    b"1e999",
    b"-1",
    b"0",
    b"99999999999999999999",
    b"1_0",
    b"0x10",
    b"",
    b"\x00",
    b"\xff",
]
_WORDS += [b"null", b"true", b"[]", b"{}", b"[" * 4000, b"{'descr': 'O'}", b"../../x", b"/etc/passwd", b"\n\n", b"NaN"]


def flip(random: Random, data: bytes) -> bytes:
    """One to eight bits."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 8)):
        if changed:
            changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def truncate(random: Random, data: bytes) -> bytes:
    """Anything from nothing to all but one byte."""
    return data[: random.randrange(len(data) + 1)] if random.random() < 0.5 else data[: -random.randint(1, 9)]


def length(random: Random, data: bytes) -> bytes:
    """An integer of 1, 2, 4 or 8 bytes at any place, in either byte order."""
    size, place = random.choice([1, 2, 4, 8]), random.randrange(len(data) + 1)
    if random.random() < 0.5:
        place = min(place, random.choice([0, 4, 8, 12, 16, 24, 32]))  # headers are in front
    value = random.choice(_EXTREMES) & ((1 << 8 * size) - 1)
    return data[:place] + value.to_bytes(size, random.choice(["little", "big"])) + data[place + size :]


def part(random: Random, data: bytes) -> bytes:
    """A part left out, doubled, moved, or replaced by noise."""
    begin = random.randrange(len(data) + 1)
    end = min(len(data), begin + random.choice([1, 4, 16, 64, 1024, len(data) // 3 + 1]))
    some, place = data[begin:end], random.randrange(len(data) + 1)
    kind = random.randrange(4)
    if kind == 0:
        return data[:begin] + data[end:]
    if kind == 1:
        return data[:begin] + some + data[begin:]
    if kind == 2:
        return data[:place] + some + data[place:]
    return data[:begin] + random.randbytes(len(some)) + data[end:]


def word(random: Random, data: bytes) -> bytes:
    """A word of a text replaced by what texts should not hold."""
    place = random.randrange(len(data) + 1)
    end = place
    while end < len(data) and data[end : end + 1].isalnum():
        end += 1
    return data[:place] + random.choice(_WORDS) + data[end:]


def digit(random: Random, data: bytes) -> bytes:
    """A digit of a text changed: counts, offsets and shapes that are nearly right."""
    digits = [place for place, byte in enumerate(data[:20_000]) if 48 <= byte <= 57]
    if not digits:
        return flip(random, data)
    place = random.choice(digits)
    return data[:place] + random.choice([b"0", b"1", b"9", b"-1", b"99999999999", b"0.5"]) + data[place + 1 :]


PLAIN: tuple[Mutation, ...] = (flip, truncate, length, part, word, digit)


def png_chunks(random: Random, data: bytes) -> bytes:
    """Chunks of a PNG dropped, doubled, swapped or changed, their checksums made right again."""
    chunks, place = [], 8
    while place + 12 <= len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + size]))
        place += 12 + size
    if not chunks:
        return flip(random, data)
    chosen = random.randrange(len(chunks))
    kind, content = chunks[chosen]
    action = random.randrange(6)
    if action == 0:
        del chunks[chosen]
    elif action == 1:
        chunks.insert(random.randrange(len(chunks) + 1), chunks[chosen])
    elif action == 2:
        name = random.choice([b"tRNS", b"PLTE", b"iCCP", b"gAMA", b"sBIT", b"acTL", b"zTXt", b"IHDR", b"IDAT"])
        chunks.insert(random.randrange(len(chunks) + 1), (name, random.randbytes(random.choice([0, 2, 6, 13, 64]))))
    elif action == 3:
        chunks[0] = (chunks[0][0], length(random, chunks[0][1])[:13])
    elif action == 4 and kind == b"IDAT":
        raw = random.choice([b"", content, zlib.compress(b"\0" * random.choice([10, 10_000, 3_000_000]))])
        chunks[chosen] = (kind, raw)
    else:
        chunks[chosen] = (kind, random.choice(PLAIN)(random, content))
    parts = [struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks]
    return data[:8] + b"".join(parts)


def several(random: Random, data: bytes, mutations: tuple[Mutation, ...]) -> bytes:
    """One to three mutations, one after the other."""
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        data = random.choice(mutations)(random, data)
    return data


def npz_member(random: Random, data: bytes) -> bytes:
    """A member of a .npz file changed, its checksum made right again."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        name = random.choice(sorted(members))
        members[name] = several(random, members[name], PLAIN)
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return file.getvalue()
    except Exception:  # what is too far from an archive to be changed
        return several(random, data, PLAIN)
