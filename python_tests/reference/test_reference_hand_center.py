# SPDX-License-Identifier: MIT
from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from poseren_ext.geometry.camera import Camera
from poseren_ext.reference import hand_center
from poseren_ext.reference._inputs import DEPTH_DTYPES

CAMERA = Camera(200.0, 180.0, 20.0, 15.0)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), shape=st.tuples(st.integers(1, 30), st.integers(1, 40)), masked=st.booleans())
def test_equals_opencv_moments(seed: int, shape: tuple[int, int], masked: bool) -> None:
    random = np.random.default_rng(seed)
    depth = random.integers(0, 2000, shape).astype(np.uint16)
    mask = random.random(shape) < 0.5
    center, count = hand_center(
        torch.from_numpy(depth), near=300, far=1200, mask=torch.from_numpy(mask) if masked else None
    )
    valid = (depth >= 300) & (depth <= 1200) & (mask if masked else True)
    assert count == valid.sum()
    if valid.any():
        moments = cv2.moments(valid.astype(np.uint8), binaryImage=True)
        expected = [moments["m10"] / moments["m00"], moments["m01"] / moments["m00"], depth[valid].mean()]
        np.testing.assert_allclose(center.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", DEPTH_DTYPES, ids=str)
def test_every_type_of_depth_in_its_own_unit(dtype: torch.dtype) -> None:
    stored = torch.randint(0, 250, (3, 12, 16), dtype=torch.int32)  # exact even in bfloat16
    expected = hand_center(stored * 8, near=400, far=1600)
    torch.testing.assert_close(hand_center(stored.to(dtype), near=400, far=1600, depth_unit=8), expected)


def test_refinement_leaves_the_arm_out() -> None:
    depth = torch.zeros(40, 60, dtype=torch.int32)
    depth[5:25, 5:25] = 500  # a hand 50 mm wide, centred at 14.5, 14.5
    depth[10:20, 25:60] = 560
    loose, loose_count = hand_center(depth, near=400, far=600)
    assert loose[0] > 25
    close, count = hand_center(depth, near=400, far=600, iterations=12, cube=40.0, camera=CAMERA)
    assert count < loose_count
    assert (close - torch.tensor([14.5, 14.5, 500.0])).abs().max() < 8


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6), iterations=st.integers(1, 4))
def test_refinement_equals_a_loop_over_pixels(seed: int, iterations: int) -> None:
    random = np.random.default_rng(seed)
    depth = random.integers(400, 900, (12, 15)).astype(np.int32)
    edges = np.array([25.0, 30.0, 150.0])
    pixels = [(float(u), float(v), float(depth[v, u])) for v in range(12) for u in range(15)]
    kept = [pixel for pixel in pixels if 450 <= pixel[2] <= 800]
    expected = np.mean(kept, axis=0)
    count = len(kept)
    for _ in range(iterations):
        half = [edges[0] * CAMERA.fx / expected[2], edges[1] * CAMERA.fy / expected[2], edges[2]]
        inside = [p for p in kept if all(abs(p[k] - expected[k]) <= half[k] for k in range(3))]
        if inside:
            expected, count = np.mean(inside, axis=0), len(inside)
    center, found = hand_center(
        torch.from_numpy(depth)[None],
        near=450,
        far=800,
        iterations=iterations,
        cube=torch.from_numpy(edges)[None],
        camera=CAMERA,
    )
    assert found.item() == count
    np.testing.assert_allclose(center[0].numpy(), expected, rtol=1e-5)


def test_a_strided_frame() -> None:
    depth = torch.randint(0, 1000, (3, 10, 12), dtype=torch.int32)
    strided = torch.stack([depth, -depth], -1)[..., 0]
    torch.testing.assert_close(hand_center(strided, near=100, far=900), hand_center(depth, near=100, far=900))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"depth": torch.zeros(2, 3, 4, dtype=torch.float64)}, TypeError, "float64; expected one of uint16"),
        ({"depth": [[1]]}, TypeError, "list; expected a tensor"),
        ({"depth": torch.zeros(2, 1, 3, 4)}, ValueError, r"\(2, 1, 3, 4\); expected \[B, H, W\]"),
        ({"near": 900}, ValueError, "near is 900 and far 800"),
        ({"near": float("nan")}, ValueError, "near is nan"),
        ({"depth_unit": 0.0}, ValueError, "depth_unit is 0.0; expected a positive"),
        ({"iterations": -1}, ValueError, "iterations is -1"),
        ({"iterations": 1}, ValueError, "a camera to refine with"),
        ({"mask": torch.zeros(2, 3, 4)}, TypeError, "mask has dtype torch.float32; expected bool"),
        ({"mask": torch.ones(3, 4, dtype=torch.bool)}, ValueError, r"mask has shape \(3, 4\)"),
        ({"camera": CAMERA, "cube": -1.0}, ValueError, "cube is -1.0"),
        ({"camera": CAMERA, "cube": torch.ones(5)}, ValueError, r"expected a number, \[2\] or \[2, 3\]"),
    ],
)
def test_bad_arguments(changes: dict[str, object], error: type[Exception], message: str) -> None:
    arguments = {"depth": torch.zeros(2, 3, 4), "near": 500, "far": 800} | changes
    with pytest.raises(error, match=message):
        hand_center(**arguments)
