"""`longtake weights list|pull|check|convert`"""

from __future__ import annotations

import argparse
import re
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from longtake.cli.options import Help, add_json
from longtake.cli.show import print_json, say
from longtake.core.plain import to_plain
from longtake.planner.explain import bytes_
from longtake.runtime.transformers import RECOGNISE
from longtake.settings import Settings
from longtake.weights import listing
from longtake.weights.catalog import MODELS, model
from longtake.weights.check import Checked, check
from longtake.weights.convert import DTYPES, convert
from longtake.weights.download import Received, Retried
from longtake.weights.home import home, told
from longtake.weights.into_blocks import BlockOptions, Taken
from longtake.weights.pull import (
    Begun,
    Damaged,
    Event,
    Hashing,
    Source,
    Stored,
    Waiting,
    pull,
)
from longtake.weights.quantize import QUANTS

_COLORS = {
    "whole": "green", "good": "green", "partial": "yellow", "unchecked": "yellow",
    "note": "yellow", "damaged": "red", "bad": "red", "absent": "",
}  # fmt: skip


def add(parser: argparse.ArgumentParser) -> None:
    ways = parser.add_subparsers(dest="way", metavar="COMMAND", required=True)
    _way(ways, "list", "say which weights there are, where, and under which licence")

    fetched = _way(ways, "pull", "fetch and check the weights of a model; goes on where it ended")
    fetched.add_argument("name", metavar="NAME", help=f"one of {', '.join(MODELS)}")
    fetched.add_argument(
        "--from", dest="origin", default="hf", metavar="hf|modelscope|URL|FOLDER",
        help="where the files come from; hf follows HF_ENDPOINT (default: hf)",
    )  # fmt: skip
    fetched.add_argument("--to", type=Path, metavar="FOLDER", help=_TO)
    fetched.add_argument(
        "--only", action="append", default=[], metavar="ROLE",
        help="one file of the model, e.g. decoder; may be given again",
    )  # fmt: skip

    checked = _way(ways, "check", "read files of weights in full and say what is wrong with them")
    checked.add_argument(
        "what", metavar="NAME|FOLDER", nargs="?", help="default: all that was pulled"
    )
    _add_model(checked)

    made = _way(ways, "convert", "write official files as safetensors or as blocks for streaming")
    made.add_argument("source", type=Path, metavar="FILE|FOLDER", help="official files")
    made.add_argument("target", type=Path, metavar="FOLDER", help="where the new files go")
    _add_model(made)
    made.add_argument(
        "--dtype", choices=DTYPES, metavar="|".join(DTYPES),
        help="of the tensors (default: keep; bfloat16 for block files, and then for these alone)",
    )  # fmt: skip
    made.add_argument(
        "--quant", type=_quants, default={}, metavar="|".join(QUANTS),
        help="bring the matrices of the transformer's block files into 8 bits; "
        "dit=int8,text=int8,image=int8: those of the text and image encoders too (default: none)",
    )  # fmt: skip
    made.add_argument(
        "--raw-fp8", action="store_true",
        help="take fp8 files that have no scales, whose small weights have lost most digits",
    )  # fmt: skip
    made.add_argument(
        "--move", action="store_true",
        help="delete each official file as soon as its tensors lie in block files and were read "
        "back from the disk",
    )  # fmt: skip


_NETS = {"dit": "transformer", "text": "text", "image": "image"}


def _quants(text: str) -> dict[str, str]:
    """By role: "int8" is the transformer's, "dit=int8,text=fp8,image=int8" names each."""
    if "=" not in text:
        text = f"dit={text}"
    found: dict[str, str] = {}
    for word in text.split(","):
        net, _, quant = word.partition("=")
        if net not in _NETS or quant not in QUANTS:
            raise argparse.ArgumentTypeError(
                f"{word!r}: give one of {', '.join(QUANTS)}, or that for each net, such as "
                f"dit=int8,text=int8; nets are {', '.join(_NETS)}"
            )
        if _NETS[net] in found:
            raise argparse.ArgumentTypeError(f"{net} is named twice in {text!r}")
        found[_NETS[net]] = quant
    return found


_TO = "the folder of the model (default: NAME in LONGTAKE_WEIGHTS, or in your data folder)"


def _way(ways: Any, name: str, about: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = ways.add_parser(
        name, help=about, description=about[0].upper() + about[1:] + ".", formatter_class=Help
    )
    add_json(parser)
    return parser


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", metavar="NAME",
        help="which model a folder holds, where neither its manifest nor its name says so",
    )  # fmt: skip


def run(given: argparse.Namespace, settings: Settings) -> int:
    return {"list": _list, "pull": _pull, "check": _check, "convert": _convert}[given.way](given)


# --- list ----------------------------------------------------------------------------------------


def _list(given: argparse.Namespace) -> int:
    found = [listing.look(m, home() / m.name) for m in MODELS.values()]
    found.append(listing.carried())
    if given.json:
        for each in found:
            print_json({**_plain(each), "event": "weights"})
        return 0
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("name", "files", "size", "state", "licence", "where"):
        table.add_column(title, overflow="fold")
    for each in found:
        here = sum(f.state not in ("absent", "partial") for f in each.files)
        table.add_row(
            each.name, f"{here} of {len(each.files)}", _size(each),
            Text(each.state, _COLORS[each.state]), each.licences, Text(str(each.where)),
        )  # fmt: skip
    Console(highlight=False).print(table)
    return 0


