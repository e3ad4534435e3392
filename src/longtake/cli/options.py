"""Flags out of the schema: every field of a task that has an `Option` becomes one."""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from rich_argparse import RichHelpFormatter

from longtake.core.errors import Usage
from longtake.core.media import Knobs
from longtake.core.task import Limits, Option, Upscale, options

_DROPS = ("audio", "subtitles", "chapters", "attachments", "data", "alpha", "tail", "damaged")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_LISTS = {
    "--set": lambda word: "=" in word and not word.startswith("-"),
    "--drop": lambda word: all(w in _DROPS for w in word.split(",")),
}


class Help(RichHelpFormatter):
    """Help texts with room for the flags."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32, width=100)


def spread(words: Sequence[str]) -> Iterator[str]:
    """`--set a=1 b=2 IN` -> `--set a=1 --set b=2 IN`: several values, no swallowed file names."""
    flag = ""
    for word in words:
        if word in _LISTS:
            flag = word
            continue
        if flag and _LISTS[flag](word):
            yield f"{flag}={word}"
            continue
        if flag and not word.startswith("-") and "=" not in word and flag == "--drop":
            yield f"{flag}={word}"  # let the parser name the bad value
            flag = ""
            continue
        flag = ""
        yield word


def add_task(parser: argparse.ArgumentParser) -> None:
    """The flags of `upscale`: everyday ones first, the rest in a group of its own."""
    parser.add_argument("source", type=Path, metavar="IN", help="a video, or a folder of PNG files")
    parser.add_argument(
        "target", type=Path, metavar="OUT", help=".mp4, .mkv, or a folder for PNG files"
    )
    advanced = parser.add_argument_group("advanced options")
    groups: dict[str, Any] = {"main": parser, "advanced": advanced}
    found = {f.name: (f, o) for kind in (Upscale, Limits) for f, o in options(kind)}
    for name in ("scale", "height", "engine", "set", "vram", "ram", "devices", "frames"):
        _add(groups[found[name][1].group], *found.pop(name))
    for field, how in found.values():
        _add(groups[how.group], field, how)


def add_running(parser: argparse.ArgumentParser) -> None:
    """What concerns a run and not the film."""
    groups: dict[str | None, Any] = {g.title: g for g in parser._action_groups}
    rest = groups.get("advanced options", parser)
    add_json(parser)
    parser.add_argument(
        "--restart", action="store_true", help="begin anew; replaces an existing OUT"
    )
    rest.add_argument("--keep", action="store_true", help="keep the work folder OUT.longtake")


def add_json(parser: argparse.ArgumentParser, shown: str = "one JSON value per line") -> None:
    parser.add_argument("--json", action="store_true", help=f"{shown}, and nothing else")


def task_of(given: argparse.Namespace) -> Upscale:
    """The task that the flags describe. Raises Usage."""
    values = {f.name: getattr(given, f.name) for f, _ in options(Upscale)}
    return Upscale(
        source=given.source, target=given.target,
        **{**values, "set": knobs_of(given.set), "drop": _drops(given.drop)},
    )  # fmt: skip


def limits_of(given: argparse.Namespace) -> Limits:
    return Limits(**{f.name: getattr(given, f.name) for f, _ in options(Limits)})


def knobs_of(words: Sequence[str] | None) -> Knobs:
    """["a=1", "b=x"] -> {"a": "1", "b": "x"}; the engine's knobs give the types."""
    found: Knobs = {}
    for word in words or ():
        name, equals, value = word.partition("=")
        if not (name and equals):
            raise Usage(f"--set {word}: give NAME=VALUE.")
        found[name] = value
    return found


def _add(group: Any, field: dataclasses.Field[Any], how: Option) -> None:
    flag = "--" + field.name.replace("_", "-")
    hint: dict[str, Any] = {"help": how.help, "dest": field.name, "metavar": how.metavar or None}
    default = (
        field.default_factory() if field.default_factory is not dataclasses.MISSING
        else field.default
    )  # fmt: skip
    if field.name in ("set", "drop"):
        shown = f"{how.metavar} [{how.metavar} ...]"
        group.add_argument(flag, **{**hint, "metavar": shown}, action="append")
        return
    convert = _CONVERTERS.get(field.name, str)
    if how.choices:
        hint["metavar"] = how.metavar or "|".join(how.choices)
        convert = _one_of(how.choices, convert)
    group.add_argument(flag, **hint, type=convert, default=default)


def _one_of(choices: Sequence[str], convert: Any) -> Any:
    """A converter that names the choices as people write them."""

    def chosen(text: str) -> Any:
        if text not in choices:
            raise argparse.ArgumentTypeError(f"{text!r}: choose from {', '.join(choices)}")
        return convert(text)

    return chosen


def _drops(words: Sequence[str] | None) -> tuple[Any, ...]:
    found = tuple(w for word in words or () for w in word.split(","))
    for word in found:
        if word not in _DROPS:
            raise Usage(
                f"--drop {word}: there is nothing of that name; there are {', '.join(_DROPS)}."
            )
    return tuple(dict.fromkeys(found))


def size(text: str) -> int:
    """ "8G", "512M", "1.5GiB" -> bytes; binary units."""
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 8G or 512M")
    return int(float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " "))


def frame_range(text: str) -> tuple[int, int | None]:
    """ "10:20", ":20", "10:" -> half-open range."""
    first, colon, stop = text.partition(":")
    if not colon or ((first or stop) and not (first + stop).isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a range such as 0:100")
    return int(first or 0), int(stop) if stop else None


def fraction(text: str) -> Fraction:
    """ "24", "23.976", "24000/1001" -> Fraction."""
    try:
        value = Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    return value


def rate(text: str) -> Fraction:
    value = fraction(text)
    if not 0 < value <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} lies outside 0 .. 1000 frames per second")
    return value


def whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


_CONVERTERS: dict[str, Any] = {
    "scale": fraction,
    "height": whole,
    "frames": frame_range,
    "crf": whole,
    "bits": whole,
    "seed": whole,
    "rate": rate,
    "vram": size,
    "ram": size,
}
