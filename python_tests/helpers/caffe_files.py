# SPDX-License-Identifier: MIT
"""Caffe models written by the tests: the released networks' descriptions and their binary files, in both formats.

The schema is written out here a second time, with the types of caffe.proto, so that the reader is not tested against
itself; OpenCV's Caffe importer reads the same files.
"""

from functools import cache

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

# Guided joints in the networks' own order, and which of them each of fc2_0 to fc2_4 joins.
TREES = {
    "nyu": ((0, 5, 3), (0, 13, 12), (0, 11, 10), (0, 9, 8), (0, 7, 6)),
    "icvl": ((0, 1, 3), (0, 4, 6), (0, 7, 9), (0, 10, 12), (0, 13, 15)),
    "msra": ((0, 2, 4), (0, 6, 8), (0, 10, 12), (0, 14, 16), (0, 18, 20)),
    "hands17": ((0, 6, 8), (0, 9, 11), (0, 12, 14), (0, 15, 17), (0, 18, 20)),
}
JOINTS = {"nyu": 14, "icvl": 16, "msra": 21, "hands17": 21}
# public[i] = own[NYU_OWN[i]], as the authors' code turns its output into label order.
NYU_OWN = [6, 7, 8, 9, 10, 11, 12, 13, 3, 4, 5, 1, 2, 0]
# Regions of the region ensemble networks in the order in which the last layer joins them: row and column of a quarter,
# then the middles of the left, right, upper and lower edges, then the middle.
REN_REGIONS = {"ren_4x6x6": ["1_1", "1_2", "2_1", "2_2"]}
REN_REGIONS["ren_9x6x6"] = [*REN_REGIONS["ren_4x6x6"], "3_1", "3_2", "4_1", "4_2", "c1"]
OLD_TYPES = {"Convolution": 4, "InnerProduct": 14, "ReLU": 18}

CONVOLUTIONS = (  # name, inputs, outputs (as multiples of 16), kernel
    *(("conv0", 0, 1, 3), ("conv1", 1, 1, 3), ("conv2_0", 1, 2, 1), ("conv2", 2, 2, 3)),
    *(("conv3", 2, 2, 3), ("conv3_0", 2, 4, 1), ("conv4", 4, 4, 3), ("conv5", 4, 4, 3)),
)


def own_order(dataset):
    return NYU_OWN if dataset == "nyu" else list(range(JOINTS[dataset]))


def guided(dataset):
    return sorted({joint for finger in TREES[dataset] for joint in finger})


def random_weights(dataset, kind, *, channels=16, width=2048, generator=None):
    """{layer: (weight, bias)} of "baseline" or "pose_ren"; ``channels`` of the first layer."""
    generator = np.random.default_rng(0) if generator is None else generator

    def draw(*shape):
        scale = (2 / max(1, np.prod(shape[1:]))) ** 0.5
        weight = generator.standard_normal(shape, np.float32) * np.float32(scale)
        return weight, generator.standard_normal(shape[:1], np.float32) * np.float32(0.1)

    layers = {
        name: draw(channels * outputs, channels * inputs or 1, kernel, kernel)
        for name, inputs, outputs, kernel in CONVOLUTIONS
    }
    outputs = 3 * JOINTS[dataset]
    if kind == "baseline":
        layers |= {"fc1": draw(width, 4 * channels * 144), "fc2": draw(width, width), "fc3": draw(outputs, width)}
    elif kind in REN_REGIONS:
        for name in REN_REGIONS[kind]:
            layers |= {f"fc1_{name}": draw(width, 4 * channels * 36), f"fc2_{name}": draw(width, width)}
        layers["fc_concat"] = draw(outputs, len(REN_REGIONS[kind]) * width)
    else:
        layers |= {f"fc1_{joint}": draw(width, 4 * channels * 49) for joint in guided(dataset)}
        layers |= {f"fc2_{finger}": draw(width, 3 * width) for finger in range(5)}
        layers["fc3_0"] = draw(outputs, 5 * width)
    return layers


