# SPDX-License-Identifier: MIT
"""Hands from every side: views, arms, objects, other hands, cameras, and the test splits."""

from __future__ import annotations

import math
import time

import pytest
import torch

from poseren_ext._utils.counter_rng import Counter
from poseren_ext.geometry.camera import uvd_to_xyz
from poseren_ext.synthetic import SPLIT_KINDS, SyntheticHands, TrainingHands, VariedHands, split_hands
from poseren_ext.synthetic.objects import held_objects
from poseren_ext.synthetic.scene import SUBJECTS
from poseren_ext.synthetic.solids import BOX, CYLINDER, ELLIPSOID, Solids, render_solids
from poseren_ext.synthetic.splits import TEST_SEED
from poseren_ext.synthetic.surroundings import Surroundings
from poseren_ext.synthetic.varied_scene import View, sample_varied_scene
from poseren_ext.synthetic.varied_sensor import VariedSensor, sense_varied

_PERFECT = VariedSensor(*((0.0, 0.0),) * 5, shadow=0.0, baseline=(50.0, 50.0), smooth=0.0, focal=(1e5, 1e5), holes=0.0)
_WINDOW = torch.tensor([[-0.2, -0.2, 0.4 / 63, 0.4 / 63]])


def _solid(kind: int, half: tuple[float, float, float], axes: torch.Tensor) -> Solids:
    center = torch.tensor([[[10.0, -5.0, 500.0]]])
    return Solids(center, axes[None, None], torch.tensor(half)[None, None], torch.tensor([[kind]]))


def _inside(solid: Solids, points: torch.Tensor) -> torch.Tensor:
    """Which points [..., 3] are within a solid, by its definition."""
    local = (points - solid.center[0, 0].double()) @ solid.rotation[0, 0].double() / solid.half[0, 0].double()
    kind = int(solid.kind)
    if kind == BOX:
        return (local.abs() <= 1.0).all(-1)
    if kind == CYLINDER:
        return ((local[..., :2] ** 2).sum(-1) <= 1.0) & (local[..., 2].abs() <= 1.0)
    return (local**2).sum(-1) <= 1.0


@pytest.mark.parametrize("kind", [BOX, CYLINDER, ELLIPSOID])
def test_solids_are_hit_where_a_march_along_the_ray_enters_them(kind: int) -> None:
    axes = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(kind)))[0]
    solid = _solid(kind, (30.0, 18.0, 55.0), axes)
    image = render_solids(solid, _WINDOW, 64, 64)[0].double()
    slope = -0.2 + 0.4 / 63 * torch.arange(64, dtype=torch.float64)
    ray = torch.stack([*torch.meshgrid(slope, slope, indexing="xy"), torch.ones(64, 64, dtype=torch.float64)], -1)
    marched = torch.full((64, 64), torch.inf, dtype=torch.float64)
    for depth in torch.arange(420.0, 580.0, 0.25, dtype=torch.float64).flip(0):
        marched = torch.where(_inside(solid, ray * depth), depth, marched)
    both = image.isfinite() & marched.isfinite()
    assert int(both.sum()) > 100
    assert int((image.isfinite() != marched.isfinite()).sum()) <= 6  # rays that graze it
    assert float((image - marched)[both].abs().max()) < 0.3


def test_palms_of_the_palm_split_are_the_frames_of_the_first_generator() -> None:
    """Sums that were computed before hands from other sides were added."""
    frames = split_hands("palm").frames(torch.arange(3))
    assert frames.depth.double().round().sum((1, 2)).tolist() == pytest.approx([263893642, 366297121, 357838968], 1e-5)
    assert frames.xyz.double().sum((1, 2)).tolist() == pytest.approx([10842.126, 15588.635, 14726.543], 1e-5)
    assert frames.center.double().sum(1).tolist() == pytest.approx([1057.40, 1351.44, 1282.54], 1e-5)


@pytest.mark.parametrize("kind", SPLIT_KINDS)
def test_a_split_shows_the_same_frames_in_any_batch_and_only_test_subjects(kind: str) -> None:
    hands = split_hands(kind)  # type: ignore[arg-type]  # one of the names
    together, alone = hands.tiles(torch.arange(4)), hands.tiles(torch.tensor([2]))
    assert torch.equal(together.xyz[2:3], alone.xyz)
    assert torch.allclose(together.depth[2:3], alone.depth, atol=1e-3)
    assert hands.split == "test"
    assert (hands.seed == TEST_SEED) == (kind == "palm")
    shown = hands.frames(torch.arange(1))
    assert torch.allclose(uvd_to_xyz(shown.uvd, shown.camera, check=False), shown.xyz, atol=0.05)


