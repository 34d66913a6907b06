# SPDX-License-Identifier: MIT
"""Releases: metadata, files and workflows."""

import email
import re
import sys
from pathlib import Path

import pytest
import yaml
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
