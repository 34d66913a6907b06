# SPDX-License-Identifier: MIT
from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from poseren_ext.geometry.camera import CAMERAS, Camera
from poseren_ext.reference import depth_crop
from poseren_ext.reference._inputs import DEPTH_DTYPES

CAMERA = Camera(200.0, 180.0, 20.0, 15.0)
CENTER = torch.tensor([21.3, 14.6, 800.0])
CUBE = 60.0
Array = npt.NDArray[np.float64]


def rough_frame(seed: int, shape: tuple[int, int] = (32, 40)) -> npt.NDArray[np.uint16]:
    """A tilted plane, with noise, steps and holes."""
    random = np.random.default_rng(seed)
    v, u = np.mgrid[: shape[0], : shape[1]]
    frame = 760 + 2 * u + v + random.normal(0, 5, shape)
    frame[random.random(shape) < 0.1] += 400
    frame[random.random(shape) < 0.1] = 0
    return frame.astype(np.uint16)


def pixel_map(center: Array, camera: Camera, cube: float, size: int, transform: Array | None) -> Array:
    """The affine map [2, 3] from output pixels to frame pixels, composed of 3x3 matrices."""
    to_unit = np.array([[2 / (size - 1), 0, -1], [0, 2 / (size - 1), -1], [0, 0, 1]])
    back = np.eye(3) if transform is None else np.linalg.inv(np.vstack([transform, [0, 0, 1]]))
    u, v, z = center
    to_frame = np.array([[cube * camera.fx / z, 0, u], [0, cube * camera.fy / z, v], [0, 0, 1]])
    return (to_frame @ back @ to_unit)[:2]


def exact_bilinear(frame: Array, place: Array, size: int, background: float) -> Array:
    """Bilinear sampling in float64, pixel by pixel."""
    H, W = frame.shape
    out = np.empty((size, size))
    for j in range(size):
        for i in range(size):
            u, v = place @ (i, j, 1)
            left, top = math.floor(u), math.floor(v)
            value = 0.0
            for row, weight_v in ((top, top + 1 - v), (top + 1, v - top)):
                for column, weight_u in ((left, left + 1 - u), (left + 1, u - left)):
                    inside = 0 <= row < H and 0 <= column < W
                    value += weight_v * weight_u * (frame[row, column] if inside else background)
            out[j, i] = value
    return out


def random_transform(random: np.random.Generator) -> Array:
    angle, zoom = random.uniform(-math.pi, math.pi), random.uniform(0.8, 1.2)
    linear = zoom * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return np.hstack([linear, random.uniform(-0.2, 0.2, (2, 1))]).astype(np.float32).astype(np.float64)


def float32(value: float) -> float:
    return float(np.float32(value))


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 10**6),
    size=st.integers(2, 24),
    turned=st.booleans(),
    u=st.floats(-10, 50),
    v=st.floats(-10, 40),
    z=st.floats(680, 950),
)
def test_equals_exact_bilinear_and_opencv(seed: int, size: int, turned: bool, u: float, v: float, z: float) -> None:
    frame = rough_frame(seed)
    transform = random_transform(np.random.default_rng(seed)) if turned else None
    center = np.array([float32(u), float32(v), float32(z)])
    camera = Camera(200.0, 180.0, 20.0, 15.0)
    crop = depth_crop(
        torch.from_numpy(frame),
        torch.tensor(center),
        camera,
        cube=CUBE,
        size=size,
        transform=None if transform is None else torch.from_numpy(transform),
        invalid=None,
    )[0].numpy()
    place = pixel_map(center, camera, CUBE, size, transform)
    background = center[2] + CUBE

    exact = exact_bilinear(frame.astype(np.float64), place, size, background)
    np.testing.assert_allclose(crop, np.clip(exact - center[2], -CUBE, CUBE) / CUBE, rtol=0, atol=1e-4)

    # Holes and steps make the local jump: how far depth varies over the taps and the cells beside them.
    padded = np.pad(frame.astype(np.float32), 60, constant_values=background)
    jump = cv2.dilate(padded, np.ones((5, 5))) - cv2.erode(padded, np.ones((5, 5)))
    columns, rows = np.meshgrid(np.arange(size), np.arange(size))
    places = np.einsum("kc,cji->kji", place, np.stack([columns, rows, np.ones_like(rows)]))
    limits = [[padded.shape[1] - 1], [padded.shape[0] - 1]]
    near = np.clip(np.rint(places + 60).reshape(2, -1).astype(int), 0, limits)
    bound = jump[near[1], near[0]].reshape(size, size) / CUBE / 32 + 1e-4
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(
        frame.astype(np.float32),
        place,
        (size, size),
        flags=flags,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=background,
    )
    opencv = np.clip(warped - center[2], -CUBE, CUBE) / CUBE
    assert (np.abs(crop - opencv) <= bound).all()