def test_splits_have_their_own_frames_and_unknown_ones_are_refused() -> None:
    seeds = {split_hands(kind).seed for kind in SPLIT_KINDS}
    assert len(seeds) == len(SPLIT_KINDS)
    with pytest.raises(ValueError, match="expected one of palm, side"):
        split_hands("front")  # type: ignore[arg-type]  # refused


def _normals(view: View, count: int = 4000) -> torch.Tensor:
    scene = sample_varied_scene(Counter(5, torch.arange(count)), SUBJECTS["train"], view)
    toward = -torch.nn.functional.normalize(scene.joints.mean(1), dim=1)
    assert torch.allclose(scene.normal.norm(dim=1), torch.ones(count), atol=1e-4)
    return torch.stack([scene.normal[:, 0], scene.normal[:, 1], (scene.normal * toward).sum(1)], 1)


def test_palm_normals_cover_the_whole_sphere_evenly() -> None:
    normals = _normals(View())
    # Each coordinate of a uniform direction is uniform: Kolmogorov-Smirnov at 0.1 % for 4,000 samples is 0.031. The
    # third is taken towards the hand, not along the camera's axis, which blurs it a little.
    for axis in range(2):
        ranks = (normals[:, axis].sort()[0] + 1.0) / 2.0
        assert float((ranks - torch.linspace(0.0, 1.0, len(ranks))).abs().max()) < 0.031
    shares = torch.histc(normals[:, 2], 4, -1.0, 1.0) / len(normals)
    assert float(shares.min()) > 0.21


@pytest.mark.parametrize(("kind", "low", "high"), [("side", -0.3, 0.5), ("back", -1.0, -0.3)])
def test_side_and_back_splits_keep_to_their_views(kind: str, low: float, high: float) -> None:
    hands = split_hands(kind)  # type: ignore[arg-type]  # one of the names
    assert isinstance(hands, VariedHands)
    scene = sample_varied_scene(Counter(5, torch.arange(500)), SUBJECTS["test"], hands.view)
    facing = -scene.normal[:, 2]
    assert float(facing.min()) >= low - 1e-5
    assert float(facing.max()) <= high + 1e-5


def test_arms_come_from_every_border_and_end_before_the_camera() -> None:
    scene = sample_varied_scene(Counter(6, torch.arange(2000)), SUBJECTS["train"], View())
    wrist, elbow = scene.joints[:, 0], scene.arm.b[:, 0]
    along = elbow[:, :2] / elbow[:, 2:] - wrist[:, :2] / wrist[:, 2:]
    side = torch.atan2(along[:, 1], along[:, 0]).div(math.pi / 2).round().long() % 4
    assert float(torch.bincount(side, minlength=4).min()) > 0.18 * len(side)
    ends = torch.minimum(scene.arm.a[..., 2] - scene.arm.ra, scene.arm.b[..., 2] - scene.arm.rb)
    assert float((ends < 40.0).any(1).float().mean()) < 0.02


def test_egocentric_arms_come_from_the_camera() -> None:
    hands = split_hands("egocentric")
    assert isinstance(hands, VariedHands)
    scene = sample_varied_scene(Counter(7, torch.arange(500)), SUBJECTS["test"], hands.view)
    nearer = scene.arm.b[:, 0, 2] < scene.joints[:, 0, 2]
    assert float(nearer.float().mean()) > 0.85  # one hand in twelve has no arm


def test_a_held_object_touches_the_hand_without_entering_it() -> None:
    rng = Counter(8, torch.arange(400))
    scene = sample_varied_scene(rng, SUBJECTS["train"], View())
    held = held_objects(rng, scene.joints, scene.hand, scene.normal)
    bones = torch.stack([scene.hand.a, 0.5 * (scene.hand.a + scene.hand.b), scene.hand.b], 2).flatten(1, 2)
    radii = torch.stack([scene.hand.ra, 0.5 * (scene.hand.ra + scene.hand.rb), scene.hand.rb], 2).flatten(1, 2)
    axes, half, center = held.rotation[:, 0], held.half[:, 0], held.center[:, 0]
    local = torch.einsum("bpi,bij->bpj", bones - center[:, None], axes)
    # Distance from the object's surface, for a box that holds it.
    gap = ((local.abs() - half[:, None]).clamp(min=0.0).norm(dim=-1) - radii).amin(1)
    assert float((gap < 6.0).float().mean()) > 0.9
    reach = (center - scene.joints[:, [4, 8, 12, 16, 20, 0]].mean(1)).norm(dim=1)
    assert float(reach.median()) < 90.0


def _shown(surroundings: Surroundings, count: int = 128) -> torch.Tensor:
    return VariedHands(9, surroundings=surroundings).visible_share(torch.arange(count))


