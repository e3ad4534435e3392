"""Many films, one after the other, each in a process of its own.

A film that crashes a decoder, kills CUDA or is killed by the system takes only itself down, and
when its process ends, all memory is back where it was: nothing of film 1 is there when film 100
begins. The price is a start for every film: a quarter of a second without torch, two to four with
it. Next to the minutes that a film takes that is little; within a film nothing is started twice.

The processes are spawned, as those of `pool` are. Each surveys the machine anew, so that its plan
fits the memory that is free by then. Ctrl-C and SIGTERM reach the parent alone, which stops the
film in hand politely: its segments stay, and the same command goes on from there.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import traceback
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

from longtake.core.errors import DiskFull, FilmDied, in_words
from longtake.core.events import (
    Batch,
    Event,
    FilmBegun,
    FilmFailed,
    FilmSkipped,
    Finished,
    Warned,
)
from longtake.core.knobs import settle
from longtake.core.task import Limits, Upscale
from longtake.planner import devices
from longtake.planner.calibration import Calibration
from longtake.planner.survey import survey
from longtake.runtime import finished
from longtake.runtime.gather import Entry, Folder
from longtake.runtime.prepare import crafts_for, draft
from longtake.runtime.recover import disk_is_full
from longtake.runtime.run import Job, run

_PATIENCE = 20  # s for a film to end when it is told to
STOPPED = 143  # exit code of a film's process that was told to end


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What holds for every film of a batch; `task` names the first film's files."""

    task: Upscale
    limits: Limits
    calibration: Path
    keep: bool = False
    restart: bool = False

    def of(self, film: Entry) -> Upscale:
        return replace(self.task, source=film.source, target=film.target)


class _Stopped(BaseException):
    """SIGTERM came to a film's process."""


def check(order: Order, folder: Folder) -> None:
    """What is wrong with the order whatever the film is. Raises Usage and its kin."""
    crafts = crafts_for(order.of(folder.films[0]))
    own = {k: v for k, v in order.task.set.items() if k != "segment_frames"}
    settle(crafts.engine.knobs, own)
    devices.choose(order.limits.devices, survey(), crafts.engine)


def run_batch(folder: Folder, order: Order) -> Generator[Event]:
    """Make every film of `folder`; one that fails does not stop the others.

    Ends with `Batch`. Raises DiskFull, after that, where the disk was full: then no film can go on.
    Close the iterator to cancel.
    """
    check(order, folder)
    folder.out.mkdir(parents=True, exist_ok=True)
    finished.open_record(folder.out)
    for words in folder.notes:
        yield Warned(message=words)
    done: list[tuple[Path, Path]] = []
    skipped: list[tuple[Path, Path]] = []
    failed: list[FilmFailed] = []
    for number, film in enumerate(folder.films, 1):
        pair = (film.source, film.target)
        yield FilmBegun(source=film.source, target=film.target, number=number, of=len(folder.films))
        with closing(_film(folder.out, order, film)) as events:
            for event in events:
                yield event
                if isinstance(event, FilmFailed):
                    failed.append(event)
                elif isinstance(event, FilmSkipped):
                    skipped.append(pair)
                elif isinstance(event, Finished):
                    done.append(pair)
        if failed and failed[-1].error == DiskFull.__name__:
            break
    yield Batch(done=tuple(done), skipped=tuple(skipped), failed=tuple(failed))
    if failed and failed[-1].error == DiskFull.__name__:
        left = len(folder.films) - len(done) - len(skipped) - len(failed)
        raise DiskFull(f"The batch stops at {failed[-1].source}, with {left} films to go.")


def _film(out: Path, order: Order, film: Entry) -> Generator[Event]:
    """The events of one film; the last is Finished, FilmSkipped or FilmFailed."""
    try:
        if finished.passed_over(out, order.of(film), restart=order.restart):
            yield FilmSkipped(source=film.source, target=film.target)
            return
        yield from _apart(order, film)
    except Exception as error:  # noqa: BLE001 - told with its name; the other films go on
        yield _failed(film, error)
    _tidy(out, film.target.parent)


def _failed(film: Entry, error: Exception) -> FilmFailed:
    if os.environ.get("LONGTAKE_DEBUG"):
        traceback.print_exception(error)
    if disk_is_full(error):
        error = DiskFull(f"({error})")
    name, message, code = in_words(error)
    return FilmFailed(
        source=film.source, target=film.target, error=name, message=message, exit_code=code
    )


def _tidy(out: Path, folder: Path) -> None:
    """Remove mirrored folders in which nothing came to be."""
    with contextlib.suppress(OSError):
        while folder != out and out in folder.parents:
            folder.rmdir()
            folder = folder.parent


def _apart(order: Order, film: Entry) -> Generator[Event]:
    """Make a film in a process of its own."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_make, args=(there, order, film), name=f"longtake {film.name}")
    with _quiet():
        process.start()
    there.close()
    last: Event | None = None
    try:
        while True:
            try:
                last = here.recv()
            except (EOFError, OSError):
                break
            yield last
        process.join()
        if not isinstance(last, Finished | FilmFailed):
            raise FilmDied(_epitaph(process.exitcode))
    finally:
        _end(process)
        here.close()


def _epitaph(code: int | None) -> str:
    kept = "What is done of it is kept: the same command goes on from there."
    if code is None or code >= 0:
        return f"(exit code {code}) {kept}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = " Often that is the system, when memory runs out: --ram sets a limit."
    return f"({name}){hint if name == 'SIGKILL' else ''} {kept}"


def _end(process: Any) -> None:
    """Stop a film that is still at work: politely, then not."""
    if process.is_alive():
        process.terminate()
        process.join(_PATIENCE)
    if process.is_alive():
        process.kill()
    process.join()
    process.close()


@contextmanager
def _quiet() -> Iterator[None]:
    """Processes started inside do not hear Ctrl-C, not even before they can say so themselves."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # it would let signals through again when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _make(pipe: Connection, order: Order, film: Entry) -> None:
    """The life of a film's process."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
        signal.signal(signal.SIGTERM, _stop)
        with closing(_events(order, film)) as events:
            for event in events:
                pipe.send(event)
    except _Stopped:
        raise SystemExit(STOPPED) from None  # all is closed by now, and the parent waits
    except BrokenPipeError:
        return  # the parent has gone
    except Exception as error:  # noqa: BLE001 - told to the parent
        with contextlib.suppress(OSError):
            pipe.send(_failed(film, error))


def _events(order: Order, film: Entry) -> Generator[Event]:
    machine, known = survey(), Calibration(order.calibration)
    plan, crafts = draft(order.of(film), order.limits, machine, known, makes_folder=True)
    for words in plan.notes:
        yield Warned(message=words)
    film.target.parent.mkdir(parents=True, exist_ok=True)
    job = Job(
        plan=plan, crafts=crafts, machine=machine, known=known, limits=order.limits,
        keep=order.keep, restart=order.restart,
    )  # fmt: skip
    with closing(run(job)) as events:  # type: ignore[type-var]
        yield from events


def _stop(_signal: int, _frame: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
    raise _Stopped
