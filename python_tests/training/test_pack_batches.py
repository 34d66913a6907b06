# SPDX-License-Identifier: MIT
import pytest
import torch
from helpers.dataset_trees import nyu_tree

from poseren_ext.datasets.augmentation import PAPER
from poseren_ext.datasets.nyu import NYU
from poseren_ext.datasets.packs.dataset import PackedDataset
from poseren_ext.datasets.packs.gpu_store import ResidentPack
from poseren_ext.datasets.packs.writer import write_pack
from poseren_ext.datasets.sample import collate
from poseren_ext.geometry.crop_transforms import move_pose, restore_pose
from poseren_ext.ops import denormalize_pose, depth_crop, normalize_pose
from poseren_ext.training.pack_batches import EpochBatches
from poseren_ext.training.training_sets import PackFrames

N = 10


@pytest.fixture(scope="module")
def nyu(tmp_path_factory):
    """A dataset and its pack."""
    root = tmp_path_factory.mktemp("batches")
    nyu_tree(root / "nyu", frames=N, splits=("train",))
    dataset = NYU(root / "nyu")
    write_pack(dataset, root / "nyu.pack")
    return dataset, PackedDataset(root / "nyu.pack")


def batches(nyu, **options):
    given = {"batch": 4, "seed": 3, "augmentation": PAPER, "size": 48, **options}
    frames = PackFrames(ResidentPack(nyu[1], given.pop("device", "cpu")), cube=150.0)
    return EpochBatches(frames, **given)


def test_every_epoch_shows_every_frame_once(nyu):
    stream = batches(nyu)
    shown = torch.cat([stream.batch(step).index for step in range(5 * N // 4 + 1)])[: 5 * N].view(5, N)
    assert torch.equal(shown.sort(1).values, torch.arange(N).expand(5, N))
    assert len(shown.unique(dim=0)) == 5  # in an order of its own


def test_crops_and_poses_are_those_of_the_raw_frames(nyu):
    stream = batches(nyu)
    for step in (0, 2, 7):
        batch = stream.batch(step)
        raw = collate([nyu[0][int(index)] for index in batch.index])
        crop = depth_crop(raw.depth, raw.center, raw.camera, transform=batch.transform, size=48)
        torch.testing.assert_close(batch.crop, crop, atol=2e-4, rtol=0)
        pose = normalize_pose(raw.uvd, raw.center, raw.camera)
        torch.testing.assert_close(batch.pose, move_pose(pose, batch.transform))
        back = denormalize_pose(restore_pose(batch.pose, batch.transform), raw.center, raw.camera)
        torch.testing.assert_close(back, raw.uvd, atol=2e-3, rtol=0)


def test_a_frame_is_augmented_differently_in_every_epoch(nyu):
    stream = batches(nyu, batch=N)
    first, second = stream.batch(0), stream.batch(1)
    moved = [batch.transform[batch.index.argsort()] for batch in (first, second)]
    assert (moved[0] - moved[1]).abs().amax((1, 2)).min() > 1e-3
    expected = PAPER.transform(torch.arange(N), seed=3, epoch=1, size=48)
    assert torch.equal(moved[1], expected)


def test_any_step_in_any_order(nyu):
    stream, other = batches(nyu), batches(nyu)
    steps = {step: stream.batch(step) for step in range(9)}
    for step in (8, 1, 5, 0):
        again = other.batch(step)
        assert torch.equal(again.crop, steps[step].crop)
        assert torch.equal(again.pose, steps[step].pose)
    assert not torch.equal(batches(nyu, seed=4).batch(0).index, steps[0].index)


def test_shares_make_up_the_batch(nyu):
    stream = batches(nyu)
    whole = stream.batch(2)  # across two epochs
    parts = [stream.batch(2, share) for share in (slice(0, 2), slice(2, 4))]
    for name in ("index", "pose", "transform"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name))
    torch.testing.assert_close(torch.cat([part.crop for part in parts]), whole.crop, atol=2e-4, rtol=0)


def test_batches_larger_than_the_dataset(nyu):
    index = batches(nyu, batch=3 * N).batch(0).index.view(3, N)
    assert torch.equal(index.sort(1).values, torch.arange(N).expand(3, N))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
def test_on_a_gpu(nyu):
    here, there = batches(nyu).batch(3), batches(nyu, device="cuda").batch(3)
    assert there.crop.is_cuda
    torch.testing.assert_close(there.crop.cpu(), here.crop, atol=1e-3, rtol=0)
    torch.testing.assert_close(there.pose.cpu(), here.pose)


def test_refusals(nyu):
    with pytest.raises(ValueError, match="batch is 0"):
        batches(nyu, batch=0)
