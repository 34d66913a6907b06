# SPDX-License-Identifier: MIT
import sys

import cv2
import matplotlib.colors
import numpy as np
import pytest
import torch

from poseren_ext.evaluation.metrics import evaluate
from poseren_ext.geometry.camera import CAMERAS, xyz_to_uvd
from poseren_ext.geometry.skeleton import SKELETONS
from poseren_ext.plotting import (
    plot_cascade,
    plot_comparison,
    plot_iterations,
    plot_qualitative,
    plot_skeletons_3d,
    plot_viewpoints,
    save,
)
from poseren_ext.plotting.curves import joint_order
from poseren_ext.plotting.hands import draw_crop, shade_depth
from poseren_ext.plotting.style import FINGER_COLORS, lines_for, new_figure

MSRA = SKELETONS["msra21"]


def rendered(figure):
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3] / 255


def texts(figure):
    found = [text for axes in figure.axes for text in (axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts)]
    return [text.get_text() for text in found if text.get_text()]


def hands(frames, seed):
    xyz = np.random.default_rng(seed).normal(0, 40, (frames, 21, 3))
    return xyz_to_uvd(xyz + np.array([0, 0, 500.0]), CAMERAS["msra"])


@pytest.fixture(scope="module")
def results():
    truth = hands(60, 0)
    noise = hands(60, 1) - hands(60, 2)
    return [
        evaluate(truth + noise * scale, truth, CAMERAS["msra"], skeleton=MSRA, name=name, viewpoint=True)
        for name, scale in (("Pose-REN", 0.1), ("REN-9x6x6", 0.2), ("mine", 0.3))
    ]


def ball_crop(size=96):
    """A ball of radius 0.6 at the crop's middle, its near point at depth -0.6."""
    grid = np.linspace(-1, 1, size)
    square = 0.36 - grid[:, None] ** 2 - grid[None] ** 2
    return np.where(square > 0, -np.sqrt(np.maximum(square, 0)), 1.0)


def test_a_joint_is_drawn_where_its_normalised_coordinates_say():
    figure = new_figure(4, 4)
    axes = figure.subplots()
    axes.axis("off")
    crop = np.full((9, 9), 1.0)
    crop[2, 6] = 0.0  # normalised x = 6 / 4 - 1, y = 2 / 4 - 1
    draw_crop(axes, crop)
    axes.scatter([0.5], [-0.5], s=30, color="red")
    image = rendered(figure)
    dark = np.argwhere(image.sum(-1) < 2.4)
    red = np.argwhere((image[..., 0] > 0.9) & (image[..., 1] < 0.2))
    np.testing.assert_allclose(red.mean(0), dark.mean(0), atol=2)


def test_shading_keeps_the_hand_apart_from_background_and_ink():
    shade = shade_depth(ball_crop())
    hand = ball_crop() < 1
    assert (shade[~hand] == 1).all()
    assert shade[hand].min() >= 0.35
    assert shade[hand].max() < 0.97
    assert (shade_depth(np.ones((8, 8))) == 1).all()
    assert np.isfinite(shade_depth(np.full((8, 8), np.nan))).all()


def test_cascade_shows_every_stage_and_its_error():
    truth = np.random.default_rng(0).uniform(-0.6, 0.6, (2, 21, 3))
    stages = torch.tensor(np.stack([truth + np.array([0.1, 0, 0]), truth + np.array([0, 0.04, 0]), truth]))
    crops = torch.tensor(np.stack([ball_crop()] * 2))[:, None]
    figure = plot_cascade(crops, stages, MSRA, truth=truth, labels=["a", "b"])
    assert len(figure.axes) == 2 * 4
    shown = texts(figure)
    for text in ("initial pose", "stage 1", "stage 2", "truth", "a", "b", "15.0 mm", "6.0 mm", "0.0 mm"):
        assert text in shown, text
    image = rendered(figure)
    for color in FINGER_COLORS:
        assert (np.abs(image - matplotlib.colors.to_rgb(color)).max(-1) < 0.02).sum() > 100, color
    given = texts(plot_cascade(crops, stages, MSRA, errors=np.full((3, 2), 7.25), titles=("x", "y", "z")))
    assert given.count("7.2 mm") == 6
    assert {"x", "y", "z"} <= set(given)
    without = plot_cascade(crops, stages, MSRA)
    assert len(without.axes) == 2 * 3
    assert not any("mm" in text for text in texts(without))


def test_cascade_refuses_what_does_not_fit():
    stages, crops = np.zeros((3, 2, 21, 3)), np.stack([ball_crop()] * 2)
    with pytest.raises(ValueError, match=r"errors have shape \[2, 3\]; expected \[3, 2\]"):
        plot_cascade(crops, stages, MSRA, errors=np.zeros((2, 3)))
    with pytest.raises(ValueError, match="2 titles for 3 stages"):
        plot_cascade(crops, stages, MSRA, titles=("a", "b"))


def test_qualitative_grid():
    crops, pose = np.stack([ball_crop()] * 3), np.random.default_rng(0).uniform(-0.6, 0.6, (3, 21, 3))
    figure = plot_qualitative(crops, {"REN-9x6x6": pose, "Pose-REN": pose, "truth": pose}, MSRA, title="MSRA")
    assert len(figure.axes) == 9
    assert {"REN-9x6x6", "Pose-REN", "truth"} <= set(texts(figure))


