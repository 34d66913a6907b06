# SPDX-License-Identifier: MIT
"""Packed models: grid heads and convolutions, and the errors of narrow weights in mm."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from helpers.heads import rounds_inputs
from helpers.small_models import small_model

from benchmarks.subjects.refine import widened
from poseren_ext import SKELETONS, HeadConfig, load_model, ops, reference
from poseren_ext.models import Backbone, InitCNN, PackedPoseREN, PoseREN, RegionEnsemble, initialize, round_to_bytes
from poseren_ext.models.packed import pack_backbone
from poseren_ext.ops.cascade import WeightType
from poseren_ext.synthetic import SyntheticHands

SKELETON = SKELETONS["nyu14"]
HEADS = {
    "Init-CNN": HeadConfig.init_cnn(SKELETON, widths=(40, 24)),
    "REN-4x6x6": HeadConfig.ren_4x6x6(SKELETON, widths=(40, 24)),
    "REN-9x6x6": HeadConfig.ren_9x6x6(SKELETON, widths=(40, 24)),
}


def random_head(config: HeadConfig) -> RegionEnsemble:
    torch.manual_seed(1)
    head = RegionEnsemble(config).eval()
    initialize(head, fully_connected="he")
    with torch.no_grad():
        head.pose_weight.mul_(100)
        head.region_bias.uniform_(-0.1, 0.1)
        head.pose_bias.uniform_(-0.1, 0.1)
    return head


@pytest.mark.parametrize("name", HEADS)
@torch.inference_mode()
def test_a_grid_head_sees_what_it_does_unpacked(name: str) -> None:
    head = random_head(HEADS[name])
    features = torch.rand(3, 64, 12, 12)
    torch.testing.assert_close(ops.run_grid(features, head), head(features), rtol=1e-5, atol=3e-6)
    for dtype in ("float32", "bfloat16", "int8"):
        packed = ops.pack_head(head, dtype)
        wanted = reference.cascade_refine(features, torch.zeros(3, 14, 3), widened(packed), stages=1)[0][1]
        most = 1e-4 if rounds_inputs(dtype) else 3e-6
        torch.testing.assert_close(ops.run_grid(features, packed), wanted, rtol=1e-5, atol=most)
    torch.testing.assert_close(ops.run_grid(features[0], head), ops.run_grid(features, head)[0], rtol=0, atol=0)


def test_a_grid_needs_room_and_no_pose() -> None:
    head = random_head(HEADS["Init-CNN"])
    with pytest.raises(ValueError, match="expected maps of 12x12"):
        ops.run_grid(torch.rand(1, 64, 11, 12), head)
    guided = RegionEnsemble(HeadConfig.pose_ren(SKELETON, widths=(8, 8)))
    with pytest.raises(ValueError, match="needs a pose: cascade_refine"):
        ops.run_grid(torch.rand(1, 64, 12, 12), guided)


@pytest.mark.parametrize("channels", [(16, 32, 64), (8, 16, 16), (5, 7, 9)])
@pytest.mark.parametrize("batch", [1, 3])
@torch.inference_mode()
def test_packed_convolutions_give_the_same_features(channels: tuple[int, int, int], batch: int) -> None:
    torch.manual_seed(2)
    backbone = Backbone(channels).eval()
    for layer in backbone.children():
        torch.nn.init.uniform_(layer.bias, -0.1, 0.1)
    packed = pack_backbone(backbone, 96)
    assert packed is not backbone, "this torch has no oneDNN, or other ops of it than we know"
    crop = 2 * torch.rand(batch, 1, 96, 96) - 1
    torch.testing.assert_close(packed(crop), backbone(crop), rtol=1e-4, atol=1e-4)


def test_a_grid_refines_to_one_pose() -> None:
    head = random_head(HEADS["REN-9x6x6"])
    model = PoseREN(InitCNN(Backbone(), random_head(HEADS["Init-CNN"])), Backbone(), head, SKELETON).eval()
    packed = PackedPoseREN(model)
    with torch.inference_mode():
        crop = torch.rand(2, 1, 96, 96)
        poses, run, _ = packed.refine(crop, packed.initial(crop), 3)
        torch.testing.assert_close(poses, model(crop), rtol=1e-4, atol=1e-5)
    assert run.tolist() == [1, 1]


def test_narrow_weights_keep_no_others_alive() -> None:
    model = load_model("demo")
    wide = weakref.ref(model.head)
    packed = PackedPoseREN(model, "int8")
    others = (model.backbone, model.init.backbone, model.error)
    floats = sum(weight.nbytes for part in others if part is not None for weight in part.parameters())
    fully_connected = sum(weight.numel() for part in (model.head, model.init.head) for weight in part.parameters())
    assert packed.nbytes == pytest.approx(floats + fully_connected, rel=0.05)  # a byte a weight
    del model
    gc.collect()
    assert wide() is None


@pytest.fixture(scope="module")
def crops() -> torch.Tensor:
    """Crops of hands that the bundled model was not trained on."""
    hands = SyntheticHands(11, "test").tiles(torch.arange(64))
    return ops.depth_crop(hands.depth, hands.center, hands.camera)


def shifts(model: PoseREN, dtype: WeightType, crops: torch.Tensor) -> tuple[float, float]:
    """Mean shift in mm of the joints: of a stage from one pose; of three from each Init-CNN's own pose.

    The latter is larger: where a joint lies near the edge of two windows, another stage sees another one.
    """
    exact, narrow = PackedPoseREN(model, "float32"), PackedPoseREN(model, dtype)
    initial = exact.initial(crops)

    def shift(start: torch.Tensor, stages: int) -> float:
        last = narrow.refine(crops, start, stages)[0][-1] - exact.refine(crops, initial, stages)[0][-1]
        return float(model.config.cube * last.norm(dim=-1).mean())

    return shift(initial, 1), shift(narrow.initial(crops), 3)


@pytest.mark.parametrize(("dtype", "most"), [("bfloat16", 0.1), ("int8", 0.3)])
@torch.inference_mode()
def test_the_bundled_model_hardly_moves_in_narrow_weights(crops: torch.Tensor, dtype: WeightType, most: float) -> None:
    """Its weights were rounded once: what is left is how sums and inputs are rounded."""
    for shift in shifts(load_model("demo"), dtype, crops):
        assert shift < most / 5


@pytest.mark.parametrize(("dtype", "most", "most_in_all"), [("bfloat16", 0.1, 0.2), ("int8", 0.4, 1.0)])
@torch.inference_mode()
def test_narrow_weights_of_any_model_move_joints_by_little(
    crops: torch.Tensor, dtype: WeightType, most: float, most_in_all: float
) -> None:
    model = load_model("demo")
    for head in (model.init.head, model.head):  # off the steps
        for weight in (head.region_weight, head.finger_weight, head.pose_weight):
            weight *= 1 + 0.01 * torch.rand(weight.shape, generator=torch.Generator().manual_seed(1))
    one, in_all = shifts(model, dtype, crops)
    assert 0 < one < most
    assert 0 < in_all < most_in_all


def test_rounded_weights_are_the_same_in_every_type() -> None:
    model = small_model()
    crop = torch.rand(4, 1, 96, 96, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = model(crop, stages=1)
        round_to_bytes(model)
        moved = model(crop, stages=1) - expected
    assert 0 < float(moved.norm()) < 0.02 * float(expected.norm())
    for head in (model.init.head, model.head):
        packed = ops.pack_head(head, "int8")
        for layer in ("region", "finger", "pose"):
            weight = getattr(head, f"{layer}_weight").detach()
            steps, scale = getattr(packed, f"{layer}_weight"), getattr(packed, f"{layer}_scale")
            assert torch.equal(steps * scale[..., None], weight)
            for dtype in (torch.bfloat16, torch.float16):
                assert torch.equal(weight.to(dtype).float(), weight)
    again = {name: value.clone() for name, value in model.state_dict().items()}
    round_to_bytes(model)  # nothing is left to round
    assert all(torch.equal(value, again[name]) for name, value in model.state_dict().items())
