# SPDX-License-Identifier: MIT
"""Rendering, sensor and frames of synthetic hands."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from poseren_ext._utils.counter_rng import Counter
from poseren_ext.geometry.camera import CAMERAS, Camera, uvd_to_xyz, xyz_to_uvd
from poseren_ext.reference import depth_crop, hand_center, normalize_pose
from poseren_ext.synthetic import Sensor, SyntheticHands, SyntheticSequence
from poseren_ext.synthetic.kinematics import Cones
from poseren_ext.synthetic.render import render_depth
from poseren_ext.synthetic.sensor import add_background, sense

CLEAN = Sensor((0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0), 0.0, (1.0, 0.0, 0.0))


def _cones(*rows: tuple[float, ...]) -> Cones:
    values = torch.tensor(rows)[None]
    return Cones(values[..., 0:3], values[..., 3:6], values[..., 6], values[..., 7])


def _swept(cones: Cones, window: torch.Tensor, size: int, steps: int = 400) -> torch.Tensor:
    """The slow way: the first hit of each ray with many spheres along each cone."""
    x = window[0, 0] + window[0, 2] * torch.arange(size, dtype=torch.float64)
    y = window[0, 1] + window[0, 3] * torch.arange(size, dtype=torch.float64)
    ray = torch.stack([*torch.meshgrid(x, y, indexing="xy"), torch.ones(size, size, dtype=torch.float64)], -1)
    nearest = torch.full((size, size), torch.inf, dtype=torch.float64)
    for a, b, ra, rb in zip(cones.a[0], cones.b[0], cones.ra[0], cones.rb[0], strict=True):
        for s in torch.linspace(0, 1, steps):
            centre, radius = (a + s * (b - a)).double(), (ra + s * (rb - ra)).double()
            dc, dd = ray @ centre, (ray * ray).sum(-1)
            root = dc * dc - dd * (centre @ centre - radius * radius)
            depth = torch.where(root >= 0, (dc - root.clamp(min=0).sqrt()) / dd, torch.inf)
            nearest = torch.minimum(nearest, depth)
    return nearest


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6))
@example(seed=920)
def test_round_cones_are_swept_spheres(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    u = torch.rand(2, 8, generator=generator)
    place = torch.cat([160 * u[:, :2] - 80, 400 + 200 * u[:, 2:3], 160 * u[:, 3:5] - 80, 400 + 200 * u[:, 5:6]], 1)
    cones = _cones(*torch.cat([place, 5 + 40 * u[:, 6:]], 1).tolist())
    window = torch.tensor([[-0.32, -0.32, 0.02, 0.02]])
    image = render_depth(cones, window, 32, 32)[0].double()
    expected = _swept(cones, window, 32)
    # 400 spheres leave steps of half a mm at most; at the very edge of a cone they may miss it and show what is behind.
    both = image.isfinite() & expected.isfinite()
    edge = (image.isfinite() != expected.isfinite()) | (both & ((image - expected).abs() >= 1.0))
    assert int(edge.sum()) <= 4
    assert float((image[both] - expected[both]).median().abs()) < 0.01


@pytest.mark.parametrize("other", [(0.0, 0.0, 500.0, 30.0), (5.0, 0.0, 500.0, 10.0), (0.0, 0.0, 520.0, 29.0)])
@pytest.mark.parametrize("first", [True, False])
def test_one_sphere_or_a_swallowed_one(other: tuple[float, ...], first: bool) -> None:
    a, b = ((0.0, 0.0, 500.0, 30.0), other) if first else (other, (0.0, 0.0, 500.0, 30.0))
    image = render_depth(_cones((*a[:3], *b[:3], a[3], b[3])), torch.tensor([[-0.16, -0.16, 0.01, 0.01]]), 32, 32)[0]
    assert float(image[16, 16]) == pytest.approx(470.0, abs=0.01)
    assert int(image.isfinite().sum()) == pytest.approx(3.1416 * (30 / 5.0 / 0.9964) ** 2, abs=6)


def test_a_ray_along_the_axis_of_a_cylinder_hits_its_near_end() -> None:
    cylinder = _cones((0.0, 0.0, 500.0, 0.0, 0.0, 600.0, 10.0, 10.0))
    image = render_depth(cylinder, torch.tensor([[-0.16, -0.16, 0.01, 0.01]]), 32, 32)[0]
    assert float(image[16, 16]) == pytest.approx(490.0, abs=1e-3)
    assert not image.isnan().any()


def test_blocks_leave_nothing_out() -> None:
    """A window shifted against the blocks sees the same surface."""
    cones = SyntheticHands(1).scenes(torch.arange(8)).posed()[1]
    palm = cones.a.mean(1)
    start = palm[:, :2] / palm[:, 2:] - 0.4
    step = torch.full((8, 2), 0.8 / 64)
    whole = render_depth(cones, torch.cat([start, step], 1), 64, 64)
    moved = render_depth(cones, torch.cat([start + 3 * step, step], 1), 64, 64)
    a, b = whole[:, 3:, 3:], moved[:, :61, :61]
    assert float((a.isfinite() != b.isfinite()).float().mean()) < 2e-4
    both = a.isfinite() & b.isfinite()
    assert float((a - b)[both].abs().max()) < 0.5


def _plane(depth: float, B: int = 64, size: int = 64) -> torch.Tensor:
    return torch.full((B, size, size), depth)


def test_noise_grows_with_the_square_of_the_depth() -> None:
    rng = Counter(1, torch.arange(64))
    sensor = Sensor((1.5, 1.5), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0), 0.0)
    near, far = (float(sense(_plane(z), rng, rng, sensor).std()) for z in (350.0, 1400.0))
    assert near == pytest.approx(1.5 * 0.25, rel=0.15)
    assert far == pytest.approx(1.5 * 4.0, rel=0.15)


def test_depth_is_quantised_and_grows_coarser() -> None:
    rng = Counter(2, torch.arange(2))
    sensor = Sensor((0.8, 0.8), (2.0, 2.0), (0.0, 0.0), (0.0, 0.0), 0.0)
    seen = sense(_plane(700.0, 2), rng, rng, sensor)
    assert torch.allclose(seen % 2.0, torch.zeros(1))
    assert len(seen.unique()) > 3


def test_pixels_behind_an_edge_drop_out_and_edges_get_ragged() -> None:
    depth = _plane(800.0)
    depth[:, :, :32] = 600.0
    rng = Counter(3, torch.arange(64))
    lost = sense(depth, rng, rng, Sensor((0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (0.5, 0.5), 0.0)) == 0
    assert float(lost[:, :, 32].float().mean()) == pytest.approx(0.5, abs=0.03)
    assert not lost[:, :, :32].any()
    assert not lost[:, :, 33:].any()
    ragged = sense(depth, rng, rng, Sensor((0.0, 0.0), (0.0, 0.0), (0.5, 0.5), (0.0, 0.0), 0.0))
    assert 0.05 < float((ragged[:, :, 31] > 700).float().mean()) < 0.4
    assert torch.allclose(ragged[:, :, :28], torch.tensor(600.0))


def test_holes_come_as_often_as_said() -> None:
    rng = Counter(4, torch.arange(600))
    quiet = ((0.0, 0.0),) * 4
    holed = (sense(_plane(500.0, 600, 32), rng, rng, Sensor(*quiet, holes=0.3)) == 0).flatten(1).any(1)
    assert float(holed.float().mean()) == pytest.approx(0.3, abs=0.06)
    assert not (sense(_plane(500.0, 600, 32), rng, rng, Sensor(*quiet, holes=0.0)) == 0).any()


def test_background_stays_behind_the_hand() -> None:
    hands = SyntheticHands(5)
    cones = hands.scenes(torch.arange(64)).posed()[1]
    far = cones.farthest()
    window = hands.tiles(torch.arange(64)).camera
    window = torch.cat([-window[:, 2:] / window[:, :2], 1.0 / window[:, :2]], 1)
    clean = render_depth(cones, window, 96, 96)
    full = add_background(clean, window, far, Counter(5, torch.arange(64)), Sensor())
    hand = clean.isfinite()
    assert torch.equal(full[hand], clean[hand])
    behind = torch.where(hand, torch.inf, full).flatten(1).amin(1)
    assert bool((behind >= far + 29.9).all())
    kinds = torch.where(hand, 0.0, full).flatten(1)
    empty = (kinds.isinf() | (kinds == 0)).all(1).float().mean()
    assert 0.25 < float(empty) < 0.8


def test_a_frame_depends_on_seed_and_index_alone() -> None:
    hands = SyntheticHands(9, "test")
    together, alone = hands.tiles(torch.tensor([5, 3, 8])), hands.tiles(torch.tensor([3]))
    for name in ("depth", "camera", "center", "uvd", "xyz"):
        assert torch.allclose(getattr(together, name)[1:2], getattr(alone, name), atol=1e-4, rtol=0)
    other = SyntheticHands(10, "test").tiles(torch.tensor([3]))
    assert not torch.allclose(other.xyz, alone.xyz)


def test_a_tile_is_a_window_of_the_whole_frame() -> None:
    hands = SyntheticHands(9, "test", sensor=CLEAN)
    index = torch.arange(4)
    whole, tile = hands.frames(index), hands.tiles(index, size=96)
    assert whole.depth.shape == (4, 480, 640)
    assert torch.allclose(whole.xyz, tile.xyz, rtol=0, atol=1e-3)
    center = xyz_to_uvd(uvd_to_xyz(tile.center[:, None], tile.camera), CAMERAS["sr305"])[:, 0]
    poses = (normalize_pose(f.uvd, c, f.camera) for f, c in ((whole, center), (tile, tile.center)))
    assert torch.allclose(next(poses), next(poses), atol=1e-4)
    assert torch.allclose(xyz_to_uvd(whole.xyz, CAMERAS["sr305"]), whole.uvd, atol=1e-3)
    a = depth_crop(whole.depth, center, whole.camera)
    b = depth_crop(tile.depth, tile.center, tile.camera)
    assert float((a - b).abs().median()) < 1e-3
    assert float(((a - b).abs() > 0.1).float().mean()) < 0.05  # the whole frame's pixels are coarser at the edges


def test_the_centre_is_the_hand_region_s_as_seen() -> None:
    hands = SyntheticHands(9, "test")
    index = torch.arange(12)
    frames, tiles, far = hands.frames(index), hands.tiles(index), hands.farthest(index)
    alike = 0
    for i in index.tolist():
        args = {"near": 1.0, "far": float(far[i]), "iterations": 2, "camera": hands.camera}
        expected, count = hand_center(frames.depth[i], **args)
        assert int(count) > 500
        assert torch.allclose(frames.center[i], expected, atol=1e-3)
        # A window's centre comes from a coarse image without noise, which the frame's edge does not cut.
        a, b = (normalize_pose(f.uvd, f.center, f.camera)[i] for f in (tiles, frames))
        alike += float((a - b).norm(dim=-1).mean()) * 150.0 < 4.0
    assert alike >= 9


def test_the_surface_lies_in_front_of_the_joints() -> None:
    hands = SyntheticHands(10, "test", sensor=CLEAN)
    tiles = hands.tiles(torch.arange(300))
    column, row = tiles.uvd[..., 0].round().long(), tiles.uvd[..., 1].round().long()
    inside = (column >= 0) & (column < 96) & (row >= 0) & (row < 96)
    at = row.clamp(0, 95) * 96 + column.clamp(0, 95)
    surface = tiles.depth.flatten(1).gather(1, at)
    front = (tiles.uvd[..., 2] - surface)[inside & (surface > 0)]
    assert float(inside.float().mean()) > 0.95
    assert float((front > 0).float().mean()) > 0.99
    # A joint that nothing else hides lies as deep under the skin as in labelled real frames: 4 to 40 mm.
    assert 5.0 < float(front.quantile(0.1)) < float(front.median()) < 25.0


def test_a_sequence_keeps_its_background_and_shakes_its_pixels() -> None:
    sequence = SyntheticSequence(3, "test", number=1)
    frames = sequence.tiles(torch.tensor([0, 0, 1]))
    assert torch.equal(frames.depth[0], frames.depth[1])
    assert not torch.equal(frames.depth[0], frames.depth[2])
    assert float((frames.xyz[0] - frames.xyz[2]).norm(dim=-1).max()) < 15.0


def test_whole_frames_need_a_size() -> None:
    with pytest.raises(ValueError, match="width and height"):
        SyntheticHands(1, camera=Camera(475.0, 475.0, 320.0, 240.0)).frames(torch.arange(1))
    odd = SyntheticHands(1, camera=Camera(100.0, 100.0, 50.0, 50.0, 101, 99)).frames(torch.arange(2))
    assert odd.depth.shape == (2, 99, 101)
