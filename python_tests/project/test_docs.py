# SPDX-License-Identifier: MIT
"""The code blocks of the documentation run, one after another, as a reader would type them.

The python blocks of a page share their variables, its bash blocks a folder. Blocks that cannot run here are tagged sh
or py and follow an HTML comment with the reason and the test that stands in, which readers do not see. Sybil finds and
evaluates the blocks; its pytest plugin would make a test of every block, but a block needs those before it.
"""

import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.warm_commands import warm_commands
from sybil import Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser

import poseren_ext

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]

FENCE = re.compile(r"^```(.*)\n((?:.*\n)*?)```$", re.MULTILINE)
RUNS = ("python", "bash")
DOES_NOT_RUN = ("py", "sh")
SHOWN = ("toml", "yaml", "cmake", "cpp", "json", "text")
REASON = re.compile(r"<!-- not run: .+; stand-in: (test_\w+\.py(?:, test_\w+\.py)*) -->\n\n$")
COMMAND = re.compile(r"^\s*(poseren|python3?|pip|make|torchrun|cmake|import|from|git)\b", re.MULTILINE)

on_every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """Runs a block of bash; `poseren` starts without imports."""
    with pytest.MonkeyPatch.context() as patch, warm_commands(tmp_path_factory.mktemp("commands")) as commands:
        patch.setenv("PATH", os.pathsep.join([str(commands), str(Path(sys.executable).parent), os.environ["PATH"]]))
        patch.setenv("OMP_NUM_THREADS", "1")

        def run(example):
            command = ["bash", "-euo", "pipefail", "-c", example.parsed]
            result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
            assert result.returncode == 0, f"{example.parsed}{result.stdout}{result.stderr}"

        yield run


@on_every_page
def test_blocks_run(page, shell, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    document = Sybil([PythonCodeBlockParser(), CodeBlockParser("bash", shell)]).parse(page)
    examples = list(document.examples())
    assert len(examples) == sum(language in RUNS for language, _ in FENCE.findall(page.read_text()))
    for example in examples:
        example.evaluate()


@on_every_page
def test_blocks_that_do_not_run_say_why(page):
    text = page.read_text()
    for block in FENCE.finditer(text):
        language, code = block[1], block[2]
        assert language in (*RUNS, *DOES_NOT_RUN, *SHOWN), f"a block is tagged {language!r}"
        reason = REASON.search(text[: block.start()])
        assert bool(reason) == (language in DOES_NOT_RUN), (
            "a block that does not run is tagged sh or py, after <!-- not run: REASON; stand-in: test_X.py --> and an "
            f"empty line: {code}"
        )
        for test in reason[1].split(", ") if reason else ():
            assert len(list((ROOT / "python_tests").rglob(test))) == 1, f"no test {test}"
        assert language != "text" or not COMMAND.search(code), f"commands in a block of text:\n{code}"


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_outside_the_site(name):
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / name).read_text()):
        assert (ROOT / link).exists(), f"{name} links to {link}"


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) < 200


def test_pictures_are_light():
    for picture in (DOCS / "pictures").iterdir():
        assert picture.stat().st_size <= (1_000_000 if picture.suffix == ".gif" else 300_000), picture.name


def test_pictures_can_be_drawn_again(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from tools.pictures.__main__ import DRAWINGS
    from tools.pictures.material import Material

    material = Material.make()
    for name, draw in DRAWINGS.items():
        assert draw(material).axes, name
        assert (DOCS / "pictures" / f"{name}.png").exists()


def test_every_command_is_listed():
    from poseren_ext.cli import app, data_app

    names = [command.name for command in app.registered_commands]
    names += [f"data {command.name}" for command in data_app.registered_commands]
    page = (DOCS / "commands.md").read_text()
    assert [name for name in names if f"| `{name}` |" not in page] == []


def test_the_options_of_every_command_are_on_the_site(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from tools.site.command_options import MARK, commands, on_page_markdown

    text = on_page_markdown((DOCS / "commands.md").read_text())
    assert MARK not in text
    for name, _ in commands():
        assert f"### {name}\n" in text
    assert "&lt;dataset&gt;\\_pose\\_ren\\*.caffemodel" in text  # nothing in it is read as Markdown or HTML
    assert "| `--missing` | `skip`, `nan`, `stop` | `nan` | Frames without a result" in text
    rows = re.findall(r"^\| `-.*$|^\| `[A-Z]+` .*$", text, re.MULTILINE)
    assert len(rows) > 100
    assert [row for row in rows if not row.split(" | ")[-1].strip("| ")] == [], "options without a description"


def test_wide_pictures_are_scrolled_on_a_phone(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from tools.site.wide_pictures import mark_wide

    wide, narrow = (f'<img alt="a" src="../pictures/{name}.png"' for name in ("growth", "hands"))
    assert mark_wide(f"{wide} />{narrow} />", DOCS, "measuring/") == f'{wide} class="wide" />{narrow} />'
    assert "img.wide" in (DOCS / "assets" / "site.css").read_text()


def test_every_op_has_a_page():
    text = "".join(page.read_text() for page in (DOCS / "ops").glob("*.md"))
    functions = [name for name in poseren_ext.ops.__all__ if name.islower()]
    assert [name for name in functions if f"ops.{name}(" not in text] == []


def test_pages_name_what_exists():
    """What the reference pages are made of can be imported: Griffe reads sources alone."""
    for page in (DOCS / "reference").glob("*.md"):
        for path in re.findall(r"^::: ([\w.]+)$", page.read_text(), re.MULTILINE):
            assert pkgutil.resolve_name(path) is not None
