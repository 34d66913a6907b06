# SPDX-License-Identifier: MIT
"""`poseren` for shell scripts without its seconds of imports: a server that has done them forks for every command.

The command runs in its own process with the script's arguments, folder, environment, input and output.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CLIENT = """#!{python} -SE
import array, json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
files = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))
request = json.dumps([sys.argv, os.getcwd(), dict(os.environ)]).encode()
server.sendmsg([len(request).to_bytes(8, "big")], [files])
server.sendall(request)
sys.exit(int(server.recv(16)))
"""


@contextmanager
def warm_commands(folder: Path) -> Iterator[Path]:
    """A folder for PATH with the command `poseren`; a command that dies without an exit status fails in the script."""
    address = folder / "server"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(address))
        listening.listen()
        command = [sys.executable, "-m", "helpers.warm_commands", str(listening.fileno())]
        server = subprocess.Popen(command, cwd=Path(__file__).parents[1], pass_fds=[listening.fileno()])
    client = folder / "bin" / "poseren"
    client.parent.mkdir()
    client.write_text(_CLIENT.format(python=sys.executable, address=str(address)))
    client.chmod(client.stat().st_mode | stat.S_IXUSR)
    try:
        yield client.parent
    finally:
        server.terminate()
        server.wait()


def _serve(listening: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no child stays as a zombie
    while True:
        connection, _ = listening.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listening.close()
            _run(connection)
        connection.close()


def _run(connection: socket.socket) -> None:
    """Run the command of a request, send its exit status, and end this process."""
    length, files, _, _ = socket.recv_fds(connection, 8, 3)
    request = b""
    while len(request) < int.from_bytes(length, "big"):
        request += connection.recv(1 << 16)
    arguments, folder, environment = json.loads(request)
    for standard, given in enumerate(files):
        os.dup2(given, standard)
        os.close(given)
    # The server's own streams remember whether its files could seek.
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(i, mode, closefd=False) for i, mode in enumerate("rww"))
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = arguments
    code = 1
    try:
        from poseren_ext.cli import main

        main(arguments[1:])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(bool(end.code))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        connection.sendall(str(code).encode())
        os._exit(code)


if __name__ == "__main__":
    import poseren_ext.cli
    import poseren_ext.export
    import poseren_ext.inference.estimator
    import poseren_ext.training  # noqa: F401  loaded once, for the commands that are forked from here

    _serve(socket.socket(fileno=int(sys.argv[1])))
