# SPDX-License-Identifier: MIT
"""Contents and controls of the viewer, and the page in a browser if one is installed."""

import shutil
import socket
import threading
import urllib.request
from contextlib import contextmanager

import cv2
import numpy as np
import pytest
import torch
from helpers.live_frames import CAMERA, mirrored, moving, still, two_hands

from poseren_ext import Estimator
from poseren_ext.io.depth_files import find_frames
from poseren_ext.live import LiveEstimator, RecordingSource
from poseren_ext.viewer import View, Viewer, view_recording, view_stream
from poseren_ext.viewer.app import estimate_file
from poseren_ext.viewer.scene import CELL, MOST_POINTS, ShownHand, bones, cloud, cube_edges, stages_xyz, windows_picture

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


@pytest.fixture(scope="module")
def estimator():
    return Estimator("demo", camera=CAMERA, hand="auto")


@pytest.fixture(scope="module")
def view(estimator):
    depth = torch.from_numpy(still())
    return View(depth, (ShownHand(estimator(depth, return_stages=True), "1", 0.9, 0.98),), "a hand")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recording")
    for i, depth in enumerate(moving(3)):
        cv2.imwrite(str(folder / f"{i}.png"), depth)
    return folder


def test_points_are_the_depth_in_metres(view, estimator):
    points, colors = cloud(View(view.depth, (), ""), estimator)
    rows, columns = np.nonzero(still())
    assert points.shape == colors.shape == (len(rows), 3)
    np.testing.assert_allclose(points[:, 2], still()[rows, columns] / 1000, rtol=1e-6)
    np.testing.assert_allclose(points[:, 0], (columns - CAMERA.cx) * points[:, 2] / CAMERA.fx, atol=1e-6)
    nearest, farthest = points[:, 2].argmin(), points[:, 2].argmax()
    assert colors[nearest].sum() < colors[farthest].sum()
    crowded, _ = cloud(View(torch.full((480, 640), 500.0), (), ""), estimator)
    assert MOST_POINTS / 2 < len(crowded) <= MOST_POINTS


def test_the_hand_alone_is_what_its_cube_holds(view, estimator):
    everything, _ = cloud(view, estimator)
    hand, colors = cloud(view, estimator, hand_only=True)
    assert 0 < len(hand) == len(colors) < len(everything)
    middle = stages_xyz(view.hands[0].pose, estimator)[-1].mean(0)
    assert np.abs(hand - middle).max() < 0.25
    assert len(cloud(View(torch.zeros(4, 4), (), ""), estimator)[0]) == 0


def test_stages_and_bones(view, estimator):
    stages = stages_xyz(view.hands[0].pose, estimator)
    assert stages.shape == (4, 21, 3)
    np.testing.assert_allclose(stages[-1], view.hands[0].pose.joints / 1000, rtol=1e-5)
    segments, colors = bones(stages[-1], view.hands[0].pose.skeleton)
    assert segments.shape == colors.shape == (len(view.hands[0].pose.skeleton.bones), 2, 3)
    assert len(np.unique(colors.reshape(-1, 3), axis=0)) == 5
    assert len(np.unique(bones(stages[0], view.hands[0].pose.skeleton, ghost=True)[1])) == 1
    plain = estimator(view.depth)
    assert stages_xyz(plain, estimator).shape == (1, 21, 3)


def test_windows_are_where_the_op_puts_them(view, estimator):
    from poseren_ext import ops

    head = estimator.model.config.refine
    pictures = [windows_picture(view, estimator, stage) for stage in range(4)]
    assert pictures[0].shape == (12 * CELL, 12 * CELL, 3)
    poses = ops.normalize_pose(view.hands[0].pose.stages, view.hands[0].pose.center.expand(4, 3).contiguous(), CAMERA)
    for stage in (0, 3):
        left, top, right, _ = ops.roi_windows(poses[stage : stage + 1], head.joints)[0, 0].tolist()
        edge = pictures[stage][top * CELL + 2, left * CELL + 8 : (right + 1) * CELL - 8]  # the palm's, inset by 2
        dark = (edge.max(-1) < 90) & (np.ptp(edge.astype(int), axis=-1) < 10)  # the palm's grey; joints may lie on it
        assert dark.mean() > 0.6
    assert (pictures[0] != pictures[1]).any()
    empty = windows_picture(View(view.depth, (), ""), estimator, 0)
    assert set(np.unique(empty)) == {215, 255}


