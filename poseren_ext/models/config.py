# SPDX-License-Identifier: MIT
"""Configurations of the paper's network and its ablations, which all use the same classes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypeAlias, TypeVar, get_args

from poseren_ext.geometry.skeleton import SKELETONS, Skeleton

WeightDtype: TypeAlias = Literal["float32", "float16", "int8", "int4"]
WEIGHT_DTYPES: tuple[WeightDtype, ...] = get_args(WeightDtype)
"""Types of stored weights in a model file."""

STRIDE = 8
"""Crop pixels per feature cell: the backbone pools by two three times."""

# Starts (row, column) of REN's 6x6 regions on the 12x12 map: the corners, the middles of the edges, the middle.
_CORNERS = ((0, 0), (0, 6), (6, 0), (6, 6))
_NINE = (*_CORNERS, (0, 3), (3, 0), (3, 6), (6, 3), (3, 3))

# Guided joints of the ablations (paper, section 4.4.2), as positions in Skeleton.guided: 0 palm, then root and tip of
# each finger, thumb to pinky. The nine are all but the tips of thumb and pinky.
_GUIDED_FOUR = (0, 1, 5, 9)
_GUIDED_NINE = (0, 1, 3, 4, 5, 6, 7, 8, 9)

_ADDED = ("map_dropout", "error")
"""Fields with defaults that model files of earlier versions do not have."""

_Config = TypeVar("_Config", "HeadConfig", "ErrorHeadConfig", "ModelConfig")


@dataclass(frozen=True)
class HeadConfig:
    """A region ensemble: the regions of the feature map, and the layers that combine them.

    Attributes:
        num_joints: J, number of joints of the head's output.
        joints: guided joints, one region each (indices into J); empty for a grid.
        grid: starts (row, column) of fixed regions in feature cells; empty for guided regions.
        cells: P, cells along each side of a region.
        roi_size: side of a guided joint's window, crop pixels; 0 for a grid.
        tree: for each finger, the indices of the regions whose region layers feed its finger layer. With one region
            per finger there are two layers per region, as in REN. All fingers have the same number of regions.
        widths: outputs of a region layer and of a finger layer.
        channels: C, channels of the feature map.
        image_size: side of the depth crop, pixels.
        dropout: dropout probability of hidden values in training.
        map_dropout: dropout probability of feature-map values, before regions are pooled; 0.5 in REN-9x6x6.
        mode: pooling of guided regions: "max" as published, or "align", which passes gradients to the pose.

    Raises:
        TypeError: A field has the wrong type.
        ValueError: A value is out of range, or the fields do not match each other.
    """

    num_joints: int
    joints: tuple[int, ...]
    grid: tuple[tuple[int, int], ...]
    cells: int
    roi_size: int
    tree: tuple[tuple[int, ...], ...]
    widths: tuple[int, int] = (2048, 2048)
    channels: int = 64
    image_size: int = 96
    dropout: float = 0.5
    mode: Literal["max", "align"] = "max"
    map_dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("num_joints", "cells", "roi_size", "channels", "image_size"):
            _require(type(getattr(self, name)) is int, self, name, "an integer", TypeError)
        _require(_are_integers(self.joints), self, "joints", "a tuple of integers", TypeError)
        _require(_are_integers(self.widths), self, "widths", "a tuple of integers", TypeError)
        for name in ("grid", "tree"):
            rows = getattr(self, name)
            nested = isinstance(rows, tuple) and all(_are_integers(row) for row in rows)
            _require(nested, self, name, "a tuple of tuples of integers", TypeError)
        for name in ("dropout", "map_dropout"):
            _require(type(getattr(self, name)) in (int, float), self, name, "a number", TypeError)
            _require(0 <= getattr(self, name) < 1, self, name, "a probability below 1")
        for name in ("num_joints", "cells", "channels", "image_size"):
            _require(getattr(self, name) > 0, self, name, "a positive number")
        _require(self.image_size % STRIDE == 0, self, "image_size", f"a multiple of {STRIDE}")
        _require(bool(self.joints) != bool(self.grid), self, "joints", "guided joints, or a grid and no guided joints")
        _require(all(0 <= joint < self.num_joints for joint in self.joints), self, "joints", "indices below num_joints")
        size = self.image_size // STRIDE
        on_map = all(len(start) == 2 and min(start) >= 0 and max(start) + self.cells <= size for start in self.grid)
        _require(on_map, self, "grid", f"(row, column) starts of {self.cells} cells on a {size}x{size} map")
        fits = 0 < self.roi_size < self.image_size if self.joints else self.roi_size == 0
        _require(fits, self, "roi_size", "a window smaller than the crop, in pixels; 0 for a grid")
        _require(bool(self.tree) and len({len(finger) for finger in self.tree}) == 1, self, "tree", "equal fingers")
        regions = all(finger and min(finger) >= 0 and max(finger) < self.num_regions for finger in self.tree)
        _require(regions, self, "tree", f"indices of the {self.num_regions} regions")
        _require(len(self.widths) == 2 and min(self.widths) > 0, self, "widths", "two positive numbers")
        _require(self.mode in ("max", "align"), self, "mode", "'max' or 'align'")

    @property
    def num_regions(self) -> int:
        """M, the number of regions."""
        return len(self.joints) or len(self.grid)

    @classmethod
    def pose_ren(cls, skeleton: Skeleton, *, widths: tuple[int, int] = (2048, 2048), channels: int = 64) -> HeadConfig:
        """Pose-REN (section 3): 11 guided regions of 7x7 cells, a layer per region, and a layer per finger."""
        return cls(len(skeleton.joints), skeleton.guided, (), 7, 48, skeleton.tree, widths, channels)

    @classmethod
    def without_structure(
        cls, skeleton: Skeleton, *, widths: tuple[int, int] = (2304, 2048), channels: int = 64
    ) -> HeadConfig:
        """Pose-REN without the hand's structure (section 4.4.3): two layers per guided region, joined at the end."""
        return cls(len(skeleton.joints), skeleton.guided, (), 7, 48, _singletons(11), widths, channels)

    @classmethod
    def ren_4x6x6(cls, skeleton: Skeleton, *, widths: tuple[int, int] = (2048, 2048), channels: int = 64) -> HeadConfig:
        """REN-4x6x6: the four corners of the map, two layers each."""
        return cls(len(skeleton.joints), (), _CORNERS, 6, 0, _singletons(4), widths, channels)

    @classmethod
    def ren_9x6x6(cls, skeleton: Skeleton, *, widths: tuple[int, int] = (2048, 2048), channels: int = 64) -> HeadConfig:
        """REN-9x6x6: corners, edge middles and middle of the map, two layers each; dropout on the map too."""
        return cls(len(skeleton.joints), (), _NINE, 6, 0, _singletons(9), widths, channels, map_dropout=0.5)

    @classmethod
    def guided_4x6x6(
        cls, skeleton: Skeleton, *, widths: tuple[int, int] = (2048, 2048), channels: int = 64
    ) -> HeadConfig:
        """Pose-guided 4x6x6 (section 4.4.2): palm and the roots of thumb, middle and pinky; windows of 40 pixels."""
        joints = tuple(skeleton.guided[position] for position in _GUIDED_FOUR)
        return cls(len(skeleton.joints), joints, (), 6, 40, _singletons(4), widths, channels)

    @classmethod
    def guided_9x6x6(
        cls, skeleton: Skeleton, *, widths: tuple[int, int] = (2048, 2048), channels: int = 64
    ) -> HeadConfig:
        """Pose-guided 9x6x6 (section 4.4.2): all guided joints except the tips of thumb and pinky; 40-pixel windows."""
        joints = tuple(skeleton.guided[position] for position in _GUIDED_NINE)
        return cls(len(skeleton.joints), joints, (), 6, 40, _singletons(9), widths, channels)

    @classmethod
    def init_cnn(
        cls,
        skeleton: Skeleton,
        *,
        widths: tuple[int, int] = (2048, 2048),
        channels: int = 64,
        image_size: int = 96,
    ) -> HeadConfig:
        """Init-CNN (section 3.1): the whole map as one region, two layers, then the pose."""
        cells = image_size // STRIDE
        return cls(len(skeleton.joints), (), ((0, 0),), cells, 0, ((0,),), widths, channels, image_size)


