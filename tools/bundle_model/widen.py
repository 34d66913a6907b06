# SPDX-License-Identifier: MIT
"""`python -m tools.bundle_model.widen MODEL --beside OTHER --widths 256 512 --out FILE`: wider layers, the same poses.

The units of the other model stand beside the model's own, and what is then still missing is random. Nothing reads them
yet: their outgoing weights are zero, so the poses are those of the model, and training starts from there (Chen et al.,
"Net2Net: accelerating learning via knowledge transfer", 2016, for the idea).
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import torch

from poseren_ext.models import PoseREN, load_model, save
from poseren_ext.models.network import initialize


@torch.no_grad()
def widened(model: PoseREN, beside: PoseREN, widths: tuple[int, int], *, seed: int = 1) -> PoseREN:
    """A model with wider region and finger layers in its refining head that gives the same poses, in float32.

    Args:
        model: the model whose poses it gives; its error head is left out.
        beside: a model of the same layers whose units are put beside those of `model`.
        widths: outputs of the region and of the finger layers, each at least twice those of `model`.
        seed: of the random units.

    Raises:
        ValueError: The two models differ in their layers, or a width is too small.
    """
    old = model.head.config
    if dataclasses.replace(beside.config, error=None) != dataclasses.replace(model.config, error=None):
        raise ValueError("the two models have different layers; give two models of one configuration")
    if any(new < 2 * width for new, width in zip(widths, old.widths, strict=True)):
        raise ValueError(f"widths are {widths}; expected at least twice those of the model, {old.widths}")
    config = dataclasses.replace(
        model.config, refine=dataclasses.replace(old, widths=widths), weight_dtype="float32", error=None
    )
    wide = PoseREN.build(config)
    initialize(wide.head, fully_connected="he", generator=torch.Generator().manual_seed(seed))
    wide.init.load_state_dict(model.init.state_dict())
    wide.backbone.load_state_dict(model.backbone.state_dict())
    wide.mean_pose.copy_(model.mean_pose)
    head, (region, finger), fingers = wide.head, old.widths, len(old.tree)
    # Views with the axes of units apart: [F, W2, K, W1] and [3J, F, W2].
    into_fingers = head.finger_weight.view(fingers, widths[1], -1, widths[0])
    into_pose = head.pose_weight.view(-1, fingers, widths[1])
    into_fingers[:, : 2 * finger] = 0.0
    into_pose.zero_()
    for k, source in enumerate((model.head, beside.head)):
        regions, units = (slice(k * width, (k + 1) * width) for width in old.widths)
        head.region_weight[:, regions], head.region_bias[:, regions] = source.region_weight, source.region_bias
        into_fingers[:, units, :, regions] = source.finger_weight.view(fingers, finger, -1, region)
        head.finger_bias[:, units] = source.finger_bias
    into_pose[:, :, :finger] = model.head.pose_weight.view(-1, fingers, finger)
    head.pose_bias.copy_(model.head.pose_bias)
    return wide.eval()


def main() -> None:
    """Widens a model and saves it."""
    parser = argparse.ArgumentParser(prog="python -m tools.bundle_model.widen", description=__doc__)
    parser.add_argument("model", help="a model file or the name of a bundled one")
    parser.add_argument("--beside", required=True, help="the other model")
    parser.add_argument("--widths", type=int, nargs=2, required=True, help="of regions and fingers")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    region, finger = given.widths
    save(widened(load_model(given.model), load_model(given.beside), (region, finger)), given.out)


if __name__ == "__main__":
    main()
