# SPDX-License-Identifier: MIT
"""depth_crop: hand-worked crops, the reference on random frames, the published frame, hostile and invalid input."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from helpers.depth_cases import CAMERA, CENTER, CUBE, random_transforms, rough_frames
from helpers.op_contract import Implementation
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from poseren_ext import ops, reference
from poseren_ext.geometry.camera import CAMERAS, Camera
from poseren_ext.ops.image import CROPS, DEPTHS

NARROW = {torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 8e-3}
"""How far a crop may be from the reference: the order of operations, and one rounding to the crop's type."""


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(st.integers(0, 3), st.integers(1, 40), st.integers(1, 160)),
    types=st.tuples(st.sampled_from(DEPTHS), st.sampled_from(CROPS)),
    size=st.one_of(st.integers(2, 40), st.integers(126, 260)),
    turned=st.booleans(),
    invalid=st.sampled_from(["background", None, 850.0]),
    interpolation=st.sampled_from(["bilinear", "nearest"]),
    unit=st.sampled_from([1.0, 0.125]),
)
def test_equals_the_reference_on_random_frames(
    seed: int,
    shape: tuple[int, int, int],
    types: tuple[torch.dtype, torch.dtype],
    size: int,
    turned: bool,
    invalid: Any,
    interpolation: Any,
    unit: float,
) -> None:
    random = torch.Generator().manual_seed(seed)
    B, H, W = shape
    arguments: dict[str, Any] = {
        "depth": rough_frames(seed, shape, types[0]),
        "center": (torch.tensor([W, H, 0]) * torch.rand(B, 3, generator=random) + torch.tensor([0, 0, 800.0])) * unit,
        "camera": torch.tensor([CAMERA.fx, CAMERA.fy, 0.0, 0.0]) * (0.5 + torch.rand(B, 4, generator=random)),
        "cube": (40 + 200 * torch.rand(B, 3, generator=random)) * unit,
        "transform": random_transforms(seed, B) if turned else None,
        "invalid": invalid,
        "interpolation": interpolation,
        "size": size,
        "depth_unit": unit,
        "dtype": types[1],
    }
    arguments["center"][:, :2] /= unit
    crop, expected = ops.depth_crop(**arguments), reference.depth_crop(**arguments)
    torch.testing.assert_close(crop, expected, rtol=0, atol=NARROW[types[1]], equal_nan=True)


def identity_case() -> tuple[Tensor, Tensor, Camera]:
    """A square frame whose crop of its own size looks exactly at its pixels."""
    size, z = 17, 512.0
    focal = (size - 1) / 2 * z / 64
    depth = torch.randint(450, 574, (size, size), dtype=torch.int32)
    return depth, torch.tensor([(size - 1) / 2, (size - 1) / 2, z]), Camera(focal, focal, 0.0, 0.0)


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize("transform", [None, torch.eye(2, 3)], ids=["plain", "identity transform"])
def test_the_identity_warp_gives_the_pixels_themselves(
    implementation: Implementation, interpolation: Any, transform: Tensor | None
) -> None:
    module, device = implementation
    depth, center, camera = identity_case()
    for dtype in DEPTHS[:-2]:  # float16 and bfloat16 do not hold these depths
        crop = module.depth_crop(
            depth.to(dtype).to(device),
            center.to(device),
            camera,
            cube=64.0,
            size=17,
            interpolation=interpolation,
            transform=None if transform is None else transform.to(device),
        )
        assert torch.equal(crop[0].cpu(), ((depth - 512) / 64).clamp(-1, 1))


def test_a_quarter_turn_moves_right_to_down(implementation: Implementation) -> None:
    module, device = implementation
    depth, center, camera = identity_case()
    turn = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]])  # (1, 0) goes to (0, 1): down, for y points down
    crop = module.depth_crop(depth.to(device), center.to(device), camera, cube=64.0, size=17, transform=turn.to(device))
    assert torch.equal(crop[0].cpu(), torch.rot90(((depth - 512) / 64).clamp(-1, 1), -1))


def two_pixels(implementation: Implementation, *stored: float, **options: Any) -> list[float]:
    """The crop of one row of two pixels at their middle column, in mm: the mean of both for bilinear."""
    module, device = implementation
    depth = torch.tensor([stored, stored], device=device)
    center = torch.tensor([0.5, 0.5, 500.0], device=device)
    crop = module.depth_crop(depth, center, Camera(500.0, 500.0, 0.0, 0.0), cube=100.0, size=3, **options)
    column: list[float] = (crop[0, 1] * 100 + 500).tolist()
    return column


