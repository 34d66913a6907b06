# SPDX-License-Identifier: MIT
"""Servers: they listen on the loopback interface only, survive hostile requests, and are gone when closed.

test_ray.py tests the cluster that `label_frames` starts. Requests go only to sockets of this test on the loopback
interface, in a fixed number.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import cv2
import pytest
import viser
from helpers.live_frames import CAMERA, moving
from helpers.sockets import is_loopback, listening
from helpers.trust_record import record, resident_mib
from msgspec.msgpack import encode
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from poseren_ext.inference.estimator import Estimator
from poseren_ext.io.depth_files import find_frames
from poseren_ext.training import Trainer, make_config
from poseren_ext.viewer import Viewer, view_recording
from poseren_ext.viewer.app import free_port

HALF_OPEN = 60


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def estimator() -> Estimator:
    return Estimator("demo", camera=CAMERA)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    recording = tmp_path / "recording"
    recording.mkdir()
    for i, depth in enumerate(moving(3)):
        cv2.imwrite(str(recording / f"{i}.png"), depth)
    (tmp_path / "secret.txt").write_text("root:secret")
    return recording


@contextmanager
def shown(estimator: Estimator, folder: Path) -> Iterator[Viewer]:
    files, done, faults = find_frames([folder]), threading.Event(), []
    viewer = Viewer(estimator, port=0, frames=len(files))

    def feed() -> None:
        try:
            view_recording(viewer, files, stop=done.is_set)
        except BaseException as error:
            faults.append(error)

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        until(lambda: "0.png" in viewer.note.content)
        yield viewer
        assert not faults, f"hostile requests ended the viewer: {faults[0]!r}"
    finally:
        done.set()
        thread.join()
        viewer.close()


def ask(port: int, request: bytes, seconds: float = 5) -> bytes:
    """What a server answers to these bytes, until it closes or the time is over."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        try:
            connection.sendall(request)
            while part := connection.recv(65536):
                answer += part
        except OSError:  # closed in the middle, or it waits for more
            pass
    return answer


def page(port: int) -> bool:
    answer = ask(port, b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 10)
    return answer.startswith(b"HTTP/1.1 200") and b"<html" in answer


def test_the_viewer_listens_on_loopback_alone_and_is_gone_when_closed(estimator: Estimator, folder: Path) -> None:
    process, before, threads = os.getpid(), listening(os.getpid()), set(threading.enumerate())
    with shown(estimator, folder) as viewer:
        opened = listening(process) - before
        port = viewer.server.get_port()
        assert opened == {("127.0.0.1", port)}
        open_connection = socket.create_connection(("127.0.0.1", port))
        assert page(port)
    with open_connection:
        until(lambda: listening(process) == before)
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", port), timeout=5)
    until(lambda: not {thread for thread in threading.enumerate() if thread.is_alive()} - threads)
    assert free_port("127.0.0.1", port) == port
    record("servers", "viewer", listens="127.0.0.1", hostile_requests=0, left_behind=0)


TRAVERSALS = (
    *("/../secret.txt", "/../../../../../../../../etc/passwd", "/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd"),
    *("/..%2f..%2f..%2f..%2f..%2fetc%2fpasswd", "//etc/passwd", "/%2fetc/passwd", "/assets/../../../../../etc/passwd"),
    *("/..%5c..%5c..%5cetc%5cpasswd", "/.%00./etc/passwd", "/etc/passwd%00.html", "/%252e%252e/%252e%252e/etc/passwd"),
    *("file:///etc/passwd", "http://127.0.0.1/../../etc/passwd", "/?/../../../../etc/passwd", "/" + "../" * 3000),
)
OVERSIZE = (
    b"GET /" + b"a" * 2_000_000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nX: " + b"a" * 2_000_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100_000 + b"\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n" + bytes(100_000),
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),  # TLS
    bytes(1000),
    b"GET / HTTP/9.9\r\n\r\n",
    b"\r\n" * 1000,
)


