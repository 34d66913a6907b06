# SPDX-License-Identifier: MIT
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from poseren_ext.datasets.augmentation import PAPER, Augmentation
from poseren_ext.geometry.crop_transforms import move_pose, restore_pose
from poseren_ext.ops import depth_crop, normalize_pose

CAMERA = (300.0, 310.0, 80.0, 60.0)
CENTER = torch.tensor([[82.3, 57.9, 600.0]])
S = 96


def parts(transform):
    """Scale, angle in degrees and shift in crop pixels of each transform [B, 2, 3]."""
    linear = transform[:, :, :2].double()
    scale = torch.linalg.det(linear).sqrt()
    angle = torch.rad2deg(torch.atan2(linear[:, 1, 0], linear[:, 0, 0]))
    return scale, angle, transform[:, :, 2] * (S - 1) / 2


def test_the_ranges_of_the_paper_and_none():
    assert Augmentation(180, 10, 0.1) == PAPER
    identity = Augmentation().transform(torch.arange(3), seed=1, epoch=2)
    assert torch.equal(identity, torch.eye(2, 3).expand(3, 2, 3))


@pytest.mark.parametrize("ranges", [PAPER, Augmentation(15, 10, 0.1)])
def test_draws_fill_their_ranges_evenly(ranges):
    transform = ranges.transform(torch.arange(20000), seed=3, epoch=0)
    scale, angle, shift = parts(transform)
    # A similarity: what turns x turns y.
    torch.testing.assert_close(transform[:, 0, 0], transform[:, 1, 1])
    torch.testing.assert_close(transform[:, 0, 1], -transform[:, 1, 0])
    for values, middle, width in (
        (scale, 1.0, ranges.scale),
        (angle, 0.0, ranges.rotation),
        (shift[:, 0], 0.0, ranges.translation),
        (shift[:, 1], 0.0, ranges.translation),
    ):
        unit = ((values.double() - middle) / width).numpy()
        assert np.abs(unit).max() <= 1 + 1e-5
        counts, _ = np.histogram(unit, 10, (-1, 1))
        assert counts.min() > 1800  # of 2000 expected, sigma 42
        assert counts.max() < 2200
    assert abs(np.corrcoef(scale, angle)[0, 1]) < 0.03
    assert abs(np.corrcoef(shift.T)[0, 1]) < 0.03


def test_a_sample_is_drawn_by_seed_epoch_and_index_alone():
    index = torch.tensor([7, 3, 1_000_000, 0])
    together = PAPER.transform(index, seed=5, epoch=9)
    for position, number in enumerate(index):
        assert torch.equal(PAPER.transform(number[None], seed=5, epoch=9)[0], together[position])
    assert torch.equal(PAPER.transform(index.flip(0), seed=5, epoch=9).flip(0), together)
    others = [PAPER.transform(index, seed=6, epoch=9), PAPER.transform(index, seed=5, epoch=10)]
    others.append(PAPER.transform(index + 1, seed=5, epoch=9))
    for other in others:
        assert (other - together).abs().amax((1, 2)).min() > 1e-3
    with pytest.raises(ValueError, match="epoch is -1"):
        PAPER.transform(index, seed=5, epoch=-1)


def test_epochs_and_indices_never_meet():
    index = torch.arange(500)
    drawn = torch.cat([PAPER.transform(index, seed=0, epoch=epoch) for epoch in range(20)])
    assert len(drawn.flatten(1).unique(dim=0)) == 500 * 20


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
def test_the_gpu_draws_the_same():
    index = torch.arange(4096)
    on_gpu = PAPER.transform(index.cuda(), seed=5, epoch=2)
    assert on_gpu.is_cuda
    torch.testing.assert_close(on_gpu.cpu(), PAPER.transform(index, seed=5, epoch=2), atol=1e-6, rtol=0)


def dot(u, v):
    """A frame with a bright dot around (u, v): a smooth hollow, so that its middle can be measured."""
    rows, columns = torch.meshgrid(torch.arange(120.0), torch.arange(160.0), indexing="ij")
    return 640 - 80 * torch.exp(-((columns - u) ** 2 + (rows - v) ** 2) / 18)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.floats(-25, 25), st.floats(-25, 25))
