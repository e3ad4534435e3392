"""A process per device. The parent deals out segments and alone writes the ledger.

Workers are spawned, never forked; a worker that dies gives its segment back.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from longtake.core.errors import LongtakeError
from longtake.core.events import Warned
from longtake.core.plan import Plan, Segment
from longtake.core.plugins import find
from longtake.core.ports import Ledger
from longtake.media.verify import part as check_part
from longtake.runtime import offloads, recover
from longtake.runtime.film import open_film
from longtake.runtime.measure import Usage, peak_ram, peak_vram
from longtake.runtime.prepare import sink_for
from longtake.runtime.segment import Advance, Line, Noticed, Order, Sampled, render
from longtake.runtime.stages import Meter
from longtake.runtime.watchdog import Watched


@dataclass(slots=True)
class _Worker:
    device: str
    process: Any
    pipe: Connection
    segments: list[Segment] = field(default_factory=list)  # dealt and not committed, in order
    began: float = 0.0


class WorkerFailed(LongtakeError):
    """A worker process failed."""


def render_all(
    plan: Plan, folder: Path, left: Sequence[Segment], ledger: Ledger, watched: Watched
) -> Iterator[tuple[str, Any]]:
    """Make the segments `left` on all devices of the plan.

    Yields ("frames", (segment, n)), ("done", (segment, part, seconds, usage)), and ("event", event)
    for what a person should know: a worker died, ran out of memory, or tries a segment again.
    """
    waiting = list(reversed(left))
    workers = [
        _start(plan, folder, device, watched) for device in plan.placement.devices[: len(left)]
    ]
    try:
        while waiting or any(w.segments for w in workers):
            for worker in workers:
                if not worker.segments and waiting:
                    _deal(worker, _batch(waiting, len(workers)), ledger)
            for ready in wait([w.pipe for w in workers]):
                worker = next(w for w in workers if w.pipe is ready)
                for kind, value in _heard(worker, workers, waiting):
                    made = kind == "made"
                    yield (
                        ("done", _committed(plan, worker, value, ledger)) if made else (kind, value)
                    )
    finally:
        _stop(workers)


def _batch(waiting: list[Segment], workers: int) -> list[Segment]:
    """Take the next segments off `waiting` (the next is its last).

    In a batch, one segment's encoding ends while the next is decoded and computed; between batches
    a worker waits. So batches are long at first and single segments at the end, when whoever is
    faster should get more: half of a fair share of what is left, as in guided self-scheduling
    (Polychronopoulos and Kuck, 1987, https://doi.org/10.1109/TC.1987.5009495).
    """
    return [waiting.pop() for _ in range(max(1, len(waiting) // (2 * workers)))]


def _start(plan: Plan, folder: Path, device: str, watched: Watched) -> _Worker:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(
        target=_work, args=(there, plan.to_json(), str(folder), device, watched),
        daemon=True, name=f"longtake {device}",
    )  # fmt: skip
    process.start()
    there.close()
    return _Worker(device, process, here)


def _deal(worker: _Worker, batch: list[Segment], ledger: Ledger) -> None:
    worker.segments, worker.began = batch, time.monotonic()
    with contextlib.suppress(OSError):  # a dead worker is noticed when its pipe is read
        worker.pipe.send([(segment, ledger.part(segment)) for segment in batch])


def _heard(
    worker: _Worker, workers: list[_Worker], waiting: list[Segment]
) -> Iterator[tuple[str, Any]]:
    try:
        kind, value = worker.pipe.recv()
    except (EOFError, OSError):
        workers.remove(worker)
        waiting.extend(reversed(worker.segments))
        if not workers:
            raise WorkerFailed(
                f"{worker.device} ended without a word (exit code {worker.process.exitcode}); no "
                f"worker is left. What is done is kept: run the same command again."
            ) from None
        died = f"{worker.device} died; its work goes to another device."
        yield "event", Warned(message=died)
        return
    if kind == "error":
        raise value
    yield kind, value


def _committed(
    plan: Plan, worker: _Worker, made: tuple[str, Usage], ledger: Ledger
) -> tuple[Segment, Path, float, Usage]:
    """Check and commit the part that a worker has made."""
    segment = worker.segments[0]
    part, used = made
    seconds = time.monotonic() - worker.began
    check_part(Path(part), plan.recipe.output, segment.stop - segment.start)
    final = ledger.commit(segment, Path(part), seconds)
    worker.segments, worker.began = worker.segments[1:], time.monotonic()
    return segment, final, seconds, used


def _stop(workers: list[_Worker]) -> None:
    for worker in workers:
        with contextlib.suppress(OSError):
            worker.pipe.send(None)
        if worker.segments:
            worker.process.terminate()
    for worker in workers:
        worker.process.join(timeout=10)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.pipe.close()


def _work(pipe: Connection, plan_json: str, folder: str, device: str, watched: Watched) -> None:
    """The life of a worker: one engine, segments until None comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    plan = Plan.from_json(plan_json)
    engine = find("engines", plan.recipe.engine)
    recovery = recover.Recovery(plan=plan, engine=engine)
    watch = watched.over(recovery, device)
    try:
        film = open_film(plan, Path(folder))
        sink = sink_for(plan.task.target, plan.task.codec)
        meter = Meter()
        orders: list[Order] | None = pipe.recv()
        while orders is not None:
            plan = recovery.plan
            try:
                with engine.open(plan, device, offloads.placed(plan.placement)) as upscaler:
                    watch.opened(meter.busy["compute"])
                    line = Line(film=film, upscaler=upscaler, sink=sink, meter=meter, watch=watch)
                    while orders is not None:
                        _make(pipe, plan, line, orders, device)
                        orders = pipe.recv()
            except (EOFError, BrokenPipeError):
                raise
            except Exception as error:
                if not orders:
                    raise
                pipe.send(("event", recovery.after(error, orders[0][0])))
    except (EOFError, BrokenPipeError):
        return  # the parent has gone
    except Exception as error:  # noqa: BLE001 - told to the parent, which ends the job
        pipe.send(("error", _portable(error)))


def _make(pipe: Connection, plan: Plan, line: Line, orders: list[Order], device: str) -> None:
    """Make the parts of `orders` and tell the parent; what is made is taken out of the list."""
    told = dict(line.meter.busy)
    with closing(render(plan, line, tuple(orders))) as steps:
        for step in steps:
            if isinstance(step, Advance):
                pipe.send(("frames", (step.segment, step.frames)))
                continue
            if isinstance(step, Noticed):
                pipe.send(("event", step.event))
                continue
            if isinstance(step, Sampled):
                continue
            busy = {stage: s - told[stage] for stage, s in line.meter.busy.items()}
            told = dict(line.meter.busy)
            used = Usage(busy=busy, ram=peak_ram(), vram=peak_vram(device))
            pipe.send(("made", (step.part, used)))
            orders.pop(0)


def _portable(error: Exception) -> Exception:
    """An error that survives the pipe."""
    if isinstance(error, OSError):
        return OSError(error.errno, str(error))
    if isinstance(error, LongtakeError):
        return type(error)(error.detail)
    return WorkerFailed(f"{type(error).__name__}: {error}")
