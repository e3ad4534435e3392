"""A web server for tests that behaves badly on purpose."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Host:
    """What it serves, and how; `asked` and `sent` say what happened."""

    files: dict[str, bytes] = field(default_factory=dict)  # by the last part of the path
    cuts: list[int] = field(default_factory=list)  # bytes after which each next answer breaks off
    answers: list[int] = field(default_factory=list)  # status codes of the next answers
    ranges: bool = True
    etag: bool = True
    redirect: bool = False  # as a hub does: with the sha256 in a header
    trickle: float = 0.0  # s between blocks of 4096 bytes
    asked: list[tuple[str, str]] = field(default_factory=list)  # path and Range
    sent: int = 0
    url: str = ""


@contextmanager
def serving(host: Host) -> Iterator[Host]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"host": host}))
    server.daemon_threads = True
    host.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield host
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    host: Host

    def do_GET(self) -> None:
        asked = self.headers.get("Range") or ""
        self.host.asked.append((self.path, asked))
        body = self.host.files.get(self.path.rpartition("/")[2])
        status = self.host.answers.pop(0) if self.host.answers else 200
        if body is None or status != 200:
            self.send_error(404 if body is None else status)
        elif self.host.redirect and not self.path.startswith("/cdn/"):
            self.send_response(302)
            self.send_header("Location", f"{self.host.url}/cdn{self.path}")
            self.send_header("X-Linked-Etag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self._give(body, asked)

    def _give(self, body: bytes, asked: str) -> None:
        start = int(asked[6:-1]) if asked and self.host.ranges else 0
        if start and start >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if self.host.etag:
            self.send_header("ETag", f'"{hashlib.md5(body).hexdigest()}"')
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        cut = self.host.cuts.pop(0) if self.host.cuts else len(body)
        self._pour(body[start : start + cut])

    def _pour(self, body: bytes) -> None:
        step = 4096 if self.host.trickle else max(len(body), 1)
        try:
            for at in range(0, len(body), step):
                self.host.sent += len(body[at : at + step])  # before whoever asked can have it
                self.wfile.write(body[at : at + step])
                time.sleep(self.host.trickle)
        except OSError:  # whoever asked has gone
            pass
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass
