# SPDX-License-Identifier: MIT
"""Releases: metadata, files and workflows."""

import email
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers.docs_blocks import PAGES, blocks_not_run, commands
from packaging.requirements import Requirement

import poseren_ext

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))

sys.path.append(str(ROOT / "tools"))
from test_wheel import ARCHIVED, REQUIRED, archive_faults, content_faults  # noqa: E402


@pytest.fixture(scope="module")
def metadata(tmp_path_factory):
    """As the wheel will have it, from the build backend; nothing is compiled."""
    from scikit_build_core.build import prepare_metadata_for_build_wheel

    folder = tmp_path_factory.mktemp("metadata")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        made = folder / prepare_metadata_for_build_wheel(str(folder))
    return made


def test_metadata(metadata):
    fields = email.message_from_string((metadata / "METADATA").read_text())
    assert (fields["Name"], fields["Version"]) == ("poseren_ext", poseren_ext.__version__)
    assert fields["License-Expression"] == "MIT"
    assert fields.get_all("License-File") == ["LICENSE"]
    assert fields["Requires-Python"] == ">=3.10"
    assert "make demo" in fields.get_payload()
    needs = {Requirement(text).name: Requirement(text) for text in fields.get_all("Requires-Dist")}
    assert str(needs["torch"].specifier) == ">=2.11"
    assert "poseren = poseren_ext.cli:main" in (metadata / "entry_points.txt").read_text()
    assert (metadata / "licenses" / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


def test_extras(metadata):
    """The page on installing lists every extra, and those that pages and messages name exist."""
    extras = email.message_from_string((metadata / "METADATA").read_text()).get_all("Provides-Extra")
    table = (ROOT / "docs" / "install.md").read_text().partition("| extra |")[2].partition("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines()[2:]]
    assert sorted(re.findall(r"`(\w+)`", "".join(rows))) == sorted(extras)
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.*")]
    text = "".join(path.read_text() for path in [*pages, *(ROOT / "poseren_ext").rglob("*.py")])
    named = re.findall(r"pip install '(?:\.|poseren_ext)\[([\w,]+)\]'", text)
    assert len(named) > 10
    assert {name for names in named for name in names.split(",")} <= set(extras)


def installations():
    """What the commands of the pages install, with its options, by page."""
    found = []
    for page in PAGES:
        for command in (line for block in blocks_not_run(page) for line in commands(block)):
            if command.startswith("pip install "):
                found.append((page, *shlex.split(command.partition(" #")[0])[2:]))
    return found


def test_the_installations_of_the_pages(metadata):
    """torch, this folder with its extras and settings, a wheel of ours, or what an example needs."""
    extras = email.message_from_string((metadata / "METADATA").read_text()).get_all("Provides-Extra")
    pinned = (ROOT / "requirements" / "test.txt").read_text()
    pages = set()
    for page, what, *options in installations():
        name, _, wanted = what.partition("[")
        if name == "dex-retargeting":
            assert f"{name}==" in pinned, "the tests of the example import it"
        elif name.startswith("dist/"):
            build = (ROOT / "tools" / "build_wheels.py").read_text()
            assert name == "dist/cpu/poseren_ext-*.whl"
            assert 'DIST = ROOT / "dist"\nVARIANTS = ("sdist", "cpu", "cuda")\n' in build
        else:
            assert name in ("torch", "."), f"{page}: {what}"
            assert set(wanted.rstrip("]").split(",")) <= {*extras, ""}
        if options:
            assert options[0] == "-C"
            name, _, value = options[1].partition("=")
            assert define(name, value) == value
        pages.add(page.name)
    assert pages == {"README.md", "install.md", "teleoperation.md", "shipping.md"}


def define(name, value):
    """The CMake variable that a setting of the build becomes; CMakeLists.txt must read it."""
    from scikit_build_core.settings.skbuild_read_settings import SettingsReader

    reader = SettingsReader.from_file("pyproject.toml", {name: value})
    reader.validate_may_exit()
    variable = name.removeprefix("cmake.define.")
    assert variable in (ROOT / "CMakeLists.txt").read_text()
    return str(reader.settings.cmake.define[variable])


def test_the_targets_of_the_pages():
    """`make demo` and `make test` are as the pages describe; test_cli_demo.py runs the command of the first."""
    targets = set()
    for page in PAGES:
        for command in (line for block in blocks_not_run(page) for line in commands(block)):
            if command.startswith("make "):
                targets.add(command.partition(" #")[0].split()[1])
    assert targets == {"demo", "test", "gpu-check"}
    steps = {
        target: subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for target in targets
    }
    assert ".venv/bin/poseren demo --overwrite" in steps["demo"]
    assert ".venv/bin/python -m pytest" in steps["test"]
    assert "tools/gpu_check.py" in steps["gpu-check"]


def test_package_data():
    """What the wheel must hold besides code is where the build takes it from, and readable by all once committed."""
    for name in REQUIRED:
        if name.startswith("poseren_ext/") and not name.endswith(".so"):
            assert (ROOT / name).is_file(), name


def test_contents_of_wheels():
    files = [f"poseren_ext-1{name}" if name.startswith(".") else name for name in REQUIRED]
    modes = dict.fromkeys(files, 0o644)
    assert content_faults(modes) == []
    assert content_faults({**modes, "poseren_ext/lib/libtorch_cpu.so": 0o755})
    assert content_faults({**modes, "poseren_ext/csrc/ops.cpp": 0o644})
    assert content_faults({**modes, "poseren_ext/py.typed": 0o600})
    assert content_faults({name: mode for name, mode in modes.items() if "safetensors" not in name})


def test_contents_of_the_source_archive():
    assert archive_faults([f"poseren_ext-1/{name}" for name in ARCHIVED]) == []
    assert archive_faults([f"poseren_ext-1/{name}" for name in ARCHIVED[1:]]) == [f"no {ARCHIVED[0]}"]
    for stray in (".venv/lib/CMakeLists.txt", "build/CMakeLists.txt", "poseren_ext/_C.so"):
        assert archive_faults([f"poseren_ext-1/{name}" for name in (*ARCHIVED, stray)])
    for name in ARCHIVED:
        assert (ROOT / name).is_file(), name


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows(path):
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow[True]  # "on", which YAML 1.1 takes for a truth
    makefile = (ROOT / "Makefile").read_text()
    for name, job in workflow["jobs"].items():
        assert job["runs-on"], name
        for step in job["steps"]:
            action = step.get("uses", "a/b@v1")
            # cuda-toolkit has no tag of a major version.
            assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+|Jimver/cuda-toolkit@master", action), f"{name}: {action}"
            for target in re.findall(r"\bmake ([\w-]+)", step.get("run", "")):
                assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{name} runs make {target}"


def test_every_python_is_tested():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    wheels = yaml.safe_load((ROOT / ".github" / "workflows" / "wheels.yml").read_text())["jobs"]
    tested = jobs["test"]["strategy"]["matrix"]["python"]
    assert tested == ["3.10", "3.11", "3.12", "3.13"]
    assert wheels["wheels"]["strategy"]["matrix"]["python"] == tested
