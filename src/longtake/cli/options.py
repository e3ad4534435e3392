"""Flags out of the schema: every field of a task that has an `Option` becomes one."""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from rich_argparse import RichHelpFormatter

from longtake.core.errors import Usage
from longtake.core.media import Knobs
from longtake.core.plan import Plan
from longtake.core.task import Generate, Limits, Option, Task, Upscale, options
from longtake.runtime import engines
from longtake.runtime.gather import Folder, gather

DROPS = ("audio", "subtitles", "chapters", "attachments", "data", "alpha", "tail", "damaged")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_LISTS = {
    "--set": lambda word: "=" in word and not word.startswith("-"),
    "--place": lambda word: "=" in word and not word.startswith("-"),
    "--drop": lambda word: all(w in DROPS for w in word.split(",")),
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
    parser.add_argument(
        "source", type=Path, metavar="IN",
        help="a video, a folder of pictures (one film), or a folder of videos (all of them)",
    )  # fmt: skip
    parser.add_argument(
        "target", type=Path, metavar="OUT", nargs="?",
        help=".mp4, .mkv, or a folder: of pictures, or of films where IN is a folder of videos",
    )  # fmt: skip
    _add_batch(parser)
    add_flags(parser)


def add_generation(parser: argparse.ArgumentParser) -> None:
    """The flags of `generate`."""
    parser.add_argument("target", type=Path, metavar="OUT", help=".mp4, .mkv, or a folder")
    parser.add_argument("--prompt", required=True, metavar="TEXT", help="what it shows")
    add_flags(parser, of=Generate)


def add_flags(
    parser: argparse.ArgumentParser, without: Sequence[str] = (), *, of: type[Task] = Upscale
) -> None:
    """A flag for every field of a task and of the limits, but for those named in `without`."""
    advanced = parser.add_argument_group("advanced options")
    groups: dict[str, Any] = {"main": parser, "advanced": advanced}
    found = {f.name: (f, o) for kind in (of, Limits) for f, o in options(kind)}
    found = {name: what for name, what in found.items() if name not in without}
    for name in ("scale", "height", "image", "negative", "engine", "set", "vram", "ram", "devices",
                 "frames"):  # fmt: skip
        if name in found:
            _add(groups[found[name][1].group], *found.pop(name))
    for field, how in found.values():
        _add(groups[how.group], field, how)
    advanced.add_argument(
        "--preset", metavar="NAME",
        help="knobs under a name, of those that `longtake engines` lists; --set wins over them",
    )  # fmt: skip


def _add_batch(parser: argparse.ArgumentParser) -> None:
    batch = parser.add_argument_group(
        "folders of videos",
        "Where IN is one, the settings hold for all of them, in natural order. Names are mirrored "
        "below OUT; finished films are passed over; one that fails stops no other (exit code 3).",
    )
    batch.add_argument(
        "-o", "--output", type=Path, metavar="OUT",
        help="OUT, instead of the second argument; for one film too",
    )  # fmt: skip
    batch.add_argument("--recursive", action="store_true", help="its subfolders too")
    batch.add_argument(
        "--to", metavar="SUFFIX",
        help="mp4, mkv or png for all; default: mp4 and mkv as they are, others mkv",
    )  # fmt: skip


def target_of(given: argparse.Namespace) -> Path:
    """OUT, given as the second argument or as --output. Raises Usage."""
    if given.target is not None and given.output is not None:
        raise Usage(f"OUT is given twice: {given.target} and --output {given.output}.")
    target: Path | None = given.target if given.output is None else given.output
    if target is None:
        raise Usage("OUT is required: give it after IN, or as --output.")
    return target


def folder_of(given: argparse.Namespace) -> Folder | None:
    """The films of IN where it is a folder of videos, else None. Raises Usage or BadInput."""
    found = gather(given.source, target_of(given), recursive=given.recursive, to=given.to)
    if found is None:
        return None
    return dataclasses.replace(found, notes=(*_preset_words(given), *found.notes))


def add_running(parser: argparse.ArgumentParser) -> None:
    """What concerns a run and not the film."""
    groups: dict[str | None, Any] = {g.title: g for g in parser._action_groups}
    rest = groups.get("advanced options", parser)
    add_json(parser)
    parser.add_argument(
        "--restart", action="store_true",
        help="begin anew; replaces an existing OUT (of a folder: all but what is finished so)",
    )  # fmt: skip
    rest.add_argument("--keep", action="store_true", help="keep the work folder OUT.longtake")


def add_json(parser: argparse.ArgumentParser, shown: str = "one JSON value per line") -> None:
    parser.add_argument("--json", action="store_true", help=f"{shown}, and nothing else")


def task_of(given: argparse.Namespace) -> Upscale:
    """The task that the flags describe. Raises Usage."""
    values = {f.name: getattr(given, f.name) for f, _ in options(Upscale)}
    task = Upscale(
        source=given.source, target=target_of(given),
        **{**values, "set": knobs_of(given.set), "drop": _drops(given.drop)},
    )  # fmt: skip
    return task if given.preset is None else engines.filled(task, given.preset)


def generation_of(given: argparse.Namespace) -> Generate:
    """The same of the flags of `generate`."""
    values = {f.name: getattr(given, f.name) for f, _ in options(Generate)}
    values |= {"set": knobs_of(given.set)}
    task = Generate(prompt=given.prompt, target=given.target, **values)
    return task if given.preset is None else engines.filled(task, given.preset)


def noted(plan: Plan, given: argparse.Namespace) -> Plan:
    """The plan with a word on the preset that was asked for."""
    words = _preset_words(given)
    return dataclasses.replace(plan, notes=(*words, *plan.notes))


def _preset_words(given: argparse.Namespace) -> tuple[str, ...]:
    if given.preset is None:
        return ()
    task = generation_of(given) if "prompt" in given else task_of(given)
    return (engines.told(task.engine, given.preset, task),)


def words_of(task: Task) -> list[str]:
    """The flags that make this task, but for its paths and prompt: only what is not the default."""
    words: list[str] = []
    for field, _ in options(type(task)):
        value = getattr(task, field.name)
        if value == _default(field) or field.name == "image":
            continue
        shown = _SHOWN.get(field.name, lambda v: [str(v)])(value)
        words += ["--" + field.name.replace("_", "-"), *shown]
    return words


_SHOWN: dict[str, Callable[[Any], list[str]]] = {
    "scale": lambda v: [f"{float(v):g}"],
    "set": lambda v: [f"{name}={value}" for name, value in v.items()],
    "frames": lambda v: [f"{v[0]}:{'' if v[1] is None else v[1]}"],
    "drop": lambda v: [",".join(v)],
}


def limits_of(given: argparse.Namespace) -> Limits:
    values = {f.name: getattr(given, f.name) for f, _ in options(Limits)}
    place = knobs_of(given.place, "--place")
    if getattr(given, "preset", None) is not None:
        place = {**engines.preset(given.engine, given.preset).place, **place}
    return Limits(**{**values, "place": place})


def knobs_of(words: Sequence[str] | None, flag: str = "--set") -> Knobs:
    """["a=1", "b=x"] -> {"a": "1", "b": "x"}; the engine's knobs give the types."""
    found: Knobs = {}
    for word in words or ():
        name, equals, value = word.partition("=")
        if not (name and equals):
            raise Usage(f"{flag} {word}: give NAME=VALUE.")
        found[name] = value
    return found


def _add(group: Any, field: dataclasses.Field[Any], how: Option) -> None:
    flag = "--" + field.name.replace("_", "-")
    hint: dict[str, Any] = {"help": how.help, "dest": field.name, "metavar": how.metavar or None}
    default = _default(field)
    if field.name in ("set", "drop", "place"):
        shown = f"{how.metavar} [{how.metavar} ...]"
        group.add_argument(flag, **{**hint, "metavar": shown}, action="append")
        return
    convert = _CONVERTERS.get(field.name, str)
    if how.choices:
        hint["metavar"] = how.metavar or "|".join(how.choices)
        convert = _one_of(how.choices, convert)
    group.add_argument(flag, **hint, type=convert, default=default)


def _default(field: dataclasses.Field[Any]) -> Any:
    made = field.default_factory
    return field.default if made is dataclasses.MISSING else made()


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
        if word not in DROPS:
            raise Usage(
                f"--drop {word}: there is nothing of that name; there are {', '.join(DROPS)}."
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
    "image": Path,
    "height": whole,
    "pre_width": whole,
    "frames": frame_range,
    "crf": whole,
    "bits": whole,
    "seed": whole,
    "rate": rate,
    "vram": size,
    "ram": size,
}