@pytest.mark.parametrize("hole", [0.0, math.nan, math.inf, -math.inf])
def test_invalid_taps_are_replaced_before_interpolation(implementation: Implementation, hole: float) -> None:
    assert two_pixels(implementation, 480.0, hole)[1] == pytest.approx(540.0)  # background 600
    assert two_pixels(implementation, 480.0, hole, invalid=560.0)[1] == pytest.approx(520.0)
    assert two_pixels(implementation, 480.0, hole, invalid=10000)[1] == pytest.approx(600.0)  # clamped


def test_stored_values_as_they_are(implementation: Implementation) -> None:
    assert two_pixels(implementation, 480.0, 0.0, invalid=None)[1] == pytest.approx(400.0)  # 240, clamped
    assert math.isnan(two_pixels(implementation, 480.0, math.nan, invalid=None)[1])
    assert two_pixels(implementation, 480.0, math.inf, invalid=None)[1] == pytest.approx(600.0)


def test_outside_the_frame_is_background_with_any_policy(implementation: Implementation) -> None:
    for invalid in ("background", None, 450.0):
        assert two_pixels(implementation, 480.0, 480.0, invalid=invalid)[0] == pytest.approx(600.0)


def test_camera_and_cube_may_lie_anywhere(device: str) -> None:
    frames = rough_frames(5, (3, 30, 90), torch.uint16).to(device)
    centers = torch.tensor([[40.0, 15.0, 800.0], [3.0, 28.0, 700.0], [80.0, 2.0, 750.0]], device=device)
    table = torch.rand(3, 9, device=device) * 100 + 100
    cameras, cubes = table[:, :4], table[:, 4:7]
    expected = ops.depth_crop(frames, centers, cameras.clone(), cube=cubes.clone(), size=20)
    crops = ops.depth_crop(frames, centers, cameras, cube=cubes, size=20)
    assert torch.equal(crops, expected)
    crops = ops.depth_crop(frames, centers, cameras.t().contiguous().t(), cube=cubes.t().contiguous().t(), size=20)
    assert torch.equal(crops, expected)


def test_numbers_serve_in_every_mode_after_another() -> None:
    camera = Camera(211.0, 212.0, 20.0, 15.0)  # of no other test
    depth, center = torch.full((1, 30, 40), 800.0), torch.tensor([[20.0, 15.0, 800.0]])
    with torch.inference_mode():
        first = ops.depth_crop(depth, center, camera, cube=61.0, size=9)
    depth.requires_grad_()
    crop = ops.depth_crop(depth, center, camera, cube=61.0, size=9)
    crop.sum().backward()
    assert torch.equal(crop, first)
    assert depth.grad is not None
    assert depth.grad.any()
    with FakeTensorMode():
        faked = ops.depth_crop(torch.zeros(1, 30, 40), torch.zeros(1, 3), camera, cube=61.0, size=9)
    assert faked.shape == (1, 1, 9, 9)


UNUSABLE: dict[str, dict[str, Any]] = {
    "nan u": {"center": (math.nan, 9.0, 800.0)},
    "infinite v": {"center": (12.0, math.inf, 800.0)},
    "nan z": {"center": (12.0, 9.0, math.nan)},
    "z of 0": {"center": (12.0, 9.0, 0.0)},
    "z behind": {"center": (12.0, 9.0, -800.0)},
    "no focal length": {"camera": (0.0, 180.0, 0.0, 0.0)},
    "negative focal length": {"camera": (200.0, -180.0, 0.0, 0.0)},
    "nan focal length": {"camera": (200.0, math.nan, 0.0, 0.0)},
    "no cube": {"cube": (60.0, 60.0, 0.0)},
    "infinite cube": {"cube": (math.inf, 60.0, 60.0)},
    "flat transform": {"transform": ((1.0, 2.0, 0.0), (2.0, 4.0, 0.0))},
    "nan transform": {"transform": ((1.0, 0.0, math.nan), (0.0, 1.0, 0.0))},
}


