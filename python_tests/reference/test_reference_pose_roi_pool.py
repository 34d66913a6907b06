# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from poseren_ext.reference import pose_roi_pool, roi_windows

NAN, INF = float("nan"), float("inf")


def windows_of(*joints: tuple[float, float], **geometry: float) -> list[list[int]]:
    return roi_windows(torch.tensor(joints), range(len(joints)), **geometry).tolist()


@settings(deadline=None, max_examples=50)
@given(x=st.floats(-3, 3, width=32), y=st.floats(-3, 3, width=32))
def test_a_window_is_seven_cells_wide_and_starts_on_the_map(x: float, y: float) -> None:
    column, row, last_column, last_row = windows_of((x, y))[0]
    assert 0 <= column <= 6
    assert 0 <= row <= 6
    assert last_column - column in (6, 7)  # 7: float32 rounded the ends to different sides of a half
    assert last_row - row in (6, 7)


def test_a_window_is_seven_cells_wide_but_for_float32_rounding() -> None:
    windows = roi_windows(4 * torch.rand(1, 100_000, 2) - 2, range(100_000))
    assert ((windows[..., 2:] - windows[..., :2]) == 6).double().mean() > 0.9999


def test_a_window_follows_its_joint() -> None:
    x = torch.linspace(-1.5, 1.5, 301)
    starts = roi_windows(torch.stack([x, x], -1), range(301))[:, 0]
    assert starts.diff().min() == 0
    assert starts.unique().tolist() == list(range(7))


def cut(features: Tensor, window: list[int]) -> Tensor:
    """The cells [C, h, w] of an inclusive window."""
    first, top, last, bottom = window
    return features[:, top : bottom + 1, first : last + 1]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_window_of_as_many_cells_as_bins_is_a_crop(dtype: torch.dtype) -> None:
    features = torch.randn(2, 3, 12, 12).to(dtype)
    pose = torch.tensor([[[-1.0, 1.0], [0.0, 0.25]], [[1.0, -1.0], [0.5, 0.5]]])
    regions = pose_roi_pool(features, pose, [1, 0])
    assert (regions.dtype, regions.shape) == (dtype, (2, 2, 3, 7, 7))
    beyond = F.pad(features, (0, 1, 0, 1))  # row and column 12: zeros
    for sample in range(2):
        for region, joint in enumerate((1, 0)):
            window = windows_of(tuple(pose[sample, joint].tolist()))[0]
            assert torch.equal(regions[sample, region], cut(beyond[sample], window))


def test_a_window_of_twice_as_many_cells_is_max_pool2d() -> None:
    features = torch.randn(1, 4, 24, 24, requires_grad=True)
    pose = torch.tensor([[[-0.2, 0.1]]])
    geometry = {"image_size": 192, "roi_size": 104}  # 13 cells and one: 14
    window = roi_windows(pose[0], [0], **geometry)[0].tolist()
    regions = pose_roi_pool(features, pose, [0], **geometry)
    expected = F.max_pool2d(cut(features[0], window)[None], 2)
    assert torch.equal(regions[0], expected)
    weight = torch.randn_like(expected)
    gradients = [torch.autograd.grad((out * weight).sum(), features)[0] for out in (regions[0], expected)]
    assert torch.equal(*gradients)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    size=st.integers(4, 30),
    bins=st.integers(1, 9),
    roi=st.integers(1, 200),
    ties=st.booleans(),
)
def test_equals_adaptive_max_pool2d(seed: int, size: int, bins: int, roi: int, ties: bool) -> None:
    """Its bins are the same, floor(p*h/P) to ceil((p+1)*h/P); cells beyond the map never win."""
    generator = torch.Generator().manual_seed(seed)
    roi = min(roi, 8 * size - 1)
    features = torch.randn(1, 2, size, size, generator=generator)
    features = (features.round() if ties else features).requires_grad_()
    pose = 2.6 * torch.rand(1, 1, 2, generator=generator) - 1.3
    geometry = {"image_size": 8 * size, "roi_size": roi}
    window = roi_windows(pose[0], [0], **geometry)[0].tolist()
    regions = pose_roi_pool(features, pose, [0], output_size=bins, **geometry)[0]
    beyond = F.pad(features, (0, 1, 0, 1), value=-INF)
    expected = F.adaptive_max_pool2d(cut(beyond[0], window)[None], bins)
    expected = torch.where(expected == -INF, 0, expected)
    assert torch.equal(regions, expected)
    weight = torch.randn(expected.shape, generator=generator)
    torch.testing.assert_close(
        torch.autograd.grad((regions * weight).sum(), features),
        torch.autograd.grad((expected * weight).sum(), features),
    )


