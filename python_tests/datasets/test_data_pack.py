# SPDX-License-Identifier: MIT
import json
import pickle
import resource
import shutil

import numpy as np
import pytest
import torch
from helpers.dataset_trees import hands17_tree, icvl_tree, msra_tree, nyu_tree
from helpers.published_data import PUBLISHED, needs_published_data
from safetensors.numpy import load_file
from torch.utils.data import DataLoader

from poseren_ext.datasets.augmentation import PAPER, Augmentation
from poseren_ext.datasets.base import DatasetError
from poseren_ext.datasets.hands17 import HANDS17
from poseren_ext.datasets.icvl import ICVL
from poseren_ext.datasets.msra import MSRA
from poseren_ext.datasets.nyu import NYU
from poseren_ext.datasets.packs.dataset import PackedDataset
from poseren_ext.datasets.packs.gpu_store import ResidentPack
from poseren_ext.datasets.packs.tiles import SIDE, tile_frame, untile
from poseren_ext.datasets.packs.writer import write_pack
from poseren_ext.datasets.sample import collate
from poseren_ext.geometry.camera import CAMERAS, Camera
from poseren_ext.io.depth_files import read_depth
from poseren_ext.ops import depth_crop, normalize_pose

POLICIES = ["background", None, 10000.0]
OPEN = {
    "nyu": lambda root: NYU(root, "train"),
    "icvl": lambda root: ICVL(root, "test"),
    "msra": lambda root: MSRA(root, "test", subject=2),
    "hands17": lambda root: HANDS17(root, "test"),
}


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """Each dataset, and a pack of it."""
    root = tmp_path_factory.mktemp("packs")
    builders = {"nyu": nyu_tree, "icvl": icvl_tree, "msra": msra_tree, "hands17": hands17_tree}
    made = {}
    for name, build in builders.items():
        build(root / name)
        dataset = OPEN[name](root / name)
        write_pack(dataset, root / f"{name}.pack", split="some")
        made[name] = dataset, root / f"{name}.pack"
    return made


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


def crops(sample, invalid):
    """The sample's crop, and eight augmented ones."""
    transform = PAPER.transform(torch.arange(9) + 100 * sample.index, seed=1, epoch=0, size=64)
    transform[0] = torch.eye(2, 3)
    depth, center = sample.depth.expand(9, -1, -1), sample.center.expand(9, -1)
    return depth_crop(depth, center, sample.camera, invalid=invalid, transform=transform, size=64)


def assert_same_samples(raw, pack):
    """Everything but the depth is equal to the bit; of the depth, every crop is."""
    for name in ("uvd", "xyz", "center"):
        torch.testing.assert_close(getattr(pack, name), getattr(raw, name), atol=0, rtol=0, equal_nan=True)
    for name in ("camera", "name", "subject", "hand", "index"):
        assert getattr(pack, name) == getattr(raw, name)
    assert pack.depth.dtype == raw.depth.dtype
    assert pack.depth.shape == raw.depth.shape
    assert int(pack.depth.numpy().max()) == int(raw.depth.numpy().max())
    for invalid in (*POLICIES, float(raw.depth.numpy().max())):
        assert torch.equal(crops(pack, invalid), crops(raw, invalid))


@pytest.mark.parametrize("name", list(OPEN))
def test_pack_and_raw_give_identical_samples(packed, name):
    dataset, path = packed[name]
    pack = PackedDataset(path)
    assert len(pack) == len(dataset)
    assert (pack.info.dataset, pack.info.split, pack.info.rounding) == (name, "some", 0)
    assert pack.skeleton == dataset.skeleton
    for index in range(min(len(dataset), 3)):
        assert_same_samples(dataset[index], pack[index])
    assert_same_samples(dataset[len(dataset) - 1], pack[-1])


@pytest.mark.parametrize("name", ["nyu", "msra"])
def test_mirrored_packs(packed, name):
    dataset, path = packed[name]
    mirrored = pickle.loads(pickle.dumps(dataset))
    mirrored.hand = "left"
    assert_same_samples(mirrored[1], PackedDataset(path, hand="left")[1])
    with pytest.raises(ValueError, match="mirrored; pack it as recorded"):
        write_pack(mirrored, path.with_name("other.pack"))
    with pytest.raises(ValueError, match="hand is 'both'"):
        PackedDataset(path, hand="both")