@dataclass(frozen=True)
class ErrorHeadConfig:
    """Sizes of the layers of an :class:`ErrorHead`.

    Attributes:
        channels: of its 3x3 convolutions.
        width: of its fully connected layers; an even number.
        dropout: dropout probability of hidden values in training.

    Raises:
        TypeError: A field has the wrong type.
        ValueError: A value is out of range.
    """

    channels: int = 64
    width: int = 192
    dropout: float = 0.3

    def __post_init__(self) -> None:
        for name in ("channels", "width"):
            _require(type(getattr(self, name)) is int, self, name, "an integer", TypeError)
        _require(self.channels > 0, self, "channels", "a positive number")
        _require(self.width > 0 and self.width % 2 == 0, self, "width", "a positive even number")
        _require(type(self.dropout) in (int, float), self, "dropout", "a number", TypeError)
        _require(0 <= self.dropout < 1, self, "dropout", "a probability below 1")


@dataclass(frozen=True)
class ModelConfig:
    """Configuration of a Pose-REN estimator: everything except its weights.

    Attributes:
        skeleton: key in ``SKELETONS``.
        hand: hand that the model is trained for, "left" or "right".
        cube: half edge of the crop's cube, mm.
        image_size: side of the depth crop, pixels.
        channels: channels of the three levels of the backbone.
        init: head of the Init-CNN: grid regions, because there is no pose to guide them.
        refine: head of every refining stage.
        weight_dtype: type of the stored weights, "float32", "float16", "int8" or "int4"; computation is in float32.
            "int8" stores fully connected weights as int8 rows with one float32 scale per row, the error head in
            float16, and everything else in float32. This is lossless for a model that :func:`round_to_bytes` rounded.
            "int4" stores those of the region layers in 4 bits and convolutions in float16, lossless after
            :func:`round_to_nibbles`.
        error: the head that predicts the error of a pose; None for a model without one.

    Raises:
        TypeError: A field has the wrong type.
        ValueError: A name is unknown, or the parts do not match each other.
    """

    skeleton: str
    hand: Literal["left", "right"]
    cube: float
    image_size: int
    channels: tuple[int, int, int]
    init: HeadConfig
    refine: HeadConfig
    weight_dtype: WeightDtype = "float32"
    error: ErrorHeadConfig | None = None

    def __post_init__(self) -> None:
        _require(self.skeleton in SKELETONS, self, "skeleton", f"one of {', '.join(SKELETONS)}")
        _require(self.hand in ("left", "right"), self, "hand", "'left' or 'right'")
        _require(type(self.cube) in (int, float), self, "cube", "a number", TypeError)
        _require(0 < self.cube < math.inf, self, "cube", "a positive number of mm")
        _require(_are_integers(self.channels), self, "channels", "a tuple of integers", TypeError)
        _require(len(self.channels) == 3 and min(self.channels) > 0, self, "channels", "three positive numbers")
        _require(self.weight_dtype in WEIGHT_DTYPES, self, "weight_dtype", "'float32', 'float16', 'int8' or 'int4'")
        for name in ("init", "refine"):
            head = getattr(self, name)
            _require(isinstance(head, HeadConfig), self, name, "a HeadConfig", TypeError)
            same = (len(SKELETONS[self.skeleton].joints), self.channels[-1], self.image_size)
            fits = (head.num_joints, head.channels, head.image_size) == same
            _require(fits, self, name, "num_joints, channels and image_size {}, {}, {}".format(*same))
        _require(bool(self.init.grid), self, "init", "a head with a grid")
        if self.error is not None:
            _require(isinstance(self.error, ErrorHeadConfig), self, "error", "an ErrorHeadConfig or None", TypeError)
            whole = self.image_size % (2 * STRIDE) == 0
            _require(whole, self, "image_size", f"a multiple of {2 * STRIDE} for a model with an error head")

    def to_json(self) -> str:
        """The configuration as JSON text, one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ModelConfig:
        """The inverse of :meth:`to_json`.

        Raises:
            TypeError: A field has the wrong type.
            ValueError: The text is not a JSON object, a field is unknown or missing, or a value is invalid.
        """
        try:
            content = json.loads(text)
        except RecursionError:
            raise ValueError("ModelConfig is JSON nested too deeply; expected one object") from None
        values = _fields(ModelConfig, content)
        for name in ("init", "refine"):
            values[name] = HeadConfig(**_fields(HeadConfig, values[name]))
        if values.get("error") is not None:
            values["error"] = ErrorHeadConfig(**_fields(ErrorHeadConfig, values["error"]))
        return cls(**values)


def _singletons(regions: int) -> tuple[tuple[int], ...]:
    """A tree in which each region has a separate second layer."""
    return tuple((region,) for region in range(regions))


def _fields(kind: type[_Config], given: object) -> dict[str, Any]:
    """Convert a JSON object to the arguments of a configuration; lists become tuples.

    Fields that later versions added may be missing, because files of earlier versions do not have them.
    """
    if not isinstance(given, Mapping):
        raise ValueError(f"{kind.__name__} is {type(given).__name__}; expected a JSON object")
    expected = [field.name for field in fields(kind)]
    wrong = [f"unknown field {name!r}" for name in given if name not in expected]
    wrong += [f"missing field {name!r}" for name in expected if name not in given and name not in _ADDED]
    if wrong:
        raise ValueError(f"{kind.__name__}: {', '.join(wrong)}; expected exactly {', '.join(expected)}")
    return {name: _frozen(value) for name, value in given.items()}


def _frozen(value: object) -> object:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def _are_integers(values: object) -> bool:
    return isinstance(values, tuple) and all(type(value) is int for value in values)


def _require(
    condition: bool,
    config: HeadConfig | ErrorHeadConfig | ModelConfig,
    name: str,
    expected: str,
    error: type[Exception] = ValueError,
) -> None:
    if not condition:
        raise error(f"{type(config).__name__}.{name} is {getattr(config, name)!r}; expected {expected}")
