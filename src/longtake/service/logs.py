"""What the processes of the service say on stderr: JSON lines for programs, plain ones for people.

A line has at, level, logger and text, and of what is known there: job, segment, fence, worker,
device and request. Those come from the context, see `about`; a thread that shall know them, too, is
started within a copy of it.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final, Literal, TextIO

Style = Literal["auto", "text", "json"]
STYLES: Final[tuple[Style, ...]] = ("auto", "text", "json")
HELP: Final = "what is said on stderr: text, json (a line each), or auto (text on a terminal)"
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
_known: ContextVar[Mapping[str, Any]] = ContextVar("known", default=_NOTHING)
_log = logging.getLogger(__name__)


@contextmanager
def about(**known: Any) -> Iterator[None]:
    """What is logged inside is about these, too."""
    before = _known.set({**_known.get(), **known})
    try:
        yield
    finally:
        _known.reset(before)


def begin(style: Style = "auto", stream: TextIO | None = None) -> None:
    """Send everything from INFO upwards to stderr, once; "auto": JSON unless a person looks."""
    stream = stream or sys.stderr
    as_json = style == "json" or (style == "auto" and not stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.addFilter(Context())
    handler.setFormatter(JsonLines() if as_json else PlainLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    logging.getLogger("alembic").setLevel(logging.WARNING)  # else a line at every look
    logging.captureWarnings(True)
    threading.excepthook = _thread_failed


class Context(logging.Filter):
    """Lets everything through, with what is known where it was logged."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.known = _known.get()
        return True


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": _moment(record).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(), "logger": record.name, "text": record.getMessage(),
            **getattr(record, "known", _NOTHING), **getattr(record, "fields", _NOTHING),
        }  # fmt: skip
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class PlainLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        known = getattr(record, "known", _NOTHING)
        where = "".join(f" {key} {known[key]}" for key in ("job", "segment") if key in known)
        line = f"{_moment(record).astimezone():%H:%M:%S} {record.levelname}{where}: "
        line += record.getMessage()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _moment(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


def _thread_failed(failed: threading.ExceptHookArgs) -> None:
    if failed.exc_value is not None and failed.exc_type is not SystemExit:
        name = failed.thread.name if failed.thread else "that is gone"
        _log.error("thread %s ended by an error", name, exc_info=failed.exc_value)
