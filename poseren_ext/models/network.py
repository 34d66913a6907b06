# SPDX-License-Identifier: MIT
"""The network: backbone, region ensemble, Init-CNN and the cascade (paper, section 3)."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poseren_ext.geometry.skeleton import SKELETONS, Skeleton
from poseren_ext.models.config import STRIDE, HeadConfig, ModelConfig, WeightDtype
from poseren_ext.models.error_head import ErrorHead

# The only place that selects the implementation of the ops for the models.
from poseren_ext.ops import cascade_refine, pose_roi_pool

FullyConnectedInit: TypeAlias = Literal["gaussian", "he"]


class Backbone(nn.Module):
    """The residual feature extractor: six 3x3 convolutions, two 1x1 shortcuts, three poolings (paper, figure 3)."""

    def __init__(self, channels: tuple[int, int, int] = (16, 32, 64)) -> None:
        super().__init__()
        low, middle, high = channels
        self.channels = channels
        self.conv0 = nn.Conv2d(1, low, 3, padding=1)
        self.conv1 = nn.Conv2d(low, low, 3, padding=1)
        self.conv2_0 = nn.Conv2d(low, middle, 1)
        self.conv2 = nn.Conv2d(middle, middle, 3, padding=1)
        self.conv3 = nn.Conv2d(middle, middle, 3, padding=1)
        self.conv3_0 = nn.Conv2d(middle, high, 1)
        self.conv4 = nn.Conv2d(high, high, 3, padding=1)
        self.conv5 = nn.Conv2d(high, high, 3, padding=1)
        initialize(self)

    def forward(self, crop: Tensor) -> Tensor:
        """Features [B, C, S/8, S/8] of depth crops [B, 1, S, S] in [-1, 1]."""
        x = self.conv1(F.relu(self.conv0(crop)))
        x = F.relu(F.max_pool2d(x, 2))
        shortcut = F.relu(self.conv2_0(x))
        x = self.conv3(F.relu(self.conv2(shortcut)))
        x = F.relu(F.max_pool2d(shortcut + x, 2))
        shortcut = F.relu(self.conv3_0(x))
        x = self.conv5(F.relu(self.conv4(shortcut)))
        return F.relu(F.max_pool2d(shortcut + x, 2))


class RegionEnsemble(nn.Module):
    """Region ensemble: regions of the feature map, a layer per region, a layer per finger, the pose (section 3.3).

    Parameters: ``region_weight [M, W1, C*P*P]``, ``region_bias [M, W1]``; ``finger_weight [F, W2, K*W1]``,
    ``finger_bias [F, W2]``; ``pose_weight [3J, F*W2]``, ``pose_bias [3J]``, for M regions, F fingers of K regions, and
    J joints.
    """

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        first, second = config.widths
        fingers, members = len(config.tree), len(config.tree[0])
        inputs = config.channels * config.cells**2
        outputs = 3 * config.num_joints
        self.config = config
        self.region_weight = nn.Parameter(torch.empty(config.num_regions, first, inputs))
        self.region_bias = nn.Parameter(torch.empty(config.num_regions, first))
        self.finger_weight = nn.Parameter(torch.empty(fingers, second, members * first))
        self.finger_bias = nn.Parameter(torch.empty(fingers, second))
        self.pose_weight = nn.Parameter(torch.empty(outputs, fingers * second))
        self.pose_bias = nn.Parameter(torch.empty(outputs))
        initialize(self)

    def forward(self, features: Tensor, pose: Tensor | None = None) -> Tensor:
        """The normalised pose [B, J, 3], in at least float32.

        Args:
            features: [B, C, H, W] of the backbone.
            pose: normalised joints [B, J, 3] that guide the regions; not used for a grid.

        Raises:
            ValueError: The regions are guided and pose is None.
        """
        if self.training and self.config.map_dropout:
            features = F.dropout(features, self.config.map_dropout)
        regions = self.regions(features, pose).flatten(2).transpose(0, 1)  # [M, B, C*P*P]
        hidden = self._layer(regions, self.region_weight, self.region_bias)
        members = torch.stack([torch.cat([hidden[region] for region in finger], -1) for finger in self.config.tree])
        hidden = self._layer(members, self.finger_weight, self.finger_bias)  # [F, B, W2]
        joints = F.linear(hidden.transpose(0, 1).flatten(1), self.pose_weight, self.pose_bias)
        joints = joints.to(torch.promote_types(joints.dtype, torch.float32))
        return joints.reshape(-1, self.config.num_joints, 3)

    def regions(self, features: Tensor, pose: Tensor | None = None) -> Tensor:
        """The regions [B, M, C, P, P], inputs of the first layers."""
        config = self.config
        if config.grid:
            P = config.cells
            return torch.stack([features[:, :, row : row + P, column : column + P] for row, column in config.grid], 1)
        if pose is None:
            raise ValueError(f"this head looks around {config.num_regions} guided joints; expected a pose [B, J, 3]")
        return pose_roi_pool(
            features,
            pose,
            config.joints,
            output_size=config.cells,
            image_size=config.image_size,
            roi_size=config.roi_size,
            spatial_scale=1 / STRIDE,
            mode=config.mode,
        )

    def _layer(self, inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """A layer for each of G groups: inputs [G, B, N], weight [G, W, N], bias [G, W] -> [G, B, W]."""
        # The weights come first, so that their gradients have their memory layout and need no copy.
        hidden = F.relu(torch.baddbmm(bias[:, :, None], weight, inputs.transpose(1, 2)).transpose(1, 2))
        return F.dropout(hidden, self.config.dropout, self.training)


class InitCNN(nn.Module):
    """The plain regression network that estimates the initial pose (paper, section 3.1)."""

    def __init__(self, backbone: Backbone, head: RegionEnsemble) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, crop: Tensor) -> Tensor:
        """Normalised pose [B, J, 3] of depth crops [B, 1, S, S]."""
        pose: Tensor = self.head(self.backbone(crop))
        return pose


class PoseREN(nn.Module):
    """Pose-REN: one refining model applied again and again to its own pose (paper, algorithm 1).

    Args:
        init: network that estimates the initial pose P0.
        backbone: features of the refining model; computed once for any number of stages.
        head: head of the refining model, with guided regions.
        skeleton: skeleton of the joints.
        cube: half edge of the crop's cube, mm.
        hand: hand that the model is trained for; by default that of the skeleton.
        mean_pose: normalised mean pose of the training set [J, 3], fallback initial pose; by default
            zeros: every joint at the centre.
        weight_dtype: type that ``save`` stores the weights in.
        error: head that predicts the mean joint error of the final pose; it takes no part in ``forward``.
    """

    mean_pose: Tensor

    def __init__(
        self,
        init: InitCNN,
        backbone: Backbone,
        head: RegionEnsemble,
        skeleton: Skeleton,
        *,
        cube: float = 150.0,
        hand: Literal["left", "right"] | None = None,
        mean_pose: Tensor | None = None,
        weight_dtype: WeightDtype = "float32",
        error: ErrorHead | None = None,
    ) -> None:
        super().__init__()
        self.init = init
        self.backbone = backbone
        self.head = head
        self.error = error
        self.skeleton = skeleton
        joints = len(skeleton.joints)
        mean_pose = (
            torch.zeros(joints, 3, dtype=torch.float32) if mean_pose is None else mean_pose.detach().float().clone()
        )
        if mean_pose.shape != (joints, 3):
            raise ValueError(
                f"mean_pose has shape {tuple(mean_pose.shape)}; expected [{joints}, 3] for {skeleton.name}"
            )
        self.register_buffer("mean_pose", mean_pose)
        self.config = ModelConfig(
            skeleton=skeleton.name,
            hand=hand or skeleton.hand,
            cube=cube,
            image_size=head.config.image_size,
            channels=backbone.channels,
            init=init.head.config,
            refine=head.config,
            weight_dtype=weight_dtype,
            error=None if error is None else error.config,
        )

    @classmethod
    def build(cls, config: ModelConfig) -> PoseREN:
        """A freshly initialised float32 model of this configuration, whatever torch's default dtype is."""
        skeleton, error = SKELETONS[config.skeleton], None
        if config.error is not None:
            error = ErrorHead(config.error, skeleton, config.channels[-1], config.image_size)
        return cls(
            InitCNN(Backbone(config.channels), RegionEnsemble(config.init)),
            Backbone(config.channels),
            RegionEnsemble(config.refine),
            skeleton,
            cube=config.cube,
            hand=config.hand,
            weight_dtype=config.weight_dtype,
            error=error,
        ).float()

    def start_from_init(self) -> None:
        """Copy the convolutions of the Init-CNN to the refining model, to initialise its training (section 3.4)."""
        self.backbone.load_state_dict(self.init.backbone.state_dict())

    def forward(self, crop: Tensor, pose: Tensor | None = None, stages: int = 3, *, detach: bool = False) -> Tensor:
        """The initial pose and that of every stage.

        Args:
            crop: depth crops [B, 1, S, S] in [-1, 1].
            pose: initial normalised pose [B, J, 3]; by default the Init-CNN's.
            stages: T, the number of stages.
            detach: detach the pose between stages, so that the loss of a stage has no gradient in earlier stages.

        Returns:
            [T+1, B, J, 3], normalised.

        Raises:
            ValueError: stages is negative.
        """
        initial = self.init(crop) if pose is None else pose
        return self.refine_features(self.backbone(crop), initial, stages, detach=detach)

    def refine_features(self, features: Tensor, pose: Tensor, stages: int = 3, *, detach: bool = False) -> Tensor:
        """The cascade on features computed once: arguments and result as in :meth:`forward`.

        Without gradients and dropout this calls :func:`cascade_refine`, with its memoisation. A head with grid regions
        does not depend on the pose: all stages give the same pose.
        """
        if not (self.training or torch.is_grad_enabled() or self.head.config.grid):
            return cascade_refine(features, pose, self.head, stages=stages)[0]
        if stages < 0:
            raise ValueError(f"stages is {stages}; expected 0 or more")
        poses = [pose]
        for _ in range(stages):
            poses.append(self.head(features, poses[-1].detach() if detach else poses[-1]))
        return torch.stack(poses)


