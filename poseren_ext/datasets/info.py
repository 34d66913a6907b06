# SPDX-License-Identifier: MIT
"""The facts about one dataset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from poseren_ext.datasets.sample import Hand
from poseren_ext.geometry.camera import Camera
from poseren_ext.geometry.skeleton import Skeleton


@dataclass(frozen=True)
class DatasetInfo:
    """What is known about a dataset before any of its files is read.

    Attributes:
        name: key in ``registry.DATASETS``, lower case.
        camera: intrinsics and size of the recorded frames.
        skeleton: the joints of its labels, and the hand that it shows.
        thresholds: nearest and farthest depth of the hand region, mm.
        splits: for each split the numbers of labelled frames that were distributed.
        marks: files or folders, relative to the root, any of which tells the dataset.
        suffix: how the names of its frames end.
        subjects: number of subjects where models are evaluated by leaving one subject out, else 0.
        by_viewpoint: whether results are reported by the hand's yaw and pitch too (figure 8).
        results: tables and figures of the paper that are defined on this dataset only.
        versions: for datasets that exist in several versions, a description by the number of frames.
    """

    name: str
    camera: Camera
    skeleton: Skeleton
    thresholds: tuple[float, float]
    splits: Mapping[str, tuple[int, ...]]
    marks: tuple[str, ...]
    suffix: str = ".png"
    subjects: int = 0
    by_viewpoint: bool = False
    results: tuple[str, ...] = ()
    versions: Mapping[int, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The name in titles and messages."""
        return self.name.upper()

    @property
    def hand(self) -> Hand:
        """The recorded hand."""
        return self.skeleton.hand
