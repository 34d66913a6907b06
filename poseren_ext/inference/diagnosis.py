# SPDX-License-Identifier: MIT
"""Checks whether frames, camera and depth unit fit together, with advice on what to change.

The checks cover the most frequent mistakes: depth in metres or in the camera's own unit, intrinsics of another
resolution, a frame without a hand, an arm or a table in the crop, a hand larger than its cube.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import torch

from poseren_ext.geometry.camera import Camera
from poseren_ext.inference.camera_check import judge_camera
from poseren_ext.inference.depth_units import UNFITTING, nearest_palm, other_units, ranked_units, unit_cost
from poseren_ext.inference.hand_detection import find_hands, presumed_hand
from poseren_ext.inference.input_frames import (
    FARTHEST_HAND,
    NEAREST_HAND,
    UNITS,
    check_units,
    read_frames,
)
from poseren_ext.inference.surface_detection import NARROWEST_ENTRY
from poseren_ext.ops import depth_crop

Image: TypeAlias = npt.NDArray[Any]
Kind: TypeAlias = Literal["fine", "note", "fault"]


SMALL_CUBE = 120.0
"""mm, half edge: an adult's stretched hand may leave a smaller cube."""


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        kind: "fine"; "note": works, but check it; "fault": results will be wrong.
        check: what was checked: frame, camera, unit, hand, pose or cube.
        text: what was found, and for a note or fault the remedy.
    """

    kind: Kind
    check: str
    text: str


@dataclass(frozen=True)
class Region:
    """Where the hand was found.

    Attributes:
        mask: the hand's surface and what is connected with it [H, W].
        center: u, v (px), d (mm).
        crop: what the network would see [S, S], -1 (near) to 1 (background).
        camera: with these intrinsics: those given, or those advised where the given ones cannot be.
        unit: with this unit: the one given, or the one advised.
        second: u, v (px), d (mm) of a second surface of a hand's size; None where there is none.
    """

    mask: Image
    center: tuple[float, float, float]
    crop: Image
    camera: Camera
    unit: float
    second: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Checkup:
    """What was found in one frame.

    Attributes:
        name: the frame's.
        depth: as stored [H, W].
        findings: the results of the checks, in their order.
        region: the hand; None where none was found.
        units: for a wrong unit: the units in which there is a hand, with `unit_cost`.
    """

    name: str
    depth: Image
    findings: tuple[Finding, ...]
    region: Region | None
    units: Mapping[float, float] = field(default_factory=dict)

    @property
    def kind(self) -> Kind:
        """The worst of the findings."""
        return worst(self.findings)


def worst(findings: Sequence[Finding]) -> Kind:
    """The worst kind among findings; "fine" when there are none."""
    kinds = [finding.kind for finding in findings]
    return "fault" if "fault" in kinds else "note" if "note" in kinds else "fine"


def examine(depth: Image, camera: Camera, *, depth_unit: float = 1.0, cube: float = 150.0, name: str = "") -> Checkup:
    """Look at one frame with its camera and unit.

    Args:
        depth: as stored [H, W].
        camera: intrinsics given for the frame.
        depth_unit: mm per stored unit, as given for the frame.
        cube: half edge of the cube around the hand, mm.
        name: how to call the frame.

    Returns:
        The findings. Each check assumes what earlier findings advise, so that one mistake is reported once.
    """
    findings: list[Finding] = []
    frame = _check_frame(depth)
    if isinstance(frame, Finding):
        return Checkup(name, np.asarray(depth), (frame,), None)
    findings.append(_frame_summary(frame, depth_unit))
    finding, usable = check_intrinsics(camera, frame.shape)
    findings.append(finding)
    finding, units = _check_unit(frame, usable, depth_unit)
    findings.append(finding)
    region = None
    if units:
        region = _locate(frame, usable, min(units, key=units.__getitem__), cube)
        findings += _check_hand(frame, region, cube)
    return Checkup(name, frame, tuple(findings), region, units if finding.check == "unit" else {})


def _check_frame(depth: Image) -> Image | Finding:
    """The frame as a plain array, or why it is none."""
    try:
        frame: Image = np.asarray(read_frames([np.asarray(depth)], torch.device("cpu")).depth[0])
    except (TypeError, ValueError) as error:
        return Finding("fault", "frame", str(error))
    if not (np.isfinite(frame) & (frame > 0)).any():
        return Finding("fault", "frame", "no depth: all pixels are 0, negative, NaN or infinite: covered?")
    return frame


def _frame_summary(frame: Image, unit: float) -> Finding:
    seen = frame[np.isfinite(frame) & (frame > 0)]
    height, width = frame.shape
    share = seen.size / frame.size
    nearest, middle, farthest = (float(value) * unit for value in np.percentile(seen, (0, 50, 100)))
    text = (
        f"{width}x{height} {frame.dtype}, {100 * share:.0f} % of the pixels have depth: "
        f"{nearest:.4g} to {farthest:.4g} mm, half of them nearer than {middle:.4g} mm"
    )
    if frame.dtype.kind in "iu" and float(seen.max()) <= 255:
        advice = "no value is above 255, as in an 8-bit picture of depth; record the 16-bit values themselves"
        return Finding("fault", "frame", f"{text}; {advice}")
    if share < 0.01:
        advice = f"hold the hand between {NEAREST_HAND:g} and {FARTHEST_HAND:g} mm, and uncover the lens"
        return Finding("note", "frame", f"{text}; hardly any depth: {advice}")
    return Finding("fine", "frame", text)


def check_intrinsics(camera: Camera, shape: tuple[int, ...]) -> tuple[Finding, Camera]:
    """Whether frames of this size (rows, columns) can come from this camera, and the camera to check with."""
    verdict = judge_camera(camera, shape)
    return Finding(verdict.kind, "camera", verdict.text), verdict.camera


def _check_unit(frame: Image, camera: Camera, unit: float) -> tuple[Finding, dict[float, float]]:
    """Is there a hand where cameras see hands? If not, the other units in which there is one, with `unit_cost`."""
    try:
        check_units(read_frames(frame, torch.device("cpu")), unit)
        palm = nearest_palm(frame, camera, unit)
    except ValueError:
        palm = None
    if palm is not None:
        text = f"{unit:g} mm: the nearest hand-sized surface is {palm[0]:.0f} mm away"
        return Finding("fine", "unit", text), {unit: 0.0}
    found = other_units(frame, camera, unit)
    given = f"in units of {unit:g} mm no surface of a hand's size is within {NEAREST_HAND:g}..{FARTHEST_HAND:g} mm"
    if not found:
        advice = "nor in any usual unit: is a hand in view, held towards the camera, away from body and table?"
        return Finding("fault", "hand", f"{given}, {advice}"), {}
    costs = {other: unit_cost(*palm) for other, palm in found.items()}
    options = [f"--depth-unit {other:g} ({UNITS[other]}; {palm[0]:.0f} mm away)" for other, palm in found.items()]
    return Finding("fault", "unit", f"{given}; the values look right with {' or '.join(options)}"), costs


def _locate(frame: Image, camera: Camera, unit: float, cube: float) -> Region | None:
    hand = presumed_hand(frame, camera, unit)
    if hand is None:
        return None
    others = find_hands(frame, camera, 2, depth_unit=unit)[1:]
    second = next((other.center for other in others if other.center[2] <= FARTHEST_HAND), None)
    depth = torch.from_numpy(np.ascontiguousarray(frame))[None]
    crop = depth_crop(depth, torch.tensor([hand.center], dtype=torch.float32), camera, cube=cube, depth_unit=unit)[
        0, 0
    ].numpy()
    return Region(hand.surface, hand.center, crop, camera, unit, second)


def _check_hand(frame: Image, region: Region | None, cube: float) -> Iterator[Finding]:
    """Is the hand whole, alone, and as large as its cube allows?"""
    if region is None or not np.isfinite(region.center).all():
        yield Finding("fault", "hand", "no centre of mass inside the cube: give --cube about 150 mm")
        return
    (u, v, d), (height, width) = region.center, frame.shape
    place = f"centre at u {u:.0f}, v {v:.0f}, {d:.0f} mm"
    if region.second is not None:  # no warning: geometry does not tell a second hand from a face or a shoulder
        u2, v2, d2 = region.second
        place += f", the nearest of two surfaces of a hand's size; the other one is at {u2:.0f}, {v2:.0f}, {d2:.0f} mm"
        place += " (if it is a hand, poseren predict --max-hands 2 estimates both)"
    surface = region.crop < 0.99
    other = surface & ~_cropped(region, cube, region.crop.shape[0])
    border = np.concatenate([region.mask[0], region.mask[-1], region.mask[:, 0], region.mask[:, -1]])
    if not (0 <= u < width and 0 <= v < height):
        yield Finding("fault", "hand", f"{place}: outside the frame")
    elif _entries(region) > 1:
        advice = "only a forearm is in view, or the fingers are outside: move the whole hand into the frame"
        yield Finding("note", "hand", f"{place}: its surface leaves the frame in {_entries(region)} places; {advice}")
    elif border.sum() > 0.05 * math.sqrt(region.mask.sum()) and _cut(region, cube, (height, width)) > 0.25:
        yield Finding("note", "hand", f"{place}: the frame's edge cuts its cube; move the hand towards the middle")
    elif other.sum() > 0.4 * surface.sum():
        share = 100 * other.sum() / surface.sum()
        what = f"{share:.0f} % of the surface in the cube is something else (body, table?)"
        yield Finding("note", "hand", f"{place}: {what}; hold the hand away from it, or lower --cube")
    else:
        yield Finding("fine", "hand", place)
    yield _check_cube(surface, cube)


def _entries(region: Region) -> int:
    """In how many places the surface leaves the frame over at least the width of an arm."""
    contact = np.zeros_like(region.mask)
    contact[[0, -1]] = region.mask[[0, -1]]
    contact[:, [0, -1]] = region.mask[:, [0, -1]]
    count, labels = cv2.connectedComponents(np.uint8(contact), connectivity=8)
    pixels = np.bincount(labels[contact], minlength=count)
    return int((pixels * region.center[2] / region.camera.fx >= NARROWEST_ENTRY).sum())


def _check_cube(surface: Image, cube: float) -> Finding:
    """Whether the hand fits: an arm leaves its cube on one side or two, a hand that is too large on more."""
    sides = (surface[0], surface[-1], surface[:, 0], surface[:, -1])
    touched = sum(float(side.mean()) > 0.08 for side in sides)
    rows, columns = (np.flatnonzero(surface.any(axis)) for axis in (1, 0))
    text = f"{2 * cube:g} mm wide"
    if not len(rows):
        return Finding("fault", "cube", f"{text}: empty")
    extent = max(np.ptp(rows), np.ptp(columns)) / (len(surface) - 1) * 2 * cube
    if touched >= 3 and cube < SMALL_CUBE:
        advice = (
            f"what is in it touches {touched} of its sides: a hand larger than its cube; raise --cube, 150 suits adults"
        )
        return Finding("fault", "cube", f"{text}; {advice}")
    if touched == 4:
        return Finding("note", "cube", f"{text}; what is in it touches all sides: more than a hand and an arm?")
    if extent < 0.35 * 2 * cube:
        advice = f"what is in it spans {extent:.0f} mm only: lower --cube, or check unit and focal length"
        return Finding("note", "cube", f"{text}; {advice}")
    return Finding("fine", "cube", f"{text}; what is in it spans {extent:.0f} mm")


def window(region: Region, cube: float) -> tuple[float, float, float, float]:
    """The cube's left, top, right and bottom in the frame, pixels."""
    u, v, d = region.center
    half_u, half_v = cube * region.camera.fx / d, cube * region.camera.fy / d
    return u - half_u, v - half_v, u + half_u, v + half_v


