"""A process per device. The parent deals out segments and alone writes the ledger.

Workers are spawned, never forked; a worker that dies gives its segment back.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from longtake.core.errors import LongtakeError
from longtake.core.events import Warned
from longtake.core.plan import Plan, Segment
from longtake.core.plugins import find
from longtake.core.ports import Ledger
from longtake.media.verify import part as check_part
from longtake.runtime import recover
from longtake.runtime.film import open_film
from longtake.runtime.measure import Usage, peak_ram, peak_vram
from longtake.runtime.prepare import sink_for
from longtake.runtime.segment import Line, render
from longtake.runtime.stages import Meter


@dataclass(slots=True)
class _Worker:
    device: str
    process: Any
    pipe: Connection
    segment: Segment | None = None
    began: float = 0.0


class WorkerFailed(LongtakeError):
    """A worker process failed."""


def render_all(
    plan: Plan, folder: Path, left: Sequence[Segment], ledger: Ledger
) -> Iterator[tuple[str, Any]]:
    """Make the segments `left` on all devices of the plan.

    Yields ("frames", (segment, n)), ("done", (segment, part, seconds, usage)), and ("event", event)
    for what a person should know: a worker died, ran out of memory, or tries a segment again.
    """
    waiting = list(reversed(left))
    workers = [_start(plan, folder, device) for device in plan.placement.devices[: len(left)]]
    try:
        while waiting or any(w.segment for w in workers):
            for worker in workers:
                if worker.segment is None and waiting:
                    _deal(worker, waiting.pop(), ledger)
            for ready in wait([w.pipe for w in workers]):
                worker = next(w for w in workers if w.pipe is ready)
                for kind, value in _heard(worker, workers, waiting):
                    made = kind == "made"
                    yield (
                        ("done", _committed(plan, worker, value, ledger)) if made else (kind, value)
                    )
    finally:
        _stop(workers)


def _start(plan: Plan, folder: Path, device: str) -> _Worker:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(
        target=_work, args=(there, plan.to_json(), str(folder), device), daemon=True,
        name=f"longtake {device}",
    )  # fmt: skip
    process.start()
    there.close()
    return _Worker(device, process, here)


def _deal(worker: _Worker, segment: Segment, ledger: Ledger) -> None:
    worker.segment, worker.began = segment, time.monotonic()
    with contextlib.suppress(OSError):  # a dead worker is noticed when its pipe is read
        worker.pipe.send((segment.index, str(ledger.part(segment))))


def _heard(
    worker: _Worker, workers: list[_Worker], waiting: list[Segment]
) -> Iterator[tuple[str, Any]]:
    try:
        kind, value = worker.pipe.recv()
    except (EOFError, OSError):
        workers.remove(worker)
        if worker.segment is not None:
            waiting.append(worker.segment)
        if not workers:
            raise WorkerFailed(
                f"{worker.device} ended without a word (exit code {worker.process.exitcode}); no "
                f"worker is left. What is done is kept: run the same command again."
            ) from None
        died = f"{worker.device} died; its segment goes to another device."
        yield "event", Warned(message=died)
        return
    if kind == "error":
        raise value
    yield (kind, (worker.segment, value)) if kind == "frames" else (kind, value)


def _committed(
    plan: Plan, worker: _Worker, made: tuple[str, Usage], ledger: Ledger
) -> tuple[Segment, Path, float, Usage]:
    """Check and commit the part that a worker has made; the worker is free again."""
    segment = worker.segment
    assert segment is not None
    part, used = made
    seconds = time.monotonic() - worker.began
    check_part(Path(part), plan.recipe.output, segment.stop - segment.start)
    final = ledger.commit(segment, Path(part), seconds)
    worker.segment = None
    return segment, final, seconds, used


def _stop(workers: list[_Worker]) -> None:
    for worker in workers:
        with contextlib.suppress(OSError):
            worker.pipe.send(None)
        if worker.segment is not None:
            worker.process.terminate()
    for worker in workers:
        worker.process.join(timeout=10)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.pipe.close()


def _work(pipe: Connection, plan_json: str, folder: str, device: str) -> None:
    """The life of a worker: one engine, segments until None comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    plan = Plan.from_json(plan_json)
    engine = find("engines", plan.recipe.engine)
    recovery = recover.Recovery(plan=plan, engine=engine)
    try:
        film = open_film(plan, Path(folder))
        sink = sink_for(plan.task.target)
        order = pipe.recv()
        while order is not None:
            plan = recovery.plan
            try:
                with engine.open(plan, device, find("offload", plan.placement.offload)) as upscaler:
                    while order is not None:
                        meter = Meter()
                        line = Line(film=film, upscaler=upscaler, sink=sink, meter=meter)
                        index, part = order
                        for done in render(plan, line, plan.segments[index], Path(part)):
                            pipe.send(("frames", done))
                        used = Usage(busy=meter.busy, ram=peak_ram(), vram=peak_vram(device))
                        pipe.send(("made", (part, used)))
                        order = pipe.recv()
            except (EOFError, BrokenPipeError):
                raise
            except Exception as error:  # noqa: BLE001 - what cannot be mended is raised again
                pipe.send(("event", recovery.after(error, plan.segments[order[0]])))
    except (EOFError, BrokenPipeError):
        return  # the parent has gone
    except Exception as error:  # noqa: BLE001 - told to the parent, which ends the job
        pipe.send(("error", _portable(error)))


def _portable(error: Exception) -> Exception:
    """An error that survives the pipe."""
    if isinstance(error, OSError):
        return OSError(error.errno, str(error))
    if isinstance(error, LongtakeError):
        return type(error)(error.detail)
    return WorkerFailed(f"{type(error).__name__}: {error}")
