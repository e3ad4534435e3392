"""A wire between a browser and the service that lets so many bytes a second up."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

PIECE = 16 << 10


class Wire:
    """`rate`: bytes a second, None without limit; may be changed while it runs."""

    def __init__(self, port: int) -> None:
        self.rate: float | None = None
        self._to = port
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._join, args=(near,), daemon=True).start()

    def _join(self, near: socket.socket) -> None:
        with near, socket.create_connection(("127.0.0.1", self._to)) as far:
            self._open += [near, far]
            down = threading.Thread(target=self._carry, args=(far, near, False), daemon=True)
            down.start()
            self._carry(near, far, True)
            down.join()

    def _carry(self, one: socket.socket, other: socket.socket, up: bool) -> None:
        with suppress(OSError):
            while piece := one.recv(PIECE):
                if up and self.rate is not None:
                    time.sleep(len(piece) / self.rate)
                other.sendall(piece)
        _end(one, other)

    def cut(self) -> None:
        """Break all connections off, with what is still on its way."""
        _end(*self._open)
        self._open.clear()

    def close(self) -> None:
        self._listener.close()
        self.cut()


def _end(*sockets: socket.socket) -> None:
    for each in sockets:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


@contextmanager
def wire(port: int) -> Iterator[Wire]:
    made = Wire(port)
    try:
        yield made
    finally:
        made.close()
