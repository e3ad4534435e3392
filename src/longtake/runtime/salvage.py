"""Join what an unfinished job has done into a playable film; the job itself can still go on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from longtake.core.errors import BadInput, Usage
from longtake.core.events import Event, Joined, Salvaged, Verified
from longtake.core.plan import Plan
from longtake.journal import load_plan, parts_of, rename, sync
from longtake.media.verify import verify
from longtake.runtime import workfolder
from longtake.runtime.film import open_film
from longtake.runtime.prepare import sink_for


def salvage(folder: Path, target: Path | None) -> Iterator[Event]:
    """Join the segments from the film's beginning up to the first that is missing.

    Raises BadInput where `folder` is no work folder or nothing is done, Usage where the target
    exists.
    """
    plan = load_plan(folder) if folder.is_dir() else None
    if plan is None:
        raise BadInput(f"{folder} is not the work folder of a job (there is no plan.json in it).")
    target = target or _partial(plan.task.target)
    sink = sink_for(target, plan.task.codec)
    if target.suffix != plan.task.target.suffix:
        raise Usage(
            f"{target.name}: the parts were made for {plan.task.target.suffix or 'a folder'}."
        )
    if target.exists():
        raise Usage(f"{target} exists already; give another name for the recovered film.")
    with workfolder.locked(folder):
        done = parts_of(folder, plan, sink.part)
        whole = prefix(plan, done)
        if not whole:
            raise BadInput(
                f"{folder}: the first segment is not done yet; there is nothing to join."
            )
        frames = plan.segments[len(whole) - 1].stop
        film = open_film(plan, folder)
        made = folder / f"recovered{target.suffix}"
        _remove(made)
        for joined in sink.join(_copies(whole, folder), made, film, plan):
            yield Joined(frames=joined, of=frames)
        for seen in verify(made, film, plan, frames):
            yield Verified(frames=seen, of=frames)
        sync(made)
        rename(made, target)
        sync(target.resolve().parent)
    yield Salvaged(
        target=target, frames=frames, of=plan.geometry.frames, segments=len(whole),
        left_out=len(done) - len(whole),
    )  # fmt: skip


def _partial(target: Path) -> Path:
    return target.with_name(f"{target.stem}.partial{target.suffix}")


def prefix(plan: Plan, done: Mapping[int, Path]) -> list[Path]:
    """The parts from the film's beginning up to the first that is missing."""
    whole: list[Path] = []
    for segment in plan.segments:
        if segment.index not in done:
            break
        whole.append(done[segment.index])
    return whole


def _copies(parts: Sequence[Path], folder: Path) -> list[Path]:
    """Parts that joining may use up: folders of pictures are linked, files only read."""
    if not parts[0].is_dir():
        return list(parts)
    scratch = folder / "recovering"
    _remove(scratch)
    copies = []
    for part in parts:
        copy = scratch / part.name
        shutil.copytree(part, copy, copy_function=_link)
        copies.append(copy)
    return copies


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