@pytest.mark.parametrize("name", list(OPEN))
def test_resident_regions_crop_the_same(packed, name):
    dataset, path = packed[name]
    resident = ResidentPack(PackedDataset(path), "cpu")
    index = torch.tensor([2, 0, 1, 2])
    regions = resident.regions(index)
    batch = collate([dataset[int(i)] for i in index])
    transform = PAPER.transform(index, seed=4, epoch=1)
    for kwargs in ({}, {"transform": transform}):
        for invalid in POLICIES:
            whole = depth_crop(batch.depth, batch.center, batch.camera, invalid=invalid, **kwargs)
            part = depth_crop(regions.depth, regions.center, regions.camera, invalid=invalid, **kwargs)
            torch.testing.assert_close(part, whole, atol=2e-4, rtol=0)  # where a pixel looks is rounded elsewhere
            assert ((part - whole).abs() < 1e-6).float().mean() > 0.999
    torch.testing.assert_close(
        normalize_pose(regions.uvd, regions.center, regions.camera),
        normalize_pose(batch.uvd, batch.center, batch.camera),
        equal_nan=True,
    )
    torch.testing.assert_close(regions.xyz, batch.xyz, equal_nan=True)
    with pytest.raises(IndexError, match="asked for; there are"):
        resident.regions(torch.tensor([len(dataset)]))
    with pytest.raises(ValueError, match="no frames"):
        resident.regions(torch.tensor([], dtype=torch.int64))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
def test_resident_on_a_gpu(packed):
    pack = PackedDataset(packed["nyu"][1])
    index = torch.tensor([2, 0])
    here, there = ResidentPack(pack, "cpu").regions(index), ResidentPack(pack, "cuda").regions(index)
    assert torch.equal(there.depth.cpu().view(torch.int16), here.depth.view(torch.int16))
    torch.testing.assert_close(there.center.cpu(), here.center)


