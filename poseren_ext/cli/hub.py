# SPDX-License-Identifier: MIT
"""`poseren hub`: models on the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from poseren_ext.cli import options

hub_app = typer.Typer(help="Share models on the Hugging Face Hub.", no_args_is_help=True)

Repository = Annotated[str, typer.Argument(help="user/name of the repository; for pull also user/name@revision.")]


@hub_app.command("push")
def push_command(
    model: Annotated[str, typer.Argument(help="A safetensors file, a training run's folder, or a bundled model.")],
    repository: Repository,
    card: Annotated[
        Path | None,
        typer.Option(
            "--card",
            help="Markdown on training data, accuracy and limits. Default: NAME.md beside NAME.safetensors, or the "
            "configuration and last validation of the training run.",
            show_default=False,
        ),
    ] = None,
    licence: Annotated[
        str | None, typer.Option("--license", help="Licence in the card's header, such as mit.", show_default=False)
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Create a private repository.")] = False,
    revision: Annotated[str, typer.Option("--revision", help="Branch to commit to.")] = "main",
) -> None:
    """Upload a model with its configuration and model card in one commit; the repository is created if needed.

    Log in first: hf auth login, or set HF_TOKEN.

    [bold]Examples[/bold]

    poseren hub push runs/compact someone/my-hand --license mit

    poseren hub push nyu.safetensors someone/nyu-hand --card nyu.md --private
    """
    from poseren_ext.cli._console import say
    from poseren_ext.models import load
    from poseren_ext.models.files import model_path
    from poseren_ext.models.hub import HubPoseREN, record_beside

    if repository.count("/") != 1:
        raise typer.BadParameter(f"{repository!r}; expected user/name", param_hint="REPOSITORY")
    path = model_path(model)
    about: dict[str, Any] = {"description": card.read_text(encoding="utf-8") if card else record_beside(path)}
    if licence is not None:
        about["license"] = licence
    commit = HubPoseREN.of(load(path)).push_to_hub(
        repository,
        private=private or None,
        branch=revision,
        commit_message="Upload a Pose-REN model",
        model_card_kwargs=about | {"repo_id": repository},
    )
    say(f"{commit}; use it with --model {repository}")


@hub_app.command("pull")
def pull_command(
    repository: Repository,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Copy the model to this file. Default: huggingface_hub's cache.",
            show_default=False,
        ),
    ] = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Download a model and check it; afterwards --model finds it without a connection too.

    [bold]Examples[/bold]

    poseren hub pull someone/my-hand

    poseren hub pull someone/my-hand@v2 --out hand.safetensors
    """
    from poseren_ext._utils.atomic_files import write_atomic
    from poseren_ext.cli._console import say
    from poseren_ext.models import load
    from poseren_ext.models.hub import download

    options.check_outputs(out, overwrite=overwrite)
    path = download(repository)
    model = load(path)
    if out is not None:
        write_atomic(out, path.read_bytes())
        path = out
    say(f"{path}: {model.skeleton.name}, {model.config.hand} hand")
