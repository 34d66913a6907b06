# SPDX-License-Identifier: MIT
"""The person behind the hands of a scene: measures of head and face, and how often one is there."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from poseren_ext._utils.counter_rng import Counter
from poseren_ext.geometry.camera import CAMERAS
from poseren_ext.synthetic.person import person_behind, without_dark_parts
from poseren_ext.synthetic.scenes import SyntheticScenes, reduced
from poseren_ext.synthetic.solids import Solids, render_solids

TORSO, NECK, HEAD, NOSE, CHIN, EARS = 0, 1, 2, 3, 5, (9, 10)


def persons(count: int) -> tuple[Solids, torch.Tensor]:
    palm = torch.tensor([0.0, 0.0, 500.0]).expand(count, 3)
    return person_behind(Counter(7, torch.arange(count)), palm), palm


def test_a_head_has_the_measures_of_people_and_its_parts_are_where_they_belong() -> None:
    solids, palm = persons(200)
    head, axes = solids.center[:, HEAD], solids.rotation[:, HEAD]
    size = 2 * solids.half[:, HEAD]
    for axis, (low, high) in enumerate(((120, 180), (150, 220), (180, 270))):  # width, length and height, mm
        assert low <= float(size[:, axis].min())
        assert float(size[:, axis].max()) <= high

    def away(part: int) -> torch.Tensor:  # in the head's own axes
        return (axes.mT @ (solids.center[:, part] - head)[:, :, None])[:, :, 0] / solids.half[:, HEAD]

    assert torch.allclose(away(NOSE)[:, 1], torch.tensor(102 / 95), atol=1e-3)
    assert float(away(CHIN)[:, 2].max()) < -0.5
    left, right = (away(ear)[:, 0] for ear in EARS)
    assert torch.allclose(left, -right, atol=1e-4)
    toward_camera = -axes[:, 2, 1]
    assert float((toward_camera > 0.5).float().mean()) > 0.8  # most look at the camera, some away from it
    nearest = solids.center[:, TORSO, 2] - solids.half[:, TORSO, 1]
    assert float((nearest - palm[:, 2]).min()) > 0.0


def test_a_face_is_nearer_to_the_camera_at_the_nose_than_at_the_ears() -> None:
    solids, _ = persons(200)
    facing = (solids.rotation[:, HEAD, 2, 1] < -0.97) & (solids.half[:, NOSE, 0] > 0)
    head = solids.center[facing, HEAD]
    assert int(facing.sum()) > 20
    step = 1.0 / head[:, 2:]  # a pixel is 1 mm wide there
    window = torch.cat([head[:, :2] / head[:, 2:] - 90 * step, step.expand(-1, 2)], 1)
    body = Solids(*(value[facing] for value in vars(solids).values()))
    depth = render_solids(body, window, 181, 181)
    assert bool(depth[:, 90, 90].isfinite().all())
    tip = depth[:, 60:121, 70:111].flatten(1).amin(1)
    cheek = depth[:, 90, [45, 135]].amin(1)
    assert float((cheek - tip).median()) > 15.0


def test_of_some_heads_hair_or_eyes_are_not_seen_and_the_rest_of_the_image_stays() -> None:
    count, rng = 200, Counter(7, torch.arange(200))
    solids, _ = persons(count)
    none = persons(count)[0].kept(torch.zeros(count, dtype=torch.bool))
    head = solids.center[:, HEAD]
    step = 4.0 / head[:, 2:]  # a pixel is 4 mm wide there
    window = torch.cat([head[:, :2] / head[:, 2:] - 70 * step, step.expand(-1, 2)], 1)
    depth = render_solids(solids, window, 141, 141)
    dark = without_dark_parts(depth, window, solids, rng)
    gone = depth.isfinite() & ~dark.isfinite()
    assert torch.equal(dark[~gone], depth[~gone])
    assert torch.equal(without_dark_parts(depth, window, none, rng), depth)
    share = gone.flatten(1).any(1).float().mean()
    assert 0.4 < float(share) < 0.7
    rows, columns = torch.meshgrid(torch.arange(141.0), torch.arange(141.0), indexing="ij")
    away = 4.0 * ((rows - 70) ** 2 + (columns - 70) ** 2).sqrt()
    assert (
        float(away.expand(count, -1, -1)[gone].max()) < 210.0
    )  # 150 mm of the largest head, seen 15 % larger in front


def test_the_share_of_scenes_with_a_person_can_be_raised() -> None:
    camera = reduced(CAMERAS["sr305"], 8)
    few, all_ = (
        SyntheticScenes(3, "train", camera=camera, persons=share).frames(torch.arange(64)) for share in (0.0, 1.0)
    )
    changed = ((few.depth != all_.depth).flatten(1).float().mean(1) > 0.01).float().mean()
    assert 0.4 < float(changed) < 1.0
    assert torch.equal(few.uvd, all_.uvd)


def test_a_person_does_not_depend_on_the_batch() -> None:
    whole = persons(8)[0]
    single = person_behind(Counter(7, torch.tensor([5])), torch.tensor([[0.0, 0.0, 500.0]]))
    for one, other in zip(vars(whole).values(), vars(single).values(), strict=True):
        assert torch.allclose(one[5:6].float(), other.float(), atol=1e-3)
    assert torch.allclose(F.normalize(whole.rotation, dim=2), whole.rotation, atol=1e-5)