def test_objects_and_other_hands_hide_parts_of_the_hand() -> None:
    alone = _shown(Surroundings())
    for surroundings in (Surroundings(held=1.0), Surroundings(front=1.0), Surroundings(other=1.0)):
        assert float(_shown(surroundings).mean()) < float(alone.mean()) - 0.04
    assert float(_shown(Surroundings(held=1.0)).mean()) > 0.5


def test_a_touched_table_lies_behind_the_hand_and_meets_it() -> None:
    hands = VariedHands(10, surroundings=Surroundings(table=1.0, wall=0.0, bodies=0.0), faults=_PERFECT)
    bare = VariedHands(10, surroundings=Surroundings(table=0.0, wall=0.0, bodies=0.0), faults=_PERFECT)
    index = torch.arange(32)
    with_table, without = hands.tiles(index).depth, bare.tiles(index).depth
    hand = without > 0
    assert torch.allclose(with_table[hand], without[hand], atol=2.5)
    assert float((with_table[~hand] > 0).float().mean()) > 0.6


def test_the_training_mixture_has_its_share_of_palms_and_does_not_depend_on_the_batch() -> None:
    hands = TrainingHands(3, palm_share=0.4, open_share=0.0)
    index = torch.arange(64)
    mixed, palms = hands.tiles(index, size=16), SyntheticHands(3).tiles(index, size=16)
    same = (mixed.xyz == palms.xyz).all(2).all(1)
    assert 0.2 < float(same.float().mean()) < 0.6
    assert torch.equal(hands.tiles(index[5:6], size=16).xyz[0], mixed.xyz[5])


def test_a_fifth_of_the_training_mixture_and_no_test_split_shows_open_hands() -> None:
    index = torch.arange(400)
    opened, usual = (TrainingHands(3, open_share=share).tiles(index, size=8).xyz for share in (0.2, 0.0))
    assert torch.equal(TrainingHands(3).tiles(index, size=8).xyz, opened)
    assert float((opened != usual).any(2).any(1).float().mean()) == pytest.approx(0.2, abs=0.06)
    assert all(split_hands(kind).open_share == 0.0 for kind in SPLIT_KINDS)


def test_one_side_of_an_edge_is_in_shadow_as_wide_as_the_baseline_says() -> None:
    depth = torch.full((64, 32, 96), 900.0)
    depth[:, :, 40:56] = 600.0
    window = torch.tensor([[-0.3, -0.1, 0.6 / 95, 0.6 / 95]]).expand(64, 4)
    rng = Counter(11, torch.arange(64))
    sensor = VariedSensor(*((0.0, 0.0),) * 5, 1.0, (50.0, 50.0), 0.0, (1e5, 1e5), 0.0)
    lost = sense_varied(depth, window, rng, sensor) == 0
    wide = 50.0 / (0.6 / 95) * (1 / 600 - 1 / 900)  # pixels
    left, right = lost[:, 16, :40].sum(1), lost[:, 16, 56:].sum(1)
    assert bool(((left == 0) != (right == 0)).all())
    assert float((left + right).float().mean()) == pytest.approx(wide, abs=1.5)
    assert 10 < int((left > 0).sum()) < 54


def test_flying_pixels_lie_between_the_two_depths_of_an_edge() -> None:
    depth = torch.full((32, 32, 64), 900.0)
    depth[:, :, 32:] = 700.0
    window = torch.tensor([[-0.3, -0.1, 0.01, 0.01]]).expand(32, 4)
    quiet = (0.0, 0.0)
    sensor = VariedSensor(quiet, quiet, quiet, quiet, (0.5, 0.5), 0.0, quiet, 0.0, (1e5, 1e5), 0.0)
    seen = sense_varied(depth, window, Counter(12, torch.arange(32)), sensor)
    between = (seen > 701.0) & (seen < 899.0)
    assert float(between[:, :, 31].float().mean()) == pytest.approx(0.5, abs=0.15)
    assert not between[:, :, :31].any()
    assert not between[:, :, 32:].any()


def test_the_mixture_is_rendered_at_the_pace_that_training_needs() -> None:
    """Against plain tensor work of the same machine, so that a busy machine does not matter."""
    hands = TrainingHands(1)
    hands.tiles(torch.arange(64), size=136, margin=1.42)
    values = torch.rand(64, 1 << 16)
    ratios = []
    for turn in range(3):
        start = time.process_time()
        hands.tiles(torch.arange(64 * turn, 64 * turn + 64), size=136, margin=1.42)
        rendered = time.process_time()
        for _ in range(10):
            values = torch.sqrt(values * values + 1.0).sort(1)[0]
        ratios.append((rendered - start) / (time.process_time() - rendered))
    assert min(ratios) < 4.0
