# SPDX-License-Identifier: MIT
import struct

import cv2
import numpy as np
import pytest
from helpers.published_data import PUBLISHED, needs_published_data
from hypothesis import given, settings
from hypothesis import strategies as st

from poseren_ext.io.depth_files import FrameError, FrameFile, find_frames, read_depth

DEPTH = np.random.default_rng(0).integers(0, 65536, (24, 32)).astype(np.uint16)


def nyu_encoded(depth):
    return np.stack([depth & 255, depth >> 8, np.zeros_like(depth)], -1).astype(np.uint8)  # blue, green, red


def msra_bytes(width, height, left, top, box):
    bottom, right = top + box.shape[0], left + box.shape[1]
    return struct.pack("<6I", width, height, left, top, right, bottom) + box.astype("<f4").tobytes()


def write(path, image):
    assert cv2.imwrite(str(path), image)
    return path


def test_16_bit_png(tmp_path):
    frame = read_depth(write(tmp_path / "a.png", DEPTH))
    assert frame.dtype == np.uint16
    np.testing.assert_array_equal(frame, DEPTH)


def test_nyu_png(tmp_path):
    frame = read_depth(write(tmp_path / "depth_1_0000001.png", nyu_encoded(DEPTH)))
    assert frame.dtype == np.uint16
    np.testing.assert_array_equal(frame, DEPTH)


def test_msra_bin(tmp_path):
    box = np.arange(12, dtype=np.float32).reshape(3, 4) + 0.5
    (tmp_path / "000000_depth.bin").write_bytes(msra_bytes(10, 8, 5, 2, box))
    frame = read_depth(tmp_path / "000000_depth.bin")
    assert frame.shape == (8, 10)
    assert frame.dtype == np.float32
    np.testing.assert_array_equal(frame[2:5, 5:9], box)
    assert frame.sum() == box.sum()


@pytest.mark.parametrize(
    ("given_type", "kept"),
    [("uint16", "uint16"), ("int16", "int32"), ("<i4", "int32"), (">u2", "uint16"), ("f2", "f2"), ("f8", "f4")],
)
def test_numpy_types(tmp_path, given_type, kept):
    stack = np.arange(24).reshape(2, 3, 4).astype(given_type)
    np.save(tmp_path / "stack.npy", stack)
    frame = read_depth(tmp_path / "stack.npy", 1)
    assert frame.dtype == np.dtype(kept)
    assert frame.flags.c_contiguous
    assert frame.flags.writeable
    np.testing.assert_array_equal(frame, stack[1])


def test_npz(tmp_path):
    np.savez(tmp_path / "a.npz", depth=DEPTH[None], joints=np.zeros(3))
    np.testing.assert_array_equal(read_depth(tmp_path / "a.npz"), DEPTH)
    np.savez_compressed(tmp_path / "b.npz", anything=DEPTH)
    np.testing.assert_array_equal(read_depth(tmp_path / "b.npz"), DEPTH)


def test_find_frames(tmp_path):
    for name in ("10.png", "9.png", "100.png"):
        write(tmp_path / name, DEPTH)
    (tmp_path / "notes.txt").write_text("not a frame")
    np.save(tmp_path / "stack.npy", np.stack([DEPTH, DEPTH + 1, DEPTH + 2]))
    found = find_frames([tmp_path, tmp_path / "9.png"])
    names = [str(frame).removeprefix(f"{tmp_path}/") for frame in found]
    assert names == ["9.png", "10.png", "100.png", "stack.npy[0]", "stack.npy[1]", "stack.npy[2]", "9.png"]
    np.testing.assert_array_equal(found[5].read(), DEPTH + 2)
    assert [frame.path.name for frame in find_frames([tmp_path], "10*")] == ["10.png", "100.png"]
    with pytest.raises(FileNotFoundError, match=r"no file depth_\*"):
        find_frames([tmp_path], "depth_*")
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        find_frames([tmp_path / "nowhere"])


def pictures(folder):
    grey8 = write(folder / "grey.png", (DEPTH >> 8).astype(np.uint8))
    rgb = write(folder / "rgb.png", np.full((24, 32, 3), 200, np.uint8))
    rgba = write(folder / "rgba.png", np.full((24, 32, 4), 200, np.uint8))
    jpeg = write(folder / "a.jpg", (DEPTH >> 8).astype(np.uint8))
    disguised = folder / "jpeg.png"
    disguised.write_bytes(jpeg.read_bytes())
    text = folder / "text.png"
    text.write_text("hello")
    return {
        grey8: "8-bit grey PNG; depth needs a 16-bit",
        rgb: "a colour picture",
        rgba: "8-bit RGBA PNG",
        jpeg: "a JPEG, 8 bits and lossy",
        disguised: "a JPEG, 8 bits and lossy",
        text: "neither PNG, TIFF",
    }


