"""What a worker says of itself: that it is there, on what machine, and what its GPU does."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
import time
from contextvars import copy_context
from typing import Any, Final

from longtake import __version__
from longtake.core.machine import Gpu
from longtake.core.plain import to_plain
from longtake.core.plugins import names
from longtake.runtime.engines import described
from longtake.service import fleet
from longtake.service.database import DatabaseAway
from longtake.service.work import Worker

BEAT: Final = 5.0  # s
LOOK: Final = 1.0  # s between two looks at whether it shall take no more
_log = logging.getLogger(__name__)


class Reporting:
    """Writes the worker's row from a thread while the context lasts; its state is "gone" after. A
    worker that is drained is told to stop."""

    def __init__(self, worker: Worker, gpu: Gpu | None = None) -> None:
        """`gpu`: with the index that it has for all processes of this host."""
        self._worker, self._gpu = worker, gpu
        self.drained = False
        self._ended = threading.Event()
        self._thread = threading.Thread(
            target=copy_context().run, args=(self._beat,), daemon=True, name="report"
        )

    def __enter__(self) -> Reporting:
        worker = self._worker
        self._report(
            began=True, host=socket.gethostname(), pid=os.getpid(), device=worker.device,
            gpu=_described(self._gpu), queues=" ".join(worker.queues), version=__version__,
            numerics=worker.numerics, state="idle", machine=json.dumps(to_plain(worker.machine)),
            rates=_rates(worker),
            engines=json.dumps([described(name) for name in names("engines")]),
        )  # fmt: skip
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._report(state="draining" if self.drained and self._drained() else "gone", doing=None)

    def _beat(self) -> None:
        worker, told, waits = self._worker, time.monotonic(), False
        while not self._ended.wait(LOOK):
            self._look()
            news = self.drained or waits != (worker.waits is not None)
            if time.monotonic() - told < BEAT and not news:
                continue
            told, waits = time.monotonic(), worker.waits is not None
            state = "draining" if worker.stop.is_set() else "busy" if worker.doing else "idle"
            self._report(
                state=state, doing=worker.doing, telemetry=json.dumps(telemetry(worker)),
                rates=_rates(worker),
            )  # fmt: skip

    def _drained(self) -> bool:
        try:
            return fleet.drained(self._worker.database, self._worker.name)
        except DatabaseAway:
            return False  # the next look will tell

    def _look(self) -> None:
        if not self.drained and self._drained():
            _log.info("worker %s is drained: it takes no more", self._worker.name)
            self.drained = True
            self._worker.stop.set()

    def _report(self, **about: Any) -> None:
        try:
            fleet.report(self._worker.database, self._worker.name, **about)
        except DatabaseAway as error:
            _log.warning("database: %s", error)


def _described(gpu: Gpu | None) -> str | None:
    if gpu is None:
        return None
    return json.dumps({"uuid": gpu.uuid, "name": gpu.name, "index": gpu.index})


def telemetry(worker: Worker) -> dict[str, Any]:
    """RAM of the host, and of the worker's GPU memory, load, temperature and power, by NVML."""
    from longtake.planner.survey import survey

    now = survey()
    found: dict[str, Any] = {"ram": now.ram, "ram_free": now.free_ram, "waits": worker.waits}
    gpu = now.gpu(worker.device)
    if gpu is not None:
        found |= {"vram": gpu.vram, "vram_free": gpu.free, "uuid": gpu.uuid}
        found |= _gauges(gpu.uuid)
    return found


def _gauges(uuid: str) -> dict[str, Any]:
    """Percent, degrees Celsius and watts; what the driver does not tell is left out."""
    import pynvml

    found: dict[str, Any] = {}
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return found
    try:
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        for name, ask in (
            ("load", lambda: pynvml.nvmlDeviceGetUtilizationRates(handle).gpu),
            ("temperature", lambda: pynvml.nvmlDeviceGetTemperature(handle, 0)),
            ("watts", lambda: pynvml.nvmlDeviceGetPowerUsage(handle) / 1000),
        ):
            with contextlib.suppress(pynvml.NVMLError):
                found[name] = ask()  # type: ignore[no-untyped-call]
    finally:
        pynvml.nvmlShutdown()
    return found


def _rates(worker: Worker) -> str | None:
    try:
        return worker.calibration.read_text(encoding="utf-8")
    except OSError:
        return None


def end_with_parent(stop: threading.Event) -> None:
    """Stop when the pipe to the parent breaks, which it does however the parent ends."""
    while os.read(0, 1):  # not sys.stdin: its lock, held here, would abort the end of Python
        pass
    stop.set()
    # what is left is done within the lease, or not at all
    threading.Timer(20.0, lambda: os._exit(1)).start()
