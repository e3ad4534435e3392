"""Draw plans and events: bars with an ETA on a terminal, or one JSON value per line."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from longtake.core.events import (
    Advanced,
    Analysed,
    Batch,
    Compared,
    Event,
    Finished,
    Joined,
    Likened,
    Previewed,
    Replanned,
    Salvaged,
    Slowed,
    StageReport,
    Started,
    Stepped,
    VariantMade,
    Verified,
    Warned,
)
from longtake.core.plain import to_plain
from longtake.core.plan import Plan
from longtake.planner.blocks import placed
from longtake.planner.explain import Rows, bytes_, clock, explain
from longtake.runtime.run import Job, run

R = TypeVar("R")

_STAGES = {
    Analysed: "counting frames",
    Advanced: "making frames",
    Stepped: "denoising",
    Joined: "joining",
    Verified: "verifying",
    Compared: "comparing",
}


def follow(job: Job, as_json: bool) -> int:
    """Run a job and report; errors go through to the caller."""
    with closing(run(job)) as events:  # type: ignore[type-var]
        draw(events, job.plan.notes, as_json)
    return 0


def measured(steps: Iterable[str | R], show: Callable[[R], None], as_json: bool) -> None:
    """Of a measurement that says what it does, each step while it is done; then its report."""
    doing = Console(file=sys.stderr, highlight=False)
    for step in steps:
        if not isinstance(step, str):
            print_json(to_plain(step)) if as_json else show(step)
        elif sys.stderr.isatty():
            say(doing, "...", step, "dim")


def rows(console: Console, pairs: Iterable[tuple[str, str]]) -> None:
    """Names and values, a line each."""
    for name, value in pairs:
        console.print(Text.assemble((f"{name:10}", "bold"), value), soft_wrap=True)


def draw(events: Iterator[Event], notes: Sequence[str], as_json: bool) -> None:
    """Report events as they come."""
    told = (Warned(message=note) for note in notes)
    if as_json:
        for event in chain(told, events):
            print_json(plain(event))
        return
    console = Console(highlight=False)
    with progress() as bars:
        painter = Painter(bars, console)
        for event in chain(told, events):
            painter.show(event)


def progress() -> Progress:
    """Bars on a terminal, nothing elsewhere."""
    return Progress(
        TextColumn("{task.description:>15}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"), TimeRemainingColumn(),
        console=Console(file=sys.stderr, highlight=False), disable=not sys.stderr.isatty(),
    )  # fmt: skip


def show_plan(plan: Plan, more: Mapping[str, Rows] = MappingProxyType({})) -> None:
    """The plan as a table, and more sections like its own."""
    console = Console(highlight=False)
    table = Table.grid(padding=(0, 2))
    for section, rows in {**explain(plan), **more}.items():
        table.add_row(f"[bold]{section}[/bold]")
        for name, value in rows:
            table.add_row(f"  {name}", Text(value))
    console.print(table)
    for note in plan.notes:
        say(console, "note", note, "yellow")


def say(console: Console, mark: str, words: str, style: str = "green") -> None:
    """A coloured word and a sentence; brackets in file names are just brackets."""
    console.print(Text.assemble((mark, style), " " if mark else "", words), soft_wrap=True)


def print_json(value: Any) -> None:
    print(json.dumps(value), flush=True)


def plain(event: Event) -> dict[str, Any]:
    """An event as the JSON that `--json` prints: "event" is its name in snake case."""
    if isinstance(event, Started):
        return {"event": "started", "resumed": event.resumed, **_summary(event.plan)}
    if isinstance(event, Batch):
        return _batch(event)
    body = to_plain(event)
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", body.pop("is")).lower()
    return {"event": name, **body}


def _batch(event: Batch) -> dict[str, Any]:
    def pairs(films: Sequence[tuple[Path, Path]]) -> list[dict[str, str]]:
        return [{"source": str(a), "target": str(b)} for a, b in films]

    failed = [
        {"source": str(f.source), "error": f.error, "message": f.message, "exit_code": f.exit_code}
        for f in event.failed
    ]
    return {
        "event": "batch", "done": pairs(event.done), "skipped": pairs(event.skipped),
        "failed": failed,
    }  # fmt: skip


def _summary(plan: Plan) -> dict[str, Any]:
    return {
        "identity": plan.identity,
        "segments": len(plan.segments),
        "frames": plan.geometry.frames,
        "cuts": list(plan.cuts),
        "target": list(plan.geometry.target),
        "predicted_ram": plan.memory.ram,
        "predicted_vram": plan.memory.vram or None,
        "predicted_seconds": plan.time.total if plan.time else None,
    }  # fmt: skip


def found(event: Likened | VariantMade | Previewed) -> tuple[str, str]:
    """A word and a sentence on what `compare` and `preview` have found."""
    if isinstance(event, VariantMade):
        time = (
            "" if event.predicted_seconds is None
            else f" about {clock(event.predicted_seconds)} and"
        )  # fmt: skip
        speed = "made by an earlier run" if event.fps is None else f"{event.fps:.1f} fps"
        words = (
            f"{speed}; the whole film takes{time} {bytes_(event.predicted_disk)} of "
            f"disk, {bytes_(event.predicted_ram)} of RAM"
        )
        return event.variant, words
    if isinstance(event, Previewed):
        span = f"frames {event.first}:{event.stop}"
        return "done", f"{event.folder} ({span}): open {event.folder / 'report.html'}"
    if event.psnr_y is None:
        alike = "luma is identical in all of them"
    else:
        ssim = "" if event.ssim_y is None else f", SSIM {event.ssim_y:.4f}"
        alike = f"PSNR {event.psnr_y:.2f} dB{ssim}"
        if event.worst_psnr_y is not None:
            alike += f"; the worst is frame {event.worst_frame} with {event.worst_psnr_y:.2f} dB"
    words = (
        f"{event.frames:,} frames at {event.at[0]}x{event.at[1]} px: {alike}. "
        f"{event.folder / 'report.html'}"
    )
    return "compared", words


def reported(stage: StageReport) -> str:
    """Predicted against observed, of one stage."""

    def both(said: float | None, found: float, write: Callable[[float], str]) -> str:
        return write(found) if said is None else f"{write(found)} (predicted {write(said)})"

    words = [both(stage.predicted_seconds, stage.seconds, clock)]
    for name, said, found in (
        ("VRAM", stage.predicted_vram, stage.vram), ("RAM", stage.predicted_ram, stage.ram)
    ):  # fmt: skip
        if found is not None:
            words.append(f"{name} {both(said, found, lambda size: bytes_(int(size)))}")
    return f"{stage.name}: {', '.join(words)}"


class Painter:
    """Keeps one bar per stage."""

    def __init__(self, bars: Progress, console: Console) -> None:
        self._bars = bars
        self._console = console
        self._tasks: dict[type, Any] = {}

    def show(self, event: Event) -> None:
        if isinstance(event, Analysed | Advanced | Joined | Verified | Compared):
            self._advance(type(event), event.frames, event.of, "fps")
        elif isinstance(event, Stepped):
            self._advance(Stepped, event.steps, event.of, "steps/s")
        elif isinstance(event, Started):
            self._say_started(event)
        elif isinstance(event, Warned):
            say(self._console, "note", event.message, "yellow")
        elif isinstance(event, Slowed):
            say(self._console, "slow", event.message, "yellow")
        elif isinstance(event, Replanned):
            placement = event.placement
            words = (
                f"{event.reason} Going on with {' '.join(placed(placement))} "
                f"step={placement.step} queue={placement.queue}: the result stays the same."
            )
            say(self._console, "memory", words, "yellow")
        elif isinstance(event, Finished):
            self._say_finished(event)
        elif isinstance(event, Salvaged):
            self._say_salvaged(event)
        elif isinstance(event, Likened | VariantMade | Previewed):
            say(self._console, *found(event))

    def _advance(self, kind: type, done: int, of: int, unit: str) -> None:
        if kind not in self._tasks:
            self._tasks[kind] = self._bars.add_task(_STAGES[kind], total=of, speed="")
            self._bars.update(self._tasks[kind], completed=done)
            self._bars.reset(self._tasks[kind], completed=done)
            return
        task = self._bars.tasks[self._tasks[kind]]
        speed = f"{task.speed:.1f} {unit}" if task.speed else ""
        self._bars.update(task.id, completed=done, total=max(of, done), speed=speed)

    def _say_started(self, event: Started) -> None:
        plan = event.plan
        width, height = plan.geometry.target
        device = ", ".join(plan.placement.devices)
        count = len(plan.segments)
        resumed = f" ({event.resumed} done before)" if event.resumed else ""
        vram = f", {bytes_(plan.memory.vram)} of VRAM" if plan.memory.on_gpu else ""
        expected = f", about {clock(plan.time.total)}" if plan.time else ""
        words = (
            f"{plan.geometry.frames:,} frames to {width}x{height} with {plan.recipe.engine} on "
            f"{device}: {count} segment{'s' * (count != 1)}{resumed}, "
            f"{bytes_(plan.memory.ram)} of RAM{vram}{expected}"
        )
        say(self._console, "", words)

    def _say_finished(self, event: Finished) -> None:
        speed = f", {event.fps:.1f} fps" if event.fps else ""
        words = (
            f"{event.target} ({bytes_(event.bytes)}, {event.frames:,} frames) in "
            f"{clock(event.seconds)}{speed}"
        )
        say(self._console, "done and verified", words)
        vram = (
            f"; VRAM predicted {bytes_(event.predicted_vram)}, peak {bytes_(event.peak_vram)}"
            if event.peak_vram is not None and event.predicted_vram is not None
            else ""
        )
        stages = ", ".join(f"{k} {clock(v)}" for k, v in event.stages.items())
        used = f"RAM predicted {bytes_(event.predicted_ram)}, peak {bytes_(event.peak_ram)}{vram}"
        say(self._console, "", f"{used}; {stages}")
        for stage in event.report:
            if stage.ram is not None:
                say(self._console, "", reported(stage))

    def _say_salvaged(self, event: Salvaged) -> None:
        behind = f"; {event.left_out} done segments behind a gap are left out"
        words = (
            f"{event.target}: frames 0:{event.frames} of {event.of:,} from {event.segments} "
            f"segments{behind if event.left_out else ''}"
        )
        say(self._console, "recovered", words)
