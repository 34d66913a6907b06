# SPDX-License-Identifier: MIT
from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from helpers.small_models import small_config, small_model
from torch import Tensor, nn

from poseren_ext import reference
from poseren_ext.geometry.skeleton import SKELETONS, Skeleton
from poseren_ext.models import Backbone, HeadConfig, InitCNN, ModelConfig, PoseREN, RegionEnsemble, initialize

NYU = SKELETONS["nyu14"]
KINDS = ("pose_ren", "without_structure", "ren_4x6x6", "ren_9x6x6", "guided_4x6x6", "guided_9x6x6", "init_cnn")
ALL_SKELETONS = pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=lambda skeleton: skeleton.name)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# --- the published network -------------------------------------------------------------------------------------------


def test_the_published_sizes() -> None:
    with torch.device("meta"):
        assert count(Backbone()) == 97_488
        assert count(RegionEnsemble(HeadConfig.pose_ren(NYU))) == 134_025_258
        init = RegionEnsemble(HeadConfig.init_cnn(NYU))
    assert count(init) == 9216 * 2048 + 2048 + 2048 * 2048 + 2048 + 2048 * 42 + 42


@ALL_SKELETONS
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_the_layers_of_its_description(kind: str, skeleton: Skeleton) -> None:
    regions, fingers, cells, widths = {
        "pose_ren": (11, 5, 7, (2048, 2048)),
        "without_structure": (11, 11, 7, (2304, 2048)),
        "ren_4x6x6": (4, 4, 6, (2048, 2048)),
        "ren_9x6x6": (9, 9, 6, (2048, 2048)),
        "guided_4x6x6": (4, 4, 6, (2048, 2048)),
        "guided_9x6x6": (9, 9, 6, (2048, 2048)),
        "init_cnn": (1, 1, 12, (2048, 2048)),
    }[kind]
    with torch.device("meta"):
        head = RegionEnsemble(getattr(HeadConfig, kind)(skeleton))
    members = 3 if kind == "pose_ren" else 1
    outputs = 3 * len(skeleton.joints)
    shapes = {name: tuple(parameter.shape) for name, parameter in head.named_parameters()}
    assert shapes == {
        "region_weight": (regions, widths[0], 64 * cells**2),
        "region_bias": (regions, widths[0]),
        "finger_weight": (fingers, widths[1], members * widths[0]),
        "finger_bias": (fingers, widths[1]),
        "pose_weight": (outputs, fingers * widths[1]),
        "pose_bias": (outputs,),
    }


def test_without_structure_is_as_large_as_pose_ren() -> None:
    with torch.device("meta"):
        sizes = [count(RegionEnsemble(getattr(HeadConfig, kind)(NYU))) for kind in ("pose_ren", "without_structure")]
    assert sizes[1] / sizes[0] == pytest.approx(1, abs=0.02)


def test_the_ablations_guided_joints() -> None:
    names = {kind: [NYU.joints[j] for j in getattr(HeadConfig, kind)(NYU).joints] for kind in KINDS[4:6]}
    assert names["guided_4x6x6"] == ["palm", "thumb root 1", "middle root", "pinky root"]
    assert set(NYU.guided) - set(HeadConfig.guided_9x6x6(NYU).joints) == {8, 0}  # tips of thumb and pinky


