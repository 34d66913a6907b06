# SPDX-License-Identifier: MIT
"""The viewer: a viser server, its controls, and the loops that feed it."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout
from functools import lru_cache

import numpy as np
import torch

try:
    import viser
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("the viewer needs viser: pip install 'poseren_ext[viewer]'", name=error.name) from error

from poseren_ext.inference.estimator import Estimator
from poseren_ext.inference.frame_hands import single_hand
from poseren_ext.inference.input_frames import check_camera, read_frames
from poseren_ext.io.depth_files import FrameFile
from poseren_ext.live import LiveResult
from poseren_ext.viewer.scene import (
    ShownHand,
    View,
    bones,
    cloud,
    cube_edges,
    joint_colors,
    middle,
    stages_xyz,
    windows_picture,
)

# Metres. The points are small, so that the skeleton inside the hand is visible between them.
_JOINT, _BONE, _EDGE = 0.006, 0.003, 0.001
_POINT_SIZES = (0.2, 4.0)  # mm
_NOTHING = torch.zeros(1, 1, dtype=torch.float32)


def free_port(host: str, port: int) -> int:
    """Check that the port is free; port 0 selects a free one.

    Raises:
        OSError: The port is in use, or the host is not an address of this machine.
    """
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return int(probe.getsockname()[1])
    except OSError as error:
        raise OSError(
            f"cannot listen on {host} port {port} ({error.strerror}); give another --port, 0 for any"
        ) from None


class Viewer:
    """A page that shows one frame at a time: points, hands with their cubes, and the windows of a chosen stage.

    Args:
        estimator: model, camera and settings of the frames.
        host: address to listen on.
        port: port to listen on; 0 selects a free one.
        frames: number of frames of a recording; adds a slider over them.
        max_hands: largest number of hands; several add a choice of the hand whose windows are shown.

    Attributes:
        changed: set whenever the page requests another frame.

    Raises:
        OSError: The port is in use.
    """

    def __init__(
        self,
        estimator: Estimator,
        *,
        host: str = "127.0.0.1",
        port: int = 8080,
        frames: int = 0,
        max_hands: int = 1,
    ) -> None:
        self.estimator = estimator
        self.max_hands = max_hands
        self.changed = threading.Event()
        self._view: View | None = None
        self._lock = threading.Lock()
        self._placed = False
        self._labels: dict[str, viser.LabelHandle] = {}  # of the hands that are drawn
        port = free_port(host, port)
        with redirect_stdout(io.StringIO()):  # viser prints a table of addresses, but stdout is for data
            self.server = viser.ViserServer(host=host, port=port, label="poseren", verbose=False)
        self.server.scene.set_up_direction("-y")
        self.server.gui.configure_theme(control_width="large", show_share_button=False)
        self.note = self.server.gui.add_markdown("waiting for a frame")
        self.server.gui.main_panel.float(x=15, y=15, width=340)
        # In a panel of their own: on a phone it is a bar, which a tap opens, and does not cover the hand.
        panel = self.server.gui.add_panel()
        with panel.add_tab("Controls"):
            self._controls(frames)
        panel.dock_right()
        panel.set_width(380)

    def _controls(self, frames: int) -> None:
        gui, stages = self.server.gui, self.estimator.stages
        # Float steps keep the values floats: a page could send an int too large for the message format.
        self.frame = gui.add_slider("Frame", 0, max(frames - 1, 1), 1.0, 0, visible=frames > 1)
        self.play = gui.add_checkbox("Play", False, visible=frames > 1)
        marks = tuple((stage, f"{stage}" if stage else "initial") for stage in range(stages + 1))
        self.stage = gui.add_slider("Stage", 0, max(stages, 1), 1.0, stages, marks=marks, visible=stages > 0)
        self.ghosts = gui.add_checkbox("Other stages in grey", True, visible=stages > 0)
        self.hand_only = gui.add_checkbox("Only what is in a hand's cube", False)
        self.cubes = gui.add_checkbox("Cubes of the detections", True)
        self.point_size = gui.add_slider("Point size, mm", *_POINT_SIZES, 0.1, 0.6)
        numbers = tuple(str(number) for number in range(1, self.max_hands + 1))
        self.hand = gui.add_dropdown("Windows of hand", numbers, visible=self.max_hands > 1)
        self.windows = gui.add_image(
            windows_picture(View(_NOTHING, (), ""), self.estimator, 0),
            label="Windows on the feature grid; thick: region moved",
        )
        self.frame.on_update(lambda _: self.changed.set())
        self.play.on_update(lambda _: self.changed.set())
        self.stage.on_update(lambda _: self._redraw(cloud_too=False))
        self.ghosts.on_update(lambda _: self._redraw(cloud_too=False))
        for control in (self.hand, self.cubes):
            control.on_update(lambda _: self._redraw(cloud_too=False))
        self.hand_only.on_update(lambda _: self._redraw())
        self.point_size.on_update(lambda _: self._redraw())

    def _chosen_stage(self) -> int:
        return int(_within(self.stage.value, 0, self.estimator.stages))

    @property
    def address(self) -> str:
        """URL of the page."""
        return f"http://{self.server.get_host()}:{self.server.get_port()}"

    def go_to(self, frame: int) -> None:
        """Move the frame slider of the page."""
        self.frame.value = frame  # type: ignore[misc]  # viser's property has a setter that mypy does not see

    def show(self, view: View) -> None:
        """Show another frame."""
        self._view = view
        self._redraw()

    def _redraw(self, *, cloud_too: bool = True) -> None:
        with self._lock:  # callbacks of the controls run in other threads
            if self._view is None:
                return
            with self.server.atomic():
                if cloud_too:
                    self._draw_cloud(self._view)
                self._draw_hands(self._view)
            hand = int(self.hand.value) - 1
            self.windows.image = windows_picture(self._view, self.estimator, self._chosen_stage(), hand)
            self.note.content = "\n\n".join([self._view.note, *_table(self._view.hands)])

    def _draw_cloud(self, view: View) -> None:
        points, colors = cloud(view, self.estimator, hand_only=bool(self.hand_only.value))
        size = _within(self.point_size.value, *_POINT_SIZES) / 1000
        self.server.scene.add_point_cloud(
            "/depth", points, colors, point_size=size, point_shape="square", precision="float32", point_shading="flat"
        )
        if view.hands and not self._placed:
            self._placed = True
            middles = [middle(hand.pose, self.estimator) / 1000 for hand in view.hands]
            x, y, z = (float(value) for value in np.mean(middles, 0))
            back = 1.0 + 2.0 * max(float(abs(one[0] - x)) for one in middles) / 0.36
            # The view point is slightly to the left of the camera and above it, and orbits the hands.
            self.server.initial_camera.look_at = (x, y, z)
            self.server.initial_camera.position = (x - 0.14 * back, y - 0.1 * back, z - 0.36 * back)
            self.server.initial_camera.up = (0.0, -1.0, 0.0)

    def _draw_hands(self, view: View) -> None:
        hands = {f"/hands/{i}": hand for i, hand in enumerate(view.hands)}
        for name, hand in hands.items():
            self._draw_hand(name, hand)
        for name in self._labels.keys() - hands.keys():
            self._labels.pop(name)
            self.server.scene.remove_by_name(name)

    def _draw_hand(self, name: str, hand: ShownHand) -> None:
        scene, pose, skeleton = self.server.scene, hand.pose, hand.pose.skeleton
        stages = stages_xyz(pose, self.estimator)
        chosen = min(self._chosen_stage(), len(stages) - 1)
        if name not in self._labels:
            scene.add_frame(name, show_axes=False)  # the parent of all others, which are removed with it
        segments, colors = bones(stages[chosen], skeleton)
        scene.add_line_segments(f"{name}/bones", segments, colors, thickness=_BONE)
        scene.add_point_cloud(
            f"{name}/joints",
            stages[chosen],
            joint_colors(skeleton),
            point_size=_JOINT,
            point_shape="circle",
            precision="float32",
        )
        edges = cube_edges(pose, self.estimator)
        scene.add_line_segments(f"{name}/cube", edges, hand.color, thickness=_EDGE, visible=bool(self.cubes.value))
        x, y, z = (float(value) for value in edges.reshape(-1, 3).min(0))
        if name not in self._labels:
            self._labels[name] = scene.add_label(f"{name}/label", hand.label, anchor="bottom-left")
        self._labels[name].text, self._labels[name].position = hand.label, (x, y, z)  # added again, it would flicker
        for stage, joints in enumerate(stages):
            segments, colors = bones(joints, skeleton, ghost=True)
            shown = bool(self.ghosts.value) and stage != chosen
            scene.add_line_segments(f"{name}/other/{stage}", segments, colors, thickness=_BONE / 4, visible=shown)

    def close(self) -> None:
        """Stop the server."""
        with redirect_stdout(io.StringIO()):
            self.server.stop()


def _table(hands: Sequence[ShownHand]) -> list[str]:
    """What is known of the hands, as a Markdown table; nothing without a hand."""
    rows = []
    for hand in hands:
        error = hand.pose.error_mm
        sure = "" if hand.side_probability is None else f" ({100 * hand.side_probability:.0f} %)"
        expected = "unknown" if error is None else f"{float(error):.0f} mm"
        rows.append(f"| {hand.name} | {hand.pose.hand[0]}{sure} | {hand.score:.2f} | {expected} |")
    head = ["| hand | side | detection | expected error |", "| --- | --- | --- | --- |"]
    return ["\n".join(head + rows)] if rows else []


def _within(value: float, low: float, high: float) -> float:
    """Value of a slider, limited to its range, because a page may send any number; NaN counts as the lowest."""
    return min(max(low, value), high)


def view_recording(
    viewer: Viewer, files: Sequence[FrameFile], *, rate: float = 15.0, stop: Callable[[], bool] = lambda: False
) -> None:
    """Show the frame selected by the slider, or play, until stopped.

    Args:
        viewer: the page, created for this number of frames.
        files: the frames.
        rate: playback rate, frames per second.
        stop: called several times per second; True ends the loop.

    Raises:
        ValueError: The first frame does not fit the camera.
    """
    estimate = lru_cache(maxsize=64)(lambda index: estimate_file(viewer.estimator, files[index], viewer.max_hands))
    shown = -1
    while not stop():
        viewer.changed.clear()
        index = int(_within(viewer.frame.value, 0, len(files) - 1))
        if index != shown:
            viewer.show(estimate(index))
            shown = index
        if viewer.play.value:
            time.sleep(1 / rate)
            viewer.go_to((index + 1) % len(files))
        else:
            viewer.changed.wait(0.2)


def estimate_file(estimator: Estimator, file: FrameFile, max_hands: int = 1) -> View:
    """A recorded frame with its hands, or with the reason why there is none.

    Raises:
        ValueError: The frame does not fit the camera.
    """
    try:
        frames = read_frames([file.read()], estimator.device)
    except (OSError, TypeError, ValueError) as error:
        return View(_NOTHING, (), f"**{file}**: {error}")
    check_camera(estimator.camera, frames)
    depth = frames.depth[0].cpu()
    try:
        found = estimator.hands(frames.depth[0], max_hands, return_stages=True)
    except ValueError as error:
        return View(depth, (), f"**{file}**: {error}")
    poses = [single_hand(found.pose, i) for i in range(len(found.score))]
    hands = [ShownHand(pose, str(i + 1), float(found.score[i])) for i, pose in enumerate(poses)]
    return View(depth, tuple(hands), f"**{file}**" + ("" if hands else ": no hand"))


def view_stream(viewer: Viewer, results: Iterable[LiveResult], *, rate: float = 30.0) -> None:
    """Show the newest result of a stream, at a limited rate.

    Raises:
        SourceLost: The camera was disconnected.
    """
    shown = 0.0
    for result in results:
        if time.perf_counter() - shown < 1 / rate or result.outcome == "skipped":
            continue
        shown = time.perf_counter()
        about = f"frame {result.frame.number}: {result.outcome}{', ' + result.reason if result.reason else ''}"
        depth = read_frames([result.frame.depth], _NOTHING.device).depth[0]
        hands = [ShownHand(hand.pose, str(hand.track), hand.score, hand.side_probability) for hand in result.hands]
        viewer.show(View(depth, tuple(hands), f"{about}, {1e3 * result.latency:.0f} ms"))
