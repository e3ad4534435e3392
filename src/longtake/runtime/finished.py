"""What a batch has finished: a line of JSON a film, in `.longtake.jsonl` in the folder OUT.

A film is passed over only if all of this holds: the line says that this program made it from this
source with this task and verified it, and both files are still what they were. Everything else that
lies in a target's place is somebody's, and is neither passed over nor replaced without a word.

A line is written once the film is in its place, by whoever makes a film below such a folder, also
for one film alone. A kill before that leaves the work folder, which knows what it has published.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from longtake.core.errors import Usage
from longtake.core.plain import differences, to_plain
from longtake.core.plan import Plan, weights_identity
from longtake.core.plugins import find
from longtake.core.task import Generate, Upscale, as_named_now
from longtake.journal import append, lines, load_plan
from longtake.runtime import workfolder
from longtake.weights import manifest
from longtake.weights.files import digest

RECORD = ".longtake.jsonl"
_VERSION = 1
_COARSE = 2_000_000_000  # ns: what FAT keeps of a time of change
_AGAIN = "--restart makes it anew"


def open_record(out: Path) -> None:
    """From now on films below `out` are written down."""
    if not (out / RECORD).exists():
        (out / RECORD).touch()


def note(plan: Plan) -> None:
    """Write down that the plan's film is finished, verified and in its place; nothing where no
    folder above it has a record."""
    task = plan.task
    if isinstance(task, Generate):
        return
    out = next((p for p in task.target.absolute().parents if (p / RECORD).is_file()), None)
    if out is None:
        return
    append(
        out / RECORD,
        {
            "version": _VERSION,
            "target": task.target.absolute().relative_to(out).as_posix(),
            "made": workfolder.stamp(task.target),
            "source": str(task.source),
            "read": {**workfolder.stamp(task.source), "sha256": plan.recipe.source},
            "task": _wish(task),
            "weights": plan.recipe.weights,
            "identity": plan.identity,
        },
    )


def passed_over(out: Path, task: Upscale, *, restart: bool) -> bool:
    """Whether the film that `task` asks for is there already, verified.

    With `restart` whatever else lies in the target's place may be replaced. Raises Usage where it
    may not: what it is, and the way out.
    """
    target = task.target
    if not target.exists():
        return False
    line = _line(out, target)
    folder = workfolder.beside(target)
    if line is None or not _like(line.get("made"), workfolder.stamp(target)):
        line = _rescued(out, task, folder) or line
    wrong = _wrong(line, task)
    if wrong is None:
        return True
    if restart or workfolder.may_replace(folder):
        return False
    raise Usage(f"{target} exists already: {wrong}; {_AGAIN}.")


def _line(out: Path, target: Path) -> dict[str, Any] | None:
    """The last line about a target."""
    name = target.relative_to(out).as_posix()
    found = None
    for line in lines(out / RECORD):
        if line.get("version") == _VERSION and line.get("target") == name:
            found = line
    return found


def _rescued(out: Path, task: Upscale, folder: Path) -> dict[str, Any] | None:
    """The line of a film that a kill kept from being written down."""
    if not workfolder.published(folder, task.target):
        return None
    with workfolder.locked(folder):
        plan = load_plan(folder)
        if plan is None or digest(task.source) != plan.recipe.source:
            return None
        ours = dataclasses.replace(plan.upscale, source=task.source, target=task.target)
        note(dataclasses.replace(plan, task=ours))
        if not workfolder.kept(folder):
            workfolder.clear(folder)
    return _line(out, task.target)


def _wrong(line: dict[str, Any] | None, task: Upscale) -> str | None:
    """Why the target is not the film that is asked for; None where it is."""
    if line is None:
        return "it was not made by this batch"
    if not _like(line.get("made"), workfolder.stamp(task.target)):
        return "it has changed since it was made"
    was, now = line.get("task"), _wish(task)
    if not isinstance(was, dict):
        return "the record of it is damaged"
    changed = differences(_wish(_DEFAULT) | as_named_now(was), now)
    if line.get("weights") != _weights(task):
        changed.append("other weights")
    if changed:
        return f"it was made with other settings ({'; '.join(changed)})"
    if not _same_bytes(line.get("read"), task.source):
        return f"it was made from another {task.source.name}"
    return None


def _same_bytes(was: Any, source: Path) -> bool:
    """By size and time of change; where only the time differs, by the bytes themselves."""
    now = workfolder.stamp(source)
    if not isinstance(was, dict) or was.get("bytes") != now["bytes"]:
        return False
    return was.get("mtime_ns") == now["mtime_ns"] or was.get("sha256") == digest(source)


def _like(was: Any, now: dict[str, int]) -> bool:
    if not isinstance(was, dict) or was.keys() != now.keys():
        return False
    apart = abs(was.get("mtime_ns", 0) - now.get("mtime_ns", 0))
    rest = {k: v for k, v in was.items() if k != "mtime_ns"}
    return apart <= _COARSE and rest == {k: v for k, v in now.items() if k != "mtime_ns"}


def _wish(task: Upscale) -> dict[str, Any]:
    """What is asked, without the files: two tasks of one wish give one film."""
    body: dict[str, Any] = to_plain(dataclasses.replace(task, drop=tuple(sorted(task.drop))))
    body["set"] = {k: str(v) for k, v in sorted(body["set"].items())}
    return {k: v for k, v in body.items() if k not in ("is", "source", "target")}


def _weights(task: Upscale) -> str | None:
    """The hash of the weights that would be used now."""
    from longtake.core.knobs import settle

    engine = find("engines", task.engine)
    own = {k: v for k, v in task.set.items() if k != "segment_frames"}
    paths = engine.weights(settle(engine.knobs, own))
    return weights_identity([manifest.sha256(path) for path in paths])


_DEFAULT = Upscale(source=Path(), target=Path())