def test_nan_in_a_bin_and_nan_in_a_pose() -> None:
    features = torch.randn(2, 1, 12, 12, requires_grad=True)
    with torch.no_grad():
        features[0, 0, 5, 5] = NAN
    pose = torch.tensor([[[0.0, 0.0], [NAN, 0.0]], [[0.0, 0.0], [0.1, 0.1]]])
    for mode in ("max", "align"):
        regions = pose_roi_pool(features, pose, [0, 1], mode=mode)
        assert regions[0, 0].isnan().any()
        assert not regions[0, 0].isnan().all()
        assert regions[0, 1].isnan().all()
        assert regions[1].isfinite().all()
        alone = pose_roi_pool(features[1:], pose[1:], [0, 1], mode=mode)
        assert torch.equal(regions[1:], alone)
        (gradient,) = torch.autograd.grad(regions[:, 1].sum(), features)
        assert torch.equal(gradient[0], torch.zeros(1, 12, 12))
        assert gradient[1].any()


def test_infinities_are_maxima_like_others() -> None:
    features = torch.full((1, 1, 12, 12), -INF)
    features[0, 0, 4, 4] = INF
    regions = pose_roi_pool(features, torch.zeros(1, 1, 2), [0])
    assert torch.equal(regions[0, 0], features[0, :, 3:10, 3:10])


def sampled(features: Tensor, x: float, y: float) -> Tensor:
    """Bilinear samples [C] at cell (x, y), which grid_sample takes in [-1, 1]; 0 more than one cell outside."""
    H, W = features.shape[1:]
    if not (-1 <= x <= W and -1 <= y <= H):
        return torch.zeros_like(features[:, 0, 0])
    grid = torch.tensor([[[[2 * x / (W - 1) - 1, 2 * y / (H - 1) - 1]]]], dtype=features.dtype)
    return F.grid_sample(features[None], grid, align_corners=True, padding_mode="border")[0, :, 0, 0]


@settings(deadline=None, max_examples=15)
@given(
    x=st.floats(-1.6, 1.6),
    y=st.floats(-1.6, 1.6),
    bins=st.integers(1, 4),
    ratio=st.integers(1, 3),
    roi=st.integers(4, 90),
)
def test_align_is_the_mean_of_grid_samples(x: float, y: float, bins: int, ratio: int, roi: int) -> None:
    features = torch.randn(2, 12, 12, dtype=torch.float64)
    pose = torch.tensor([[x, y]], dtype=torch.float64)
    regions = pose_roi_pool(features, pose, [0], mode="align", output_size=bins, sampling_ratio=ratio, roi_size=roi)
    left, top = (((p + 1) * 48 - roi / 2) / 8 - 0.5 for p in (x, y))
    step = roi / 8 / bins / ratio
    for row in range(bins):
        for column in range(bins):
            places = [
                (left + (column * ratio + i + 0.5) * step, top + (row * ratio + j + 0.5) * step)
                for i in range(ratio)
                for j in range(ratio)
            ]
            if any(min(abs(p + 1), abs(p - 12)) < 1e-9 for place in places for p in place):
                continue  # on the very edge of counting at all
            expected = torch.stack([sampled(features, *place) for place in places]).mean(0)
            torch.testing.assert_close(regions[0, :, row, column], expected, rtol=0, atol=1e-9)