def test_left_hands_are_seen_in_the_models_mirror(view, estimator):
    left = torch.from_numpy(mirrored())
    pose = estimator(left, return_stages=True)
    assert pose.hand == ("left",)
    a = windows_picture(view, estimator, 3).astype(int)
    b = windows_picture(View(left, (ShownHand(pose, "1", 1.0),), ""), estimator, 3).astype(int)
    grey = (np.ptp(a, axis=-1) < 10) & (np.ptp(b, axis=-1) < 10)  # no window or joint
    assert np.abs(a - b)[grey].mean() < 6
    turned = b[:, ::-1]
    grey = (np.ptp(a, axis=-1) < 10) & (np.ptp(turned, axis=-1) < 10)
    assert np.abs(a - turned)[grey].mean() > 10


def test_broken_frames_are_shown_as_what_they_are(estimator, tmp_path):
    cv2.imwrite(str(tmp_path / "0.png"), np.full((240, 320), 900, np.uint16))
    cv2.imwrite(str(tmp_path / "1.png"), np.full((240, 320), 90, np.uint8))
    wall, grey = (estimate_file(estimator, file) for file in find_frames([tmp_path]))
    assert wall.hands == ()
    assert "no hand" in wall.note
    assert len(cloud(wall, estimator)[0]) > 10_000
    assert "8-bit" in grey.note
    cv2.imwrite(str(tmp_path / "2.png"), np.full((480, 640), 900, np.uint16))
    with pytest.raises(ValueError, match="320x240"):
        estimate_file(estimator, find_frames([tmp_path / "2.png"])[0])


@contextmanager
def shown(estimator, folder):
    """A viewer of the folder, fed by its own thread."""
    files, done = find_frames([folder]), threading.Event()
    viewer = Viewer(estimator, port=0, frames=len(files))
    thread = threading.Thread(target=view_recording, args=(viewer, files), kwargs={"stop": done.is_set})
    thread.start()
    try:
        yield viewer
    finally:
        done.set()
        thread.join()
        viewer.close()


def until(condition, seconds=30):
    for _ in range(10 * seconds):
        if condition():
            return
        threading.Event().wait(0.1)
    raise AssertionError("it did not happen in time")


def test_the_server_shows_what_the_controls_say(estimator, folder):
    with shown(estimator, folder) as viewer:
        assert viewer.address.startswith("http://127.0.0.1:")
        page = urllib.request.urlopen(viewer.address, timeout=10).read()
        assert b"<html" in page
        until(lambda: "0.png" in viewer.note.content)
        before = viewer.windows.image
        viewer.stage.value = 0
        until(lambda: (viewer.windows.image != before).any())
        viewer.frame.value = 2
        until(lambda: "2.png" in viewer.note.content)
        viewer.play.value = True
        until(lambda: "1.png" in viewer.note.content)


def test_a_stream_is_shown_as_it_comes(estimator, folder):
    viewer = Viewer(estimator, port=0)
    try:
        live = LiveEstimator(estimator, return_stages=True)
        view_stream(viewer, live.run(RecordingSource([folder])), rate=1e6)
        assert viewer.note.content.startswith("frame 2: tracked")
    finally:
        viewer.close()


