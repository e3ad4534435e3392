"""Engine options: a frozen dataclass whose fields say their range, set by `--set name=value`."""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass, field
from typing import Any

from longtake.core.errors import Usage
from longtake.core.media import Knob, Knobs


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """What a knob may be: `choices`, or numbers from `least` to `most`, both included."""

    help: str
    least: float | None = None
    most: float | None = None
    choices: tuple[Knob, ...] = ()
    local: bool = False
    """A place on this machine: whoever asks from another one may not say it."""

    def __str__(self) -> str:
        if self.choices:
            return " | ".join(map(str, self.choices))
        return f"{self.least:g} .. {self.most:g}" if self.least is not None else "any"


def knob(default: Knob, help: str, **limits: Any) -> Any:
    """A field of an engine's knobs; `limits` go to `Range`."""
    return field(default=default, metadata={"range": Range(help=help, **limits)})


def ranges(knobs: type[Any]) -> dict[str, tuple[Knob, Range]]:
    """Default and range of every knob, by name."""
    fields = dataclasses.fields(knobs)
    return {f.name: (typing.cast(Knob, f.default), f.metadata["range"]) for f in fields}


def settle(knobs: type[Any], given: Knobs) -> Knobs:
    """All knobs with the given values checked and the others at their defaults.

    Raises Usage that names the knob, the value and what is allowed.
    """
    hints = typing.get_type_hints(knobs)
    known = ranges(knobs)
    for name in given:
        if name not in known:
            raise Usage(f"There is no knob {name!r}; there are: {', '.join(known) or 'none'}.")
    settled: Knobs = {}
    for name, (default, limit) in known.items():
        settled[name] = (
            _convert(name, given[name], hints[name], limit) if name in given else default
        )
    return settled


def _convert(name: str, value: Knob, kind: type, limit: Range) -> Knob:
    try:
        converted = _bool(value) if kind is bool else kind(value)
    except ValueError:
        raise Usage(f"{name}={value}: not a value of type {kind.__name__} ({limit}).") from None
    if limit.choices and converted not in limit.choices:
        raise Usage(f"{name}={value}: choose from {limit}.")
    if limit.least is not None and limit.most is not None:
        number = float(converted)
        if not limit.least <= number <= limit.most:  # also refuses NaN
            raise Usage(f"{name}={value}: outside {limit}.")
    return typing.cast(Knob, converted)


def _bool(value: Knob) -> bool:
    text = str(value).lower()
    if text not in ("true", "false", "1", "0", "yes", "no", "on", "off"):
        raise ValueError(text)
    return text in ("true", "1", "yes", "on")
