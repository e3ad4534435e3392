"""What of a job is already on disk: an append-only file; a segment counts once its line is there.

    <folder>/plan.json        the frozen plan
    <folder>/journal.jsonl    a header line, then one line per committed segment
    <folder>/segments/        the parts

A line that a kill tore in half is ignored; a line whose part is missing or has another size too.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from longtake.core.errors import JournalDamaged, RecipeChanged
from longtake.core.events import Event, Finished, Replanned, Slowed
from longtake.core.plain import differences, to_plain
from longtake.core.plan import VERSION, Plan, Segment

_WINDOWS = os.name == "nt"
_TRIES, _PAUSE = 10, 0.2  # of a rename on Windows, s


class Journal:
    """The ledger of the command line, one for each work folder."""

    def __init__(self, folder: Path, plan: Plan, suffix: str) -> None:
        """Open or begin. Raises RecipeChanged (names what differs) or JournalDamaged."""
        self.folder = folder
        self._suffix = suffix
        self._log = folder / "journal.jsonl"
        self._parts: dict[int, Path] = {}
        segments = folder / "segments"
        segments.mkdir(parents=True, exist_ok=True)
        stored = load_plan(folder)
        if stored is None:
            store_plan(folder, plan)
            append(self._log, {"version": VERSION, "identity": plan.identity})
        else:
            _same(stored, plan, folder)
            self._read(plan)
        for leftover in segments.iterdir():
            if leftover not in self._parts.values():
                _remove(leftover)

    def part(self, segment: Segment) -> Path:
        """Where an unfinished part is written; never counted, removed at the next start."""
        return self.folder / "segments" / f"{segment.index:06d}.unfinished{self._suffix}"

    def committed(self) -> Mapping[int, Path]:
        return dict(self._parts)

    def commit(self, segment: Segment, part: Path, seconds: float) -> Path:
        """fsync the part, rename it, fsync the folder, then write its line."""
        final = self._place(segment.index)
        sync(part)
        rename(part, final)
        sync(final.parent)
        line = {"segment": segment.index, "bytes": weigh(final), "seconds": round(seconds, 3)}
        append(self._log, line)
        self._parts[segment.index] = final
        return final

    def record(self, event: Event) -> None:
        """Keep what a person would want to know later."""
        if isinstance(event, Replanned | Slowed | Finished):
            append(self._log, {"event": to_plain(event)})

    def _place(self, index: int) -> Path:
        return self.folder / "segments" / f"{index:06d}{self._suffix}"

    def _read(self, plan: Plan) -> None:
        header, *rest = [*lines(self._log)] or [{}]
        if not header:
            append(self._log, {"version": VERSION, "identity": plan.identity})
            return
        _check_header(self._log, header, plan)
        self._parts = _whole(rest, plan, self._place)


def load_plan(folder: Path) -> Plan | None:
    """The frozen plan of a work folder, None where there is none yet."""
    file = folder / "plan.json"
    try:
        return Plan.from_json(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, UnicodeDecodeError) as error:
        raise JournalDamaged(f"{file}: {error}. --restart begins anew.") from None


def store_plan(folder: Path, plan: Plan) -> None:
    """Write the plan so that it is either whole or not there."""
    fresh = folder / "plan.json.tmp"
    fresh.write_text(plan.to_json(), encoding="utf-8")
    sync(fresh)
    rename(fresh, folder / "plan.json")
    sync(folder)


def parts_of(folder: Path, plan: Plan, suffix: str) -> Mapping[int, Path]:
    """The committed parts of a work folder, without changing anything in it.

    Raises JournalDamaged where its journal is of another job.
    """
    log, segments = folder / "journal.jsonl", folder / "segments"
    header, *rest = [*lines(log)] or [{}]
    if header:
        _check_header(log, header, plan)
    return _whole(rest, plan, lambda i: segments / f"{i:06d}{suffix}")


def _check_header(log: Path, header: Mapping[str, Any], plan: Plan) -> None:
    if header.get("version") != VERSION or header.get("identity") != plan.identity:
        raise JournalDamaged(
            f"{log} is of version {header.get('version')} for job {header.get('identity')}; this "
            f"is version {VERSION}, job {plan.identity}. --restart begins anew."
        )


def _whole(
    found: Iterable[dict[str, Any]], plan: Plan, place: Callable[[int], Path]
) -> dict[int, Path]:
    """The parts that have a line and lie there in the size that it says."""
    parts: dict[int, Path] = {}
    for line in found:
        index = line.get("segment")
        if isinstance(index, int) and 0 <= index < len(plan.segments):
            final = place(index)
            if final.exists() and weigh(final) == line.get("bytes"):
                parts[index] = final
    return parts


def append(log: Path, line: Mapping[str, Any]) -> None:
    """Add a line of JSON and wait until it is on the disk."""
    fresh = not log.exists()
    with log.open("ab") as file:
        if file.tell() and not _ends_with_newline(log):
            file.write(b"\n")  # close a torn line, so that it stays one line
        file.write(json.dumps(line).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    if fresh:
        sync(log.parent)


def lines(log: Path) -> Iterator[dict[str, Any]]:
    """The lines of JSON in a file; what a kill tore is left out, and so is all of a missing one."""
    try:
        raw = log.read_bytes().splitlines()
    except FileNotFoundError:
        return
    for line in raw:
        try:
            value = json.loads(line)
        except ValueError:
            continue  # torn by a kill
        if isinstance(value, dict):
            yield value


def rename(old: Path, new: Path) -> None:
    """Put `old` in the place of `new`, at once.

    On Windows a scanner or an indexer that looks into a new file keeps it from being renamed for a
    moment; that is waited for, up to 2 s.
    """
    for left in range(_TRIES if _WINDOWS else 1, 0, -1):
        try:
            old.replace(new)
            return
        except PermissionError:
            if left == 1:
                raise
            time.sleep(_PAUSE)


def sync(path: Path) -> None:
    """fsync a file, or a folder and the files in it."""
    if path.is_dir():
        for file in path.iterdir():
            if file.is_file():
                sync(file)
        if _WINDOWS:
            return  # cannot open a folder; its renames are durable by themselves
    # Windows flushes only what is open for writing.
    handle = os.open(path, os.O_RDWR if _WINDOWS else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def weigh(path: Path) -> int:
    """Bytes of a file, or of the files in a folder."""
    if path.is_dir():
        return sum(f.stat().st_size for f in path.iterdir())
    return path.stat().st_size


def _same(stored: Plan, plan: Plan, folder: Path) -> None:
    if stored.identity == plan.identity:
        return
    changed = differences(stored.decisive(), plan.decisive())
    causes = [line for line in changed if not line.startswith("segments")]
    changed = causes or changed  # other segments only follow from what is named already
    shown = "; ".join(changed[:8]) + (f"; and {len(changed) - 8} more" if len(changed) > 8 else "")
    raise RecipeChanged(
        f"{folder}: {shown}. Run the command as it was to go on, or add --restart to begin anew."
    )


def _ends_with_newline(log: Path) -> bool:
    with log.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
