# SPDX-License-Identifier: MIT
"""Our ops inside a heat-map network: its joints are refined by what a small head sees around each of them.

The network (convolutions, one heat map per joint, soft-argmax) does not use poseren_ext. ``RefinedHeatmaps`` adds one
pose-guided stage: regions are pooled around the network's own joints with ``pose_roi_pool`` in mode "align", which is
differentiable in the features *and* in the joints, so that everything trains end to end, eagerly or compiled.

    python examples/heatmap_network.py --steps 50 --compile
"""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poseren_ext import ops

JOINTS = 5
SIZE = 48  # pixels of the image
STRIDE = 4  # pixels of a feature cell


class Heatmaps(nn.Module):
    """Someone else's model: images [B, 1, S, S] -> features [B, C, S/4, S/4] and joints [B, J, 2] in [-1, 1]."""

    def __init__(self, channels: int = 12) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, channels, 5, 2, 2), nn.ReLU(), nn.Conv2d(channels, channels, 3, 2, 1), nn.ReLU()
        )
        self.maps = nn.Conv2d(channels, JOINTS, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Features and joints of images."""
        features = self.encoder(image)
        maps = self.maps(features)
        weights = F.softmax(maps.flatten(2), -1).reshape(maps.shape)
        axis = torch.linspace(-1, 1, maps.shape[-1], device=image.device)
        x = (weights.sum(2) * axis).sum(-1)
        y = (weights.sum(3) * axis).sum(-1)
        return features, torch.stack([x, y], -1)


class RefinedHeatmaps(nn.Module):
    """The same model with one pose-guided stage on top: each joint is moved by what is seen around it."""

    def __init__(self, channels: int = 12, cells: int = 3) -> None:
        super().__init__()
        self.network = Heatmaps(channels)
        self.cells = cells
        self.move = nn.Sequential(nn.Linear(channels * cells**2, 24), nn.ReLU(), nn.Linear(24, 2))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The network's joints and the refined ones, both [B, J, 2]."""
        features, joints = self.network(image)
        regions = ops.pose_roi_pool(
            features,
            joints,
            range(JOINTS),
            output_size=self.cells,
            image_size=SIZE,
            roi_size=self.cells * STRIDE,
            spatial_scale=1 / STRIDE,
            mode="align",
        )
        return joints, joints + self.move(regions.flatten(2))


def batch(step: int, size: int = 16) -> tuple[Tensor, Tensor]:
    """Images of bright spots of several sizes, and where they are: [B, 1, S, S] and [B, J, 2] in [-1, 1]."""
    generator = torch.Generator().manual_seed(step)
    joints = torch.rand(size, JOINTS, 2, generator=generator) * 1.6 - 0.8
    axis = torch.linspace(-1, 1, SIZE)
    x = axis - joints[..., :1]  # [B, J, S]
    y = axis - joints[..., 1:]
    width = torch.arange(1, JOINTS + 1)[:, None, None] * 0.02
    spots = torch.exp(-(x[:, :, None] ** 2 + y[:, :, :, None] ** 2) / (2 * width**2))
    return spots.sum(1, keepdim=True), joints


def train(steps: int, *, compiled: bool) -> list[float]:
    """The losses of the first steps from a fixed start."""
    torch.manual_seed(0)
    model = RefinedHeatmaps()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    forward = torch.compile(model, fullgraph=True) if compiled else model
    losses = []
    for step in range(steps):
        image, target = batch(step)
        first, refined = forward(image)
        loss = F.smooth_l1_loss(first, target) + F.smooth_l1_loss(refined, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def main() -> None:
    """Train from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--compile", action="store_true", help="train under torch.compile(fullgraph=True)")
    arguments = parser.parse_args()
    losses = train(arguments.steps, compiled=arguments.compile)
    for step in range(0, len(losses), 10):
        print(f"step {step:3}: loss {losses[step]:.4f}")
    print(f"step {len(losses) - 1:3}: loss {losses[-1]:.4f}")


if __name__ == "__main__":
    main()