def write(path, layers, *, old=False, double=False):
    """A binary model of layers {name: (weight, bias)}, with a layer without weights after each."""
    net = messages()["NetParameter"](name="net")
    for name, blobs in layers.items():
        layer = (net.layers if old else net.layer).add(name=name)
        layer.type = OLD_TYPES[_type(name)] if old else _type(name)
        layer.bottom.append("below")
        layer.top.append(name)
        for values in blobs:
            blob = layer.blobs.add()
            (blob.double_data if double else blob.data).extend(values.ravel().tolist())
            if old:
                padded = (1,) * (4 - values.ndim) + values.shape
                blob.num, blob.channels, blob.height, blob.width = padded
            else:
                blob.shape.dim.extend(values.shape)
        (net.layers if old else net.layer).add(name=f"relu_{name}").type = OLD_TYPES["ReLU"] if old else "ReLU"
    path.write_bytes(net.SerializeToString())
    return path


def _type(name):
    return "Convolution" if name.startswith("conv") else "InnerProduct"


def prototxt(dataset, kind, batch, *, channels=16, width=2048):
    """The network as text; the windows (sample, x1, y1, x2, y2) of guided joint k are its input ``rois_k``."""
    blocks = [_input("data", batch, 1, 96, 96)]

    def layer(name, kind, bottoms, parameters="", top=None):
        wires = "".join(f' bottom: "{bottom}"' for bottom in bottoms)
        blocks.append(f'layer {{ name: "{name}" type: "{kind}"{wires} top: "{top or name}" {parameters} }}')

    def conv(name, bottom):
        _, _, outputs, kernel = next(row for row in CONVOLUTIONS if row[0] == name)
        sizes = f"num_output: {channels * outputs} pad: {kernel // 2} kernel_size: {kernel} stride: 1"
        layer(name, "Convolution", [bottom], f"convolution_param {{ {sizes} }}")

    def relu(name, bottom):
        layer(name, "ReLU", [bottom], top=bottom)

    def pool(name, bottom):
        layer(name, "Pooling", [bottom], "pooling_param { pool: MAX kernel_size: 2 stride: 2 }")

    def fc(name, bottom, outputs):
        layer(name, "InnerProduct", [bottom], f"inner_product_param {{ num_output: {outputs} }}")

    def cut(source, tops):
        bottom, axis, points = source
        wires = "".join(f' top: "{top}"' for top in tops)
        where = " ".join(f"slice_point: {point}" for point in points)
        blocks.append(
            f'layer {{ name: "slice_{tops[0]}" type: "Slice" bottom: "{bottom}"{wires} '
            f"slice_param {{ axis: {axis} {where} }} }}"
        )

    def hidden(name, relu_name, bottom):
        fc(name, bottom, width)
        relu(relu_name, name)
        layer(f"drop_{name}", "Dropout", [name], "dropout_param { dropout_ratio: 0.5 }", top=name)

    conv("conv0", "data")
    relu("relu0", "conv0")
    conv("conv1", "conv0")
    pool("pool1", "conv1")
    relu("relu1", "pool1")
    for level, bottom in ((2, "pool1"), (4, "pool2")):
        shortcut = f"conv{level}_0" if level == 2 else "conv3_0"
        conv(shortcut, bottom)
        relu(f"relu_{shortcut}", shortcut)
        conv(f"conv{level}", shortcut)
        relu(f"relu{level}", f"conv{level}")
        conv(f"conv{level + 1}", f"conv{level}")
        layer(f"res{level // 2}", "Eltwise", [shortcut, f"conv{level + 1}"])
        pool(f"pool{level // 2 + 1}", f"res{level // 2}")
        relu(f"relu{level + 1}", f"pool{level // 2 + 1}")
    outputs = 3 * JOINTS[dataset]
    if kind == "baseline":
        hidden("fc1", "relu6_0", "pool3")
        hidden("fc2", "relu7_0", "fc1")
        fc("fc3", "fc2", outputs)
    elif kind in REN_REGIONS:
        slices = {"1": ("pool3", 2, (6,)), "rows": ("pool3", 2, (3, 9)), "columns": ("pool3", 3, (3, 9))}
        cut(slices["1"], ["top", "bottom"])
        cut(("top", 3, (6,)), ["feat_1_1", "feat_1_2"])
        cut(("bottom", 3, (6,)), ["feat_2_1", "feat_2_2"])
        if kind == "ren_9x6x6":
            cut(slices["rows"], ["above", "middle_rows", "below_rows"])
            cut(("middle_rows", 3, (6,)), ["feat_3_1", "feat_3_2"])
            cut(("middle_rows", 3, (3, 9)), ["left", "feat_c1", "right"])
            cut(slices["columns"], ["left_columns", "middle_columns", "right_columns"])
            cut(("middle_columns", 2, (6,)), ["feat_4_1", "feat_4_2"])
        for name in REN_REGIONS[kind]:
            hidden(f"fc1_{name}", f"relu6_{name}", f"feat_{name}")
            hidden(f"fc2_{name}", f"relu7_{name}", f"fc1_{name}")
        layer("joined", "Concat", [f"fc2_{name}" for name in REN_REGIONS[kind]])
        fc("fc_concat", "joined", outputs)
    else:
        for joint in guided(dataset):
            blocks.insert(0, _input(f"rois_{joint}", batch, 5))
            bins = "roi_pooling_param { pooled_h: 7 pooled_w: 7 spatial_scale: 0.125 }"
            layer(f"roi_pool_{joint}", "ROIPooling", ["pool3", f"rois_{joint}"], bins)
            hidden(f"fc1_{joint}", f"relu6_{joint}", f"roi_pool_{joint}")
        for finger, joints in enumerate(TREES[dataset]):
            layer(f"concate_1_{finger}", "Concat", [f"fc1_{joint}" for joint in joints])
            hidden(f"fc2_{finger}", f"relu7_{finger}", f"concate_1_{finger}")
        layer("fc_concat", "Concat", [f"fc2_{finger}" for finger in range(5)])
        fc("fc3_0", "fc_concat", outputs)
    return "\n".join(blocks)