def test_pictures_are_no_depth(tmp_path):
    for path, message in pictures(tmp_path).items():
        with pytest.raises(FrameError, match=message) as caught:
            read_depth(path)
        assert str(path) in str(caught.value)


@given(st.floats(0, 0.999))
@settings(deadline=None, max_examples=40)
def test_truncated_png(tmp_path_factory, share):
    path = write(tmp_path_factory.mktemp("frames") / "a.png", DEPTH)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(FrameError, match=r"truncated PNG|neither PNG|the file is empty"):
        read_depth(path)


def test_damaged_png(tmp_path):
    path = write(tmp_path / "a.png", DEPTH)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(FrameError, match="damaged PNG"):
        read_depth(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"short", "5 bytes; an MSRA .bin begins with six"),
        (msra_bytes(10, 8, 5, 2, np.zeros((3, 4)))[:-1], "71 bytes; an MSRA .bin with a box of 4x3 pixels has 72"),
        (msra_bytes(10, 8, 7, 2, np.zeros((3, 4))), "is impossible"),
        (struct.pack("<6I", 2**31, 2**31, 0, 0, 2**31, 2**31), "expected 1 to 16777216"),
    ],
)
def test_bad_msra(tmp_path, content, message):
    path = tmp_path / "a.bin"
    path.write_bytes(content)
    with pytest.raises(FrameError, match=message):
        read_depth(path)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 4), np.uint8), "an array of uint8"),
        (np.zeros((4, 4), bool), "an array of bool"),
        (np.zeros((4, 4, 4, 2), np.uint16), r"shape \[4, 4, 4, 2\]; expected \[H, W\]"),
        (np.zeros((0, 4, 4), np.uint16), "shape"),
        (np.array([{}]), "not a readable numpy file"),
        (np.zeros((2, 4, 4), np.uint16), "2 frames; choose one"),
    ],
)
def test_bad_numpy(tmp_path, array, message):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(FrameError, match=message):
        read_depth(tmp_path / "a.npy")


def test_damaged_numpy(tmp_path):
    np.save(tmp_path / "a.npy", DEPTH)
    np.savez(tmp_path / "a.npz", depth=DEPTH)
    for path in (tmp_path / "a.npy", tmp_path / "a.npz"):
        path.write_bytes(path.read_bytes()[:-200])
        with pytest.raises(FrameError, match="not a readable numpy file"):
            read_depth(path)
    np.savez(tmp_path / "b.npz", left=DEPTH, right=DEPTH)
    with pytest.raises(FrameError, match="holds left, right; expected one array"):
        find_frames([tmp_path / "b.npz"])[0].read()


def test_indices(tmp_path):
    np.save(tmp_path / "one.npy", DEPTH)
    np.save(tmp_path / "two.npy", np.stack([DEPTH, DEPTH]))
    with pytest.raises(FrameError, match="it holds one frame"):
        read_depth(tmp_path / "one.npy", 0)
    with pytest.raises(FrameError, match=r"it holds 0\.\.1"):
        read_depth(tmp_path / "two.npy", 2)
    with pytest.raises(FrameError, match=r"only \.npy and \.npz"):
        read_depth(write(tmp_path / "a.png", DEPTH), 0)
    with pytest.raises(FileNotFoundError, match="no such file"):
        FrameFile(tmp_path / "missing.png").read()


@needs_published_data
def test_published_frames():
    golden = read_depth(PUBLISHED / "nyu" / "depth_1_0000001.png")
    assert golden.shape == (480, 640)
    assert (golden.min(), golden.max()) == (731, 2001)
    recorded = find_frames(sorted((PUBLISHED / "sr305").iterdir()))
    assert [frame.path.stem for frame in recorded[:3]] == ["30", "50", "70"]
    assert len(recorded) == 19
    assert all(frame.read().dtype == np.uint16 and frame.read().shape == (480, 640) for frame in recorded)


