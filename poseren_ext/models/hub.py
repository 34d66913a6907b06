# SPDX-License-Identifier: MIT
"""Models on the Hugging Face Hub, and in folders with the same layout: weights, configuration, model card.

Needs huggingface_hub: ``pip install 'poseren_ext[hub]'``.
"""

from __future__ import annotations

import csv
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

try:
    from huggingface_hub import ModelCard, ModelCardData, ModelHubMixin, hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("models on the Hub need huggingface_hub: pip install 'poseren_ext[hub]'") from error

from poseren_ext._utils.atomic_files import write_atomic
from poseren_ext.models import PoseREN, load, save
from poseren_ext.models.files import FORMAT, FORMAT_VERSION, WEIGHTS

CONFIG = "config.json"

_CARD = """\
---
{{ card_data }}
---

# Pose-REN, {{ skeleton }}

3D hand pose estimation from one depth image: an initial network and a pose-guided cascade (Chen et al., *Pose Guided
Structured Region Ensemble Network for Cascaded Hand Pose Estimation*, Neurocomputing 2020).

| | |
|---|---|
| joints | {{ joints }}: {{ names }} |
| hand | {{ hand }} (the other hand is mirrored) |
| input | depth in mm and the camera's intrinsics; a cube of half edge {{ cube }} mm around the hand, \
{{ size }}x{{ size }} pixels |
| output | joints in mm (x right, y down, z forward) and in pixels |
| parameters | {{ parameters }} |
| file | {{ weights }}: safetensors, format {{ format }} {{ version }} |

```python
from poseren_ext import Estimator

estimator = Estimator("{{ repo_id }}", camera=(fx, fy, cx, cy))
joints = estimator(depth).joints  # depth: [H, W] in mm
```

{{ description }}
"""


@lru_cache(maxsize=16)
def download(name: str) -> Path:
    """The weights of a repository of the Hub, in huggingface_hub's cache.

    The Hub is asked once per process whether there is a newer version. Without a connection, and with the environment
    variable ``HF_HUB_OFFLINE=1``, the cached version is used.

    Args:
        name: "user/name", or "user/name@revision" with a branch, a tag or a commit.

    Raises:
        FileNotFoundError: There is no such repository or revision, it has no model of this package, or it is not in
            the cache and the Hub cannot be reached.
    """
    repository, _, revision = name.partition("@")
    try:
        return Path(hf_hub_download(repository, WEIGHTS, revision=revision or None))
    except RepositoryNotFoundError as error:
        cause: Exception = error
        reason = "the Hub has no such model repository, or it is private (log in: hf auth login)"
    except RevisionNotFoundError as error:
        cause, reason = error, f"the repository on the Hub has no revision {revision!r}"
    except LocalEntryNotFoundError as error:
        cause, reason = error, "it is not in the cache, and the Hub cannot be reached (or HF_HUB_OFFLINE=1 is set)"
    except EntryNotFoundError as error:
        cause, reason = error, f"the repository on the Hub has no {WEIGHTS}; expected one that poseren hub push wrote"
    raise FileNotFoundError(f"no model at {name!r}: there is no such file, and {reason}") from cause


def record_beside(file: Path) -> str:
    """What the files next to a model say of it, as Markdown.

    That is NAME.md for NAME.safetensors without its title, else the configuration of the training run in the same
    folder (config.toml) and its last validation (log.csv); "" without either.
    """
    card, config, log = file.with_suffix(".md"), file.parent / "config.toml", file.parent / "log.csv"
    if card.is_file():
        text = card.read_text(encoding="utf-8")
        return text.partition("\n")[2].strip() if text.startswith("# ") else text.strip()
    if not config.is_file():
        return ""
    text = f"## Training\n\n```toml\n{config.read_text(encoding='utf-8').strip()}\n```\n"
    if log.is_file():
        with log.open(newline="", encoding="utf-8") as rows:
            measured = [row for row in csv.DictReader(rows) if row.get("validation_mm")]
        if measured:
            last = measured[-1]
            errors = ", ".join(last["validation_mm"].split())
            text += (
                f"\nLast validation, {last['phase']} step {last['step']}: mean joint error in mm of the initial pose "
                f"and each stage: {errors}.\n"
            )
    return text


class HubPoseREN(PoseREN, ModelHubMixin, library_name="poseren_ext", tags=["hand-pose-estimation", "depth"]):  # type: ignore[misc]
    """A :class:`PoseREN` with ``from_pretrained``, ``save_pretrained`` and ``push_to_hub``.

    Local folders work like repositories of the Hub, without network access.
    """

    @classmethod
    def of(cls, model: PoseREN) -> HubPoseREN:
        """Adds these methods to a model; the weights are shared."""
        config = model.config
        result = cls(
            model.init,
            model.backbone,
            model.head,
            model.skeleton,
            cube=config.cube,
            hand=config.hand,
            mean_pose=model.mean_pose,
            weight_dtype=config.weight_dtype,
            error=model.error,
        )
        return result.train(model.training)

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **options: Any) -> HubPoseREN:
        """Loads a folder or a repository of the Hub; called by ``from_pretrained``.

        Raises:
            FileNotFoundError: The folder has no weights.
            TypeError: An option is unknown.
            ValueError: The weights are not a model of this package.
        """
        if Path(model_id).is_dir():
            path = Path(model_id) / WEIGHTS
            if not path.exists():
                raise FileNotFoundError(f"{model_id} has no {WEIGHTS}; expected a folder that save_pretrained wrote")
        else:
            path = Path(hf_hub_download(model_id, WEIGHTS, **options))
        return cls.of(load(path))

    def _save_pretrained(self, save_directory: Path) -> None:
        """Writes weights and configuration; called by ``save_pretrained`` and ``push_to_hub``."""
        save(self, save_directory / WEIGHTS)
        about = {"format": FORMAT, "format_version": FORMAT_VERSION, "model": json.loads(self.config.to_json())}
        write_atomic(save_directory / CONFIG, json.dumps(about, indent=2) + "\n")

    def generate_model_card(self, *, description: str = "", repo_id: str = "FOLDER", **data: Any) -> ModelCard:
        """Creates the model card.

        Args:
            description: training data, accuracy and limitations, as Markdown.
            repo_id: repository name in the example.
            data: fields of the header, such as ``license`` or ``datasets``.
        """
        config = self.config
        count = sum(weight.numel() for weight in self.parameters())
        header = {"library_name": "poseren_ext", "tags": ["hand-pose-estimation", "depth"]}
        card: ModelCard = ModelCard.from_template(
            ModelCardData(**(header | data)),
            template_str=_CARD,
            skeleton=config.skeleton,
            joints=self.skeleton.num_joints,
            names=", ".join(self.skeleton.joints),
            hand=config.hand,
            cube=f"{config.cube:g}",
            size=config.image_size,
            parameters=f"{count / 1e6:.1f} million, {config.weight_dtype}",
            weights=WEIGHTS,
            format=FORMAT,
            version=FORMAT_VERSION,
            repo_id=repo_id,
            description=description,
        )
        return card