def test_the_backbone_is_the_published_graph() -> None:
    """The layers written out one by one, with their published names."""
    net = Backbone().double()
    crop = torch.randn(2, 1, 96, 96, dtype=torch.float64)

    def conv(name: str, x: Tensor) -> Tensor:
        layer = dict(net.named_modules())[name]
        return torch.conv2d(x, layer.weight, layer.bias, padding=layer.weight.shape[-1] // 2)

    pool = nn.MaxPool2d(2)
    x = pool(conv("conv1", conv("conv0", crop).clamp(min=0))).clamp(min=0)
    r = conv("conv2_0", x).clamp(min=0)
    x = pool(r + conv("conv3", conv("conv2", r).clamp(min=0))).clamp(min=0)
    r = conv("conv3_0", x).clamp(min=0)
    x = pool(r + conv("conv5", conv("conv4", r).clamp(min=0))).clamp(min=0)
    torch.testing.assert_close(net(crop), x)
    assert x.shape == (2, 64, 12, 12)
    assert [tuple(p.shape[2:]) for n, p in net.named_parameters() if n in ("conv2_0.weight", "conv3_0.weight")] == [
        (1, 1),
        (1, 1),
    ]


# --- heads -----------------------------------------------------------------------------------------------------------


def test_a_grid_head_gives_the_same_at_every_stage() -> None:
    init = InitCNN(Backbone(), RegionEnsemble(HeadConfig.init_cnn(NYU, widths=(8, 8))))
    head = RegionEnsemble(HeadConfig.ren_4x6x6(NYU, widths=(8, 8)))
    model = PoseREN(init, Backbone(), head, NYU).eval()
    crop = torch.randn(2, 1, 96, 96)
    with torch.inference_mode():
        poses = model(crop, stages=2)
        torch.testing.assert_close(poses[1], head(model.backbone(crop)), rtol=0, atol=0)
    torch.testing.assert_close(poses[2], poses[1], rtol=0, atol=0)


def test_grid_regions_lie_where_they_are_said_to() -> None:
    head = RegionEnsemble(HeadConfig.ren_9x6x6(NYU, widths=(2, 2), channels=1))
    rows, columns = torch.meshgrid(torch.arange(12.0), torch.arange(12.0), indexing="ij")
    starts = [
        (int(head.regions(rows[None, None])[0, m].min()), int(head.regions(columns[None, None])[0, m].min()))
        for m in range(9)
    ]
    assert sorted(starts) == [(row, column) for row in (0, 3, 6) for column in (0, 3, 6)]
    assert starts[:4] == list(HeadConfig.ren_4x6x6(NYU).grid)


def test_a_guided_head_needs_a_pose() -> None:
    head = RegionEnsemble(HeadConfig.pose_ren(NYU, widths=(2, 2), channels=1))
    with pytest.raises(ValueError, match="11 guided joints; expected a pose"):
        head(torch.zeros(1, 1, 12, 12))


def test_dropout_is_for_training_only() -> None:
    model = small_model()
    crop = torch.randn(4, 1, 96, 96)
    assert not torch.equal(model.train()(crop), model(crop))
    assert torch.equal(model.eval()(crop), model(crop))


@pytest.mark.parametrize("mode", ["max", "align"])
def test_gradients_reach_what_they_should(mode: str) -> None:
    model = small_model(small_config(refine=replace(small_config().refine, mode=mode)))
    features = torch.rand(2, 8, 12, 12, requires_grad=True)
    pose = (torch.rand(2, 14, 3) - 0.5).requires_grad_()
    model.head(features, pose).square().sum().backward()
    assert features.grad is not None
    assert features.grad.any()
    assert all(p.grad is not None and p.grad.any() for p in model.head.parameters())
    assert (pose.grad is not None and bool(pose.grad.any())) == (mode == "align")


def test_autocast_gives_a_float32_pose() -> None:
    model = small_model()
    crop = torch.randn(2, 1, 96, 96)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        poses = model.head(model.backbone(crop), model.init(crop))
    assert poses.dtype == torch.float32


# --- initialisation --------------------------------------------------------------------------------------------------


def test_the_recipes_initialisation() -> None:
    model = PoseREN.build(small_config(channels=(16, 32, 8)))
    assert model.backbone.conv3.weight.std().item() == pytest.approx((2 / (9 * 32)) ** 0.5, rel=0.05)
    for weight in (model.head.region_weight, model.head.finger_weight, model.head.pose_weight):
        assert weight.std().item() == pytest.approx(0.001, rel=0.05)
    biases = [p for name, p in model.named_parameters() if name.endswith("bias")]
    assert len(biases) == 2 * (8 + 3)
    assert not any(bias.any() for bias in biases)


def test_he_initialisation_of_the_hidden_layers() -> None:
    model = PoseREN.build(small_config())
    initialize(model, fully_connected="he", generator=torch.Generator().manual_seed(3))
    head = model.head
    assert head.region_weight.std().item() == pytest.approx((2 / (8 * 49)) ** 0.5, rel=0.05)
    assert head.finger_weight.std().item() == pytest.approx((2 / 36) ** 0.5, rel=0.05)
    assert head.pose_weight.std().item() == pytest.approx(0.001, rel=0.05)
    again = PoseREN.build(small_config())
    initialize(again, fully_connected="he", generator=torch.Generator().manual_seed(3))
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), again.parameters(), strict=True))
    with pytest.raises(ValueError, match="'zeros'; expected 'gaussian' or 'he'"):
        initialize(model, fully_connected="zeros")


def test_refining_starts_from_the_init_cnns_convolutions() -> None:
    model = small_model()
    assert not torch.equal(model.backbone.conv4.weight, model.init.backbone.conv4.weight)
    model.start_from_init()
    crop = torch.randn(1, 1, 96, 96)
    assert torch.equal(model.backbone(crop), model.init.backbone(crop))
    assert model.backbone.conv4.weight is not model.init.backbone.conv4.weight


# --- the cascade -----------------------------------------------------------------------------------------------------


@ALL_SKELETONS
def test_a_cascade_of_every_skeleton(skeleton: Skeleton) -> None:
    model = small_model(skeleton.name)
    crop = torch.randn(3, 1, 96, 96)
    poses = model(crop)
    assert poses.shape == (4, 3, len(skeleton.joints), 3)
    torch.testing.assert_close(poses[0], model.init(crop))
    features = model.backbone(crop)
    for stage in range(3):
        torch.testing.assert_close(poses[stage + 1], model.head(features, poses[stage]))