@pytest.mark.parametrize("seed", range(4))
def test_labels_move_by_the_transform(seed: int) -> None:
    transform = random_transform(np.random.default_rng(seed))
    mark = np.array([0.3, -0.25])
    v, u = np.mgrid[:240, :320].astype(np.float64)
    camera = Camera(240.0, 240.0, 160.0, 120.0)
    at = 160 + mark[0] * 150 * 240 / 600, 120 + mark[1] * 150 * 240 / 600
    depth = 700 - 150 * np.exp(-((u - at[0]) ** 2 + (v - at[1]) ** 2) / 30)
    crop = depth_crop(
        torch.from_numpy(depth).float(),
        torch.tensor([160.0, 120.0, 600.0]),
        camera,
        transform=torch.from_numpy(transform),
    )
    row, column = divmod(int(crop.argmin()), 96)
    seen = np.array([column, row]) * 2 / 95 - 1
    moved = transform[:, :2] @ mark + transform[:, 2]
    np.testing.assert_allclose(seen, moved, atol=1.5 * 2 / 95)


def test_nearest_takes_a_pixel_as_it_is() -> None:
    frame = rough_frame(3)
    center, size = np.array([21.3, 14.6, 800.0]), 16
    crop = depth_crop(
        torch.from_numpy(frame), torch.tensor(center), CAMERA, cube=CUBE, size=size, interpolation="nearest"
    )
    place = pixel_map(center.astype(np.float32).astype(np.float64), CAMERA, CUBE, size, None)
    for j in range(size):
        for i in range(size):
            u, v = (math.floor(p + 0.5) for p in place @ (i, j, 1))
            value = float(frame[v, u]) if 0 <= v < 32 and 0 <= u < 40 else 0.0
            expected = np.clip(value - 800, -CUBE, CUBE) / CUBE if value else 1.0
            assert crop[0, j, i].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("dtype", DEPTH_DTYPES, ids=str)