def test_comparison_has_every_system_and_joint(results):
    figure = plot_comparison(results, skeleton=MSRA, title="hands")
    curves, bars = figure.axes
    legend = [text.get_text() for text in curves.get_legend().get_texts()]
    assert [label.split(" (")[0] for label in legend] == ["mine", "REN-9x6x6", "Pose-REN"]
    assert len(bars.patches) == 3 * 22
    labels = [label.get_text() for label in bars.get_xticklabels()]
    assert labels[:3] == ["Wrist", "Thumb mcp", "Thumb pip"]
    assert labels[-2:] == ["Pinky tip", "Mean"]
    heights = sorted(patch.get_height() for patch in bars.patches[-22:])
    assert heights == pytest.approx(sorted([*results[0].per_joint, results[0].mean_3d]))
    drawn = {line.get_label().split(" (")[0]: line for line in curves.lines}
    np.testing.assert_allclose(drawn["Pose-REN"].get_ydata(), results[0].success_max)


@pytest.mark.parametrize("name", SKELETONS)
def test_joint_order_is_a_permutation_from_palm_to_pinky(name):
    skeleton = SKELETONS[name]
    order = joint_order(skeleton)
    assert sorted(order) == list(range(len(skeleton.joints)))
    names = [skeleton.joints[j] for j in order]
    assert names[-1] == "pinky tip"
    assert names.index("thumb tip") < names.index("index tip") < names.index("middle tip") < names.index("ring tip")


def test_viewpoints_and_iterations(results):
    figure = plot_viewpoints(results, title="MSRA")
    assert [axes.get_xlabel() for axes in figure.axes] == ["yaw of the hand (degrees)", "pitch of the hand (degrees)"]
    errors = {"Init-CNN": [14.6, 12.2, 11.9], "mean pose": [40, 30, 20, 18]}
    axes = plot_iterations(errors, spread={"mean pose": [2, 1, 1, 1]}).axes[0]
    assert len(axes.lines) == 2
    assert len(axes.collections) == 1
    assert list(axes.get_xticks()) == [0, 1, 2, 3]


def test_hands_in_space():
    joints = np.random.default_rng(0).normal(0, 40, (21, 3))
    assert len(plot_skeletons_3d({"truth": joints}, MSRA).axes) == 4
    figure = plot_skeletons_3d({"truth": joints, "Pose-REN": joints + 3}, MSRA)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["truth", "Pose-REN"]


def test_a_system_has_one_colour_everywhere():
    alone, together = lines_for(["Pose-REN"]), lines_for(["zebra", "Pose-REN", "REN-9x6x6"])
    assert alone["Pose-REN"] == together["Pose-REN"]
    many = lines_for([f"system {i}" for i in range(10)])
    assert len(set(many.values())) == 10
    assert lines_for(["zebra"])["zebra"] == together["zebra"]


def test_no_global_state():
    pyplot = sys.modules.get("matplotlib.pyplot")
    before = pyplot.get_fignums() if pyplot else []
    plot_iterations({"a": [1, 2]})
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert (pyplot.get_fignums() if pyplot else []) == before


def test_save(tmp_path):
    figure = plot_iterations({"a": [3, 2, 1]})
    save(figure, tmp_path / "a.png")
    save(figure, tmp_path / "a.pdf")
    assert cv2.imread(str(tmp_path / "a.png")).shape[1] > 500
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(ValueError, match=r"\.png, \.pdf or \.svg"):
        save(figure, tmp_path / "a.txt")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        save(figure, tmp_path / "nowhere" / "a.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pdf", "a.png"]


def test_bad_input(results):
    crops, pose = np.zeros((2, 96, 96)), np.zeros((2, 21, 3))
    with pytest.raises(ValueError, match=r"expected \[T\+1, N, J, 3\]"):
        plot_cascade(crops, pose, MSRA)
    with pytest.raises(ValueError, match=r"expected \[2, 21\] frames and joints"):
        plot_cascade(crops, np.zeros((4, 2, 14, 3)), MSRA)
    with pytest.raises(ValueError, match="crops have shape"):
        plot_cascade(np.zeros((96, 96)), np.zeros((4, 1, 21, 3)), MSRA)
    with pytest.raises(ValueError, match="no system"):
        plot_qualitative(crops, {}, MSRA)
    for plot in (plot_comparison, plot_viewpoints):
        with pytest.raises(ValueError, match="no result"):
            plot([])
    other = evaluate(hands(2, 0)[:, :14], hands(2, 1)[:, :14], CAMERAS["msra"])
    with pytest.raises(ValueError, match="different joints"):
        plot_comparison([results[0], other])
    with pytest.raises(ValueError, match="without viewpoints"):
        plot_viewpoints([other])
    with pytest.raises(ValueError, match="no curve"):
        plot_iterations({})
    with pytest.raises(ValueError, match="no hand"):
        plot_skeletons_3d({}, MSRA)
    with pytest.raises(ValueError, match=r"expected finite joints \[21, 3\]"):
        plot_skeletons_3d({"a": np.full((21, 3), np.nan)}, MSRA)