@pytest.mark.parametrize("stages", [0, 1, 5])
def test_with_and_without_gradients_the_poses_are_the_same(stages: int) -> None:
    model = small_model()
    crop, pose = torch.randn(2, 1, 96, 96), torch.rand(2, 14, 3) - 0.5
    poses = model(crop, pose, stages)
    with torch.no_grad():
        torch.testing.assert_close(model(crop, pose, stages), poses)
    expected, _ = reference.cascade_refine(model.backbone(crop), pose, model.head, stages=stages)
    torch.testing.assert_close(poses, expected)
    assert torch.equal(poses[0], pose)


def test_stages_can_be_cut_from_each_other() -> None:
    align = replace(small_config().refine, mode="align")
    model = small_model(small_config(refine=align))
    crop, pose = torch.randn(2, 1, 96, 96), (torch.rand(2, 14, 3) - 0.5).requires_grad_()
    for detach in (False, True):
        (gradient,) = torch.autograd.grad(model(crop, pose, 2, detach=detach)[2].sum(), pose)
        assert bool(gradient.any()) != detach


def test_a_negative_number_of_stages() -> None:
    model = small_model()
    for mode in (model.train(), model.eval()):
        with torch.no_grad(), pytest.raises(ValueError, match="stages is -1"):
            mode(torch.zeros(1, 1, 96, 96), stages=-1)


def test_the_mean_pose() -> None:
    config = small_config()
    parts = (
        InitCNN(Backbone(config.channels), RegionEnsemble(config.init)),
        Backbone(config.channels),
        RegionEnsemble(config.refine),
    )
    mean = torch.rand(14, 3)
    model = PoseREN(*parts, NYU, mean_pose=mean)
    assert torch.equal(model.mean_pose, mean)
    assert model.config == config
    with pytest.raises(ValueError, match=r"\(16, 3\); expected \[14, 3\] for nyu14"):
        PoseREN(*parts, NYU, mean_pose=torch.rand(16, 3))


# --- configurations --------------------------------------------------------------------------------------------------


@ALL_SKELETONS
@pytest.mark.parametrize("kind", KINDS)
def test_json_there_and_back(kind: str, skeleton: Skeleton) -> None:
    refine = replace(getattr(HeadConfig, kind)(skeleton, channels=8), dropout=0.25, mode="align")
    config = small_config(skeleton.name, refine=refine, weight_dtype="float16", hand="left", cube=125.5)
    assert ModelConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.pop("cube"), "ModelConfig: missing field 'cube'; expected exactly skeleton, hand"),
        (lambda c: c.update(stride=4), "ModelConfig: unknown field 'stride'"),
        (lambda c: c["refine"].pop("tree"), "HeadConfig: missing field 'tree'"),
        (lambda c: c["init"].update(pool=1), "HeadConfig: unknown field 'pool'"),
        (lambda c: c.update(init=[1]), "HeadConfig is tuple; expected a JSON object"),
        (lambda c: c.update(skeleton="foot"), "skeleton is 'foot'; expected one of nyu14"),
        (lambda c: c.update(cube=-1), "cube is -1; expected a positive"),
        (lambda c: c.update(cube="150"), "cube is '150'; expected a number"),
        (lambda c: c.update(channels=[4, 6]), "channels is .*; expected three positive"),
        (lambda c: c.update(hand="both"), "hand is 'both'"),
        (lambda c: c.update(weight_dtype="int2"), "weight_dtype is 'int2'"),
        (lambda c: c.update(init=c["refine"]), "init is .*; expected a head with a grid"),
        (lambda c: c["refine"].update(num_joints=16), "refine is .*; expected num_joints, channels and image_size 14"),
        (lambda c: c["refine"].update(joints=[99]), "joints is .*; expected indices below num_joints"),
        (lambda c: c["refine"].update(joints=[1.5]), "joints is .*; expected a tuple of integers"),
        (lambda c: c["refine"].update(cells="7"), "cells is '7'; expected an integer"),
        (lambda c: c["refine"].update(tree=[[0, 1], [2]]), "tree is .*; expected equal fingers"),
        (lambda c: c["refine"].update(tree=[[11]]), "tree is .*; expected indices of the 11 regions"),
        (lambda c: c["refine"].update(roi_size=96), "roi_size is 96; expected a window smaller"),
        (lambda c: c["refine"].update(dropout=1), "dropout is 1; expected a probability"),
        (lambda c: c["refine"].update(mode="mean"), "mode is 'mean'"),
        (lambda c: c["refine"].update(widths=[5]), "widths is .*; expected two positive"),
        (lambda c: c["init"].update(grid=[[0, 1]]), "grid is .*; expected .* starts of 12 cells on a 12x12 map"),
        (lambda c: c["init"].update(image_size=100), "image_size is 100; expected a multiple of 8"),
    ],
)
def test_a_configuration_that_cannot_be(edit, message: str) -> None:
    values = json.loads(small_config().to_json())
    edit(values)
    with pytest.raises((TypeError, ValueError), match=message):
        ModelConfig.from_json(json.dumps(values))