def test_a_port_in_use_is_refused(estimator):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match=r"cannot listen on 127.0.0.1 port \d+ \(Address already in use"):
            Viewer(estimator, port=taken.getsockname()[1])


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed: the viewer's page was not opened")
def test_the_page_in_a_browser(estimator, folder, tmp_path):
    from playwright.sync_api import sync_playwright

    with shown(estimator, folder) as viewer, sync_playwright() as playwright:
        flags = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        browser = playwright.chromium.launch(executable_path=BROWSER, args=flags)
        page = browser.new_page(viewport={"width": 1100, "height": 700})
        page.goto(viewer.address)
        page.get_by_text("0.png").wait_for(timeout=60_000)
        canvas = page.locator("canvas").first
        canvas.wait_for()

        def colored():
            """Pixels of the scene in the colours of fingers, of points, and of nothing."""
            picture = cv2.imdecode(np.frombuffer(page.screenshot(), np.uint8), cv2.IMREAD_COLOR)[200:, :650].astype(int)
            spread = np.ptp(picture, axis=-1)
            blue = (picture[..., 0] > picture[..., 2] + 20) & (spread > 20)
            return int((spread > 60).sum() - (blue & (spread > 60)).sum()), int(blue.sum()), picture

        until(lambda: min(colored()[:2]) > 100, 60)  # fingers in their colours, points in blue
        last = colored()[2]
        slider = page.locator('[role="slider"]').nth(1)
        for _ in range(3):
            slider.press("ArrowLeft")
        until(lambda: viewer.stage.value == 0)
        until(lambda: (np.abs(colored()[2] - last) > 60).sum() > 100)  # another stage's skeleton
        initial = colored()[2]
        page.mouse.move(300, 450)
        page.mouse.down()
        page.mouse.move(420, 400, steps=5)
        page.mouse.up()
        until(lambda: (np.abs(colored()[2] - initial) > 60).sum() > 1000)  # turned
        page.locator('[role="slider"]').nth(0).press("ArrowRight")
        page.get_by_text("1.png").wait_for(timeout=30_000)
        page.screenshot(path=tmp_path / "viewer.png")
        phone = browser.new_page(viewport={"width": 390, "height": 844})
        phone.goto(viewer.address)
        bar = phone.get_by_text("Controls")
        bar.wait_for(timeout=60_000)
        stage = phone.get_by_text("Stage", exact=True)
        assert bar.bounding_box()["y"] > 700, "the controls cover the hand"
        assert not stage.is_visible()
        bar.click()
        stage.wait_for(timeout=30_000)
        browser.close()


def test_two_hands_are_shown_with_side_error_and_cube(estimator, tmp_path):
    cv2.imwrite(str(tmp_path / "0.png"), two_hands(1)[0])
    view = estimate_file(estimator, find_frames([tmp_path])[0], 2)
    assert [hand.label.split()[0] for hand in view.hands] == [hand.pose.hand[0] for hand in view.hands]
    assert {hand.pose.hand[0] for hand in view.hands} == {"left", "right"}
    for hand in view.hands:
        edges = cube_edges(hand.pose, estimator)
        np.testing.assert_allclose(np.linalg.norm(edges[:, 0] - edges[:, 1], axis=-1), 0.3, rtol=1e-4)
        inside = np.abs(hand.pose.joints.numpy() / 1000 - edges.reshape(-1, 3).mean(0)) < 0.15
        assert inside.mean() > 0.95
    viewer = Viewer(estimator, port=0, max_hands=2)
    try:
        viewer.show(view)
        assert viewer.note.content.count("\n| ") == 4  # the head, a line below it, and one per hand
        assert viewer.hand.options == ("1", "2")
        first = viewer.windows.image
        viewer.hand.value = "2"
        until(lambda: viewer.windows.image.shape == first.shape and (viewer.windows.image != first).any())
        labels = dict(viewer._labels)
        assert [label.text for label in labels.values()] == [hand.label for hand in view.hands]
        viewer.show(View(view.depth, view.hands[:1], ""))
        assert viewer._labels == {"/hands/0": labels["/hands/0"]}  # the same one: a new one would flicker
    finally:
        viewer.close()
