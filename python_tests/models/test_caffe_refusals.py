# SPDX-License-Identifier: MIT
"""Invalid files: clear errors, with bounded memory."""

import contextlib
import subprocess
import sys
from itertools import chain

import numpy as np
import pytest
from helpers import caffe_files
from helpers.caffe_files import NARROW, OURS, system
from hypothesis import given, settings
from hypothesis import strategies as st

from poseren_ext.models.caffe import import_caffe, read_init_cnn, read_refiner
from poseren_ext.models.caffe.wire import MAX_FIELDS, MAX_LAYER_BYTES, read_layers


def changed(folder, kind="pose_ren", dataset="nyu", **change):
    """A narrow file with layers replaced or, where None, removed."""
    layers = caffe_files.random_weights(dataset, kind, **NARROW) | change
    path = folder / f"{dataset}_{kind}.caffemodel"
    return caffe_files.write(path, {name: blobs for name, blobs in layers.items() if blobs is not None})


@pytest.mark.parametrize(
    ("given", "asked"), [("nyu", "icvl"), ("icvl", "nyu"), ("msra", "hands17"), ("hands17", "msra")]
)
def test_wrong_dataset(tmp_path, given, asked):
    refiner, _ = system(tmp_path, given)
    with pytest.raises(ValueError, match=f"Pose-REN of {asked}.*dataset"):
        read_refiner(refiner, asked, **OURS)


def test_wrong_dataset_of_an_init_cnn(tmp_path):
    _, init = system(tmp_path, "icvl")
    with pytest.raises(ValueError, match=r"weight of layer 'fc3' has shape \[48, 24\]; expected \[42, 24\] .*nyu"):
        read_init_cnn(init, "nyu", **OURS)


def test_the_other_network(tmp_path):
    refiner, init = system(tmp_path, "nyu")
    with pytest.raises(ValueError, match=r"lacks .*fc1_0.*has fc1, fc2, fc3.*two files"):
        read_refiner(init, "nyu", **OURS)
    with pytest.raises(ValueError, match="lacks fc1, fc2, fc3 and has fc1_0"):
        read_init_cnn(refiner, "nyu", **OURS)


def test_unknown_dataset(tmp_path):
    with pytest.raises(ValueError, match="expected one of nyu, icvl, msra, hands17"):
        import_caffe(tmp_path / "x.caffemodel", "bighand")


def test_missing_layer(tmp_path):
    with pytest.raises(ValueError, match="lacks fc2_3"):
        read_refiner(changed(tmp_path, fc2_3=None), "nyu", **OURS)


def test_foreign_layer(tmp_path):
    weights = np.ones((3, 3), np.float32), np.ones(3, np.float32)
    with pytest.raises(ValueError, match="has fc9"):
        read_refiner(changed(tmp_path, fc9=weights), "nyu", **OURS)


def test_transposed_weight(tmp_path):
    weight, bias = caffe_files.random_weights("nyu", "pose_ren", **NARROW)["fc1_5"]
    path = changed(tmp_path, fc1_5=(weight.T, bias))
    with pytest.raises(
        ValueError, match=r"weight of layer 'fc1_5' has shape \[784, 24\]; expected \[24, 784\].*transposed"
    ):
        read_refiner(path, "nyu", **OURS)


def test_layer_without_bias(tmp_path):
    weight, _ = caffe_files.random_weights("nyu", "pose_ren", **NARROW)["fc1_5"]
    with pytest.raises(ValueError, match="'fc1_5' has 1 blobs"):
        read_refiner(changed(tmp_path, fc1_5=(weight,)), "nyu", **OURS)


def test_values_that_are_not_finite(tmp_path):
    weight, bias = caffe_files.random_weights("nyu", "pose_ren", **NARROW)["fc3_0"]
    bias[3] = np.nan
    with pytest.raises(ValueError, match="bias of layer 'fc3_0' holds values that are NaN"):
        read_refiner(changed(tmp_path, fc3_0=(weight, bias)), "nyu", **OURS)


def test_fewer_values_than_the_shape_says(tmp_path):
    net = caffe_files.messages()["NetParameter"]()
    layer = net.layer.add(name="conv0")
    for shape in ((4, 1, 3, 3), (4,)):
        layer.blobs.add(data=[1.0]).shape.dim.extend(shape)
    path = tmp_path / "short.caffemodel"
    path.write_bytes(net.SerializeToString())
    with pytest.raises(ValueError, match="weight of layer 'conv0' holds 1 values; expected 36"):
        read_init_cnn(path, "nyu", **OURS)


