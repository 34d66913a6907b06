# SPDX-License-Identifier: MIT
"""Live results in MCAP files and rerun recordings, read back by the libraries' own readers."""

import json
import sys

import cv2
import numpy as np
import pyarrow
import pytest
from helpers.command_line import exit_status
from helpers.live_frames import moving
from mcap.reader import make_reader
from rerun.chunk import RrdReader

from poseren_ext.geometry.skeleton import SKELETONS

MSRA = SKELETONS["msra21"]


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """A folder with the files of a session: four frames, the third empty."""
    folder = tmp_path_factory.mktemp("session")
    (folder / "frames").mkdir()
    for index, depth in enumerate(moving(4)):
        cv2.imwrite(str(folder / "frames" / f"{index}.png"), depth * (index != 2))
    outputs = [("--out", "lines.jsonl"), ("--mcap", "hands.mcap"), ("--rerun", "session.rrd")]
    given = [text for option, name in outputs for text in (option, str(folder / name))]
    assert exit_status("live", folder / "frames", "--camera", "238,238,159.5,119.5", "--headless", *given) == 0
    return folder


@pytest.fixture(scope="module")
def lines(logged):
    return [json.loads(line) for line in (logged / "lines.jsonl").read_text().splitlines()]


def test_an_mcap_file_has_the_lines_and_the_skeletons(logged, lines):
    with (logged / "hands.mcap").open("rb") as file:
        messages = [(schema, channel.topic, message) for schema, channel, message in make_reader(file).iter_messages()]
    hands = [(schema, message) for schema, topic, message in messages if topic == "/poseren/hands"]
    scenes = [(schema, message) for schema, topic, message in messages if topic == "/poseren/scene"]
    assert [json.loads(message.data) for _, message in hands] == lines
    assert json.loads(hands[0][0].data)["properties"]["version"]["const"] == lines[0]["version"]
    times = np.array([message.log_time for _, message in hands])
    np.testing.assert_allclose((times - times[0]) / 1e9, [line["time"] for line in lines], atol=1e-4)
    assert {schema.name for schema, _ in scenes} == {"foxglove.SceneUpdate"}
    for (_, message), line in zip(scenes, lines, strict=True):
        scene = json.loads(message.data)
        assert scene["deletions"][0]["type"] == 1  # nothing of earlier frames remains
        assert len(scene["entities"]) == len(line["hands"])
    entity, hand = json.loads(scenes[0][1].data)["entities"][0], lines[0]["hands"][0]
    metres = np.array(hand["xyz"]) / 1000
    spheres = [[one["pose"]["position"][axis] for axis in "xyz"] for one in entity["spheres"]]
    np.testing.assert_allclose(spheres, metres, atol=1e-5)
    (bones,) = entity["lines"]
    ends = np.array([[point[axis] for axis in "xyz"] for point in bones["points"]]).reshape(-1, 2, 3)
    np.testing.assert_allclose(ends, metres[np.array(MSRA.bones)], atol=1e-5)
    assert len(bones["colors"]) == len(bones["points"])


def test_a_rerun_recording_has_camera_depth_and_joints(logged, lines):
    rows = {}
    for part in RrdReader(logged / "session.rrd").stream().to_chunks():
        batch = part.to_record_batch()
        numbers = [one.name for one in batch.schema if not pyarrow.types.is_temporal(one.type)]  # ns need pandas
        batch = batch.select(numbers).to_pydict()
        for index in range(part.num_rows):
            row = {name: values[index] for name, values in batch.items()}
            rows.setdefault(part.entity_path, []).append(row)
    assert {"/camera", "/camera/depth", "/hands/1", "/camera/hands/1"} <= set(rows)
    (lens, *_) = rows["/camera"]
    assert lens["Pinhole:image_from_camera"] == [pytest.approx([238, 0, 0, 0, 238, 0, 159.5, 119.5, 1])]
    joints = {row["frame"]: row["Points3D:positions"] for row in rows["/hands/1"] if row.get("Points3D:positions")}
    points = {
        row["frame"]: row["Points2D:positions"] for row in rows["/camera/hands/1"] if row.get("Points2D:positions")
    }
    shown = [line for line in lines if line["hands"]]
    assert sorted(joints) == sorted(points) == [line["frame"] for line in shown]
    for line in shown:
        np.testing.assert_allclose(joints[line["frame"]], np.array(line["hands"][0]["xyz"]) / 1000, atol=1e-5)
        np.testing.assert_allclose(points[line["frame"]], np.array(line["hands"][0]["uvd"])[:, :2], atol=0.01)


def test_missing_libraries_and_wrong_names_are_one_line(logged, monkeypatch, poseren):
    def error(*arguments):
        return poseren("live", logged / "frames", "--camera", "238,238,159.5,119.5", "--headless", *arguments).err

    assert "exists" in error("--mcap", logged / "hands.mcap")
    assert "expected FILE.rrd or viewer" in error("--rerun", "session.bag")
    monkeypatch.setitem(sys.modules, "mcap.writer", None)
    monkeypatch.setitem(sys.modules, "rerun", None)
    assert "pip install 'poseren_ext[mcap]'" in error("--mcap", logged / "new.mcap")
    assert "pip install 'poseren_ext[rerun]'" in error("--rerun", logged / "new.rrd")