def _cut(region: Region, cube: float, shape: tuple[int, int]) -> float:
    """Share of the cube's window that lies outside the frame."""
    left, top, right, bottom = window(region, cube)
    inside = max(0.0, min(right, shape[1]) - max(left, 0)) * max(0.0, min(bottom, shape[0]) - max(top, 0))
    return 1 - inside / ((right - left) * (bottom - top))


def _cropped(region: Region, cube: float, size: int) -> Image:
    """The hand's mask where the crop looks [S, S], a little widened: its surface is cut off at one depth."""
    left, top, right, bottom = window(region, cube)
    steps = np.arange(size) / (size - 1)
    columns = np.round(left + steps * (right - left)).astype(int).clip(0, region.mask.shape[1] - 1)
    rows = np.round(top + steps * (bottom - top)).astype(int).clip(0, region.mask.shape[0] - 1)
    cropped: Image = cv2.dilate(np.uint8(region.mask[np.ix_(rows, columns)]), np.ones((9, 9), np.uint8)).astype(bool)
    return cropped


def summarize(checkups: Sequence[Checkup]) -> list[Finding]:
    """The findings of all frames: each fine check once, others once per cause, the most frequent first.

    Frames of several sizes, and a recording that stands still, are found only here.
    """
    result: list[Finding] = []
    unit = _likeliest_unit(checkups)
    # The example for a wrong unit is a frame that ranks the likeliest unit first.
    ordered = sorted(checkups, key=lambda checkup: next(iter(ranked_units(checkup.units)), unit) != unit)
    for check in ("frame", "camera", "unit", "hand", "pose", "cube"):
        for kind in ("fine", "note", "fault"):
            causes: dict[str, list[tuple[str, Finding]]] = {}
            for checkup in ordered:
                for finding in checkup.findings:
                    if (finding.check, finding.kind) == (check, kind):
                        causes.setdefault(_cause(finding, checkup.name), []).append((checkup.name, finding))
            for these in sorted(causes.values(), key=len, reverse=True):
                name, first = these[0]
                where = "all frames" if len(these) == len(checkups) else f"{len(these)} of {len(checkups)} frames"
                several = f"{where}, {name} for one: " if len(checkups) > 1 else ""
                result.append(replace(first, text=several + first.text))
    sizes = sorted({checkup.depth.shape for checkup in checkups if checkup.depth.size})  # those that could be read
    if len(sizes) > 1:
        text = " and ".join(f"{shape[-1]}x{shape[0]}" for shape in sizes)
        result.append(Finding("fault", "frame", f"frames of several sizes: {text}; intrinsics belong to one size"))
    still = len(checkups) > 2 and all(np.array_equal(c.depth, checkups[0].depth) for c in checkups)
    if still:
        result.append(Finding("note", "frame", "all frames are the same one: did the recording stand still?"))
    return result


def _cause(finding: Finding, name: str) -> str:
    """What findings of one cause have in common: their text without numbers and without the frame's name."""
    if finding.kind == "fine" or finding.check == "unit":
        return ""
    return re.sub(r"\d+(\.\d+)?", "", finding.text.replace(name, "") if name else finding.text)


def _likeliest_unit(checkups: Sequence[Checkup]) -> float | None:
    """The unit in which most frames with a wrong unit look right; None without such a frame."""
    wrong = [checkup.units for checkup in checkups if checkup.units]
    candidates = {unit for units in wrong for unit in units}
    totals = {unit: sum(units.get(unit, UNFITTING) for units in wrong) for unit in candidates}
    return next(iter(ranked_units(totals)), None)