def test_doubled_layer(tmp_path):
    path = changed(tmp_path, kind="baseline")
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(ValueError, match="'conv0' occurs twice"):
        read_init_cnn(path, "nyu", **OURS)


def test_init_cnn_is_not_there(tmp_path):
    refiner, init = system(tmp_path, "nyu")
    init.rename(tmp_path / "elsewhere.caffemodel")
    with pytest.raises(FileNotFoundError, match=r"nyu_baseline\.caffemodel is not beside.*--init"):
        import_caffe(refiner, "nyu", **OURS)
    with pytest.raises(FileNotFoundError, match="its Init-CNN is not beside"):
        import_caffe(tmp_path / "elsewhere.caffemodel", "nyu", **OURS)
    with pytest.raises(FileNotFoundError, match="no Caffe model"):
        read_refiner(tmp_path / "nowhere.caffemodel", "nyu")


def test_truncated(tmp_path):
    whole = changed(tmp_path, kind="baseline").read_bytes()
    path = tmp_path / "cut.caffemodel"
    for length in chain(range(1, 40), range(40, len(whole), len(whole) // 40)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cut\.caffemodel"):
            read_init_cnn(path, "nyu", **OURS)


def test_empty_and_folder(tmp_path):
    path = tmp_path / "empty.caffemodel"
    path.touch()
    for wrong in (path, tmp_path):
        with pytest.raises(ValueError, match="file of 0 bytes"):
            list(read_layers(wrong))


@settings(max_examples=150, deadline=None)
@given(st.binary(min_size=1, max_size=300))
def test_random_bytes(tmp_path_factory, rubbish):
    path = tmp_path_factory.mktemp("rubbish") / "a.caffemodel"
    path.write_bytes(rubbish)
    with pytest.raises(ValueError, match=r"a\.caffemodel"):
        read_init_cnn(path, "nyu", **OURS)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_bytes(tmp_path_factory, data):
    """A file with a few wrong bytes is read or raises a ValueError."""
    folder = tmp_path_factory.mktemp("damaged")
    content = bytearray(changed(folder, kind="baseline").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = folder / "a.caffemodel"
    path.write_bytes(content)
    with contextlib.suppress(ValueError):
        read_init_cnn(path, "nyu", **OURS)


GIB2 = 2**31
RUBBISH = {  # beginning and size of a file, and what is said of it; the rest is a hole: zeros that take no disk
    "zeros": (b"", GIB2 - 1, "byte 0 begins no protobuf field"),
    "larger than protobuf allows": (b"", GIB2, "file of 2147483648 bytes"),
    "noise": (np.random.default_rng(0).bytes(4096), GIB2 - 1, "no Caffe model that can be read"),
    "layer of 2 GB": (b"\xa2\x06\xf0\xff\xff\xff\x07", GIB2 - 1, "claims 2147483632 bytes"),
    "name of 2 GB": (b"\x0a\xf9\xff\xff\xff\x07", GIB2 - 1, "holds no layers"),
    "fields without end": (b"\x08\x01" * (MAX_FIELDS + 1), GIB2 - 1, f"more than {MAX_FIELDS} fields"),
    "layer of 300 MB": (b"\xa2\x06\x80\x80\x80\x96\x01", GIB2 - 1, "cannot be decoded"),
}

READ_ALL = """
import resource, sys
from poseren_ext.models.caffe import read_init_cnn

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

before = peak()
for path in sys.argv[1:]:
    try:
        read_init_cnn(path, "nyu")
    except ValueError as error:
        print(peak() - before, error)
"""


def test_two_gigabytes_of_rubbish(tmp_path):
    paths = [tmp_path / f"{kind}.caffemodel" for kind in RUBBISH]
    for path, (start, size, _) in zip(paths, RUBBISH.values(), strict=True):
        with path.open("wb") as file:
            file.write(start)
            file.truncate(size)
    command = [sys.executable, "-c", READ_ALL, *paths]
    lines = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout.splitlines()
    for line, (kind, (_, _, expected)) in zip(lines, RUBBISH.items(), strict=True):
        assert expected in line
        # No more than the file's pages and a copy of the largest layer that is let pass.
        assert int(line.split(" ")[0]) < (2.2 * MAX_LAYER_BYTES / 2**20 if kind == "layer of 300 MB" else 64), line