def test_every_type_of_depth_in_its_own_unit(dtype: torch.dtype) -> None:
    stored = torch.randint(180, 220, (2, 20, 24), dtype=torch.int32)  # exact even in bfloat16
    centers = torch.tensor([[12.0, 9.0, 800.0], [10.5, 8.0, 810.0]])
    expected = depth_crop(stored * 4, centers, CAMERA, cube=CUBE, size=16)
    assert torch.equal(depth_crop(stored.to(dtype), centers, CAMERA, cube=CUBE, size=16, depth_unit=4), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_narrow_output_is_the_rounded_one(dtype: torch.dtype) -> None:
    depth = torch.from_numpy(rough_frame(5))
    crop = depth_crop(depth, CENTER, CAMERA, cube=CUBE, dtype=dtype)
    assert torch.equal(crop, depth_crop(depth, CENTER, CAMERA, cube=CUBE).to(dtype))


def test_each_sample_its_own_camera_and_cube() -> None:
    depth = torch.from_numpy(np.stack([rough_frame(seed) for seed in range(3)]))
    centers = CENTER + torch.randn(3, 3)
    cameras = torch.tensor([200.0, 180.0, 20.0, 15.0]) + torch.rand(3, 4)
    cubes = 50 + 20 * torch.rand(3, 3)
    together = depth_crop(depth, centers, cameras, cube=cubes)
    assert together.shape == (3, 1, 96, 96)
    for sample in range(3):
        alone = depth_crop(depth[sample], centers[sample], cameras[sample], cube=cubes[sample])
        assert torch.equal(together[sample], alone)
    assert torch.equal(
        depth_crop(depth, centers, CAMERA, cube=cubes[:, 0])[1],
        depth_crop(depth[1], centers[1], CAMERA, cube=cubes[1, 0].item()),
    )


@pytest.mark.parametrize("turned", [False, True])
def test_the_gradient_is_that_of_an_affine_function(turned: bool) -> None:
    depth = (790 + 10 * torch.rand(7, 6)).requires_grad_()
    transform = torch.from_numpy(random_transform(np.random.default_rng(0))) if turned else None

    def weighted(frame: Tensor) -> Tensor:
        crop = depth_crop(
            frame, torch.tensor([2.7, 3.1, 800.0]), CAMERA, cube=100.0, size=5, invalid=None, transform=transform
        )
        return (crop.double() * torch.arange(25.0).reshape(5, 5)).sum()

    weighted(depth).backward()
    steps = 50 * torch.eye(42).reshape(42, 7, 6)  # within the cube, where the crop is affine in depth
    slopes = torch.stack([(weighted(depth + step) - weighted(depth - step)) / 100 for step in steps])
    torch.testing.assert_close(depth.grad.flatten().double(), slopes.detach(), rtol=1e-3, atol=1e-4)


def test_no_gradient_where_clamped_or_replaced() -> None:
    depth = torch.tensor([[790.0, 0.0], [5000.0, 790.0]], requires_grad=True)
    camera = Camera(800.0 / 2, 800.0 / 2, 0.0, 0.0)
    crop = depth_crop(depth, torch.tensor([0.5, 0.5, 800.0]), camera, cube=torch.tensor([1.0, 1.0, 50.0]), size=2)
    crop.sum().backward()
    assert torch.equal(depth.grad != 0, torch.tensor([[True, False], [False, True]]))


def test_empty_batches_and_strides() -> None:
    assert depth_crop(torch.zeros(0, 20, 24), torch.zeros(0, 3), CAMERA).shape == (0, 1, 96, 96)
    depth = torch.from_numpy(rough_frame(7).astype(np.int32))
    strided = torch.stack([depth, depth]).permute(1, 2, 0)[..., 0]
    assert torch.equal(depth_crop(strided, CENTER, CAMERA), depth_crop(depth, CENTER, CAMERA))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"depth": torch.zeros(2, 8, 9, dtype=torch.uint8)}, TypeError, "uint8; expected one of uint16"),
        ({"depth": torch.zeros(9)}, ValueError, r"\(9,\); expected \[B, H, W\]"),
        ({"center": torch.zeros(3, 3)}, ValueError, r"center has shape \(3, 3\); expected \[2, 3\]"),
        ({"camera": torch.ones(5, 4)}, ValueError, "5 cameras for 2 samples"),
        ({"cube": 0.0}, ValueError, "cube is 0.0"),
        ({"size": 1}, ValueError, "size is 1; expected 2"),
        ({"transform": torch.eye(2)}, ValueError, r"transform has shape \(2, 2\)"),
        ({"invalid": "nothing"}, ValueError, "invalid is 'nothing'"),
        ({"interpolation": "cubic"}, ValueError, "'bilinear' or 'nearest'"),
        ({"depth_unit": -1.0}, ValueError, "depth_unit is -1.0"),
        ({"dtype": torch.int32}, TypeError, "dtype is torch.int32"),
    ],
)
def test_bad_arguments(changes: dict[str, object], error: type[Exception], message: str) -> None:
    arguments = {"depth": torch.zeros(2, 8, 9), "center": torch.ones(2, 3), "camera": CAMERA} | changes
    with pytest.raises(error, match=message):
        depth_crop(**arguments)


def test_the_golden_frame_at_its_published_centre(test_data: Path) -> None:
    red_green_blue = cv2.imread(str(test_data / "nyu" / "depth_1_0000001.png"), cv2.IMREAD_UNCHANGED)
    frame = red_green_blue[..., 1].astype(np.uint16) * 256 + red_green_blue[..., 0]
    center = np.loadtxt(test_data / "nyu" / "test_centers_uvd.txt", max_rows=1).astype(np.float32).astype(np.float64)
    np.testing.assert_allclose(center, (209.73, 269.557, 756.371), rtol=1e-6)
    nyu = CAMERAS["nyu"]
    crop = depth_crop(torch.from_numpy(frame), torch.tensor(center), nyu, invalid=None)[0].numpy()
    place = pixel_map(center, nyu, 150.0, 96, None)
    exact = exact_bilinear(frame.astype(np.float64), place, 96, center[2] + 150)
    np.testing.assert_allclose(crop, np.clip((exact - center[2]) / 150, -1, 1), rtol=0, atol=1e-4)
    wide = frame.astype(np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    opencv = np.clip((cv2.warpAffine(wide, place, (96, 96), flags=flags) - center[2]) / 150, -1, 1)
    jump = cv2.dilate(wide, np.ones((5, 5))) - cv2.erode(wide, np.ones((5, 5)))
    local = cv2.warpAffine(jump, place, (96, 96), flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
    assert (np.abs(crop - opencv) <= local / 150 / 32 + 1e-4).all()
    assert 0.1 < (crop < 1).mean() < 0.5  # a hand and some arm, and nothing behind them
