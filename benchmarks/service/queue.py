"""How many steps the queue hands out and takes back a second, and how long the slowest waits.

    python -m benchmarks.service.queue [--processes 1 4 8] [--seconds 10] [--postgres]

Processes claim and commit steps of jobs of two owners, as workers do, without any work between; the
queue holds 100 jobs of 200 segments. SQLite is durable (synchronous=FULL), and so is PostgreSQL,
which is started for this in a temporary folder. Writes a table to stdout; paste it with machine and
date into README.md beside this file.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE

from longtake.service.claiming import claim
from longtake.service.database import Database
from longtake.service.queue import Part, commit_segment
from longtake.service.upgrade import upgrade
from tests.service.conftest import start_postgres
from tests.service.jobs import plain_job, someone

JOBS = 100
SEGMENTS = 200
LEASE = 30.0


def worker(url: str, name: str, seconds: float) -> None:
    """Claim and commit for so long, from the word on; prints ms of each claim and of each pair."""
    database = Database(url)
    claim(database, name, ("gpu",), LEASE)
    print("ready", flush=True)
    sys.stdin.readline()
    taken, end = [], time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        held = claim(database, name, ("cpu",), LEASE, numerics="n")
        if held is None:
            raise RuntimeError("the queue is empty: give it more jobs")
        claimed = time.perf_counter() - began
        if held.kind == "segment":
            commit_segment(database, held, Part(key="k", bytes=1, sha256="0"), "n")
        taken.append((claimed * 1000, (time.perf_counter() - began) * 1000))
    database.close()
    for both in taken:
        print(*both)


def row(url: str, kind: str, processes: int, seconds: float) -> None:
    database = Database(url)
    upgrade(database)
    owners = [someone(database, f"{processes}{i}") for i in range(2)]
    for i in range(JOBS):
        plain_job(database, owners[i % 2], SEGMENTS)
    database.close()
    words = [sys.executable, "-m", "benchmarks.service.queue", "--as", url, str(seconds)]
    running = [
        subprocess.Popen([*words, f"w{i}"], stdin=PIPE, stdout=PIPE, text=True)
        for i in range(processes)
    ]
    for each in running:
        assert each.stdout is not None
        each.stdout.readline()
    for each in running:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    lines = [line.split() for each in running for line in each.communicate()[0].splitlines()]
    claims, pairs = ([float(line[i]) for line in lines] for i in range(2))
    cuts = statistics.quantiles(claims, n=100)
    print(
        f"| {kind} | {processes} | {len(pairs) / seconds:.0f} | {cuts[49]:.1f} | {cuts[98]:.1f} "
        f"| {statistics.median(pairs):.1f} | {max(pairs):.0f} |", flush=True,
    )  # fmt: skip


@contextmanager
def databases(postgres: bool) -> Iterator[dict[str, Callable[[int], str]]]:
    """By kind: the address of an empty one for so many processes."""
    with tempfile.TemporaryDirectory() as made:
        found: dict[str, Callable[[int], str]] = {"SQLite": lambda n: f"sqlite:///{made}/{n}.db"}
        if not postgres:
            yield found
            return
        server = start_postgres(Path(made) / "pg", fsync="on")
        try:
            yield found | {"PostgreSQL": lambda n: server.make(f"queue{n}")}
        finally:
            server.process.terminate()
            server.process.wait()


def main() -> None:
    if sys.argv[1:2] == ["--as"]:
        worker(sys.argv[2], sys.argv[4], float(sys.argv[3]))
        return
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--postgres", action="store_true")
    given = parser.parse_args()
    print("| database | processes | claims with commit a second | a claim's p50 ms | its p99 ms "
          "| both p50 ms | both at most ms |")  # fmt: skip
    print("|---|---|---|---|---|---|---|")
    with databases(given.postgres) as urls:
        for kind, empty in urls.items():
            for processes in given.processes:
                row(empty(processes), kind, processes, given.seconds)


if __name__ == "__main__":
    main()
