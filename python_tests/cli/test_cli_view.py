# SPDX-License-Identifier: MIT
import socket
import sys
import urllib.request
from functools import partial

import cv2
import pytest
from helpers.live_frames import moving

import poseren_ext.viewer

CAMERA = ("--camera", "238,238,159.5,119.5")


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "recording"
    folder.mkdir()
    for i, depth in enumerate(moving(2)):
        cv2.imwrite(str(folder / f"{i}.png"), depth)
    return folder


@pytest.fixture
def run(poseren):
    return partial(poseren, "view", "--no-browser")


def test_until_interrupted(run, folder, monkeypatch):
    pages = []

    def look(viewer, *arguments, **options):
        pages.append(urllib.request.urlopen(viewer.address, timeout=10).read())
        raise KeyboardInterrupt

    monkeypatch.setattr(poseren_ext.viewer, "view_recording", look)
    monkeypatch.setattr(poseren_ext.viewer, "view_stream", look)
    for options in ((), ("--stream",)):
        code, out, err = run(folder, *CAMERA, "--port", 0, *options)
        assert (code, out) == (130, "")
        assert err.startswith("open http://127.0.0.1:")
    assert len(pages) == 2
    assert all(b"<html" in page for page in pages)


def test_bad_input(run, folder, tmp_path, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setitem(sys.modules, "pyrealsense2", None)
        for arguments, message in (
            ((folder, *CAMERA, "--port", port), f"cannot listen on 127.0.0.1 port {port} (Address already in use)"),
            ((folder, *CAMERA, "--port", 0, "--host", "192.0.2.1"), "cannot listen on 192.0.2.1"),
            ((tmp_path / "nowhere", *CAMERA), "no such file or folder"),
            ((), "needs a path"),
            ((folder,), "give --camera"),
            (("--source", "realsense"), "pip install 'poseren_ext[realsense]'"),
            ((folder, "--port", 0, "--camera", "nyu"), "belong to about 640x480 pixels"),
        ):
            code, out, err = run(*arguments)
            assert (code, out) == (1, ""), arguments
            assert message in err.splitlines()[-1]
            assert err.count("poseren: error: ") == 1
    assert run(folder, *CAMERA, "--port", 70000)[0] == 2


def test_without_viser(run, folder, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("poseren_ext.viewer")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "viser", None)
    code, _, err = run(folder, *CAMERA)
    assert code == 1
    assert err == "poseren: error: the viewer needs viser: pip install 'poseren_ext[viewer]'\n"