def test_labels_move_with_the_depth(index, du, dv):
    """The dot is found in the augmented crop where the moved label says."""
    u, v = CENTER[0, 0].item() + du, CENTER[0, 1].item() + dv
    transform = PAPER.transform(torch.tensor([index]), seed=1, epoch=0)
    crop = depth_crop(dot(u, v)[None], CENTER, CAMERA, transform=transform)[0, 0]
    pose = normalize_pose(torch.tensor([[[u, v, 560.0]]]), CENTER, CAMERA)
    x, y, depth = move_pose(pose, transform)[0, 0].tolist()
    weight = (40 / 150 - 0.01 - crop).clamp(min=0) ** 2
    q = torch.linspace(-1, 1, S)
    # Only where the whole dot is inside the crop.
    if max(abs(x), abs(y)) < 0.75:
        assert (weight * q).sum().item() / weight.sum().item() == pytest.approx(x, abs=0.01)
        assert (weight * q[:, None]).sum().item() / weight.sum().item() == pytest.approx(y, abs=0.01)
        assert crop.min().item() == pytest.approx(depth, abs=0.06)  # the peak lies between pixels


def test_what_the_ranges_mean():
    """Positive angles turn x to y (clockwise on the screen), shifts are crop pixels, scales above 1 enlarge."""
    pose = torch.tensor([[[0.5, 0.0, 0.2]]])
    turned = torch.tensor([[[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]]])
    torch.testing.assert_close(move_pose(pose, turned), torch.tensor([[[0.0, 0.5, 0.2]]]))
    shifted = torch.tensor([[[1.0, 0.0, 10 * 2 / 95], [0.0, 1.0, 0.0]]])
    before = depth_crop(dot(82.3, 57.9)[None], CENTER, CAMERA)[0, 0]
    after = depth_crop(dot(82.3, 57.9)[None], CENTER, CAMERA, transform=shifted)[0, 0]
    torch.testing.assert_close(after[:, 30:80], before[:, 20:70], atol=1e-4, rtol=0)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6))
def test_restore_is_the_inverse(index):
    transform = PAPER.transform(torch.tensor([index, index + 1]), seed=1, epoch=4)
    pose = torch.rand(2, 14, 3, dtype=torch.float64) * 2 - 1
    torch.testing.assert_close(restore_pose(move_pose(pose, transform), transform), pose)


def test_labels_take_gradients():
    transform = PAPER.transform(torch.arange(2), seed=1, epoch=4)
    pose = torch.rand(2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: move_pose(p, transform), pose)


@pytest.mark.parametrize("ranges", [PAPER, Augmentation(15, 0, 0.1), Augmentation(0, 5, 0), Augmentation()])
def test_reach_bounds_every_sampling_position(ranges):
    """No corner of an augmented crop lies beyond the reach, and some lie nearly as far."""
    transform = ranges.transform(torch.arange(20000), seed=0, epoch=0).double()
    corners = torch.tensor([[-1.0, -1, 0], [-1, 1, 0], [1, -1, 0], [1, 1, 0]], dtype=torch.float64)
    sampled = restore_pose(corners.expand(20000, 4, 3), transform)[..., :2].abs().max().item()
    assert sampled <= ranges.reach() + 1e-6
    assert sampled > 0.93 * ranges.reach()
    assert PAPER.reach() == pytest.approx(math.sqrt(2) * (1 + 20 / 95) / 0.9)


@pytest.mark.parametrize(("name", "value"), [("rotation", -1.0), ("translation", math.nan), ("scale", 1.0)])
def test_ranges_that_make_no_sense(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        Augmentation(**{name: value})


def test_shapes_that_do_not_match():
    with pytest.raises(ValueError, match=r"pose has shape \(2, 5, 3\) and transform \(3, 2, 3\)"):
        move_pose(torch.zeros(2, 5, 3), torch.zeros(3, 2, 3))
