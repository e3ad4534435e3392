"""Work folders that lie about: which jobs they are of, how far those have come, how they go on.

Reading only: no lock is taken and no job disturbed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from longtake.core.errors import LongtakeError
from longtake.core.plan import Plan
from longtake.core.task import Generate
from longtake.journal import load_plan, parts_of
from longtake.runtime import workfolder
from longtake.runtime.prepare import sink_for

DEEPEST = 8  # levels of subfolders that are looked into

State = Literal["running", "unfinished", "finished", "kept", "damaged"]
"""finished: the film is in its place, only the work folder was left by a kill; kept: by --keep."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """One work folder."""

    folder: Path
    target: Path
    state: State
    reason: str  # why it is damaged
    plan: Plan | None  # None: damaged, or not analysed yet
    segments: int  # done
    frames: int  # done
    bytes: int  # on the disk
    changed: float  # s since 1970

    @property
    def source(self) -> Path | None:
        """What is read, as it is found from here: a film, or the picture that one begins with."""
        if self.plan is None:
            return None
        task = self.plan.task
        read = task.image if isinstance(task, Generate) else task.source
        return None if read is None else self._base() / read

    def _base(self) -> Path:
        """The folder in which the job was started, where its paths are relative to one."""
        asked = self.plan.task.target if self.plan is not None else Path()
        here = self.target.absolute()
        if asked.is_absolute() or here.parts[-len(asked.parts) :] != asked.parts:
            return Path()
        base = Path(*here.parts[: -len(asked.parts)])
        return Path() if base == Path.cwd() else base


def look(folder: Path) -> Unfinished:
    """What a work folder says of its job."""
    target = folder.with_suffix("")
    size, changed = workfolder.taken(folder)
    plan, reason = None, ""
    segments = frames = 0
    try:
        plan = load_plan(folder)
        if plan is not None:
            done = parts_of(folder, plan, sink_for(plan.task.target, plan.task.codec).part)
            segments = len(done)
            frames = sum(plan.segments[i].stop - plan.segments[i].start for i in done)
    except LongtakeError as error:
        reason = error.detail or str(error)
    except OSError as error:
        reason = str(error)
    return Unfinished(
        folder=folder, target=target, state=_state(folder, target, reason), reason=reason,
        plan=plan, segments=segments, frames=frames, bytes=size, changed=changed,
    )  # fmt: skip


def _state(folder: Path, target: Path, reason: str) -> State:
    if workfolder.held(folder):
        return "running"
    if workfolder.published(folder, target):
        return "kept" if workfolder.kept(folder) else "finished"
    return "damaged" if reason else "unfinished"


def find(folder: Path, recursive: bool, level: int = 0) -> Iterator[Path]:
    """The work folders in `folder`, or it itself; links are not followed.

    With `recursive` also in its subfolders down to `DEEPEST` levels, hidden ones left out.
    """
    if level == 0 and folder.suffix == workfolder.SUFFIX:
        yield folder
        return
    try:
        entries = sorted(os.scandir(folder), key=lambda e: e.name)
    except OSError:
        if level == 0:
            raise
        return
    for entry in entries:
        if not entry.is_dir(follow_symlinks=False):
            continue
        path = folder / entry.name
        if path.suffix == workfolder.SUFFIX:
            yield path
        elif recursive and level < DEEPEST and not entry.name.startswith("."):
            yield from find(path, recursive, level + 1)
