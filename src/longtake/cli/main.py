"""`longtake`: finds the command, turns errors into words and exit codes."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any, NoReturn

from longtake import __version__
from longtake.cli.options import Help, spread
from longtake.core.errors import LongtakeError, in_words
from longtake.planner.survey import launch
from longtake.settings import Settings

COMMANDS = {
    "upscale": "make a film larger",
    "generate": "make a film from words, and from a picture",
    "plan": "say what a job needs and how long it takes, and start nothing",
    "preview": "try engines on a few seconds of a film, and compare them",
    "compare": "put two films beside each other and measure how alike they are",
    "run": "carry out a stored plan",
    "probe": "say what a file holds",
    "doctor": "check this machine and measure how fast it is",
    "bench": "measure each stage and whole jobs on this machine",
    "seams": "measure what a cut between two segments costs, by length of warm-up",
    "engines": "list the engines and their knobs",
    "weights": "list, fetch, check and convert weights",
    "recover": "join what an unfinished job has done into a playable film",
    "jobs": "list work folders: what is unfinished, and how it goes on",
    "serve": "run the service on this machine: a page, an API, workers",
    "worker": "do the work of a service on one device",
    "db": "bring the service's database up to date, or move it",
    "completion": "print the script by which a shell completes our commands",
}
INTERRUPTED, TERMINATED, INTERNAL = 130, 143, 1


class Terminated(BaseException):
    """SIGTERM came."""


def main(words: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit: 0 done, 1 failed (work kept), 2 bad input or usage, 3 some of a
    batch failed, 4 does not fit, 130 and 143 interrupted."""
    try:
        sys.exit(_main(list(sys.argv[1:] if words is None else words)))
    except KeyboardInterrupt:  # while the command was still being imported
        sys.exit(INTERRUPTED)


def _main(words: list[str]) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that it cannot spell is no reason to fail
            stream.reconfigure(errors="backslashreplace")
    parser = _parser(next((w for w in words if w in COMMANDS), None))
    given = parser.parse_args(list(spread(words)))
    if given.command is None:
        parser.print_help()
        return 2
    for name in ("SIGTERM", "SIGBREAK"):  # Windows' Ctrl-Break
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _terminated)
    launch()
    with _reporting(given) as outcome:
        command = importlib.import_module(f"longtake.cli.{given.command}")
        outcome.append(command.run(given, Settings.of()))
    return outcome[-1]


def _parser(*wanted: str | None) -> argparse.ArgumentParser:
    """All commands by name; only those wanted are imported and given their flags."""
    parser = argparse.ArgumentParser(
        prog="longtake", description="Long video on the GPU you have.", formatter_class=Help
    )
    parser.add_argument("--version", action="version", version=f"longtake {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, about in COMMANDS.items():
        command = commands.add_parser(name, help=about, description=about, formatter_class=Help)
        if name in wanted:
            importlib.import_module(f"longtake.cli.{name}").add(command)
    return parser


def whole_parser() -> argparse.ArgumentParser:
    """The parser with the flags of every command."""
    return _parser(*COMMANDS)


@contextlib.contextmanager
def _reporting(given: argparse.Namespace) -> Iterator[list[int]]:
    """Errors as one line (or one JSON event) and an exit code; never a traceback."""
    outcome: list[int] = []
    as_json = getattr(given, "json", False)
    stopped = getattr(given, "stopped", _KEPT)
    try:
        yield outcome
    except LongtakeError as error:
        outcome.append(_failed(*in_words(error), as_json))
    except KeyboardInterrupt:
        outcome.append(_failed("Interrupted", stopped, INTERRUPTED, as_json))
    except Terminated:
        outcome.append(_failed("Terminated", stopped, TERMINATED, as_json))
    except BrokenPipeError:  # whoever read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        outcome.append(INTERNAL)
    except Exception as error:  # noqa: BLE001 - the last net: say so and exit 1
        if os.environ.get("LONGTAKE_DEBUG"):
            traceback.print_exc()
        outcome.append(_failed(*in_words(error), as_json))


_KEPT = "Stopped. What is done is kept: the same command goes on from there."


def _failed(name: str, message: str, code: int, as_json: bool) -> int:
    if as_json:
        event: dict[str, Any] = {"event": "failed", "error": name, "message": message}
        print(json.dumps({**event, "exit_code": code}), flush=True)
    else:
        print(f"longtake: {message}", file=sys.stderr, flush=True)
    return code


def _terminated(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise Terminated
