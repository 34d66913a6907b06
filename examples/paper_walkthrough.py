# SPDX-License-Identifier: MIT
# %% [markdown]
"""A walk through the paper, cell by cell: what each section says, in the code that does it.

Open it as a notebook (Jupyter and VS Code read the ``# %%`` cells) or run it; it writes two pictures:

    python examples/paper_walkthrough.py pictures/
"""

# %% Imports: one namespace for the ops, one for the models
import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from poseren_ext import SKELETONS, Camera, HeadConfig, load_model, ops
from poseren_ext.models import RegionEnsemble
from poseren_ext.plotting import draw_crop, draw_skeleton, plot_cascade, save
from poseren_ext.plotting.style import FINGER_COLORS
from poseren_ext.synthetic import SyntheticHands

pictures = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("pictures")
pictures.mkdir(exist_ok=True)
model = load_model("demo")
skeleton = model.skeleton
cube = model.config.cube

# %% Frames: synthetic hands that the model has never seen, with the truth beside them
frames = SyntheticHands(seed=3, split="test", skeleton=skeleton.name).frames(torch.arange(4))
camera = Camera(*frames.camera[0].tolist())
print(f"depth {tuple(frames.depth.shape)} mm, joints {tuple(frames.uvd.shape)} u, v, d")

# %% Section 3.5: the hand is cut out by a cube around its centre, resized to 96x96 and normalised to [-1, 1]
crop = ops.depth_crop(frames.depth, frames.center, frames.camera, cube=cube, size=model.config.image_size)
truth = ops.normalize_pose(frames.uvd, frames.center, frames.camera, cube=cube)
print(f"crop {tuple(crop.shape)}, from {crop.min():.2f} to {crop.max():.2f}")

# %% Section 3.1: a plain network guesses the first pose P0
with torch.inference_mode():
    first = model.init(crop)
    features = model.backbone(crop)
print(f"features {tuple(features.shape)}; P0 is {150 * (first - truth).norm(dim=-1).mean():.1f} mm off")

# %% Section 3.2: the pose guides where to look: a window of 7x7 feature cells around the palm, finger roots and tips
guided = model.head.config.joints
windows = ops.roi_windows(first, guided)
regions = ops.pose_roi_pool(features, first, guided)
names = ", ".join(skeleton.joints[joint] for joint in guided[:3])
print(f"{len(guided)} guided joints ({names}, ...): windows {tuple(windows.shape)}, regions {tuple(regions.shape)}")

# %% Section 3.3: regions join finger by finger, then all fingers: the structure of a hand. At the published size:
with torch.device("meta"):
    published = RegionEnsemble(HeadConfig.pose_ren(SKELETONS["nyu14"]))
for name, weight in published.named_parameters():
    print(f"  {name:14} {list(weight.shape)}")
print(f"  {sum(weight.numel() for weight in published.parameters()) / 1e6:.1f} million in all")

# %% Section 3.4: the refined pose guides the next stage: P_t = R(P_{t-1}, F), F computed once
with torch.inference_mode():
    poses, stages_run = ops.cascade_refine(features, first, model.head, stages=5)
for stage, pose in enumerate(poses):
    line = f"  P{stage}: {150 * (pose - truth).norm(dim=-1).mean():5.1f} mm off"
    if stage > 0:
        moved = (ops.roi_windows(pose, guided) != ops.roi_windows(poses[stage - 1], guided)).any(-1)
        line += f"; {100 * moved.float().mean():.0f} % of the windows moved"
    print(line)
print(f"stages computed: {stages_run.tolist()} of 5; the others would not change the pose")

# %% Figure 3: the windows of one hand, in the colours of the fingers that they look at
hand = 3
figure = Figure(figsize=(4, 4), layout="constrained")
axes = figure.subplots()
draw_crop(axes, crop[hand, 0].numpy())
cell = 2 * 8 / (model.config.image_size - 1)  # a cell is 8 pixels; 96 pixels' centres span -1 to 1
for joint, (column, row, _, _) in zip(guided, ops.roi_windows(first[hand], guided).tolist(), strict=True):
    color = FINGER_COLORS[skeleton.finger_of[joint]]
    corner = (column * cell - 1, row * cell - 1)
    axes.add_patch(Rectangle(corner, 7 * cell, 7 * cell, fill=False, linewidth=1.5, alpha=0.6, color=color))
draw_skeleton(axes, first[hand].numpy(), skeleton)
axes.set_title("P0 and the windows that it guides", fontsize=10)
save(figure, pictures / "windows.png")

# %% Figure 13: stage by stage
save(plot_cascade(crop, poses[:4], skeleton, truth=truth), pictures / "cascade.png")
print(f"pictures: {pictures}/windows.png and {pictures}/cascade.png")