def _size(state: listing.ModelState) -> str:
    whole = "not known" if state.of is None else bytes_(state.of)
    return whole if state.here in (0, state.of) else f"{bytes_(state.here)} of {whole}"


# --- pull ----------------------------------------------------------------------------------------


def _pull(given: argparse.Namespace) -> int:
    wanted = model(given.name)
    folder = given.to or home() / wanted.name
    with closing(pull(wanted, folder, Source.of(given.origin), given.only)) as events:  # type: ignore[type-var]
        if given.json:
            for event in events:
                print_json(_plain(event))
            return 0
        with _bars() as bars:
            painter = _Painter(bars, Console(highlight=False))
            for event in events:
                painter.show(event)
    say(Console(highlight=False), wanted.name, f"is in {folder} ({wanted.licences})")
    return 0


def _bars() -> Progress:
    """One bar per file on a terminal, nothing elsewhere."""
    return Progress(
        TextColumn("{task.description:>15}"), BarColumn(), DownloadColumn(binary_units=True),
        TransferSpeedColumn(), TimeRemainingColumn(),
        console=Console(file=sys.stderr, highlight=False), disable=not sys.stderr.isatty(),
    )  # fmt: skip


class _Painter:
    """Keeps one bar per file."""

    def __init__(self, bars: Progress, console: Console) -> None:
        self._bars = bars
        self._console = console
        self._task: Any = None

    def show(self, event: Event) -> None:
        if isinstance(event, Begun):
            say(self._console, "from", event.source, "")
            self._task = self._bars.add_task(event.file[:24], total=event.of, completed=event.bytes)
        elif isinstance(event, Received) and self._task is not None:
            self._bars.update(self._task, completed=event.bytes, total=event.of)
        elif isinstance(event, Hashing):
            say(self._console, "checking", f"{event.file} ({bytes_(event.bytes)})", "")
        elif isinstance(event, Stored):
            how = "stored" if event.fetched else "there"
            first = "" if event.trusted == "published" else ", trusted as it came"
            say(self._console, how, f"{event.file} sha256 {event.sha256[:16]}…{first}")
        else:
            say(self._console, "note", _trouble(event), "yellow")


def _trouble(event: Event) -> str:
    if isinstance(event, Retried):
        kept = f"{bytes_(event.bytes)} are kept"
        return f"{event.reason}: trying again in {event.seconds:.0f} s; {kept}"
    if isinstance(event, Damaged):
        return f"{event.file} is damaged ({event.reason}): it is fetched again"
    if isinstance(event, Waiting):
        return f"another longtake pulls into {event.folder}: waiting for it"
    return str(event)


# --- check and convert ---------------------------------------------------------------------------


def _check(given: argparse.Namespace) -> int:
    console = Console(highlight=False)
    bad = 0
    for folder, wanted in _places(given):
        for found in check(folder, wanted, RECOGNISE.get(wanted.family, {})):
            bad += found.state == "bad"
            if given.json:
                print_json(_plain(found))
            else:
                _say(console, found)
    return 1 if bad else 0


def _places(given: argparse.Namespace) -> list[tuple[Path, Any]]:
    """Folders to check, and the model that each must hold."""
    if given.what is None:
        pulled = [(home() / m.name, m) for m in MODELS.values()]
        return [(f, m) for f, m in pulled if listing.look(m, f).state != "absent"]
    if given.what in MODELS:
        return [(home() / given.what, model(given.what))]
    folder = Path(given.what)
    if not folder.is_dir():
        model(given.what)  # says what there is
    return [(folder, told(folder, given.model, MODELS))]


def _say(console: Console, found: Checked) -> None:
    words = f"{found.role:12} {found.path.name}: {found.says}"
    say(console, f"{found.state:4}", words, _COLORS[found.state])


def _convert(given: argparse.Namespace) -> int:
    folder = given.source if given.source.is_dir() else given.source.parent
    wanted = told(folder, given.model, MODELS)
    console = Console(highlight=False)
    options = BlockOptions(
        quant=given.quant, move=given.move, raw=given.raw_fp8,
        recognise=RECOGNISE.get(wanted.family, {}),
    )  # fmt: skip
    for made in convert(given.source, given.target, wanted, given.dtype, options):
        if given.json:
            print_json(_plain(made))
        elif isinstance(made, Taken):
            ends = "; deleted" if made.removed else ""
            say(console, "taken", f"{made.source} ({bytes_(made.bytes)}){ends}")
        else:
            say(console, "written", f"{made.path} ({bytes_(made.bytes)}): {made.says}")
    return 0


def _plain(event: Any) -> dict[str, Any]:
    body: dict[str, Any] = to_plain(event)
    return {"event": re.sub(r"(?<!^)(?=[A-Z])", "_", body.pop("is")).lower(), **body}
