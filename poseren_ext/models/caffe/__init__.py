# SPDX-License-Identifier: MIT
"""The authors' released weights: Caffe model files read as data, checked, and put into the public joint order."""

from poseren_ext.models.caffe.networks import DATASETS, import_caffe, is_ren, read_init_cnn, read_refiner, read_ren
from poseren_ext.models.caffe.wire import Layer, read_layers

__all__ = ["DATASETS", "Layer", "import_caffe", "is_ren", "read_init_cnn", "read_layers", "read_refiner", "read_ren"]
