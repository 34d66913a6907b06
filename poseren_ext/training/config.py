# SPDX-License-Identifier: MIT
"""The configuration of a training run: frozen and typed, read from TOML and command-line overrides."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from poseren_ext._utils.text_files import read_text
from poseren_ext.datasets.augmentation import PAPER
from poseren_ext.geometry.skeleton import SKELETONS
from poseren_ext.models.config import HeadConfig, ModelConfig, WeightDtype
from poseren_ext.training.ranges import check_ranges, unknown_field

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found]

Recipe = Literal["paper", "released", "compact", "bundled"]
Phase = Literal["init", "refine"]
Precision = Literal["float32", "tf32", "bf16"]
RefineHead = Literal["pose_ren", "without_structure", "guided_4x6x6", "guided_9x6x6", "ren_4x6x6", "ren_9x6x6"]
SYNTHETIC = "synthetic"


@dataclass(frozen=True)
class TrainConfig:
    """One training run: Init-CNN first, then Pose-REN.

    Attributes:
        recipe: the recipe that sets the defaults of the other fields.
        seed: random seed of frames, order, augmentation, weights and dropout.
        data: "synthetic", or the path of a pack (`poseren data pack`).
        frames: size of the set of synthetic frames for recipes with stored poses, which need a finite set.
        validation_data: "synthetic" or the path of a pack; "" selects synthetic frames of unseen subjects if `data` is
            synthetic, and no validation otherwise.
        skeleton, hand, cube: joints and hand of the model, and half edge of the cube of its crops, mm.
        init_head, refine_head: which networks (paper, section 4.3): the names of `HeadConfig`'s constructors. Networks
            with regions on a grid ("ren_4x6x6", "ren_9x6x6") ignore the initial pose.
        start: initial weights: a model file, "demo" for the bundled one, or user/name on the Hugging Face Hub; "" for
            none. The second phase then keeps its convolutions instead of copying Init-CNN's. With `init_steps=0`,
            Init-CNN is not trained.
        initial: initial poses of the second phase: "init" (those of the first phase, or of an untrained Init-CNN if it
            has no steps), "mean" (the mean pose), or a pose file with one line per frame of the pack.
        channels: channels of the three levels of convolutions.
        init_widths, refine_widths: outputs of the two fully connected layers of Init-CNN, and of the region and finger
            layers of Pose-REN.
        dropout: dropout probability of both networks.
        fully_connected: initialisation, "gaussian" (standard deviation 0.001, as in the paper) or "he".
        weight_dtype: type of the stored weights of the final model (`ModelConfig`); "int8" and "int4" need `finish`.
        precision: "float32", "tf32" or "bf16" (autocast) of the products in training.
        batch: samples per step.
        graph: on a GPU, replay the step as one CUDA graph, which reduces launch overhead (one process only).
        compile: on a GPU, let torch.compile fuse the operations between the convolutions, and the renderer. This takes
            20 to 40 seconds at the start, and pays for runs of minutes.
        accumulate: number of parts that the batch of a step is split into, to save memory.
        init_steps, refine_steps: steps of the two phases, used if their epochs are 0; with stored poses `refine_steps`
            is the number of steps of each stage.
        init_epochs, refine_epochs: passes over the training set (in stage t: over T^t) instead of steps.
        poses: the poses that refinement starts from. "unrolled": a step applies the network `stages` times, each time
            to its detached previous output. "stored": stages are trained one after the other, each on stored poses of
            every training frame: stage 1 on those of `initial` (T^0), stage t + 1 also on those that stage t predicted
            (T^t, paper, section 3.4); each stage starts again with Init-CNN's convolutions and the full schedule.
            "repeated": the same, but the samples of stage 1 are repeated instead of adding refined ones, as in the
            authors' released code.
        stages: number of stages that a step unrolls, or that are trained one after the other.
        loss: "mean" over coordinates and samples, or "sum": summed over the 3J coordinates and divided by the batch, as
            in Caffe's smooth L1 layer. The log shows the loss in these units.
        loss_beta: smooth L1 is quadratic below this normalised distance; 1 / sigma^2 for the sigma of Caffe's layer.
        clip: largest norm of all gradients together; 0 disables clipping.
        optimizer, learning_rate, momentum, weight_decay: "sgd" is Caffe's: V = momentum V + lr (g + weight_decay W),
            W -= V, biases included; "muon" and "adamw" do not decay biases. `momentum` is used by "sgd" only.
        output_rate: learning rate of Adam for the first and the last layer and the biases, with optimizer "muon".
        bias_rate: learning rate of the biases, as a multiple of that of the weights.
        schedule: "trapezoid": constant, then linear to zero over the last `decay` of a phase; "cosine": cosine to zero;
            "step": x0.1 at every quarter of a phase. With "trapezoid", a run may be extended while the learning rate is
            constant.
        decay: fraction of a phase.
        warmup: steps over which the learning rate grows from zero.
        refine_rate: learning rate of the second phase, as a multiple of that of the first.
        rotation, translation, scale, depth_shift: ranges of the augmentation, which is uniform within plus and minus
            these values: degrees, crop pixels, fraction, mm (`depth_shift` for synthetic frames only).
        refine_translation: translation of the second phase, crop pixels.
        chunk, reuse: number of synthetic frames rendered at once, and how often each is used, with new augmentation.
        difficulty: difficulty of the synthetic training frames, 0 to 1.
        palm_share: fraction of the synthetic frames that show palms (`SyntheticHands`); the rest show hands from every
            side (`TrainingHands`).
        init_every: interval in batches at which the second phase also trains Init-CNN; 0 keeps it fixed.
        log_every, validate_every, checkpoint_every: intervals, steps.
        finish: after the last step, round the weights and remove the mean errors of the joints
            (`poseren_ext.training.finalize`); not available with a pose file as `initial`.
        tensorboard: whether to write TensorBoard events to the folder of the run.
        wandb: whether to log to Weights & Biases, as one of the runs of a group with the name of the folder. Its own
            environment variables select project, account and offline mode.
        validation_frames: number of validation frames, of unseen subjects.
    """

    recipe: Recipe = "compact"
    seed: int = 1
    data: str = SYNTHETIC
    frames: int = 16384
    validation_data: str = ""
    skeleton: str = "msra21"
    hand: Literal["left", "right"] = "right"
    cube: float = 150.0
    init_head: Literal["init_cnn", "ren_4x6x6", "ren_9x6x6"] = "init_cnn"
    refine_head: RefineHead = "pose_ren"
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
    init_epochs: int = 0
    refine_epochs: int = 0
    poses: Literal["unrolled", "stored", "repeated"] = "unrolled"
    stages: int = 3
    loss: Literal["mean", "sum"] = "mean"
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
    wandb: bool = False

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            choices = get_args(kind) if get_origin(kind) is Literal else ()
            if choices and getattr(self, name) not in choices:
                expected = ", ".join(map(str, choices))
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected one of {expected}")
        check_ranges(vars(self))
        if self.accumulate > self.batch:
            raise ValueError(f"accumulate is {self.accumulate}; expected at most the batch, {self.batch}")
        if self.skeleton not in SKELETONS:
            raise ValueError(f"skeleton is {self.skeleton!r}; expected one of {', '.join(SKELETONS)}")
        if self.init_every and self.poses != "unrolled":
            raise ValueError(f"init_every is {self.init_every} and poses {self.poses!r}; stored poses need it to be 0")
        if self.finish and self.initial not in ("init", "mean"):
            raise ValueError(f"finish is true and initial is {self.initial!r}; expected 'init' or 'mean' with it")
        if self.weight_dtype in ("int8", "int4") and not self.finish:
            raise ValueError(
                f"weight_dtype is {self.weight_dtype!r} and finish is false; it stores rounded weights: set finish=true"
            )

    def model(self) -> ModelConfig:
        """The configuration of the model that this run trains."""
        skeleton = SKELETONS[self.skeleton]
        init = getattr(HeadConfig, self.init_head)(skeleton, widths=self.init_widths, channels=self.channels[2])
        refine = getattr(HeadConfig, self.refine_head)(skeleton, widths=self.refine_widths, channels=self.channels[2])
        init, refine = (_with_dropout(head, self.dropout) for head in (init, refine))
        return ModelConfig(self.skeleton, self.hand, self.cube, 96, self.channels, init, refine, self.weight_dtype)

    def to_json(self) -> str:
        """All fields as one line of JSON."""
        return json.dumps(dataclasses.asdict(self))

    def to_toml(self) -> str:
        """All fields as TOML for `read_config`; strings, numbers and lists have the same syntax in JSON and TOML."""
        return "".join(f"{name} = {json.dumps(value)}\n" for name, value in dataclasses.asdict(self).items())


def _with_dropout(head: HeadConfig, dropout: float) -> HeadConfig:
    """The head with this dropout, also on the feature map if the head has dropout there (REN-9x6x6)."""
    return dataclasses.replace(head, dropout=dropout, map_dropout=dropout if head.map_dropout else 0.0)


# Recipe of the bundled model: minutes on a GPU.
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
    palm_share=0.36,
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
    init_epochs=100,
    refine_epochs=100,
    poses="stored",
    stages=2,
    loss="sum",
    loss_beta=1.0,
    optimizer="sgd",
    learning_rate=1e-3,
    weight_decay=5e-4,
    clip=0.0,
    schedule="step",
    warmup=0,
    refine_rate=1.0,
    rotation=PAPER.rotation,
    translation=PAPER.translation,
    refine_translation=PAPER.translation,
    scale=PAPER.scale,
    depth_shift=0.0,
)
RECIPES: dict[Recipe, TrainConfig] = {
    "compact": TrainConfig(),
    "bundled": _BUNDLED,
    "paper": _PAPER,
    "released": dataclasses.replace(
        _PAPER,
        recipe="released",
        poses="repeated",
        init_epochs=0,
        refine_epochs=0,
        init_steps=160_000,
        refine_steps=160_000,
        loss_beta=0.01,
        bias_rate=2.0,
        rotation=15.0,
        translation=10.0,
        refine_translation=10.0,
    ),
}

# Settings of the authors' code that differ between datasets, by skeleton. None were released for HANDS 2017.
_RELEASED: dict[str, dict[str, Any]] = {
    "nyu14": {"refine_translation": 0.0},
    "msra21": {
        "rotation": 180.0,
        "init_steps": 80_000,
        "refine_steps": 80_000,
        "learning_rate": 0.01,  # Init-CNN
        "refine_rate": 0.1,
    },
}


def recipe_defaults(recipe: Recipe, skeleton: str) -> TrainConfig:
    """The fields of a recipe for a dataset; the recipe "released" has different settings for each dataset."""
    base = dataclasses.replace(RECIPES[recipe], skeleton=skeleton)
    return dataclasses.replace(base, **_RELEASED.get(skeleton, {})) if recipe == "released" else base


def make_config(values: Mapping[str, Any]) -> TrainConfig:
    """A configuration from the recipe that `values` names (default "compact"), its other fields overridden.

    Steps that are given (`init_steps`, `refine_steps`) replace the epochs of the recipe. At the paper's widths the head
    "without_structure" has the paper's 2304 and 2048 by default.

    Raises:
        ValueError: The recipe or a field is unknown, or a field cannot take its value.
    """
    recipe = values.get("recipe", "compact")
    if recipe not in RECIPES:
        raise ValueError(f"recipe is {recipe!r}; expected one of {', '.join(RECIPES)}")
    skeleton = values.get("skeleton", RECIPES[recipe].skeleton)
    base = recipe_defaults(recipe, skeleton) if skeleton in SKELETONS else RECIPES[recipe]
    known = {field.name: getattr(base, field.name) for field in dataclasses.fields(base)}
    changed: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise ValueError(unknown_field(name, known))
        changed[name] = _as_type_of(known[name], value, name)
    for phase in ("init", "refine"):  # explicit steps replace the epochs of the recipe
        if f"{phase}_steps" in changed:
            changed.setdefault(f"{phase}_epochs", 0)
    full_width = base.refine_widths == HeadConfig.pose_ren(SKELETONS[base.skeleton]).widths
    if full_width and changed.get("refine_head") == "without_structure" and "refine_widths" not in changed:
        changed["refine_widths"] = HeadConfig.without_structure(SKELETONS[base.skeleton]).widths
    return dataclasses.replace(base, **changed)


def read_config(path: Path | None = None, overrides: Iterable[str] = ()) -> TrainConfig:
    """A configuration from a TOML file and overrides `field=value` (TOML values; bare words are strings).

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The text is not TOML, a field is unknown, or a field cannot take its value.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values.update(tomllib.loads(read_text(path)))
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


_KINDS = {int: "an integer", float: "a number", bool: "true or false", str: "a word", tuple: "a list"}


def _as_type_of(default: object, value: Any, name: str) -> object:
    """`value` converted to the type of the field's default, if this is lossless."""
    if isinstance(default, tuple) and isinstance(value, list | tuple) and len(value) == len(default):
        return tuple(_as_type_of(own, v, name) for own, v in zip(default, value, strict=True))
    if isinstance(default, float) and type(value) in (int, float):
        return float(value)
    if type(value) is type(default) and not isinstance(value, tuple):
        return value
    raise ValueError(f"{name} is {value!r}; expected {_KINDS.get(type(default), 'a value')} like {default!r}")
