"""`longtake probe IN`"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from longtake.cli.options import add_json
from longtake.cli.show import print_json, say
from longtake.core.media import Color, VideoInfo
from longtake.core.plain import to_plain
from longtake.media.interlace import advice, examined
from longtake.media.probe import probe
from longtake.planner.explain import bytes_, clock, rate
from longtake.settings import Settings


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="IN", help="a video, or a folder of pictures")
    add_json(parser)


def run(given: argparse.Namespace, settings: Settings) -> int:
    info = examined(probe(given.source))
    if given.json:
        print_json(to_plain(info))
        return 0
    table = Table.grid(padding=(0, 2))
    for name, value in _rows(info):
        table.add_row(f"[bold]{name}[/bold]", Text(value))
    console = Console(highlight=False)
    console.print(table)
    for note in (*info.notes, *advice(info)):
        say(console, "note", note, "yellow")
    return 0


def _rows(info: VideoInfo) -> list[tuple[str, str]]:
    about = "" if info.exact else "about "
    rows = [
        ("file", f"{info.path} ({bytes_(info.size)})"),
        ("container", info.container),
        ("video", f"{info.codec}, {info.width}x{info.height} px, {info.bits} bit {info.chroma}"
                  f"{' with alpha' if info.alpha else ''}"),
        ("frames", f"{about}{info.frames:,} at {rate(info.rate)} fps, {clock(info.duration)}"),
        ("fields", _fields(info)),
        ("colour", _color(info.color)),
        ("shape", f"sample aspect ratio {info.sar}, rotated by {info.rotation} degrees"),
    ]  # fmt: skip
    for track in info.tracks:
        sound = f", {track.channels} channels at {track.sample_rate} Hz" if track.channels else ""
        language = "" if track.language == "und" else track.language
        words = " ".join(filter(None, [language, track.title]))
        rows.append((track.kind, f"#{track.index} {track.codec}{sound} {words}".rstrip()))
    if info.chapters:
        rows.append(("chapters", str(info.chapters)))
    return rows


def _fields(info: VideoInfo) -> str:
    """Field order, and telecine with how sure it is."""
    found = info.telecine
    if found is None:
        return info.fields
    if not found.cycles:
        return f"{info.fields}; telecine cannot be told, nothing moves where it was looked for"
    named = f"telecine {found.pattern}" if found.found else "no telecine"
    return f"{info.fields}; {named} ({found.share:.0%} of {found.cycles} moving cycles)"


def _color(color: Color) -> str:
    if color == Color():
        return "not stated"
    span = {None: "range not stated", True: "full range", False: "limited range"}
    tags = (("matrix", color.matrix), ("primaries", color.primaries), ("curve", color.transfer))
    named = ", ".join(f"{what} {_H273[what].get(tag, tag)}" for what, tag in tags)
    return f"{named}, {span[color.full_range]}{', HDR' if color.hdr else ''}"


_H273: dict[str, dict[int, str]] = {
    "matrix": {0: "rgb", 1: "bt709", 2: "not stated", 5: "bt601 (625)", 6: "bt601 (525)",
               7: "smpte240m", 9: "bt2020", 10: "bt2020 constant luminance"},
    "primaries": {1: "bt709", 2: "not stated", 5: "bt601 (625)", 6: "bt601 (525)",
                  7: "smpte240m", 9: "bt2020", 11: "dci-p3", 12: "display-p3"},
    "curve": {1: "bt709", 2: "not stated", 4: "gamma 2.2", 5: "gamma 2.8", 6: "bt601",
              8: "linear", 13: "srgb", 14: "bt2020 10 bit", 15: "bt2020 12 bit", 16: "pq",
              18: "hlg"},
}  # fmt: skip
