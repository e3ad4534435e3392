"""`longtake serve` as a process of its own, and a client that is signed in."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil
import pytest

T = TypeVar("T")


def until(found: Callable[[], T], seconds: float = 120) -> T:
    """What `found` gives as soon as it gives anything; else fail."""
    end = time.monotonic() + seconds
    while not (value := found()):
        if time.monotonic() > end:
            pytest.fail(f"nothing within {seconds:.0f} s")
        time.sleep(0.02)
    return value


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def made_by_hand(source: Path, target: Path, segment_frames: int = 8) -> str:
    """The sum of the film that the command line makes of it, twice as large."""
    subprocess.run(
        [sys.executable, "-m", "longtake", "upscale", source, target, "--engine", "resize",
         "--scale", "2", "--codec", "ffv1", "--devices", "cpu",
         "--set", f"segment_frames={segment_frames}"],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return sha(target)


@dataclass(slots=True)
class Served:
    """A running service, and a client that is signed in unless it is told not to be."""

    address: str
    page: str
    """What it printed: the address for a person, with a token that is good for once."""
    process: subprocess.Popen[str]
    web: httpx.Client
    data: Path

    def job(self, name: str) -> dict[str, Any]:
        return dict(self.web.get(f"jobs/{name}").raise_for_status().json())

    def until(self, name: str, *states: str, seconds: float = 120) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while (found := self.job(name))["state"] not in states:
            assert found["state"] != "failed", found["error"]
            assert time.monotonic() < end, found
            time.sleep(0.05)
        return found

    def ready(self, asset: str) -> dict[str, Any]:
        for _ in range(300):
            found = self.web.get(f"assets/{asset}").raise_for_status().json()
            if found["state"] not in ("receiving", "probing"):
                return dict(found)
            time.sleep(0.05)
        raise AssertionError(found)

    def workers(self) -> list[tuple[psutil.Process, list[str]]]:
        """Those that are alive, and their command lines."""
        found = []
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):  # or dead, and not buried yet
                if "worker" in (words := child.cmdline()):
                    found.append((child, words))
        return found

    def kill_workers(self) -> int:
        """All at once; returns how many."""
        killed = 0
        for worker, _ in self.workers():
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.kill()
                killed += 1
        return killed


@contextlib.contextmanager
def served(data: Path, *words: str, sign_in: bool = True, **env: str) -> Iterator[Served]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    data.mkdir(exist_ok=True)
    environment = {**os.environ, "LONGTAKE_DATA": str(data), "LONGTAKE_CACHE": str(data), **env}
    with (data / "log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "longtake", "serve", "--port", str(port), "--lease", "2",
             *words],
            env=environment, stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
    assert process.stdout is not None
    try:
        said = process.stdout.readline()
        found = re.search(r"((http://\S+?)/\?token=(\S+))", said)
        assert found, said + (data / "log").read_text()
        page, address, token = found.groups()
        with httpx.Client(base_url=f"{address}/api/v1/", timeout=60) as web:
            for _ in range(100):
                with contextlib.suppress(httpx.TransportError):
                    if sign_in:
                        web.post("auth/session", json={"token": token}).raise_for_status()
                    else:
                        httpx.get(f"{address}/healthz")
                    break
                time.sleep(0.1)
            web.headers["origin"] = re.match(r"http://[^/]+", address)[0]  # type: ignore[index]
            yield Served(address, page, process, web, data)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(40)
        process.stdout.close()
