# SPDX-License-Identifier: MIT
"""The part of `poseren eval` for frames with any number of hands."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from poseren_ext.evaluation.hand_pairs import HandsEvaluation
    from poseren_ext.geometry.camera import Camera

HANDS = "hands.csv"
COLUMNS = ["system", "3D (mm)", "hands", "found (%)", "missed", "false", "precision (%)", "side right (%)"]


def evaluate_hand_files(
    labels: Path,
    systems: Mapping[str, Path],
    camera: Camera,
    json_file: Path | None,
    markdown: Path | None,
) -> None:
    """Pair the hands of every system with the labelled ones, and print and write the results."""
    from poseren_ext._utils.atomic_files import write_atomic
    from poseren_ext._utils.markdown import markdown_table
    from poseren_ext.cli._console import console, table
    from poseren_ext.evaluation.hand_pairs import FARTHEST, evaluate_hands
    from poseren_ext.io.hand_files import read_hands, same_frames

    truth, joints = read_hands(labels, camera)
    results = []
    for name, file in systems.items():
        found, _ = read_hands(file, camera, joints)
        results.append(evaluate_hands(*same_frames(truth, found, file), name=name))
    rows = [_row(one) for one in results]
    title = (
        f"{len(truth)} frames; hands whose joints are within {FARTHEST:.0f} mm on average are paired; 3D: of the pairs"
    )
    text = json.dumps({"labels": str(labels), "systems": [_numbers(one) for one in results]}, indent=1)
    if json_file == Path("-"):
        print(text)
    else:
        console().print(table(title, COLUMNS, rows))
        if json_file is not None:
            write_atomic(json_file, text + "\n")
    if markdown is not None:
        write_atomic(markdown, f"{title}.\n\n{markdown_table(COLUMNS, rows)}")


def _row(one: HandsEvaluation) -> list[str]:
    sides = one.same_side / one.sides if one.sides else float("nan")
    shares = [f"{100 * share:.2f}" for share in (one.recall, one.precision, sides)]
    counts = [str(one.missed), str(one.false)]
    return [one.name, f"{one.mean_3d:.3f}", str(one.hands), shares[0], *counts, *shares[1:]]


def _numbers(one: HandsEvaluation) -> dict[str, object]:
    """The evaluation for JSON, which has no NaN."""
    numbers = {**asdict(one), "recall": one.recall, "precision": one.precision}
    return {name: None if value != value else value for name, value in numbers.items()}