def random_frame(rng, height=96, width=128):
    """Surface before, in and behind the cube, holes, a hand that leaves the frame, and lone pixels at tiles' rims."""
    depth = rng.integers(760, 3000, (height, width))
    depth[48:, 30:90] = rng.integers(450, 760, (height - 48, 60))
    depth[60:80, 50:60] = 0
    rows, columns = rng.integers(0, height, 30), rng.integers(0, width, 30)
    depth[rows // SIDE * SIDE, columns] = rng.integers(450, 760, 30)
    depth[rows, columns // SIDE * SIDE] = 0
    return depth.astype(np.uint16)


def assert_crops_survive(depth, center, camera, seed):
    """No policy, no interpolation and no augmentation can tell the frame from what its tiles give back."""
    tiled = tile_frame(depth, center, camera, cube=150, reach=PAPER.reach(), unit=1)
    assert tiled.rounding == 0
    row, column, rows, columns = tiled.window
    back = np.full_like(depth, tiled.far)
    place = np.s_[SIDE * row : SIDE * (row + rows), SIDE * column : SIDE * (column + columns)]
    back[place] = untile(tiled.kinds, tiled.tiles, tiled.far)
    transform = PAPER.transform(torch.arange(16), seed=seed, epoch=0)
    transform[0] = torch.eye(2, 3)
    centers = torch.from_numpy(center).expand(16, 3)
    for invalid in POLICIES:
        for how in ("bilinear", "nearest"):
            before, after = (
                depth_crop(
                    torch.from_numpy(frame).expand(16, -1, -1),
                    centers,
                    camera,
                    transform=transform,
                    invalid=invalid,
                    interpolation=how,
                )
                for frame in (depth, back)
            )
            assert torch.equal(before, after)


@pytest.mark.parametrize("seed", range(6))
def test_tiles_keep_all_that_a_crop_can_tell(seed):
    rng = np.random.default_rng(seed)
    center = np.array([rng.uniform(-10, 138), rng.uniform(-10, 106), 600], np.float32)
    assert_crops_survive(random_frame(rng), center, Camera(200, 205, 64, 48, 128, 96), seed)


def test_a_frame_with_nothing_near():
    empty = tile_frame(
        np.full((480, 640), 3000, np.uint16),
        np.array([320, 240, 700], np.float32),
        CAMERAS["nyu"],
        cube=150,
        reach=1,
        unit=1,
    )
    assert (empty.window[2:], empty.tiles.shape, empty.far) == ((0, 0), (0, 8, 8), 3000)
    for depth, message in (
        (np.full((8, 8), np.nan), "NaN"),
        (np.zeros((8, 12)), "12x8 pixels; expected multiples of 8"),
    ):
        with pytest.raises(ValueError, match=message):
            tile_frame(depth, np.ones(3, np.float32), CAMERAS["nyu"], cube=150, reach=1, unit=1)


def test_fractions_of_a_millimetre_are_rounded_and_said(tmp_path):
    depth = np.full((480, 640), 700.3, np.float32)
    tiled = tile_frame(depth, np.array([320, 240, 700], np.float32), CAMERAS["nyu"], cube=150, reach=1, unit=1)
    assert tiled.rounding == pytest.approx(0.3, abs=1e-4)
    tiled = tile_frame(depth, np.array([320, 240, 700], np.float32), CAMERAS["nyu"], cube=150, reach=1, unit=1 / 32)
    assert tiled.rounding < 1 / 64 + 1e-4


def test_packs_are_safetensors_and_small(packed):
    dataset, path = packed["nyu"]
    arrays = load_file(path)
    assert arrays["tiles"].dtype == np.uint16
    assert arrays["uvd"].shape == (len(dataset), 14, 3)
    np.testing.assert_allclose(arrays["center"][1], dataset[1].center.numpy())
    assert path.stat().st_size < 0.2 * len(dataset) * 2 * 480 * 640


def test_loader_workers_map_the_file_themselves(packed):
    pack = PackedDataset(packed["nyu"][1])
    assert len(pickle.dumps(pack)) < 1000
    assert torch.equal(pickle.loads(pickle.dumps(pack))[2].depth, pack[2].depth)
    batches = list(DataLoader(pack, 2, num_workers=1, multiprocessing_context="fork", collate_fn=collate))
    assert [len(batch) for batch in batches] == [2, 1]
    assert torch.equal(batches[1].depth[0], pack[2].depth)


def test_packing_with_workers_gives_the_same_file(packed, tmp_path):
    dataset, path = packed["nyu"]
    seen = []
    info = write_pack(dataset, tmp_path / "again.pack", split="some", workers=2, progress=seen.append)
    assert (tmp_path / "again.pack").read_bytes() == path.read_bytes()
    assert seen == [1, 2, 3]
    assert info == PackedDataset(path).info
    assert files_in(tmp_path) == ["again.pack"]


def test_what_a_pack_can_be_used_for(packed):
    pack = PackedDataset(packed["nyu"][1])
    pack.require(PAPER, 150)
    pack.require(Augmentation(15, 0, 0.1), 120)
    with pytest.raises(ValueError, match=r"cube is 160 mm; .* was packed for 150"):
        pack.require(PAPER, 160)
    with pytest.raises(ValueError, match=r"reaches 2\.\d+ half edges .* holds 1\.902"):
        pack.require(Augmentation(180, 15, 0.2), 150)


def flip_bit(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)


def test_damaged_tile_is_found(packed, tmp_path):
    path = shutil.copy(packed["nyu"][1], tmp_path / "damaged.pack")
    first = load_file(path)["first"]
    flip_bit(path, 16384 + 128 * int(first[1, 0]) + 700)  # in the second frame's tiles
    pack = PackedDataset(path)
    pack[0]
    with pytest.raises(DatasetError, match=r"damaged.pack: frame 1 \(train/depth_1_0000002.png\) is damaged: checksum"):
        pack[1]
    assert list(pack.damaged()) == [1]
    with pytest.raises(DatasetError, match=r"frame 1 .* damaged"):
        ResidentPack(pack, "cpu")


def test_every_other_damage_is_found_when_opened(packed, tmp_path):
    """One flipped bit in each array of the index, in the metadata; half a file; another file."""
    source = packed["icvl"][1]
    length = int.from_bytes(source.read_bytes()[:8], "little")
    header = json.loads(source.read_bytes()[8 : 8 + length])
    places = {
        name: 8 + length + (entry["data_offsets"][0] + entry["data_offsets"][1]) // 2
        for name, entry in header.items()
        if name not in ("__metadata__", "tiles", "kinds")
    }
    places["camera"] = source.read_bytes().index(b"240.99") + 3
    places["length"] = 2
    assert len(places) == 10
    for name, place in places.items():
        path = shutil.copy(source, tmp_path / f"{name}.pack")
        flip_bit(path, place)
        with pytest.raises(DatasetError, match=f"{name}.pack: .*poseren data pack"):
            PackedDataset(path)
    (tmp_path / "half.pack").write_bytes(source.read_bytes()[:-50])
    with pytest.raises(DatasetError, match="truncated or damaged"):
        PackedDataset(tmp_path / "half.pack")
    (tmp_path / "text.pack").write_text("no pack")
    with pytest.raises(DatasetError, match="not a readable pack"):
        PackedDataset(tmp_path / "text.pack")
    with pytest.raises(FileNotFoundError, match=r"nothing\.pack: no such file"):
        PackedDataset(tmp_path / "nothing.pack")


@pytest.fixture
def full_disk():
    """The operating system refuses writes beyond a size: real failing writes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_last_good_file(packed, tmp_path, full_disk):
    dataset, source = packed["nyu"]
    path = tmp_path / "nyu.pack"
    path.write_bytes(source.read_bytes()[:20000])  # stands for the last good one
    with pytest.raises(OSError, match="File too large"):
        write_pack(dataset, path)
    assert path.read_bytes() == source.read_bytes()[:20000]
    assert files_in(tmp_path) == ["nyu.pack"]


def test_a_fault_in_the_data_leaves_the_last_good_file(packed, tmp_path):
    dataset, source = packed["nyu"]
    path = shutil.copy(source, tmp_path / "nyu.pack")
    root = shutil.copytree(dataset.folder, tmp_path / "nyu")
    image = root / "train" / "depth_1_0000003.png"
    image.write_bytes(image.read_bytes()[:-99])
    with pytest.raises(ValueError, match=r"depth_1_0000003\.png: a truncated PNG"):
        write_pack(NYU(root), path)
    assert path.read_bytes() == source.read_bytes()
    assert files_in(tmp_path) == ["nyu", "nyu.pack"]
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        write_pack(dataset, tmp_path / "nowhere" / "nyu.pack")


@needs_published_data
def test_nyu_fits_in_8_gb():
    """The published frame's tiles, scaled to the published centres' depths and NYU's number of training frames."""
    depth = read_depth(PUBLISHED / "nyu" / "depth_1_0000001.png")
    centers = np.loadtxt(PUBLISHED / "nyu" / "test_centers_uvd.txt")
    tiled = tile_frame(depth, centers[0].astype(np.float32), CAMERAS["nyu"], cube=150, reach=PAPER.reach(), unit=1)
    golden = tiled.tiles.nbytes + tiled.kinds.nbytes
    # A surface takes pixels as one over its depth squared.
    mean = golden * np.mean((centers[0, 2] / centers[:, 2]) ** 2)
    assert 72757 * mean < 5e9  # 3.9: half of what is allowed, for frames with more than this one's forearm


@needs_published_data
def test_tiles_of_a_real_frame_keep_every_crop():
    depth = read_depth(PUBLISHED / "nyu" / "depth_1_0000001.png")
    center = np.loadtxt(PUBLISHED / "nyu" / "test_centers_uvd.txt", max_rows=1).astype(np.float32)
    assert_crops_survive(depth, center, CAMERAS["nyu"], seed=0)
