# SPDX-License-Identifier: MIT
"""The examples for other products run: robot hands, ROS 2 and LeRobot (with stand-ins), Gradio, and the notebook."""

import io
import json
import re
import runpy
import shlex
import sys
import types
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from helpers.docs_blocks import block_not_run, commands

from poseren_ext import CAMERAS
from poseren_ext.synthetic import SyntheticHands, SyntheticSequence

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name):
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))


@pytest.fixture(scope="module")
def depth():
    return SyntheticHands(seed=1, split="test").frames(torch.arange(1)).depth[0].round().numpy().astype(np.uint16)


def modules(monkeypatch, **contents):
    """Put modules of other software in place; a dot in a name is written as two underscores."""
    for name, attributes in contents.items():
        module = types.ModuleType(name.replace("__", "."))
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, module.__name__, module)


def line_of(bent, angle, hand="right"):
    """A line of `poseren live`: joints in the palm frame, MediaPipe's order, metres; one finger is bent."""
    roots = {"thumb": (30, 30), "index": (25, 90), "middle": (0, 92), "ring": (-20, 88), "pinky": (-38, 80)}
    joints = [[0.0, 0.0, 0.0]]
    for finger, (x, y) in roots.items():
        a = angle if finger == bent else 0.0
        along = np.cumsum([0.0, 40.0, 25.0, 20.0])
        joints += [[x / 1000, (y + s * np.cos(a)) / 1000, s * np.sin(a) / 1000] for s in along]
    return json.dumps({"version": 1, "time": 0.5, "hands": [{"hand": hand, "joints": joints}]})


def test_the_robots_finger_follows_the_finger_of_the_lines(capsys, monkeypatch):
    pytest.importorskip("dex_retargeting", reason="dex-retargeting has no release for this Python")
    pytest.importorskip("pinocchio", reason="dex-retargeting needs pinocchio")
    lines = [line_of("index", 1.0)] * 4 + [line_of("index", 1.0, hand="left"), '{"time": 1.0, "hands": []}']
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines)))
    monkeypatch.setattr(sys, "argv", ["teleoperate", str(EXAMPLES / "teleoperation" / "hand.yml")])
    runpy.run_path(str(EXAMPLES / "teleoperate.py"), run_name="__main__")
    results = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    followed = results[3]["angles"]
    assert followed["index_bend"] == pytest.approx(1.0, abs=0.1)
    assert max(abs(followed[f"{finger}_bend"]) for finger in ("thumb", "middle", "ring")) < 0.1
    assert [result["angles"] for result in results[4:]] == [None, None]


def test_the_robot_follows_the_recording_of_the_page(capsys, poseren, monkeypatch, tmp_path):
    """The commands of docs/guides/teleoperation.md, from frames to angles."""
    pytest.importorskip("dex_retargeting", reason="dex-retargeting has no release for this Python")
    pytest.importorskip("pinocchio", reason="dex-retargeting needs pinocchio")
    monkeypatch.chdir(tmp_path)
    page = (EXAMPLES.parent / "docs" / "guides" / "teleoperation.md").read_text()
    (recording,) = re.findall(r"```python\n(import numpy.*?)```", page, re.DOTALL)
    exec(recording, {})
    (live,) = re.findall(r"^poseren (live session.npz (?:.*\\\n)+.*)$", page, re.MULTILINE)
    assert poseren(*shlex.split(live.replace("\\\n", ""))).code == 0
    lines = Path("hand.jsonl").read_text()
    assert "teleoperate.py examples/teleoperation/hand.yml < hand.jsonl\n" in page
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    monkeypatch.setattr(sys, "argv", ["teleoperate", str(EXAMPLES / "teleoperation" / "hand.yml")])
    runpy.run_path(str(EXAMPLES / "teleoperate.py"), run_name="__main__")
    results = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(results) == len(lines.splitlines()) == 8
    angles = [list(result["angles"].values()) for result in results if result["angles"]]
    assert len(angles) > 4
    assert np.ptp(angles, axis=0).max() > 0.05, "no finger moves"


class FakeNode:
    """The part of rclpy's Node that the example uses."""

    def __init__(self, name):
        self.name, self.callbacks, self.published, self.warnings = name, {}, [], []

    def declare_parameter(self, name, default):
        return SimpleNamespace(value=default)

    def create_publisher(self, kind, topic, depth):
        self.topic = topic
        return SimpleNamespace(publish=self.published.append)

    def create_subscription(self, kind, topic, callback, qos):
        self.callbacks[topic] = callback

    def get_logger(self):
        return SimpleNamespace(warning=lambda text, once: self.warnings.append(text))


def message(name, **defaults):
    """A ROS message type: a constructor with keyword arguments only."""
    return type(name, (SimpleNamespace,), {"__init__": lambda self, **kw: vars(self).update(defaults | kw)})


def assert_topics_of_the_page(node):
    """Those that docs/guides/teleoperation.md remaps and shows."""
    _, start, show = commands(block_not_run("guides/teleoperation.md", "ros2_node"))
    program, script, *arguments = shlex.split(start)
    assert (program, (EXAMPLES.parent / script).is_file(), arguments[0]) == ("python", True, "--ros-args")
    remapped = dict(word.split(":=") for word in arguments[1:] if word != "-r")
    assert remapped.keys() == node.callbacks.keys()
    assert show == f"ros2 topic echo /{node.topic}"