@pytest.mark.parametrize("fault", UNUSABLE)
@pytest.mark.parametrize("dtype", CROPS, ids=str)
def test_an_unusable_sample_is_nan_and_alone(implementation: Implementation, fault: str, dtype: torch.dtype) -> None:
    module, device = implementation
    good: dict[str, Any] = {
        "center": (12.0, 9.0, 800.0),
        "camera": (200.0, 180.0, 20.0, 15.0),
        "cube": (60.0, 60.0, 60.0),
        "transform": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
    }
    rows = {name: torch.tensor([good[name], UNUSABLE[fault].get(name, good[name])], device=device) for name in good}
    depth = torch.full((2, 20, 24), 790.0, device=device, requires_grad=True)
    crop = module.depth_crop(depth, size=8, dtype=dtype, **rows)
    assert crop[1].isnan().all()
    assert not crop[0].isnan().any()
    (gradient,) = torch.autograd.grad(crop.float().sum(), depth)
    assert gradient[0].any()
    assert not gradient[1].any()


@pytest.mark.parametrize("far", [1e6, -1e6, 1e30, -1e30, 3e38])
@pytest.mark.parametrize("turned", [False, True])
def test_a_centre_far_away_sees_background(implementation: Implementation, far: float, turned: bool) -> None:
    module, device = implementation
    transform = random_transforms(0, 1)[0].to(device) if turned else None
    for axis in (0, 1):
        center = torch.tensor([12.0, 9.0, 800.0], device=device)
        center[axis] = far
        for interpolation in ("bilinear", "nearest"):
            crop = module.depth_crop(
                torch.full((20, 24), 790.0, device=device),
                center,
                CAMERA,
                size=8,
                transform=transform,
                interpolation=interpolation,  # type: ignore[arg-type]
            )
            torch.testing.assert_close(crop, torch.ones_like(crop), rtol=0, atol=1e-6)


def test_extreme_geometry_stays_inside_the_frame(device: str) -> None:
    """Every crop is finite and in range; AddressSanitizer watches the reads."""
    depth = rough_frames(0, (1, 20, 24), torch.uint16).to(device)
    tiny, huge = 1e-38, 3e38
    for z in (tiny, 1e-3, 1e6, huge):
        for cube in (tiny, 60.0, huge):
            for zoom in (tiny, 1.0, 1e18):
                transform = torch.tensor([[[zoom, 0.1, 1e9], [-0.1, zoom, -1e9]]], device=device)
                for chosen in (None, transform):
                    center = torch.tensor([[11.5, 9.5, z]], device=device)
                    cubes = torch.full((1, 3), cube, device=device)
                    crop = ops.depth_crop(depth, center, CAMERA, cube=cubes, transform=chosen, size=9)
                    assert ((crop >= -1) & (crop <= 1) | crop.isnan()).all()


def test_empty_frames_are_background(implementation: Implementation) -> None:
    module, device = implementation
    for shape in ((1, 0, 24), (1, 20, 0)):
        crop = module.depth_crop(torch.zeros(shape, device=device), CENTER[None].to(device), CAMERA, size=4)
        assert torch.equal(crop.cpu(), torch.ones(1, 1, 4, 4))


def test_views_of_larger_frames_are_not_copied(device: str) -> None:
    whole = rough_frames(0, (4, 50, 70), torch.uint16).to(device)
    view = whole[::2, 3:40, 5:60]
    center = CENTER.repeat(2, 1).to(device)
    expected = ops.depth_crop(view.clone(), center, CAMERA, cube=CUBE)
    assert torch.equal(ops.depth_crop(view, center, CAMERA, cube=CUBE), expected)
    one = whole[:1].expand(3, 50, 70)
    crops = ops.depth_crop(one, CENTER.repeat(3, 1).to(device), CAMERA, cube=CUBE)
    assert torch.equal(crops[0], crops[2])


