# SPDX-License-Identifier: MIT
"""What a training run is made of: one frozen, typed configuration, read from TOML and command-line overrides."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from poseren_ext.datasets.augmentation import Augmentation
from poseren_ext.geometry.skeleton import SKELETONS
from poseren_ext.models.config import HeadConfig, ModelConfig, WeightDtype

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found]

Recipe = Literal["paper", "released", "compact", "bundled"]
Phase = Literal["init", "refine"]
Precision = Literal["float32", "tf32", "bf16"]
SYNTHETIC = "synthetic"


@dataclass(frozen=True)
class TrainConfig:
    """One training run: Init-CNN first, then Pose-REN.

    Attributes:
        recipe: the name that the other fields' defaults came from.
        seed: draws frames, order, augmentation, weights and dropout.
        data: "synthetic", or the path of a pack (`poseren data pack`).
        validation_data: the same; "" for synthetic frames of unseen subjects with synthetic data, else none.
        skeleton, hand, cube: what the model gives, and from which crop.
        init_head, refine_head: which networks (paper, section 4.3): the names of `HeadConfig`'s constructors.
        start: weights to go on from: a model file, or "demo" for the bundled one; "" for none. The second phase then
            keeps its own convolutions instead of taking Init-CNN's. Zero `init_steps` leave Init-CNN as it is.
        initial: what the second phase starts from: "init" (the first phase's poses; without Init-CNN steps, those of an
            untrained one), "mean" (the mean pose), or a pose file with a line for each frame of the pack.
        channels: of the convolutions' three levels.
        init_widths, refine_widths: outputs of the two fully connected layers of Init-CNN and of Pose-REN's regions and
            fingers.
        dropout: probability in both.
        fully_connected: "gaussian" (0.001, the paper's) or "he".
        weight_dtype: how the final model's weights are stored (see `ModelConfig`); "int8" needs `finish`.
        precision: "float32", "tf32" or "bf16" (autocast) of the products in training.
        batch: samples a step.
        graph: on a GPU, replay the step as one CUDA graph, which a small model waits for less (one process only).
        compile: on a GPU, let torch.compile fuse what lies between the convolutions, and the renderer: worth its 20 to
            40 seconds at the start of a run of minutes.
        accumulate: parts that a step's batch is worked off in, to save memory.
        init_steps, refine_steps: steps of the two phases.
        stages: refining stages that a Pose-REN step unrolls, each on the detached pose of the one before.
        loss_beta: smooth L1 is quadratic below this normalised distance (sigma s of the released code: 1 / s^2).
        clip: largest norm of all gradients together; 0 for any.
        optimizer, learning_rate, momentum, weight_decay: as their names say; momentum is SGD's.
        output_rate: Muon leaves the first and the last layer and the biases to Adam, at this learning rate.
        bias_rate: the biases' learning rate, as a multiple.
        schedule: "trapezoid": level, then linearly to zero over the phase's last `decay`; "cosine" to zero; or "step":
            a tenth at every quarter of a phase. With the first, a run may be lengthened while it is still level.
        decay: fraction of a phase.
        warmup: steps over which the rate grows from zero.
        refine_rate: the second phase's learning rate, as a multiple of the first's.
        rotation: degrees, translation: crop pixels, scale: fraction, depth_shift: mm (synthetic frames only).
            Augmentation, uniform within plus and minus these.
        refine_translation: the second phase's.
        chunk, reuse: synthetic frames rendered at a time, and how often each is shown (augmented anew).
        difficulty: of the synthetic training frames, 0 to 1.
        palm_share: how many of the synthetic frames show the palm as `SyntheticHands` draws it; the others show hands
            from every side (`TrainingHands`).
        init_every: in the second phase, Init-CNN goes on learning from every so many batches; 0 leaves it as it is.
        log_every, validate_every, checkpoint_every: steps.
        finish: after the last step, put the weights on steps that bytes hold and take the joints' constant errors out
            (`poseren_ext.training.finalize`); not with a pose file to start from.
        tensorboard: whether to write for TensorBoard too, in the run's folder.
        validation_frames: unseen subjects' frames that validation measures on.
    """

    recipe: Recipe = "compact"
    seed: int = 1
    data: str = SYNTHETIC
    validation_data: str = ""
    skeleton: str = "msra21"
    hand: Literal["left", "right"] = "right"
    cube: float = 150.0
    init_head: Literal["init_cnn", "ren_4x6x6", "ren_9x6x6"] = "init_cnn"
    refine_head: Literal["pose_ren", "without_structure", "guided_4x6x6", "guided_9x6x6"] = "pose_ren"
    start: str = ""
    initial: str = "init"
    channels: tuple[int, int, int] = (16, 32, 64)
    init_widths: tuple[int, int] = (176, 256)
    refine_widths: tuple[int, int] = (96, 256)
    dropout: float = 0.0
    fully_connected: Literal["gaussian", "he"] = "he"
    weight_dtype: WeightDtype = "float16"
    precision: Precision = "float32"
    graph: bool = True
    compile: bool = False
    batch: int = 64
    accumulate: int = 1
    init_steps: int = 1500
    refine_steps: int = 3600
    stages: int = 3
    loss_beta: float = 0.03
    optimizer: Literal["muon", "adamw", "sgd"] = "muon"
    learning_rate: float = 0.02
    output_rate: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 0.0
    clip: float = 1.0
    bias_rate: float = 1.0
    schedule: Literal["trapezoid", "cosine", "step"] = "trapezoid"
    decay: float = 0.5
    warmup: int = 50
    refine_rate: float = 0.5
    rotation: float = 180.0
    translation: float = 6.0
    refine_translation: float = 6.0
    scale: float = 0.1
    depth_shift: float = 12.0
    chunk: int = 2048
    reuse: int = 5
    difficulty: float = 1.0
    palm_share: float = 1.0
    init_every: int = 0
    log_every: int = 20
    validate_every: int = 500
    checkpoint_every: int = 250
    validation_frames: int = 1024
    finish: bool = False
    tensorboard: bool = False

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            choices = get_args(kind) if get_origin(kind) is Literal else ()
            if choices and getattr(self, name) not in choices:
                expected = ", ".join(map(str, choices))
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected one of {expected}")
        for name in ("batch", "accumulate", "stages", "chunk", "reuse", "log_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        for name, value in vars(self).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{name} is {value}; expected a finite number")
        if self.skeleton not in SKELETONS:
            raise ValueError(f"skeleton is {self.skeleton!r}; expected one of {', '.join(SKELETONS)}")
        if self.finish and self.initial not in ("init", "mean"):
            raise ValueError(f"finish is true and initial is {self.initial!r}; expected 'init' or 'mean' with it")
        if self.weight_dtype == "int8" and not self.finish:
            raise ValueError("weight_dtype is 'int8' and finish is false; int8 stores rounded weights: set finish=true")
        if not 0 < self.decay <= 1:
            raise ValueError(f"decay is {self.decay}; expected a fraction of a phase, above 0")

    def model(self) -> ModelConfig:
        """The configuration of the model that this run trains."""
        skeleton = SKELETONS[self.skeleton]
        init = getattr(HeadConfig, self.init_head)(skeleton, widths=self.init_widths, channels=self.channels[2])
        refine = getattr(HeadConfig, self.refine_head)(skeleton, widths=self.refine_widths, channels=self.channels[2])
        init, refine = (dataclasses.replace(head, dropout=self.dropout) for head in (init, refine))
        return ModelConfig(self.skeleton, self.hand, self.cube, 96, self.channels, init, refine, self.weight_dtype)

    def to_json(self) -> str:
        """All fields as one line of JSON."""
        return json.dumps(dataclasses.asdict(self))

    def to_toml(self) -> str:
        """All fields as `read_config` reads them; strings, numbers and lists are written alike in JSON and TOML."""
        return "".join(f"{name} = {json.dumps(value)}\n" for name, value in dataclasses.asdict(self).items())


_MOVED = Augmentation.recipe("paper")
_MOVED_INIT, _MOVED_REFINE = (Augmentation.recipe("released", init=init) for init in (True, False))

# How the model that comes with the package was trained: minutes on a GPU.
_BUNDLED = TrainConfig(
    recipe="bundled",
    channels=(32, 64, 64),
    precision="bf16",
    compile=True,
    batch=512,
    init_steps=3000,
    refine_steps=7392,
    schedule="cosine",
    warmup=200,
    chunk=16384,
    reuse=8,
    log_every=100,
    validate_every=1000,
    checkpoint_every=1000,
    validation_frames=4096,
    finish=True,
)

_PAPER = TrainConfig(
    recipe="paper",
    init_widths=(2048, 2048),
    refine_widths=(2048, 2048),
    dropout=0.5,
    fully_connected="gaussian",
    weight_dtype="float32",
    batch=128,
    init_steps=56800,
    refine_steps=113600,
    loss_beta=1.0,
    optimizer="sgd",
    learning_rate=1e-3,
    weight_decay=5e-4,
    clip=0.0,
    schedule="step",
    warmup=0,
    refine_rate=1.0,
    rotation=_MOVED.rotation,
    translation=_MOVED.translation,
    refine_translation=_MOVED.translation,
    scale=_MOVED.scale,
    depth_shift=0.0,
)
RECIPES: dict[Recipe, TrainConfig] = {
    "compact": TrainConfig(),
    "bundled": _BUNDLED,
    "paper": _PAPER,
    "released": dataclasses.replace(
        _PAPER,
        recipe="released",
        init_steps=160000,
        refine_steps=160000,
        loss_beta=0.01,
        bias_rate=2.0,
        rotation=_MOVED_REFINE.rotation,
        translation=_MOVED_INIT.translation,
        refine_translation=_MOVED_REFINE.translation,
        scale=_MOVED_REFINE.scale,
    ),
}


def make_config(values: Mapping[str, Any]) -> TrainConfig:
    """A configuration from the recipe that `values` names (default "compact"), its other fields overridden.

    Raises:
        ValueError: an unknown recipe or field, or a value that a field cannot take.
    """
    recipe = values.get("recipe", "compact")
    if recipe not in RECIPES:
        raise ValueError(f"recipe is {recipe!r}; expected one of {', '.join(RECIPES)}")
    base = RECIPES[recipe]
    known = {field.name: getattr(base, field.name) for field in dataclasses.fields(base)}
    changed: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise ValueError(f"unknown field {name!r} in the training configuration; expected {', '.join(known)}")
        changed[name] = _as_type_of(known[name], value, name)
    return dataclasses.replace(base, **changed)


def read_config(path: Path | None = None, overrides: Iterable[str] = ()) -> TrainConfig:
    """A configuration from a TOML file and overrides `field=value` (TOML values; bare words are strings).

    Raises:
        FileNotFoundError: no such file.
        ValueError: text that is no TOML, an unknown field, or a value that a field cannot take.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values.update(tomllib.loads(path.read_text(encoding="utf-8")))
        except ValueError as error:
            raise ValueError(f"{path}: {error}; expected a training configuration in TOML") from error
        except RecursionError as error:
            raise ValueError(f"{path}: nested too deeply; expected a training configuration in TOML") from error
    for override in overrides:
        name, sign, text = override.partition("=")
        if not sign:
            raise ValueError(f"override {override!r}; expected field=value")
        try:
            values[name.strip()] = tomllib.loads(f"value = {text}")["value"]
        except (tomllib.TOMLDecodeError, RecursionError):
            values[name.strip()] = text.strip()
    return make_config(values)


def _as_type_of(default: object, value: Any, name: str) -> object:
    """`value` as the type of the field's default, where that loses nothing."""
    if isinstance(default, tuple) and isinstance(value, list | tuple) and len(value) == len(default):
        return tuple(_as_type_of(own, v, name) for own, v in zip(default, value, strict=True))
    if isinstance(default, float) and type(value) in (int, float):
        return float(value)
    if type(value) is type(default) and not isinstance(value, tuple):
        return value
    raise ValueError(f"{name} is {value!r}; expected a value like {default!r}")
