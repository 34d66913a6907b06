# SPDX-License-Identifier: MIT
"""The Dockerfile copies what the build needs, and the documented commands of the container run outside of one."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from helpers.command_line import Result

from poseren_ext.synthetic import SyntheticHands

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
PYPROJECT = (ROOT / "pyproject.toml").read_text()


def test_what_is_copied_is_there_and_what_the_build_needs_is_not_left_out() -> None:
    copied = re.findall(r"^COPY (?!--from)(\S+) ", DOCKERFILE, re.MULTILINE)
    assert copied == ["requirements/build.txt", "."]
    ignored = [line.rstrip("*") for line in (ROOT / ".dockerignore").read_text().split()]
    needed = ["csrc", "cmake", "CMakeLists.txt", "poseren_ext", "pyproject.toml", "requirements/build.txt"]
    needed += [name for name in ("README.md", "LICENSE") if f'"{name}"' in PYPROJECT]
    for name in needed:
        assert (ROOT / name).exists(), name
        assert not any(name.startswith(one) for one in ignored), name


def test_the_image_starts_the_command_with_the_makefiles_torch() -> None:
    assert '\nENTRYPOINT ["poseren"]\n' in DOCKERFILE
    assert '\nposeren = "poseren_ext.cli:main"\n' in PYPROJECT
    torch_version = re.search(r"^ARG TORCH=(\S+)$", DOCKERFILE, re.MULTILINE)
    assert torch_version is not None
    assert f"TORCH ?= {torch_version[1]}\n" in (ROOT / "Makefile").read_text()
    stages = re.findall(r"^FROM python:3\.(\d+)-", DOCKERFILE, re.MULTILINE)
    assert len(stages) == 2
    assert len(set(stages)) == 1, "the environment is copied from one stage to the other"


def test_documented_commands_run_outside_of_the_container(poseren: Callable[..., Result], tmp_path: Path) -> None:
    text = (ROOT / "docs" / "install.md").read_text() + DOCKERFILE
    commands = re.findall(r'docker run --rm -v "\$PWD:/data" .*?\bposeren (.+)', text)
    assert [command.split()[0] for command in commands] == ["doctor", "predict", "predict"]
    (tmp_path / "frames").mkdir()
    for i, depth in enumerate(SyntheticHands(seed=1, split="test").frames(torch.arange(2)).depth):
        cv2.imwrite(str(tmp_path / "frames" / f"{i}.png"), depth.round().numpy().astype(np.uint16))
    for command in commands:
        done = poseren(*shlex.split(command.replace("/data", str(tmp_path))))
        assert done.code == 0, done.err
        (tmp_path / "joints.csv").unlink(missing_ok="predict" not in command)
        (tmp_path / "joints.csv.json").unlink(missing_ok=True)
