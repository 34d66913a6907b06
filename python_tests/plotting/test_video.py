# SPDX-License-Identifier: MIT
"""Videos, read back by other libraries than those that wrote them."""

import sys
from importlib import import_module

import cv2
import numpy as np
import pytest
from helpers.small_models import save_small_model
from PIL import Image

from poseren_ext.geometry.skeleton import SKELETONS
from poseren_ext.plotting.video import draw_pose, hand_picture, open_video

NYU = SKELETONS["nyu14"]


def read_back(path):
    """RGB pictures of a video, and its frames per second."""
    if path.suffix == ".gif":
        with Image.open(path) as file:
            pictures = []
            for index in range(file.n_frames):
                file.seek(index)
                pictures.append(np.asarray(file.convert("RGB")))
            return pictures, 1000 / file.info["duration"]
    video = cv2.VideoCapture(str(path))
    pictures = []
    while (frame := video.read())[0]:
        pictures.append(frame[1][..., ::-1])
    return pictures, video.get(cv2.CAP_PROP_FPS)


@pytest.mark.parametrize("name", ["hand.mp4", "hand.gif"])
def test_a_video_has_the_pictures_the_size_and_the_rate(tmp_path, name):
    depth = np.full((61, 91), 900.0)
    depth[20:40, 30:60] = 500
    joints = np.full((14, 3), np.nan)
    with open_video(tmp_path / name, rate=20) as video:
        for step in range(4):
            joints[0] = (35 + 5 * step, 30, 500)  # the tip of the little finger
            video.write(hand_picture(depth, [joints], NYU))
    pictures, rate = read_back(tmp_path / name)
    assert (len(pictures), rate) == (4, pytest.approx(20))
    for step, picture in enumerate(pictures):
        assert abs(picture.shape[0] - 61) <= 1  # H.264 has even sizes
        assert abs(picture.shape[1] - 91) <= 1
        color = picture[30, 35 + 5 * step].astype(int)
        assert np.abs(color - (0xCC, 0x79, 0xA7)).max() < 40, color  # that of the little finger
        assert picture[5, 5].min() > 245  # far behind the hand
        assert picture[22, 32].max() < 200  # the hand
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_joints_far_outside_or_missing_do_not_hurt():
    picture = np.full((40, 40, 3), 255, np.uint8)
    draw_pose(picture, np.full((14, 3), np.nan), NYU)
    assert (picture == 255).all()
    draw_pose(picture, np.full((14, 3), 1e30), NYU)
    assert (picture == 255).all()


def test_other_endings_and_a_missing_library_are_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"written as \.mp4 or \.gif"), open_video(tmp_path / "hand.avi"):
        pass
    monkeypatch.setitem(sys.modules, "av", None)
    with (
        pytest.raises(ModuleNotFoundError, match=r"pip install 'poseren_ext\[video\]'"),
        open_video(tmp_path / "a.mp4"),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_predict_draws_every_frame_that_it_can_read(poseren, tmp_path):
    model = save_small_model(tmp_path / "tiny.safetensors")
    rows, columns = np.mgrid[:120, :160]
    (tmp_path / "frames").mkdir()
    for index in range(5):
        disc = np.where((rows - 60) ** 2 + (columns - 60 - 8 * index) ** 2 < 110, 500, 0).astype(np.uint16)
        cv2.imwrite(str(tmp_path / "frames" / f"{index}.png"), disc if index < 3 else disc * (index == 3))
    (tmp_path / "frames" / "4.png").write_bytes(b"rubbish")
    given = ("predict", tmp_path / "frames", "--camera", "120,120,80,60", "--model", model, "--out", tmp_path / "o.txt")
    code, _, err = poseren(*given, "--video", tmp_path / "v.mp4", "--fps", 5, "--batch", 2)
    assert code == 3, err
    pictures, rate = read_back(tmp_path / "v.mp4")
    assert (len(pictures), rate) == (4, pytest.approx(5))
    assert poseren(*given, "--rerun", tmp_path / "v.rrd", "--overwrite")[0] == 3
    if sys.version_info >= (3, 11):  # earlier versions of rerun-sdk cannot read files
        paths = {part.entity_path for part in import_module("rerun.chunk").RrdReader(tmp_path / "v.rrd").stream()}
        assert {"/camera/depth", "/hands/1", "/camera/hands/1"} <= paths
    code, _, err = poseren(*given, "--video", tmp_path / "v.mp4", "--overwrite", "--resume")
    assert (code, "--video" in err) == (2, True)


def test_demo_and_render_write_videos(poseren, tmp_path):
    model = save_small_model(tmp_path / "tiny.safetensors")
    assert poseren("demo", "--frames", 4, "--model", model, "--out", tmp_path / "demo.gif")[0] == 0
    pictures, _ = read_back(tmp_path / "demo.gif")
    assert (len(pictures), pictures[0].shape) == (4, (240, 720, 3))  # initial pose, stage 3, truth
    moving = ("render", tmp_path / "moving.mp4", "--sequence", "--frames", 3, "--camera", "icvl", "--fps", 10)
    assert poseren(*moving)[0] == 0
    pictures, rate = read_back(tmp_path / "moving.mp4")
    assert (len(pictures), pictures[0].shape, rate) == (3, (240, 320, 3), pytest.approx(10))
    assert (np.ptp(pictures[0], axis=-1) > 60).any()  # a hand in colours
    assert "exists" in poseren(*moving).err
    assert poseren("render", tmp_path / "s.gif", "--scenes")[0] == 2