def test_the_ros_node_publishes_the_joints_in_metres(monkeypatch, depth):
    image_type, info_type = message("Image"), message("CameraInfo")
    modules(
        monkeypatch,
        rclpy={},
        rclpy__node={"Node": FakeNode},
        rclpy__qos={"qos_profile_sensor_data": None},
        geometry_msgs={},
        geometry_msgs__msg={
            "Point": message("Point"),
            "Pose": message("Pose"),
            "PoseArray": message("PoseArray", poses=()),
        },
        sensor_msgs={},
        sensor_msgs__msg={"Image": image_type, "CameraInfo": info_type},
    )
    started = []
    monkeypatch.setitem(vars(sys.modules["rclpy"]), "init", lambda: None)
    monkeypatch.setitem(vars(sys.modules["rclpy"]), "spin", started.append)
    load("ros2_node")["main"]()
    (node,) = started
    assert_topics_of_the_page(node)
    camera = CAMERAS["sr305"]
    header = SimpleNamespace(stamp=SimpleNamespace(sec=12, nanosec=500_000_000), frame_id="depth")
    padded = np.zeros((480, 700), ">u2")
    padded[:, :640] = depth
    fields = {"header": header, "height": 480, "width": 640, "step": 1400, "is_bigendian": 1, "encoding": "16UC1"}
    image = image_type(data=padded.tobytes(), **fields)
    node.callbacks["depth"](image)
    assert node.warnings
    assert not node.published
    k = [camera.fx, 0.0, camera.cx, 0.0, camera.fy, camera.cy, 0.0, 0.0, 1.0]
    node.callbacks["camera_info"](info_type(k=k, width=640, height=480, d=[0.0] * 5))
    for moved in range(3):
        padded[0, 0] = moved + 1  # a camera's frames differ
        node.callbacks["depth"](image_type(data=padded.tobytes(), **fields))
    found = [array for array in node.published if array.poses]
    assert found, "no hand was found"
    assert found[-1].header is header
    positions = np.array([[p.position.x, p.position.y, p.position.z] for p in found[-1].poses])
    assert positions.shape == (21, 3)
    truth = SyntheticHands(seed=1, split="test").frames(torch.arange(1)).xyz[0].numpy() / 1000
    wrist_to_tips = (0, 20, 4, 8, 12, 16)  # in MSRA's order
    assert np.linalg.norm(positions[[0, 4, 8, 12, 16, 20]] - truth[list(wrist_to_tips)], axis=1).mean() < 0.03


def test_the_lerobot_teleoperator_gives_the_bend_of_each_finger(monkeypatch, tmp_path):
    class Config:
        register_subclass = classmethod(lambda cls, name: lambda one: one)

    base = type("Teleoperator", (), {"__init__": lambda self, config: None})
    modules(monkeypatch, lerobot={}, lerobot__teleoperators={"Teleoperator": base, "TeleoperatorConfig": Config})
    example = load("lerobot_teleoperator")
    (hand,) = json.loads(line_of("middle", 0.0))["hands"]
    joints = np.array(hand["joints"])
    joints[12] = joints[11] + [0, 0, 0.02]  # the last bone of the middle finger at a right angle
    assert example["bends"](joints) == pytest.approx(
        {"thumb.pos": 0, "index.pos": 0, "middle.pos": 60, "ring.pos": 0, "pinky.pos": 0}, abs=1e-4
    )
    sequence = SyntheticSequence(seed=7, split="test", number=7)
    source = load_source(sequence.frames(torch.arange(4)).depth.numpy(), tmp_path)
    teleoperator = example["PoserenHand"](example["PoserenHandConfig"]())
    monkeypatch.setitem(teleoperator.connect.__globals__, "open_source", lambda kind: source)
    assert not teleoperator.is_connected
    teleoperator.connect()
    actions = [teleoperator.get_action() for _ in range(4)]
    assert set(actions[-1]) == set(teleoperator.action_features)
    assert any(value > 1 for value in actions[-1].values())
    teleoperator.disconnect()
    assert not teleoperator.is_connected


def load_source(depth, folder):
    from poseren_ext.live import RecordingSource

    np.savez(folder / "session.npz", depth=depth)
    source = RecordingSource([folder / "session.npz"])
    source.camera, source.depth_unit = CAMERAS["sr305"], 1.0
    return source


def test_the_gradio_page_shows_the_hand(tmp_path, depth):
    estimate = load("gradio_demo")["estimate"]
    cv2.imwrite(str(tmp_path / "hand.png"), depth)
    picture, rows, text = estimate(str(tmp_path / "hand.png"), "sr305", 1.0, "right")
    assert picture.shape[2] == 3
    assert picture.std() > 20, "an empty picture"
    assert (len(rows), len(rows[0])) == (21, 4)
    assert text.startswith("right hand at ")
    cv2.imwrite(str(tmp_path / "empty.png"), np.zeros_like(depth))
    assert estimate(str(tmp_path / "empty.png"), "sr305", 1.0, "right")[0] is None
    cv2.imwrite(str(tmp_path / "color.png"), np.zeros((8, 8, 3), np.uint8))
    assert "16-bit depth image" in estimate(str(tmp_path / "color.png"), "sr305", 1.0, "right")[2]


def test_the_notebook_runs(monkeypatch, tmp_path):
    """Its cells in order, but for the installation."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    cells = json.loads((EXAMPLES / "notebook.ipynb").read_text())["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert [source.startswith("%pip") for source in sources] == [True, *[False] * (len(sources) - 1)]
    scope = {"__name__": "__main__"}
    for source in sources[1:]:
        exec(source, scope)
    assert scope["error"].mean() < 15
    assert cv2.imread("hands.png").std() > 5