def _input(name, *shape):
    dims = " ".join(f"dim: {size}" for size in shape)
    return f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {dims} }} }} }}'


@cache
def messages():
    """Message classes by name: the part of caffe.proto that these files use."""
    kinds = {"int32": 5, "int64": 3, "float": 2, "double": 1, "string": 9}
    rows = {
        "BlobShape": "dim=1 int64*",
        "BlobProto": "num=1 int32, channels=2 int32, height=3 int32, width=4 int32, data=5 float*, shape=7 BlobShape, "
        "double_data=8 double*",
        "V1LayerParameter": "bottom=2 string+, top=3 string+, name=4 string, type=5 int32, blobs=6 BlobProto+",
        "LayerParameter": "name=1 string, type=2 string, bottom=3 string+, top=4 string+, blobs=7 BlobProto+",
        "NetParameter": "name=1 string, layers=2 V1LayerParameter+, layer=100 LayerParameter+",
    }
    file = descriptor_pb2.FileDescriptorProto(name="written_by_tests.proto", package="written_by_tests")
    for message, text in rows.items():
        described = file.message_type.add(name=message)
        for row in text.split(", "):
            (name, number), kind = row.split(" ")[0].split("="), row.split(" ")[1]
            field = described.field.add(name=name, number=int(number), label=3 if kind[-1] in "*+" else 1)
            field.options.packed = kind.endswith("*")
            kind = kind.rstrip("*+")
            field.type = kinds.get(kind, 11)
            if field.type == 11:
                field.type_name = f".written_by_tests.{kind}"
            if not field.options.packed:
                field.ClearField("options")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"written_by_tests.{name}")) for name in rows
    }


NARROW = {"channels": 4, "width": 24}
OURS = {"channels": (4, 8, 16), "widths": (24, 24)}


def system(folder, dataset, *, old=False, double=False, sizes=NARROW):
    """The two files of a released system, in a folder: (pose_ren, baseline)."""
    generator = np.random.default_rng(7)
    return tuple(
        write(
            folder / f"{dataset}_{kind}.caffemodel",
            random_weights(dataset, kind, generator=generator, **sizes),
            old=old,
            double=double,
        )
        for kind in ("pose_ren", "baseline")
    )
