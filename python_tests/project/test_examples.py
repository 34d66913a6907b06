# SPDX-License-Identifier: MIT
"""The examples run and give the stated results."""

import re
import runpy
import sys
from pathlib import Path

import cv2
import pytest
import torch
from helpers.docs_blocks import block_not_run

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name):
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))


def run(name, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")


def test_compiled_training_of_another_model_equals_eager():
    """torch.compile(fullgraph=True) of a heat-map network with the ops: 50 steps with the same loss curve."""
    train = load("heatmap_network")["train"]
    eager, compiled = train(50, compiled=False), train(50, compiled=True)
    torch.testing.assert_close(torch.tensor(compiled), torch.tensor(eager), rtol=1e-3, atol=0)
    assert torch.tensor(eager[-10:]).mean() < 0.9 * torch.tensor(eager[:10]).mean(), "nothing was learnt"


def test_the_compiled_stage_of_the_page(monkeypatch):
    """docs/guides/ops.md: traced as one graph; the backend runs the graph without generating code, which takes long."""
    page = (EXAMPLES.parent / "docs" / "guides" / "ops.md").read_text()
    (stage,) = re.findall(r"```python\n((?:.*\n)*?stage = (?:.*\n)*?)```", page)
    compiled = []

    def compile_(module, **options):
        compiled.append(options)
        return compiler(module, backend="aot_eager", **options)

    compiler = torch.compile
    monkeypatch.setattr(torch, "compile", compile_)
    scope = {}
    exec(stage, scope)
    exec(block_not_run("guides/ops.md", "torch.compile"), scope)
    assert compiled == [{"fullgraph": True}]
    features, points = scope["features"], scope["points"]
    torch.testing.assert_close(scope["compiled"](features, points), scope["stage"](features, points))


def test_heatmap_network_from_the_command_line(capsys, monkeypatch):
    run("heatmap_network", monkeypatch, "--steps", 2)
    assert "step   1: loss" in capsys.readouterr().out


def test_detector_head(capsys, monkeypatch):
    run("detector_head", monkeypatch)
    assert "3 boxes" in capsys.readouterr().out


def test_detector_head_looks_at_its_own_image():
    """Scores of a box do not depend on what else is in the batch."""
    torch.manual_seed(0)
    example = load("detector_head")
    detector = example["Detector"]()
    images, boxes = torch.randn(2, 3, 64, 64), [torch.tensor([[4.0, 4, 40, 44]]), torch.tensor([[8.0, 16, 56, 60]])]
    scores, deltas = detector(images, boxes)
    alone = [detector(images[i : i + 1], boxes[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(scores, torch.cat([score for score, _ in alone]))
    torch.testing.assert_close(deltas, torch.cat([delta for _, delta in alone]))


def test_paper_walkthrough(capsys, monkeypatch, tmp_path):
    run("paper_walkthrough", monkeypatch, tmp_path / "pictures")
    output = capsys.readouterr().out
    assert "134.0 million in all" in output
    assert "P5:" in output
    for name in ("windows", "cascade"):
        image = cv2.imread(str(tmp_path / "pictures" / f"{name}.png"))
        assert image.std() > 5, "an empty picture"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_listed_in_the_gallery(path):
    assert f"({path.name})" in (EXAMPLES / "README.md").read_text()
