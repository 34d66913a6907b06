# SPDX-License-Identifier: MIT
"""Our ops inside a detector: a second-stage head, laid out as torchvision's, that looks at a box part by part.

torchvision's ``RoIHeads`` pools one region a box and reads class and box off it. ``PartBoxHead`` takes its place: from
feature maps and proposals it first guesses where the parts of each object are, then pools a region around every part
with ``pose_roi_pool``. Boxes of all images are one batch of poses; there is no index column to keep in step.

    python examples/detector_head.py
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poseren_ext import ops

PARTS = 4


class Detector(nn.Module):
    """A two-stage detector in torchvision's manner: backbone, proposals, ``roi_heads(features, proposals, sizes)``."""

    def __init__(self, classes: int = 3, channels: int = 16) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, channels, 3, 2, 1), nn.ReLU(), nn.Conv2d(channels, channels, 3, 2, 1), nn.ReLU()
        )
        self.roi_heads = PartBoxHead(channels, classes)

    def forward(self, images: Tensor, proposals: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Class scores [N, K] and box corrections [N, 4] of all proposals: images [B, 3, S, S], N boxes in all."""
        sizes = [(int(images.shape[2]), int(images.shape[3]))] * len(proposals)
        scores, deltas = self.roi_heads({"0": self.backbone(images)}, proposals, sizes)
        return scores, deltas


class PartBoxHead(nn.Module):
    """Stands where torchvision's ``RoIHeads`` stands: features, proposals and image sizes in.

    Args:
        channels: of the feature map "0".
        classes: K.
        cells: P, cells along a region's side.
        scale: feature cells per pixel.
    """

    def __init__(self, channels: int, classes: int, cells: int = 4, scale: float = 0.25) -> None:
        super().__init__()
        self.cells, self.scale = cells, scale
        self.parts = nn.Linear(channels * cells**2, 2 * PARTS)
        self.shared = nn.Linear((1 + PARTS) * channels * cells**2, 64)
        self.classes, self.boxes = nn.Linear(64, classes), nn.Linear(64, 4)

    def forward(
        self, features: dict[str, Tensor], proposals: list[Tensor], image_sizes: list[tuple[int, int]]
    ) -> tuple[Tensor, Tensor]:
        """Scores [N, K] and corrections [N, 4] of the proposals [n_b, 4] (x1, y1, x2, y2) of each image."""
        (size, _) = image_sizes[0]
        counts = torch.tensor([len(boxes) for boxes in proposals], device=features["0"].device)
        per_box = features["0"].repeat_interleave(counts, 0)
        boxes = torch.cat(proposals)
        center = (boxes[:, None, :2] + boxes[:, None, 2:]) / size - 1  # [N, 1, 2] in [-1, 1]
        half = (boxes[:, None, 2:] - boxes[:, None, :2]) / size
        whole = self._regions(per_box, center, size)
        parts = center + half * torch.tanh(self.parts(whole.flatten(1))).reshape(-1, PARTS, 2)
        seen = torch.cat([whole, self._regions(per_box, parts, size)], 1)
        hidden = F.relu(self.shared(seen.flatten(1)))
        return self.classes(hidden), self.boxes(hidden)

    def _regions(self, features: Tensor, places: Tensor, size: int) -> Tensor:
        """Regions [N, M, C, P, P] around places [N, M, 2]."""
        return ops.pose_roi_pool(
            features,
            places,
            range(places.shape[1]),
            output_size=self.cells,
            image_size=size,
            roi_size=int(self.cells / self.scale),
            spatial_scale=self.scale,
            mode="align",
        )


def main() -> None:
    """One training step on made-up boxes."""
    torch.manual_seed(0)
    detector = Detector()
    proposals = [torch.tensor([[4.0, 4, 40, 44], [20, 10, 60, 50]]), torch.tensor([[8.0, 16, 56, 60]])]
    scores, deltas = detector(torch.randn(2, 3, 64, 64), proposals)
    loss = F.cross_entropy(scores, torch.tensor([0, 1, 2])) + deltas.square().mean()
    loss.backward()
    moved = detector.roi_heads.parts.weight.grad
    assert moved is not None
    print(f"{len(scores)} boxes, loss {loss.item():.3f}, gradient to where the parts are {moved.norm().item():.2e}")


if __name__ == "__main__":
    main()
