# SPDX-License-Identifier: MIT
"""The experiments on a recorded dataset with given weights, without training, on all labelled frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch

from poseren_ext.datasets.registry import FOLDER, dataset_info, open_dataset
from poseren_ext.evaluation.labelled_frames import DatasetTest, is_mirrored, mirrored_uvd
from poseren_ext.evaluation.methods import FilePredictions, JointEstimator
from poseren_ext.experiments.simulated_methods import NYU_JOINT_ERRORS, SIMULATED, simulated
from poseren_ext.models import PoseREN, load


@dataclass(frozen=True)
class DatasetBench:
    """One split of an unpacked dataset, and networks from files.

    Attributes:
        dataset: nyu, icvl, msra or hands17.
        root: the dataset's folder.
        weights: safetensors files by name of the variant (`synthetic.VARIANTS`; "Pose-REN" is the standard model).
        starts: prediction files of other methods for the initial poses, by name of the method (figure 11).
        centers: centres of the hands, one line per frame; None computes them from the images.
        split: split of the dataset; its frames must be labelled.
        subject: MSRA subject that the weights were not trained on.
        device: compute device.
    """

    dataset: str
    root: Path
    weights: Mapping[str, Path]
    starts: Mapping[str, Path] = field(default_factory=dict)
    centers: Path | None = None
    split: str = "test"
    subject: int = 0
    device: str = "cpu"

    @cached_property
    def _networks(self) -> dict[str, PoseREN]:
        if "Pose-REN" not in self.weights:
            raise ValueError(
                f"weights of {', '.join(self.weights) or 'nothing'} given; expected those of Pose-REN, and of the "
                "variants that it is compared with: --weights FILE, --weights 'w/o structure=FILE'"
            )
        networks = {name: load(path).to(self.device) for name, path in self.weights.items()}
        own = self.dataset == FOLDER  # a folder has the joints of the model, if the numbers of joints match
        expected = networks["Pose-REN"].skeleton.name if own else dataset_info(self.dataset).skeleton.name
        for name, model in networks.items():
            if model.skeleton.name != expected:
                raise ValueError(
                    f"{self.weights[name]} gives the joints of {model.skeleton.name}; {self.dataset} has those of "
                    f"{expected}: give weights that were trained for it"
                )
        if len({(model.config.hand, model.config.cube) for model in networks.values()}) > 1:
            raise ValueError("the weights given are for different hands or cubes; compare models of the same")
        return networks

    @cached_property
    def test(self) -> DatasetTest:
        """The frames."""
        config = self._networks["Pose-REN"].config
        frames = open_dataset(
            self.root,
            self.dataset,
            self.split,
            subject=self.subject,
            centers=self.centers or "image",
            hand=config.hand,
            skeleton=config.skeleton,
        )
        unlabelled = int(torch.from_numpy(frames.uvd).isnan().any(-1).any(-1).sum())
        if unlabelled:
            raise ValueError(
                f"{unlabelled} of the {len(frames)} frames of {self.dataset}'s {self.split} split have no labels to "
                "measure against; name another with --split"
            )
        return DatasetTest(frames, config.cube, torch.device(self.device))

    def models(self, names: Sequence[str]) -> dict[str, PoseREN]:
        """The networks of these names that have weights; Pose-REN if none has."""
        found = {name: self._networks[name] for name in names if name in self._networks}
        return found or {"Pose-REN": self._networks["Pose-REN"]}

    def initial(self, init_error: float) -> dict[str, JointEstimator]:
        """The poses of the given files, or else simulated poses; `init_error` as in `simulated`.

        Raises:
            ValueError: There are no files and the joints are not those of NYU, for which the simulation has errors.
        """
        test = self.test
        if not self.starts:
            if test.skeleton.num_joints != len(NYU_JOINT_ERRORS["DeepPrior"]):
                raise ValueError(f"no other initial poses for {self.dataset}: give some with --start NAME=FILE")
            return simulated(test.uvd, test.camera, 1, init_error)
        given: dict[str, JointEstimator] = {}
        for name, path in self.starts.items():
            file = FilePredictions.read(path, joints=test.skeleton.num_joints, frames=len(test.dataset))
            flipped = is_mirrored(test.dataset)
            given[name] = FilePredictions(mirrored_uvd(file.poses, test.dataset)) if flipped else file
        return given

    def trainings(self, skeleton: str = "") -> tuple[DatasetBench]:
        """Returns itself: there is one set of weights, and the dataset determines the joints."""
        return (self,)

    @property
    def heading(self) -> str:
        """Name of the dataset and number of frames."""
        return f"{self.dataset.upper()}, {len(self.test.dataset)} frames"

    @property
    def initial_note(self) -> str:
        """Source of the poses of other methods."""
        if not self.starts:
            return SIMULATED
        return "Initial poses: " + ", ".join(f"{name} from {path.name}" for name, path in self.starts.items()) + "."

    def source(self, skeleton: str = "") -> str:
        """Description of the data and the models."""
        frames = self.test.dataset
        official = frames.info.splits.get(self.split, ())
        whole = ""
        if official and len(frames) not in official:
            distributed = " or ".join(f"{count}" for count in official)
            whole = f", NOT the whole: {distributed} frames were distributed, so published numbers are of other frames"
        who = f", subject P{self.subject}" if frames.info.subjects else ""
        mirrored = f", mirrored to show {frames.hand} hands" if is_mirrored(frames) else ""
        files = ", ".join(f"{name} = {path.name}" for name, path in self.weights.items())
        centers = self.centers.name if self.centers else "the images"
        return (
            f"recorded frames: {self.dataset.upper()}, {self.split} split{who}, {len(frames)} frames{whole}{mirrored}; "
            f"centres from {centers}; weights given: {files}"
        )
