"""A server of uploads, in a thread or in a process that may be killed, and a client that says
exactly what it is told to say."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException, Request
from sqlalchemy import insert, select

from longtake.service import tables
from longtake.service.blobs import Blobs
from longtake.service.database import Database
from longtake.service.routes.uploads import router
from longtake.service.uploads import Uploads

PREFIX = "/some/prefix/api/v1"
MIB = 1 << 20
BYTES = {"Content-Type": "application/offset+octet-stream"}


@dataclass(slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Client:
    port: int
    user: str = "ann"

    def ask(self, method: str, path: str, body: Any = None, **headers: str | None) -> Answer:
        said: dict[str, str] = {"Tus-Resumable": "1.0.0", "X-User": self.user}
        for name, value in headers.items():
            said.pop(name.replace("_", "-"), None)
            if value is not None:
                said[name.replace("_", "-")] = value
        wire = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(wire):
            wire.request(method, path, body, said)
            answer = wire.getresponse()
            named = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, named, answer.read())

    def create(self, length: int, **headers: str) -> str:
        """The path of a new upload."""
        made = self.ask("POST", f"{PREFIX}/uploads", Upload_Length=str(length), **headers)
        assert made.status == 201, made.body
        return f"{PREFIX}/{made.headers['location']}"

    def patch(self, path: str, offset: int, body: Any, **headers: str | None) -> Answer:
        said: dict[str, str | None] = {"Content_Type": BYTES["Content-Type"]}
        return self.ask("PATCH", path, body, Upload_Offset=str(offset), **(said | headers))

    def head(self, path: str) -> Answer:
        return self.ask("HEAD", path)

    def offset(self, path: str) -> int:
        return int(self.head(path).headers["upload-offset"])


def owner(request: Request) -> str:
    if "X-User" not in request.headers:
        raise HTTPException(401)
    return request.headers["X-User"]


def app(uploads: Uploads) -> FastAPI:
    made = FastAPI()
    made.include_router(router(uploads, owner), prefix=PREFIX)
    return made


def users(database: Database, **quotas: int | None) -> None:
    with database.write() as connection:
        now = database.now(connection)
        for name, quota in quotas.items():
            row = {"id": name, "name": name, "quota_bytes": quota, "created": now}
            connection.execute(insert(tables.user).values(row))


def build(database: Database, folder: Path, **settings: int) -> Uploads:
    chosen = {"largest": 1 << 40, "low_water": 0, "expiry_seconds": 3600} | settings
    return Uploads(database, Blobs(folder / "blobs"), **chosen)


@contextlib.contextmanager
def serving(uploads: Uploads) -> Iterator[Client]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app(uploads), log_level="critical"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield Client(listener.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join()


def content(uploads: Uploads, asset: str) -> bytes:
    return uploads.blobs.path(f"assets/{asset}/content").read_bytes()


def state(uploads: Uploads, path: str) -> tuple[Any, Any]:
    """The rows of an upload and of its asset."""
    with uploads.database.read() as connection:
        id = path.rpartition("/")[2]
        row = connection.execute(select(tables.upload).where(tables.upload.c.id == id)).one()
        asset = connection.execute(select(tables.asset).where(tables.asset.c.id == row.asset)).one()
    return row, asset


def checksum(algorithm: str, data: bytes) -> str:
    return f"{algorithm} {base64.b64encode(hashlib.new(algorithm, data).digest()).decode()}"


def word(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@contextlib.contextmanager
def half_sent(
    client: Client, path: str, offset: int, said: int, data: bytes
) -> Iterator[socket.socket]:
    """A request that announces `said` bytes, of which `data` are sent."""
    with socket.create_connection(("127.0.0.1", client.port)) as wire:
        wire.sendall(
            f"PATCH {path} HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\nX-User: ann\r\n"
            f"Content-Type: {BYTES['Content-Type']}\r\nUpload-Offset: {offset}\r\n"
            f"Content-Length: {said}\r\n\r\n".encode()
            + data
        )
        yield wire


def eventually(what: Callable[[], bool]) -> None:
    for _ in range(500):
        if what():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen within 5 s")


PROGRAM = """
import sys
from pathlib import Path
import uvicorn
from fastapi import FastAPI
from longtake.service import upload_writer
from longtake.service.blobs import Blobs
from longtake.service.database import Database
from longtake.service.routes.uploads import router
from longtake.service.uploads import Uploads

url, folder, handle, save = sys.argv[1:]
upload_writer.SAVE_BYTES = int(save)
uploads = Uploads(
    Database(url), Blobs(Path(folder) / "blobs"), largest=1 << 40, low_water=0, expiry_seconds=3600
)
app = FastAPI()
app.include_router(router(uploads, lambda request: request.headers["X-User"]), prefix="PREFIX")
uvicorn.run(app, fd=int(handle), log_level="critical")
""".replace("PREFIX", PREFIX)


class Process:
    """A server that may be killed; its socket stays, so that the next one is found there."""

    def __init__(self, uploads: Uploads, folder: Path, save: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._arguments = [
            uploads.database.url,
            str(folder),
            str(self._listener.fileno()),
            str(save),
        ]
        self.start()

    def start(self) -> None:
        handle = self._listener.fileno()
        command = [sys.executable, "-c", PROGRAM, *self._arguments]
        self.child = subprocess.Popen(command, pass_fds=[handle])

    def kill(self) -> None:
        self.child.kill()
        self.child.wait()

    def peak(self) -> int:
        """Bytes of memory that it ever had."""
        status = Path(f"/proc/{self.child.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    def close(self) -> None:
        self.kill()
        self._listener.close()
