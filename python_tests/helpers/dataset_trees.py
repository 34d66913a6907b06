# SPDX-License-Identifier: MIT
"""Tiny datasets in the original formats, written from joints in mm with independent formulas.

Every frame shows a disc 8 mm in front of each joint, so that a reader with a wrong sign or order misses the hand.
"""

import shutil
import struct
from pathlib import Path

import cv2
import numpy as np
from scipy.io import savemat

EVALUATED = [0, 3, 6, 9, 12, 15, 18, 21, 24, 25, 27, 30, 31, 32]
GESTURES = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "I", "IP", "L", "MP", "RP", "T", "TIP", "Y"]
NYU_CAMERA = (588.03, 587.07, 320, 240, 640, 480)
ICVL_CAMERA = (240.99, 240.96, 160, 120, 320, 240)
MSRA_CAMERA = (241.42, 241.42, 160, 120, 320, 240)
HANDS17_CAMERA = (475.065948, 475.065857, 315.944855, 245.287079, 640, 480)


def hands(frames, joints, z, seed=0):
    """Joints in camera millimetres (x right, y down, z forward), off the optical axis: [frames, joints, 3]."""
    rng = np.random.default_rng(seed)
    middle = np.array([25.0, -35.0, z]) + rng.normal(size=(frames, 1, 3)) * 5
    return middle + rng.uniform(-55, 55, (frames, joints, 3)) * [1, 1, 0.7]


def project(xyz, camera):
    fx, fy, cx, cy, _, _ = camera
    return np.stack([xyz[..., 0] * fx / xyz[..., 2] + cx, xyz[..., 1] * fy / xyz[..., 2] + cy, xyz[..., 2]], -1)


def draw(xyz, camera, background):
    """A frame uint16 [H, W] mm that shows the joints."""
    image = np.full((camera[5], camera[4]), background, np.uint16)
    for u, v, d in sorted(project(xyz, camera).tolist(), key=lambda joint: -joint[2]):
        cv2.circle(image, (round(u), round(v)), 5, round(d - 8), -1)
    return image


def write_png(path, depth):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), depth)


def nyu_encoded(depth):
    return np.stack([depth & 255, depth >> 8, np.zeros_like(depth)], -1).astype(np.uint8)  # blue, green, red


def nyu_tree(root: Path, frames=3, splits=("train", "test")):
    """NYU: the real frames show a body at 900 mm too, the synthetic ones the hand alone. Joints of each split."""
    kept = {}
    for seed, split in enumerate(splits):
        xyz = hands(frames, 36, 750, seed)
        kept[split] = xyz[:, EVALUATED]
        for number in range(frames):
            image = draw(kept[split][number], NYU_CAMERA, 900)
            write_png(root / split / f"depth_1_{number + 1:07d}.png", nyu_encoded(image))
            image[image == 900] = 0
            write_png(root / split / f"synthdepth_1_{number + 1:07d}.png", nyu_encoded(image))
            write_png(root / split / f"depth_2_{number + 1:07d}.png", nyu_encoded(image))  # another view
        uvd, up = project(xyz, NYU_CAMERA), xyz * [1, -1, 1]
        views = {"joint_uvd": np.stack([uvd, uvd + 7, uvd - 7]), "joint_xyz": np.stack([up, up + 7, up - 7])}
        savemat(root / split / "joint_data.mat", views)
    return kept


def _numbers(values):
    return " ".join(f"{value:.3f}" for value in np.ravel(values))


def icvl_tree(root: Path):
    """ICVL: two recorded training frames and a turned copy of one; test sequences of 2 and 3 frames."""
    files = {
        "Training/labels.txt": ["201403121135/image_0000.png", "201403121135/image_0001.png"],
        "Testing/test_seq_1.txt": ["test_seq_1/image_0000.png", "test_seq_1/image_0001.png"],
        "Testing/test_seq_2.txt": [f"test_seq_2/image_{number:04d}.png" for number in range(3)],
    }
    files["Training/labels.txt"].append("22-5/201403121135/image_0000.png")
    kept = {}
    for seed, (labels, names) in enumerate(files.items()):
        xyz = hands(len(names), 16, 380, seed)
        for name, joints in zip(names, xyz, strict=True):
            write_png(root / labels.split("/")[0] / "Depth" / name, draw(joints, ICVL_CAMERA, 0))
        uvd = project(xyz, ICVL_CAMERA)
        lines = [f"{name} {_numbers(joints)} \n" for name, joints in zip(names, uvd, strict=True)]
        (root / labels).write_text("".join(lines) + "\n")  # as distributed: a space and an empty line at the end
        kept[labels] = xyz
    return kept


def as_first_icvl_release(root: Path):
    """Moves the files of `icvl_tree` to where ICVL's first release (2014) has them."""
    for part in ("Training", "Testing"):
        shutil.copytree(root / part, root, dirs_exist_ok=True)
        shutil.rmtree(root / part)
    (root / "labels.txt").rename(root / "train.txt")


def msra_bin(depth):
    """The box of the hand, as MSRA stores frames."""
    rows, columns = np.nonzero(depth)
    top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
    box = depth[top:bottom, left:right].astype("<f4")
    return struct.pack("<6I", depth.shape[1], depth.shape[0], left, top, right, bottom) + box.tobytes()


def msra_tree(root: Path, frames=1):
    """MSRA: 9 subjects x 17 gestures. Joints by (subject, gesture)."""
    kept = {}
    for subject in range(9):
        for order, gesture in enumerate(GESTURES):
            xyz = hands(frames, 21, 400, 100 * subject + order)
            folder = root / f"P{subject}" / gesture
            folder.mkdir(parents=True)
            lines = [str(frames)] + [_numbers(joints * [1, -1, -1]) for joints in xyz]
            (folder / "joint.txt").write_text("\n".join(lines) + "\n")
            for number, joints in enumerate(xyz):
                (folder / f"{number:06d}_depth.bin").write_bytes(msra_bin(draw(joints, MSRA_CAMERA, 0)))
            kept[f"P{subject}", gesture] = xyz
    return kept


def hands17_tree(root: Path, frames=3):
    """HANDS 2017: training frames, and test frames with boxes and something else as near as the hand."""
    xyz = hands(frames, 21, 450)
    lines = []
    for number, joints in enumerate(xyz):
        name = f"image_D{number + 1:08d}.png"
        write_png(root / "training" / "images" / name, draw(joints, HANDS17_CAMERA, 0))
        lines.append(name + "\t" + "\t".join(f"{value:.4f}" for value in joints.ravel()) + "\n")
    (root / "training" / "Training_Annotation.txt").write_text("".join(lines))
    lines = []
    for number, joints in enumerate(xyz):
        name = f"image_D{number + 1:08d}.png"
        image = draw(joints, HANDS17_CAMERA, 0)
        image[400:, 500:] = 450
        write_png(root / "frame" / "images" / name, image)
        uv = project(joints, HANDS17_CAMERA)[:, :2]
        lines.append(f"{name}\t{_numbers(np.concatenate([uv.min(0) - 6, uv.max(0) + 6]))}\n")
    (root / "frame" / "BoundingBox.txt").write_text("".join(lines))
    return xyz
