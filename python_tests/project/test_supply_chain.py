# SPDX-License-Identifier: MIT
"""The lock file has all requirements with hashes; the package imports only declared dependencies."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PINNED = [
    line
    for name in ("build", "test", "lint", "fuzz")
    for line in (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    if line and not line.startswith("#")
]
IMPORTED_AS = {"cv2": "opencv-python", "google": "protobuf", "yaml": "pyyaml"}


def packages(text: str) -> dict[str, list[tuple[Requirement, list[str]]]]:
    """The lock's entries by name: requirement and hashes."""
    found: dict[str, list[tuple[Requirement, list[str]]]] = {}
    for entry in re.split(r"\n(?=[a-z0-9])", text[text.rindex("#") :].partition("\n")[2].strip(), flags=re.IGNORECASE):
        head, *hashes = re.split(r"\s*\\\n\s*--hash=", entry.strip())
        requirement = Requirement(head)
        found.setdefault(requirement.name.lower(), []).append((requirement, hashes))
    return found


@pytest.fixture(scope="module")
def lock() -> dict[str, list[tuple[Requirement, list[str]]]]:
    return packages((ROOT / "requirements" / "lock.txt").read_text())


def test_every_file_has_a_hash(lock: dict[str, list[tuple[Requirement, list[str]]]]) -> None:
    assert len(lock) > 100
    for entries in lock.values():
        for requirement, hashes in entries:
            assert re.fullmatch(r"==[\w.!+]+", str(requirement.specifier)), requirement
            assert hashes
            assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", digest) for digest in hashes)
    assert "torch" not in lock  # of the machine's own index


@pytest.mark.parametrize("line", PINNED)
def test_the_lock_has_what_is_pinned(line: str, lock: dict[str, list[tuple[Requirement, list[str]]]]) -> None:
    wanted = Requirement(line)
    entries = lock.get(wanted.name.lower().replace("_", "-"), [])
    assert wanted.specifier in [entry.specifier for entry, _ in entries], f"make lock: {line} is not in the lock"


def test_the_base_imports_what_it_declares_and_no_more() -> None:
    """In a process of its own: everything that `import poseren_ext` loads, by the package that it belongs to."""
    text = (ROOT / "pyproject.toml").read_text()
    base = re.search(r"^dependencies = \[\n(.*?)^\]", text, re.M | re.S)
    assert base
    declared = {Requirement(line.strip().strip(",").strip('"')).name.lower() for line in base[1].splitlines()}
    modules = {
        IMPORTED_AS.get(node.name.split(".")[0], node.name.split(".")[0])
        for path in (ROOT / "poseren_ext").rglob("*.py")
        for statement in ast.parse(path.read_text()).body
        for node in _imported(statement)
    }
    undeclared = modules - set(sys.stdlib_module_names) - {"poseren_ext"} - declared
    # Of modules that are an extra's own, and say so.
    optional = {"huggingface_hub", "onnx", "ray", "torchvision", "viser"}
    assert undeclared <= optional, f"imported at the top of a module and not declared: {undeclared - optional}"


def _imported(statement: ast.stmt) -> list[ast.alias]:
    if isinstance(statement, ast.Import):
        return statement.names
    if isinstance(statement, ast.ImportFrom) and statement.level == 0:
        return [ast.alias(statement.module or "")]
    return [
        name for inner in getattr(statement, "body", []) if isinstance(statement, ast.Try) for name in _imported(inner)
    ]


def test_importing_the_package_loads_no_extra() -> None:
    code = "import sys, torch, numpy; before = set(sys.modules); import poseren_ext; print(*set(sys.modules) - before)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    loaded = {name.split(".")[0] for name in output.split()}
    extras = {"scipy", "tensorboard", "tqdm", "onnx", "onnxscript", "onnxruntime", "huggingface_hub", "ray", "viser"}
    of_commands = {"matplotlib", "torchmetrics", "typer", "rich"}
    assert not loaded & (extras | of_commands)
