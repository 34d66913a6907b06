# SPDX-License-Identifier: MIT
"""A folder labelled by two workers of a local cluster: no frame is lost or duplicated if a worker dies.

`label_frames` starts the cluster; no other machine can reach it, and nothing of it remains.

Ray runs in a process of its own: where its daemons go down before it, it ends the process that it is in.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers.small_models import small_config, small_model
from helpers.sockets import is_loopback
from helpers.trust_record import record

from poseren_ext.geometry.camera import Camera
from poseren_ext.inference.batch import FramePredictor, describe_run, predict_frames
from poseren_ext.inference.estimator import Estimator
from poseren_ext.inference.ray_batch import label_frames
from poseren_ext.io.depth_files import find_frames
from poseren_ext.io.pose_files import read_poses
from poseren_ext.models import save

CAMERA = Camera(50.0, 50.0, 25.0, 20.0, 50, 40)
FRAMES = 400

ON_A_CLUSTER = """
import json, os, signal, sys, threading, time
from pathlib import Path

import ray
from helpers.sockets import descendants, listening
from poseren_ext.inference import ray_batch
from poseren_ext.geometry.camera import Camera

folder, faulty, model, out, rest, notes_file = sys.argv[1:]
killed, notes, seen, done = [], {}, set(), threading.Event()


def title(process):
    try:
        return Path(f"/proc/{process}/cmdline").read_text()
    except OSError:
        return ""


def workers():
    # Processes that hold a model: Ray titles them after what they do.
    return [p for p in descendants(os.getpid()) if title(p).startswith("ray::") and "_Labeller" in title(p)]


def watch():
    while not done.wait(0.2):
        seen.update(listening(os.getpid(), *descendants(os.getpid())))


class KillingFile(ray_batch.PredictionFile):
    # Kills a worker once 150 frames are done.
    def write(self, outcomes):
        super().write(outcomes)
        if self.done >= 150 and not killed:
            before = workers()
            killed.append(before[0])
            os.kill(before[0], signal.SIGKILL)
            notes.update(before=before, done=self.done)
        elif killed:
            notes["after"] = workers()


camera = Camera(50.0, 50.0, 25.0, 20.0, 50, 40)
threading.Thread(target=watch, daemon=True).start()
ray_batch.PredictionFile, file = KillingFile, ray_batch.PredictionFile
settings = {"camera": camera, "model": model, "cpus_per_worker": 0.5}
notes["frames"] = ray_batch.label_frames([folder], out, workers=2, batch=20, **settings).frames
ray_batch.PredictionFile = file
try:
    ray_batch.label_frames([faulty], rest, workers=1, batch=5, resume=True, missing="stop", **settings)
except ValueError as error:
    notes["fault"] = str(error)
notes["missing"] = ray_batch.label_frames([faulty], rest, workers=1, batch=5, resume=True, **settings).missing
done.set()
end = time.monotonic() + 30
while (left := descendants(os.getpid())) and time.monotonic() < end:
    time.sleep(0.1)
notes.update(seen=sorted(seen), left=left, listening=sorted(listening(os.getpid())), initialized=ray.is_initialized())
Path(notes_file).write_text(json.dumps(notes))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """400 frames, each with its own blob of a hand's size."""
    path = tmp_path_factory.mktemp("frames")
    generator = np.random.default_rng(0)
    v, u = np.mgrid[:40, :50]
    bumps = generator.uniform(-25, 25, (40, 50))
    for i in range(FRAMES):
        cu, cv, z = generator.uniform((15, 12, 430), (35, 28, 520))
        inside = ((u - cu) / 5.5) ** 2 + ((v - cv) / 7) ** 2 < 1
        depth = np.where(inside, z + np.roll(bumps, i, 1), 0).astype(np.uint16)
        cv2.imwrite(str(path / f"frame_{i}.png"), depth)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    save(small_model(small_config(channels=(2, 4, 8))), path)
    return str(path)


@pytest.fixture(scope="module")
def serial(folder, model):
    """The labels of all frames, from one process."""
    estimator = Estimator(model, camera=CAMERA)
    frames = find_frames([folder])
    with torch.inference_mode():
        parts = [estimator([frame.read() for frame in frames[i : i + 50]]).uvd for i in range(0, FRAMES, 50)]
    return np.concatenate(parts)


@pytest.fixture(scope="module")
def faulty(folder, tmp_path_factory):
    """Twelve of the frames, and one invalid file."""
    path = tmp_path_factory.mktemp("faulty")
    for i in range(12):
        (path / f"frame_{i}.png").symlink_to(folder / f"frame_{i}.png")
    (path / "frame_12.png").write_bytes(b"no image")
    return path


@pytest.fixture(scope="module")
def labelled(tmp_path_factory, folder, faulty, model, serial):
    """The folder where the labels are, and what was noted on the way; the faulty frames' first five were there."""
    path = tmp_path_factory.mktemp("labels")
    estimator = Estimator(model, camera=CAMERA)
    settings, digests = describe_run(estimator, model)
    first = FramePredictor(estimator, find_frames([faulty])[:5])
    predict_frames(first, path / "faulty.txt", settings=settings, digests=digests, workers=1)
    names = (folder, faulty, model, path / "all.txt", path / "faulty.txt", path / "notes.json")
    clean = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-c", ON_A_CLUSTER, *names],
        cwd=Path(__file__).parents[1],
        env=clean,
        capture_output=True,
        text=True,
        timeout=550,
    )
    assert (path / "notes.json").exists(), done.stderr[-3000:]
    return path, json.loads((path / "notes.json").read_text())


def test_one_worker_killed_and_nothing_lost_or_doubled(labelled, serial):
    path, notes = labelled
    assert notes["frames"] == FRAMES
    assert len(notes["before"]) == 2, "a worker was killed, but there were not two at work"
    assert 150 <= notes["done"] < FRAMES
    assert notes["before"][0] not in notes["after"]
    labels = read_poses(path / "all.txt", frames=FRAMES)
    assert len(np.unique(labels.reshape(FRAMES, -1), axis=0)) == FRAMES, "two frames have one label"
    np.testing.assert_allclose(labels, serial, atol=2e-3)


def test_continues_and_names_the_frame_at_fault(labelled, serial):
    path, notes = labelled
    assert "frame_12.png" in notes["fault"]
    assert "the 12 frames before it are in" in notes["fault"]
    assert list(notes["missing"].values()) == [
        "neither PNG, TIFF, PGM, EXR, MSRA .bin nor .npy/.npz; expected a depth frame in one of these"
    ]
    lines = (path / "faulty.txt").read_text().splitlines()
    np.testing.assert_allclose(
        [[float(word) for word in line.split()] for line in lines[:12]], serial[:12].reshape(12, -1), atol=2e-3
    )
    assert set(lines[12].split()) == {"nan"}


def test_the_cluster_listens_on_loopback_alone_and_is_gone(labelled):
    _, notes = labelled
    assert len(notes["seen"]) > 6  # of two clusters
    assert not [address for address, _ in notes["seen"] if not is_loopback(address)]
    assert (notes["left"], notes["listening"], notes["initialized"]) == ([], [], False)
    record("servers", "Ray, started by label_frames", listens="127.0.0.1", hostile_requests=0, left_behind=0)


def test_refusals(tmp_path, model):
    with pytest.raises(FileNotFoundError):
        label_frames([tmp_path / "nowhere"], tmp_path / "a.txt", camera=CAMERA, model=model)
    with pytest.raises(ValueError, match="workers is 0"):
        label_frames([tmp_path], tmp_path / "a.txt", camera=CAMERA, model=model, workers=0)