def initialize(
    module: nn.Module, *, fully_connected: FullyConnectedInit = "gaussian", generator: torch.Generator | None = None
) -> None:
    """Initialise the weights of all convolutions and fully connected layers in a module; biases become 0.

    Convolutions use the initialisation of He et al. Fully connected layers have a standard deviation of 0.001, as in
    the published recipe; "he" uses He initialisation for the hidden layers, which trains narrow layers better. The last
    layer always has 0.001, so that a new model places every joint near the centre.

    Raises:
        ValueError: The kind is unknown.
    """
    if fully_connected not in ("gaussian", "he"):
        raise ValueError(f"fully_connected is {fully_connected!r}; expected 'gaussian' or 'he'")
    if any(parameter.is_meta for parameter in module.parameters()):
        return  # weights will be loaded; initialising meta tensors would import torch's compiler, which takes seconds
    for part in module.modules():
        if isinstance(part, nn.Conv2d) and part.bias is not None:
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu", generator=generator)
            nn.init.zeros_(part.bias)
        elif isinstance(part, RegionEnsemble):
            for weight in (part.region_weight, part.finger_weight):
                deviation = 0.001 if fully_connected == "gaussian" else (2 / weight.shape[-1]) ** 0.5
                nn.init.normal_(weight, 0, deviation, generator=generator)
            nn.init.normal_(part.pose_weight, 0, 0.001, generator=generator)
            for bias in (part.region_bias, part.finger_bias, part.pose_bias):
                nn.init.zeros_(bias)