def test_the_viewer_outlives_hostile_requests(estimator: Estimator, folder: Path) -> None:
    with shown(estimator, folder) as viewer:
        port, memory = viewer.server.get_port(), resident_mib()
        half_open = [socket.create_connection(("127.0.0.1", port)) for _ in range(HALF_OPEN)]
        for connection in half_open[::2]:
            connection.sendall(b"GET / HT")
        for path in TRAVERSALS:
            answer = ask(port, f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            assert b"root:" not in answer, path
            body = answer.partition(b"\r\n\r\n")[2]
            assert answer[9:12] in (b"", b"400", b"403", b"404", b"414") or b"<html" in body[:500], (path, answer[:200])
        for request in OVERSIZE:
            answer = ask(port, request)
            assert not answer.startswith(b"HTTP/1.1 200"), request[:40]
        assert page(port), "it serves no one while connections are half open"
        for connection in half_open:
            connection.close()
        assert resident_mib() - memory < 64
    sent = len(TRAVERSALS) + len(OVERSIZE) + HALF_OPEN
    record("servers", "viewer", listens="127.0.0.1", hostile_requests=sent, left_behind=0)


def visitor(port: int) -> Any:
    """A connection as the page makes it."""
    return connect(
        f"ws://127.0.0.1:{port}", subprotocols=[f"viser-v{viser.__version__}"], max_size=None, open_timeout=20
    )


def update(uuid: str, **updates: Any) -> bytes:
    """A control's update as the page sends it."""
    return encode({"type": "GuiUpdateMessage", "uuid": uuid, "updates": updates})


def test_the_viewer_outlives_hostile_messages(estimator: Estimator, folder: Path) -> None:
    with shown(estimator, folder) as viewer:
        port = viewer.server.get_port()
        controls = [control._impl.uuid for control in (viewer.frame, viewer.stage, viewer.point_size, viewer.play)]
        values = (-1, -(10**9), 10**9, 2**62, 1e300, float("nan"), float("-inf"), "x", None, [], {}, b"", True)
        messages = [update(uuid, value=value) for uuid in controls for value in values]
        messages += [b"", bytes(100), b"\xc1", b"\xff" * 9, messages[0][:-3], encode({"type": "Nothing"})]
        messages += [encode({"type": "GuiUpdateMessage"}), update("nobody", value=1)]
        moves = messages[: 2 * len(values)]
        for message in messages:
            with suppress(ConnectionClosed), visitor(port) as client:
                client.send(message)
                client.ping().wait(10)
                time.sleep(0.1 if message in moves else 0)  # until the viewer has handled it
        with visitor(port) as client:  # a frame that claims a terabyte
            client.socket.sendall(b"\x82\xff" + struct.pack(">Q", 2**40) + bytes(4))
        with connect(f"ws://127.0.0.1:{port}") as client, pytest.raises(ConnectionClosed, match="ismatch"):
            client.recv(10)  # of another version
        end = time.monotonic() + 2
        with visitor(port) as client:  # what the next page is given
            while time.monotonic() < end:
                assert client.recv(10)

        def answers() -> bool:  # a hostile update may still be on its way
            viewer.frame.value, viewer.stage.value, viewer.play.value = 1, 0, False
            return "1.png" in viewer.note.content

        until(answers, 60)
        assert page(port)
    record("servers", "viewer's controls", listens="127.0.0.1", hostile_requests=len(messages) + 2, left_behind=0)


def test_training_with_tensorboard_listens_on_nothing(tmp_path: Path) -> None:
    fields = {"channels": [4, 8, 8], "init_widths": [16, 16], "refine_widths": [8, 8], "batch": 4, "init_steps": 3}
    fields |= {"refine_steps": 0, "chunk": 8, "log_every": 1, "validate_every": 0, "tensorboard": True}
    before, seen = listening(os.getpid()), []
    watch = lambda *_: seen.append(listening(os.getpid()) - before)  # noqa: E731
    Trainer(make_config(fields), tmp_path, watch=watch).run()
    assert len(seen) >= 3  # also called while frames are rendered
    assert not any(seen)
    assert list((tmp_path / "tensorboard").iterdir())
    record("servers", "training with tensorboard=true", listens="nothing", hostile_requests=0, left_behind=0)


def test_a_socket_on_all_interfaces_is_distinguished_from_a_loopback_one() -> None:
    """The tests above would detect it."""
    before = listening(os.getpid())
    with socket.socket() as everyone, socket.socket(socket.AF_INET6) as loopback:
        everyone.bind(("0.0.0.0", 0))
        loopback.bind(("::1", 0))
        for each in (everyone, loopback):
            each.listen(0)
        opened = listening(os.getpid()) - before
        expected = {("0.0.0.0", everyone.getsockname()[1]), ("::1", loopback.getsockname()[1])}
    assert opened == expected
    assert [address for address, _ in opened if not is_loopback(address)] == ["0.0.0.0"]
    assert is_loopback("::ffff:127.0.0.1")
    assert not is_loopback("::")
    assert listening(os.getpid()) == before
