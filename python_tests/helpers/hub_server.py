# SPDX-License-Identifier: MIT
"""A local HTTP server with the part of the Hugging Face Hub's interface that models need: commit and download."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Repositories:
    """What the server holds.

    Attributes:
        commits: "user/name" -> files of each commit, oldest first; a revision is a commit's number, from 1, or a tag.
        tags: numbers of commits by name.
        requests: method and path of every request.
    """

    commits: dict[str, list[dict[str, bytes]]] = field(default_factory=dict)
    tags: dict[str, int] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    url: str = ""


@contextmanager
def hub_server() -> Iterator[Repositories]:
    """Serve empty repositories until the end of the context."""
    held = Repositories()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def _answer(self, status: int, body: Any = b"", **headers: str) -> None:
            held.requests.append(f"{self.command} {self.path}")
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def do_GET(self) -> None:
            repository, found, rest = self.path.lstrip("/").partition("/resolve/")
            if not found or repository not in held.commits:
                return self._answer(404, X_Error_Code="RepoNotFound")
            revision, _, name = rest.partition("/")
            commits = held.commits[repository]
            names = {"main": len(commits), **held.tags}
            number = names.get(revision, int(revision) if revision.isdecimal() else 0)
            if not 1 <= number <= len(commits):
                return self._answer(404, X_Error_Code="RevisionNotFound")
            commit, files = f"{number:040}", commits[number - 1]
            if name not in files:
                return self._answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
            etag = hashlib.sha256(files[name]).hexdigest()
            return self._answer(200, files[name], ETag=f'"{etag}"', X_Repo_Commit=commit)

        do_HEAD = do_GET  # noqa: N815 (the server's own name)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/api/repos/create":
                asked = json.loads(body)
                name = f"{asked['organization']}/{asked['name']}"
                held.commits.setdefault(name, [])
                return self._answer(200, {"url": f"{held.url}/{name}", "name": name})
            if self.path == "/api/validate-yaml":
                return self._answer(200, {"errors": [], "warnings": []})
            repository, _, rest = self.path.removeprefix("/api/models/").partition("/preupload/")
            if rest:
                paths = [{"path": one["path"]} for one in json.loads(body)["files"]]
                return self._answer(
                    200, {"files": [one | {"uploadMode": "regular", "shouldIgnore": False} for one in paths]}
                )
            repository, _, _ = repository.partition("/commit/")
            parts = [json.loads(line) for line in body.splitlines()]
            files = [part["value"] for part in parts if part["key"] == "file"]
            held.commits[repository].append({one["path"]: base64.b64decode(one["content"]) for one in files})
            commit = f"{len(held.commits[repository]):040}"
            return self._answer(200, {"commitUrl": f"{held.url}/{repository}/commit/{commit}", "commitOid": commit})

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    held.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield held
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