def test_the_golden_frame_at_its_published_centre(device: str, test_data: Path) -> None:
    red_green_blue = cv2.imread(str(test_data / "nyu" / "depth_1_0000001.png"), cv2.IMREAD_UNCHANGED)
    assert red_green_blue is not None
    frame = red_green_blue[..., 1].astype(np.uint16) * 256 + red_green_blue[..., 0]
    center = np.loadtxt(test_data / "nyu" / "test_centers_uvd.txt", max_rows=1)
    nyu, S = CAMERAS["nyu"], 96
    depth, place = torch.from_numpy(frame).to(device), torch.tensor(center, dtype=torch.float32, device=device)
    crop = ops.depth_crop(depth, place, nyu, invalid=None)[0].cpu().numpy()

    u, v, z = center.astype(np.float32).astype(np.float64)
    half_u, half_v = 150 * nyu.fx / z, 150 * nyu.fy / z
    to_frame = np.array([[2 * half_u / (S - 1), 0, u - half_u], [0, 2 * half_v / (S - 1), v - half_v]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    wide = frame.astype(np.float32)
    warped = cv2.warpAffine(wide, to_frame, (S, S), flags=flags)
    opencv = np.clip((warped - z) / 150, -1, 1)
    jump = cv2.dilate(wide, np.ones((5, 5))) - cv2.erode(wide, np.ones((5, 5)))
    local = cv2.warpAffine(jump, to_frame, (S, S), flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
    assert (np.abs(crop - opencv) <= local / 150 / 32 + 1e-4).all()  # OpenCV looks at 1/32 px
    exact = reference.depth_crop(depth.cpu(), place.cpu(), nyu, invalid=None)[0].numpy()
    np.testing.assert_allclose(crop, exact, rtol=0, atol=NARROW[torch.float32])

    # Labels to the crop and back; the surface that they point at lies in front of them.
    labels = np.loadtxt(test_data / "nyu" / "test_groundtruth_uvd.txt", max_rows=1).reshape(14, 3)
    joints = torch.tensor(labels, dtype=torch.float32, device=device)
    pose = ops.normalize_pose(joints, place, nyu)
    assert (pose.abs() <= 1).all()
    torch.testing.assert_close(ops.denormalize_pose(pose, place, nyu), joints, rtol=1e-6, atol=1e-3)
    cells = ((pose[:, :2].cpu() + 1) * (S - 1) / 2).round().long()
    surface = torch.from_numpy(crop)[cells[:, 1], cells[:, 0]] * 150
    behind = pose[:, 2].cpu() * 150 - surface
    assert ((behind > 0) & (behind < 50)).all()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"depth": torch.zeros(2, 8, 9, dtype=torch.uint8)},
            TypeError,
            r"uint8; expected .*: convert it, a tensor with .to\(",
        ),
        ({"depth": torch.zeros(2, 8, 9, dtype=torch.float64)}, TypeError, "float64; expected float32, uint16"),
        ({"depth": [[[1.0]]]}, TypeError, r"list; expected .* \(torch.as_tensor converts\)"),
        ({"depth": torch.zeros(9)}, ValueError, r"\(9,\); expected \[B, H, W\], or the same without the batch axis"),
        ({"center": torch.zeros(3, 3)}, ValueError, r"center has shape \(3, 3\); expected \[2, 3\]"),
        ({"center": torch.zeros(2, 3, dtype=torch.int32)}, TypeError, "center has dtype torch.int32"),
        ({"center": torch.zeros(2, 3, device="meta")}, ValueError, "center on meta; move both to one device"),
        ({"camera": torch.ones(5, 4)}, ValueError, r"\(5, 4\); expected \[4\] or \[2, 4\]"),
        ({"camera": (500.0, 0.0, 320.0, 240.0)}, ValueError, "fy is 0.0; expected a positive focal length"),
        ({"camera": (-500.0, 500.0, 320.0, 240.0)}, ValueError, "fx is -500.0; expected a positive focal length"),
        ({"camera": "nyu"}, TypeError, "Camera.parse"),
        ({"cube": 0.0}, ValueError, "cube is 0.0; expected a positive"),
        ({"cube": math.nan}, ValueError, "cube is nan"),
        ({"cube": torch.ones(2, 2)}, ValueError, r"cube has shape \(2, 2\)"),
        ({"size": 1}, ValueError, "size is 1; expected 2"),
        ({"size": 96.0}, TypeError, "size is of type float"),
        ({"transform": torch.eye(2)}, ValueError, r"transform has shape \(2, 2\); expected \[2, 2, 3\]"),
        ({"transform": "left"}, TypeError, "transform is of type str"),
        ({"invalid": "nothing"}, ValueError, "invalid is 'nothing'; expected one of 'background'"),
        ({"invalid": math.inf}, ValueError, "invalid is inf; expected a finite number"),
        ({"interpolation": "cubic"}, ValueError, "expected one of 'bilinear', 'nearest'"),
        ({"depth_unit": -1.0}, ValueError, "depth_unit is -1.0; expected a positive"),
        ({"dtype": torch.int32}, TypeError, "dtype is torch.int32; expected torch.float32"),
    ],
)
def test_bad_arguments(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {"depth": torch.zeros(2, 8, 9), "center": torch.ones(2, 3), "camera": CAMERA} | changes
    with pytest.raises(error, match=message):
        ops.depth_crop(**arguments)
