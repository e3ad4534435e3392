"""`longtake worker`"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import threading

from longtake.core.errors import Usage
from longtake.planner.survey import gpus, installed
from longtake.service import disk, fleet, logs
from longtake.service.database import Database
from longtake.service.devices import INSIDE, VISIBLE, chosen, in_all, label
from longtake.service.reporting import Reporting, end_with_parent
from longtake.service.upgrade import check
from longtake.service.work import LEASE, Worker
from longtake.settings import Settings


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto, cpu, or a GPU: cuda:0, or its UUID")
    parser.add_argument("--name", help="of this worker; host, device and process by default")
    parser.add_argument(
        "--lease", type=float, default=LEASE, metavar="S",
        help="seconds after which others take over from a worker that does not answer",
    )  # fmt: skip
    parser.add_argument("--until-empty", action="store_true", help="end when nothing is left to do")
    parser.add_argument("--log", choices=logs.STYLES, default="auto", help=logs.HELP)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)


def run(given: argparse.Namespace, settings: Settings) -> int:
    logs.begin(given.log)
    if given.lease < 0.5:
        raise Usage(f"--lease {given.lease:g}: at least 0.5 s.")
    every = installed()
    gpu = chosen(given.device, gpus())
    if gpu is not None:
        os.environ[VISIBLE] = gpu.uuid  # torch is not imported yet
        gpu = in_all(gpu, every)
    name = given.name or f"{socket.gethostname()}/{label(gpu, every)}/{os.getpid()}"
    database = Database(settings.database)
    check(database)
    if fleet.drained(database, name):
        raise Usage(f"Worker {name} is drained: DELETE /api/v1/workers/{name}/drain ends that.")
    worker = Worker(
        database=database, root=settings.data, device=INSIDE if gpu else "cpu", name=name,
        queues=("gpu", "cpu") if gpu else ("cpu",), calibration=settings.calibration,
        lease=given.lease, low_water=disk.low_water(settings.data, settings.low_water),
    )  # fmt: skip
    for end in (signal.SIGTERM, signal.SIGINT):
        signal.signal(end, lambda *_: worker.stop.set())
    if given.child:
        threading.Thread(target=end_with_parent, args=(worker.stop,), daemon=True).start()
    with logs.about(worker=name, device=label(gpu, every)), Reporting(worker, gpu):
        worker.run(until_empty=given.until_empty)
    database.close()
    return 0
