"""What is asked (Task) and what may be spent (Limits): the only schema of the system.

Flags of the command line derive from these fields and their metadata; so will the API and the form.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from longtake.core.codecs import CODECS, EFFORTS
from longtake.core.media import Knobs

Group = Literal["main", "advanced"]
Drop = Literal["audio", "subtitles", "chapters", "attachments", "data", "alpha", "tail", "damaged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """How a field is shown to a person."""

    help: str
    group: Group = "main"
    metavar: str = ""
    choices: tuple[str, ...] = ()


def option(default: Any, help: str, group: Group = "main", **how: Any) -> Any:
    """A dataclass field that people set; `how` goes to `Option`."""
    shown = {"option": Option(help=help, group=group, **how)}
    if callable(default):
        return field(default_factory=default, metadata=shown)
    return field(default=default, metadata=shown)


def options(task: type[Any]) -> list[tuple[dataclasses.Field[Any], Option]]:
    """The fields of a task or of the limits that people may set, in order."""
    return [(f, f.metadata["option"]) for f in dataclasses.fields(task) if "option" in f.metadata]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Written:
    """How a film is compressed, and what its noise is drawn from."""

    codec: str = option(
        "auto", "auto: x264 for mp4 and mkv, png for folders", "advanced",
        choices=("auto", *CODECS),
    )  # fmt: skip
    crf: int | None = option(
        None, "quality, 0 (best) to 51, of av1 to 63; default: x264 16, x265 18, av1 25",
        "advanced", metavar="N",
    )  # fmt: skip
    effort: str = option(
        "auto", "encoder's effort; auto: veryfast on CPU machines, faster beside a GPU",
        "advanced", choices=("auto", *EFFORTS),
    )  # fmt: skip
    bits: int | None = option(
        None, "bits per component; default: as the source, or 8", "advanced",
        choices=("8", "10", "16"),
    )  # fmt: skip
    seed: int = option(0, "seed of engines that draw noise", "advanced", metavar="N")


@dataclass(frozen=True, slots=True, kw_only=True)
class Upscale(_Written):
    """Make a film larger."""

    source: Path
    target: Path
    scale: Fraction | None = option(
        None, "how many times larger", metavar="1.5|2|3|4", choices=("1.5", "2", "3", "4")
    )
    height: int | None = option(None, "target height in px instead of --scale", metavar="PX")
    engine: str = option("lite", "what does the work; see `longtake engines`", metavar="NAME")
    set: Knobs = option(dict, "knobs of the engine and of the recipe", metavar="NAME=VALUE")
    frames: tuple[int, int | None] = option(
        (0, None), "only the frames START:STOP (half-open)", metavar="START:STOP"
    )
    rate: Fraction | None = option(
        None, "frames per second of an image folder (default 24)", "advanced", metavar="N/D"
    )
    assume_color: str | None = option(
        None, "how to read an untagged source", "advanced",
        choices=("bt601-limited", "bt601-full", "bt709-limited", "bt709-full",
                 "bt2020-limited", "bt2020-full"),
    )  # fmt: skip
    pre_width: int | None = option(
        None, "reduce the source to this width first, for soft or falsely large ones", "advanced",
        metavar="PX",
    )  # fmt: skip
    deinterlace: str = option(
        "no", "bwdif makes interlaced frames whole, ivtc undoes telecine (4/5 of the rate)",
        "advanced", choices=("no", "bwdif", "ivtc"),
    )  # fmt: skip
    drop: tuple[Drop, ...] = option(
        (), "what may be lost: audio subtitles chapters attachments data alpha tail damaged",
        "advanced", metavar="WHAT",
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Generate(_Written):
    """Make a film from words, and from a picture where one is given."""

    prompt: str
    target: Path
    negative: str = option("", "what it shall not show", metavar="TEXT")
    image: Path | None = option(None, "the picture that it begins with", metavar="FILE")
    engine: str = option("wan", "what does the work", metavar="NAME")
    set: Knobs = option(dict, "knobs of the engine", metavar="NAME=VALUE")

    @property
    def drop(self) -> tuple[Drop, ...]:
        """Nothing is carried over that could be left out."""
        return ()


Task = Upscale | Generate


def as_named_now(stored: dict[str, Any]) -> dict[str, Any]:
    """A task as earlier builds wrote it: the encoder's effort was called preset."""
    if "preset" not in stored:
        return stored
    rest = {name: value for name, value in stored.items() if name != "preset"}
    return {"effort": stored["preset"], **rest}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a job may spend; None means what is free now."""

    vram: int | None = option(None, "memory it may use on each GPU, e.g. 8G", metavar="SIZE")
    ram: int | None = option(None, "host memory it may use, e.g. 4G", metavar="SIZE")
    devices: str = option(
        "auto", "auto, cpu, cuda:0,1 or all; cpu:0,1 is two processes", metavar="WHICH"
    )
    place: Knobs = option(
        dict, "where and when bytes lie, instead of the planner's choice: offload, state, step, "
        "queue, resident_blocks, ... (docs/memory.md); changes no byte of the film", "advanced",
        metavar="NAME=VALUE",
    )  # fmt: skip
