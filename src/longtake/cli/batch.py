"""A folder of videos for `upscale` and `plan upscale`: every film, then what became of it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from longtake.cli.options import limits_of, task_of
from longtake.cli.show import Painter, plain, print_json, progress, say
from longtake.core.errors import LongtakeError, in_words
from longtake.core.events import Batch, Event, FilmBegun, FilmFailed, FilmSkipped
from longtake.core.plan import Plan
from longtake.planner.calibration import Calibration
from longtake.planner.explain import bytes_, clock
from longtake.planner.survey import survey
from longtake.runtime import finished
from longtake.runtime.batch import Order, check, run_batch
from longtake.runtime.gather import Entry, Folder
from longtake.runtime.prepare import draft
from longtake.settings import Settings

SOME_FAILED = 3


def upscale(given: argparse.Namespace, folder: Folder, settings: Settings) -> int:
    """Make all films; 3 where some failed."""
    order = _order(given, settings, restart=given.restart, keep=given.keep)
    outcome = Batch(done=(), skipped=(), failed=())
    with closing(run_batch(folder, order)) as events:
        for event in _told(events, given.json):
            if isinstance(event, Batch):
                outcome = event
    return SOME_FAILED if outcome.failed else 0


def _order(given: argparse.Namespace, settings: Settings, **how: bool) -> Order:
    return Order(
        task=task_of(given), limits=limits_of(given), calibration=settings.calibration, **how
    )


def _told(events: Iterator[Event], as_json: bool) -> Iterator[Event]:
    """The same events, each reported when it has come."""
    if as_json:
        for event in events:
            print_json(plain(event))
            yield event
        return
    console = Console(highlight=False)
    with ExitStack() as film:  # bars of the film in hand
        painter = Painter(progress(), console)
        for event in events:
            if isinstance(event, FilmBegun):
                film.close()
                painter = Painter(film.enter_context(progress()), console)
                say(console, f"[{event.number}/{event.of}]", f"{event.source}", "bold")
            elif isinstance(event, FilmSkipped):
                say(console, "finished before", str(event.target))
            elif isinstance(event, FilmFailed):
                film.close()
                say(console, "failed", event.message, "red")
            elif isinstance(event, Batch):
                film.close()
                _show_outcome(console, event)
            else:
                painter.show(event)
            yield event


def _show_outcome(console: Console, outcome: Batch) -> None:
    table = Table.grid(padding=(0, 2))
    for source, target in outcome.skipped:
        table.add_row(Text("finished before"), Text(str(source)), Text(str(target)))
    for source, target in outcome.done:
        table.add_row(Text("done", "green"), Text(str(source)), Text(str(target)))
    for film in outcome.failed:
        table.add_row(Text("failed", "red"), Text(str(film.source)), Text(film.message))
    console.print()
    console.print(table)
    counts = f"{len(outcome.done)} done, {len(outcome.skipped)} finished before"
    words = f"{counts}, {len(outcome.failed)} failed"
    say(console, "", words)


# --- plans ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sum:
    """What a batch needs: films one after the other, each with its work folder."""

    plans: tuple[tuple[Entry, Plan], ...]
    finished: tuple[Entry, ...]
    refused: tuple[tuple[Entry, LongtakeError], ...]

    @property
    def seconds(self) -> float | None:
        """None where one film's time is not known."""
        times = [plan.time for _, plan in self.plans]
        return float(sum(t.total for t in times if t)) if all(times) else None

    @property
    def disk(self) -> int:
        """Bytes at the worst moment: all films made, and the largest work folder."""
        made = [plan.disk.target or plan.disk.parts for _, plan in self.plans]
        beside = [p.disk.total - size for (_, p), size in zip(self.plans, made, strict=True)]
        return sum(made) + max(beside, default=0)

    @property
    def ram(self) -> int:
        return max((p.memory.ram * len(p.placement.devices) for _, p in self.plans), default=0)

    @property
    def vram(self) -> int:
        return max((p.memory.vram for _, p in self.plans), default=0)

    @property
    def frames(self) -> int:
        return sum(p.geometry.frames for _, p in self.plans)


def plan(given: argparse.Namespace, folder: Folder, settings: Settings) -> int:
    """Say what a batch needs; 3 where some films would be refused."""
    order = _order(given, settings)
    check(order, folder)
    found = _planned(folder, order)
    if given.json:
        print_json(_as_json(found, folder))
    else:
        _show_plan(found, folder)
    return SOME_FAILED if found.refused else 0


def _planned(folder: Folder, order: Order) -> _Sum:
    machine, known = survey(), Calibration(order.calibration)
    plans: list[tuple[Entry, Plan]] = []
    over: list[Entry] = []
    refused: list[tuple[Entry, LongtakeError]] = []
    for film in folder.films:
        try:
            task = order.of(film)
            if finished.passed_over(folder.out, task, restart=False):
                over.append(film)
                continue
            made, _ = draft(task, order.limits, machine, known, makes_folder=True)
            plans.append((film, made))
        except LongtakeError as error:
            refused.append((film, error))
    return _Sum(plans=tuple(plans), finished=tuple(over), refused=tuple(refused))


def _as_json(found: _Sum, folder: Folder) -> dict[str, Any]:
    films = [
        {
            "source": str(film.source), "target": str(film.target), "frames": p.geometry.frames,
            "size": list(p.geometry.target), "seconds": p.time.total if p.time else None,
            "disk": p.disk.total, "ram": p.memory.ram, "vram": p.memory.vram or None,
        }
        for film, p in found.plans
    ]  # fmt: skip
    refused = [
        {"source": str(film.source), **dict(zip(("error", "message", "exit_code"), told,
                                                strict=True))}
        for film, told in ((film, in_words(error)) for film, error in found.refused)
    ]  # fmt: skip
    return {
        "event": "batch_plan", "films": films,
        "finished": [str(film.target) for film in found.finished], "refused": refused,
        "frames": found.frames, "seconds": found.seconds, "disk": found.disk, "ram": found.ram,
        "vram": found.vram or None, "notes": list(folder.notes),
    }  # fmt: skip


def _show_plan(found: _Sum, folder: Folder) -> None:
    console = Console(highlight=False)
    table = Table("film", "becomes", "px", "frames", "time", "disk", "RAM", box=None)
    for film, p in found.plans:
        width, height = p.geometry.target
        table.add_row(
            Text(str(film.name)), Text(str(film.target)), f"{width}x{height}",
            f"{p.geometry.frames:,}", clock(p.time.total) if p.time else "?",
            bytes_(p.disk.total), bytes_(p.memory.ram * len(p.placement.devices)),
        )  # fmt: skip
    for film in found.finished:
        table.add_row(Text(str(film.name)), Text(str(film.target)), "finished before")
    console.print(table)
    for film, error in found.refused:
        say(console, "refused", f"{film.name}: {error}", "red")
    for words in folder.notes:
        say(console, "note", words, "yellow")
    known = found.seconds is not None
    time = f"about {clock(found.seconds or 0)}" if known else "time not calibrated"
    vram = f", VRAM {bytes_(found.vram)}" if found.vram else ""
    words = (
        f"{len(found.plans)} films, {found.frames:,} frames: {time}, disk "
        f"{bytes_(found.disk)}, RAM {bytes_(found.ram)}{vram}; {len(found.finished)} finished "
        f"before, {len(found.refused)} refused"
    )
    say(console, "in all", words, "bold")
