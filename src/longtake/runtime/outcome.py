"""A folder of results (of `compare`, of `preview`): made under a work name, there at once or never.

It is known as ours by `summary.json`, so that `--restart` never replaces a folder of other things.
"""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from longtake.core.errors import DiskFull, Usage
from longtake.journal import sync
from longtake.runtime import recover, workfolder

SUMMARY, REPORT, STILLS = "summary.json", "report.html", "stills"
MADE = "made"  # the results, in the work folder


@contextmanager
def folder(target: Path, restart: bool, sources: Sequence[Path]) -> Iterator[Path]:
    """The work folder of `target`, locked. Raises Usage where the target must not be touched."""
    _placed(target, sources)
    if target.exists() and not restart:
        raise Usage(f"{target} exists already; --restart makes it anew.")
    if target.exists() and not (target / SUMMARY).is_file():
        raise Usage(
            f"{target} is not a folder that this command has made (there is no {SUMMARY} in it): "
            f"--restart does not replace it. Give another OUT."
        )
    work = workfolder.beside(target)
    try:
        _begun(work)
        with workfolder.locked(work):
            yield work
    except OSError as error:
        if recover.disk_is_full(error):
            raise DiskFull(f"{error}") from error
        raise


def _begun(work: Path) -> None:
    try:
        work.mkdir(exist_ok=True)
    except OSError as error:
        if recover.disk_is_full(error):
            raise
        raise Usage(f"{work} cannot be made ({error.strerror}): give an OUT elsewhere.") from error


def emptied(work: Path) -> Path:
    """The folder in which the results are made, empty but for that of the stills."""
    made = work / MADE
    shutil.rmtree(made, ignore_errors=True)
    (made / STILLS).mkdir(parents=True)
    return made


def publish(work: Path, target: Path) -> None:
    """Put the results in their place by one rename, and remove the work folder."""
    made = work / MADE
    for inner in made.iterdir():
        if inner.is_dir():
            sync(inner)
    workfolder.publish(work, made, target)
    workfolder.clear(work)


def _placed(target: Path, sources: Sequence[Path]) -> None:
    resolved = target.resolve()
    if not resolved.parent.is_dir():
        raise Usage(f"{target}: the folder {resolved.parent} does not exist.")
    for source in sources:
        if not source.exists():
            raise Usage(f"{source}: no such file or folder.")
        own = source.resolve()
        if resolved == own or own in resolved.parents:
            raise Usage(f"{target} lies inside or at the input {source}: give another OUT.")
        if resolved in own.parents:
            raise Usage(f"The input {source} lies inside {target}: give another OUT.")


def write_page(path: Path, html: str) -> None:
    """Names of files may hold what UTF-8 cannot: "?" stands for it."""
    path.write_text(html, encoding="utf-8", errors="replace")


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")


class Table:
    """A CSV file, written row by row; empty for None, "inf" for identical pictures."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._file = path.open("w", encoding="utf-8", newline="")
        self._rows = csv.writer(self._file)
        self._rows.writerow(columns)

    def __enter__(self) -> Table:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._file.close()

    def add(self, *values: int | float | str | None) -> None:
        self._rows.writerow([_cell(v) for v in values])


def _cell(value: int | float | str | None) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return "inf" if math.isinf(value) else f"{value:.6f}"
    return str(value)
