"""How fast the API answers while a worker renders, and how late events come.

    python -m benchmarks.service.api [--seconds 20] [--clients 4] [--streams 20]

`longtake serve` on SQLite with one worker for the CPU. Clients ask one request after another, each
kind in turn: a job, all jobs, its segments, a plan, a new job. First nothing else happens, then the
worker renders a film with `lite` on all cores. Streams of events are open meanwhile; an event is
late by the time from its row to its arrival. Writes tables to stdout; paste them with machine and
date into README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import httpx

from longtake.runtime.sample import film
from tests.service.running import Served, served

PARAMS = {"engine": "lite", "scale": 2, "set": {"segment_frames": 24}}


def requests(web: httpx.Client, asset: str, job: str) -> dict[str, Callable[[], httpx.Response]]:
    """By name; new jobs come behind all others, and are cancelled at once."""
    body = {"asset": asset, "params": PARAMS, "priority": -10}
    return {
        "GET job": lambda: web.get(f"jobs/{job}"),
        "GET jobs": lambda: web.get("jobs"),
        "GET segments": lambda: web.get(f"jobs/{job}/segments"),
        "POST plans": lambda: web.post("plans", json={"asset": asset, "params": PARAMS}),
        "POST jobs": lambda: web.post("jobs", json=body),
    }


def measured(service: Served, asset: str, job: str, clients: int, seconds: float) -> None:
    """Print ms of each kind of request; what was made is cancelled."""
    taken: defaultdict[str, list[float]] = defaultdict(list)
    end = time.monotonic() + seconds

    def ask() -> None:
        with httpx.Client(
            base_url=f"{service.address}/api/v1/", cookies=service.web.cookies,
            headers={"origin": service.web.headers["origin"]}, timeout=60,
        ) as web:  # fmt: skip
            while time.monotonic() < end:
                for name, send in requests(web, asset, job).items():
                    began = time.perf_counter()
                    answer = send().raise_for_status()
                    taken[name].append((time.perf_counter() - began) * 1000)
                    if name == "POST jobs":
                        web.post(f"jobs/{answer.json()['id']}/cancel").raise_for_status()

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print("| request | answers | p50 ms | p99 ms | slowest ms |\n|---|---|---|---|---|")
    for name, times in taken.items():
        cuts = statistics.quantiles(times, n=100)
        print(f"| {name} | {len(times)} | {cuts[49]:.0f} | {cuts[98]:.0f} | {max(times):.0f} |")
    print(flush=True)


class Streams:
    """Open streams of events, and by how many ms each event came late."""

    def __init__(self, service: Served, count: int) -> None:
        self.late: list[float] = []
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._read, args=(service,)) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _read(self, service: Served) -> None:
        with (
            httpx.Client(cookies=service.web.cookies, timeout=30) as web,
            web.stream("GET", f"{service.address}/api/v1/events") as stream,
        ):
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    at = json.loads(line.removeprefix("data:"))["at"]
                    self.late.append(time.time() * 1000 - at / 1000)
                if self._ended.is_set():
                    return

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--streams", type=int, default=20)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        source = film(folder / "film.mp4", (640, 360), frames=1200)
        with served(folder / "data", LONGTAKE_ROOTS=made) as service:
            asset = service.web.post("assets", json={"path": str(source)}).json()["id"]
            service.ready(asset)
            body = {"asset": asset, "params": PARAMS, "priority": 10}
            job = str(service.web.post("jobs", json=body).raise_for_status().json()["id"])
            while service.job(job)["progress"]["frames"] < 24:
                time.sleep(0.2)
            service.web.post(f"jobs/{job}/pause").raise_for_status()
            time.sleep(5)
            print("Nothing else happens:\n")
            measured(service, asset, job, given.clients, given.seconds)
            service.web.post(f"jobs/{job}/resume").raise_for_status()
            streams = Streams(service, given.streams)
            print("A worker renders:\n")
            measured(service, asset, job, given.clients, given.seconds)
            service.web.post(f"jobs/{job}/cancel").raise_for_status()
            streams.end()
            cuts = statistics.quantiles(streams.late, n=100)
            print(
                f"{len(streams.late)} events to {given.streams} streams: late by p50 "
                f"{cuts[49]:.0f}, p99 {cuts[98]:.0f}, at most {max(streams.late):.0f} ms"
            )


if __name__ == "__main__":
    main()