def test_align_of_cells_onto_themselves() -> None:
    features = torch.randn(1, 2, 12, 12)
    # 7 cells wide around the crop's pixel 44: samples at whole cells 2..8
    pose = torch.tensor([[[44 / 48 - 1, 44 / 48 - 1]]])
    regions = pose_roi_pool(features, pose, [0], mode="align", roi_size=56, sampling_ratio=1)
    torch.testing.assert_close(regions[0, 0], features[0, :, 2:9, 2:9])


@pytest.mark.parametrize("mode", ["max", "align"])
def test_gradcheck(mode: str) -> None:
    features = torch.randn(2, 2, 6, 6, dtype=torch.float64, requires_grad=True)
    pose = (2.4 * torch.rand(2, 3, 2, dtype=torch.float64) - 1.2).requires_grad_(mode == "align")
    arguments = {"joints": (2, 0), "output_size": 3, "image_size": 48, "roi_size": 24, "mode": mode}
    assert torch.autograd.gradcheck(lambda f, p: pose_roi_pool(f, p, **arguments), (features, pose))


def test_align_keeps_the_features_type_and_sums_in_float32() -> None:
    features = torch.randn(1, 2, 12, 12).half()
    pose = torch.rand(1, 1, 3)
    regions = pose_roi_pool(features, pose, [0], mode="align")
    assert torch.equal(regions, pose_roi_pool(features.float(), pose, [0], mode="align").half())


@pytest.mark.parametrize("mode", ["max", "align"])
def test_layouts_batches_and_no_batch(mode: str) -> None:
    features = torch.randn(3, 4, 12, 12)
    pose = torch.rand(3, 5, 3)
    regions = pose_roi_pool(features, pose, [4, 1], mode=mode)
    channels_last = features.to(memory_format=torch.channels_last)
    assert torch.equal(pose_roi_pool(channels_last, pose, [4, 1], mode=mode), regions)
    assert torch.equal(pose_roi_pool(features[1], pose[1], [4, 1], mode=mode), regions[1])
    assert pose_roi_pool(features[:0], pose[:0], [4, 1], mode=mode).shape == (0, 2, 4, 7, 7)
    assert pose_roi_pool(features, pose, [], mode=mode).shape == (3, 0, 4, 7, 7)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"features": torch.ones(2, 3, 12, 12, dtype=torch.int32)}, TypeError, "features have dtype torch.int32"),
        ({"pose": torch.ones(2, 4, 3, dtype=torch.int32)}, TypeError, "pose has dtype torch.int32"),
        ({"features": torch.ones(3, 12, 12)}, ValueError, "or both without B"),
        ({"features": torch.ones(5, 3, 12, 12)}, ValueError, "features hold 5 samples and pose 2"),
        ({"pose": torch.ones(2, 4, 1)}, ValueError, r"\(2, 4, 1\); expected normalised joints"),
        ({"joints": [4]}, ValueError, "joints holds 4; expected indices from 0 to 3"),
        ({"joints": [-1]}, ValueError, "joints holds -1"),
        ({"roi_size": 96}, ValueError, "roi_size is 96 for a crop of 96 pixels"),
        ({"roi_size": 0}, ValueError, "roi_size is 0"),
        ({"output_size": 0}, ValueError, "output_size is 0"),
        ({"sampling_ratio": 0}, ValueError, "sampling_ratio 0"),
        ({"mode": "mean"}, ValueError, "mode is 'mean'; expected 'max' or 'align'"),
    ],
)
def test_bad_arguments(changes: dict[str, object], error: type[Exception], message: str) -> None:
    arguments = {"features": torch.ones(2, 3, 12, 12), "pose": torch.ones(2, 4, 3), "joints": [0]} | changes
    with pytest.raises(error, match=message):
        pose_roi_pool(**arguments)