def test_tiff_of_every_type_of_depth(tmp_path):
    kinds = {"uint16": "uint16", "int16": "int32", "int32": "int32", "float32": "float32", "float64": "float32"}
    for given_type, kept in kinds.items():
        frame = read_depth(write(tmp_path / f"{given_type}.tiff", (DEPTH // 2).astype(given_type)))
        assert frame.dtype == np.dtype(kept), given_type
        np.testing.assert_array_equal(frame, DEPTH // 2)
    assert [f.path.name for f in find_frames([tmp_path])] == sorted(f"{name}.tiff" for name in kinds)


def test_tiff_that_pillow_writes_in_both_byte_orders(tmp_path):
    from PIL import Image

    for mode in ("I;16", "I;16B"):
        image = Image.frombytes(mode, (32, 24), DEPTH.astype("<u2" if mode == "I;16" else ">u2").tobytes())
        image.save(tmp_path / "a.tif")
        np.testing.assert_array_equal(read_depth(tmp_path / "a.tif"), DEPTH)


def test_pgm_of_16_bits(tmp_path):
    frame = read_depth(write(tmp_path / "a.pgm", DEPTH))  # OpenCV's writer
    assert frame.dtype == np.uint16
    np.testing.assert_array_equal(frame, DEPTH)
    (tmp_path / "b.pgm").write_bytes(b"P5 # made by hand\n32\n# two\n24 65535\n" + DEPTH.astype(">u2").tobytes())
    np.testing.assert_array_equal(read_depth(tmp_path / "b.pgm"), DEPTH)


def exr(path, **channels):
    import OpenEXR

    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, channels).write(str(path))
    return path


def test_exr(tmp_path):
    metres = (DEPTH / 1000).astype(np.float32)
    for name, channels in {"z": {"Z": metres}, "y": {"Y": metres}, "rgb": dict.fromkeys("RGB", metres)}.items():
        np.testing.assert_array_equal(read_depth(exr(tmp_path / f"{name}.exr", **channels)), metres)
    half = read_depth(exr(tmp_path / "half.exr", Z=metres.astype(np.float16), A=metres))
    assert half.dtype == np.float16


def test_exr_of_whole_numbers(tmp_path):
    whole = read_depth(exr(tmp_path / "whole.exr", Z=DEPTH.astype(np.uint32)))
    assert whole.dtype == np.int32
    np.testing.assert_array_equal(whole, DEPTH)
    with pytest.raises(FrameError, match="values up to 2147483648; expected at most 2147483647"):
        read_depth(exr(tmp_path / "large.exr", Z=np.full((3, 4), 2**31, np.uint32)))


def test_exr_without_its_library_says_what_to_install(tmp_path, monkeypatch):
    import sys

    path = exr(tmp_path / "a.exr", Z=np.ones((3, 4), np.float32))
    monkeypatch.setitem(sys.modules, "OpenEXR", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'poseren_ext\[exr\]'"):
        read_depth(path)


def tiff_pages(tmp_path):
    cv2.imwritemulti(str(tmp_path / "pages.tiff"), [DEPTH, DEPTH])
    return (tmp_path / "pages.tiff").read_bytes()


def encoded(suffix, image):
    return cv2.imencode(suffix, image)[1].tobytes()


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("a.tif", lambda p: encoded(".tiff", DEPTH.astype(np.uint8)), "1 samples of 8 bits"),
        ("a.tif", lambda p: encoded(".tiff", np.zeros((4, 5, 3), np.uint16)), "a TIFF of 3 samples"),
        ("a.tif", lambda p: encoded(".tiff", DEPTH)[:-30], "TIFF"),
        ("a.tif", lambda p: b"II*\0\xff\xff\xff\xff", "its directory cannot be read"),
        ("a.tif", tiff_pages, "several pages"),
        ("a.pgm", lambda p: encoded(".pgm", DEPTH)[:-1], "1535 bytes of pixels; a 32x24 PGM of 16 bits has 1536"),
        ("a.pgm", lambda p: encoded(".pgm", DEPTH.astype(np.uint8)), "values up to 255"),
        ("a.pgm", lambda p: b"P2 2 1 65535\n1 2\n", "not a binary grey PGM"),
        ("a.pgm", lambda p: b"P5 99999 99999 65535\n", "99999x99999"),
        ("a.exr", lambda p: b"\x76\x2f\x31\x01junk", "not a readable EXR"),
        (
            "a.exr",
            lambda p: exr(p / "c.exr", R=np.ones((2, 2), "f"), G=np.zeros((2, 2), "f")).read_bytes(),
            "expected depth: Z",
        ),
    ],
)
def test_pictures_that_hold_no_depth(tmp_path, name, make, message):
    (tmp_path / name).write_bytes(make(tmp_path))
    with pytest.raises(FrameError, match=message):
        read_depth(tmp_path / name)
