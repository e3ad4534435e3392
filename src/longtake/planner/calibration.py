"""How fast this machine was at jobs it has done: seconds per megapixel of output, by what was run.

A small JSON file in the cache folder, written after jobs and by `doctor`; a plan without an entry
says "not calibrated" instead of guessing.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass, fields, replace
from pathlib import Path

from longtake.core.machine import Machine
from longtake.core.plan import Geometry, Placement, Recipe, Time
from longtake.planner.wishes import STREAMED


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Seconds per megapixel of output."""

    decode: float
    compute: float
    encode: float
    wall: float  # of the whole job: analysis, segments, join, verify
    megapixels: float  # that the figures rest on

    def blended(self, new: Rate) -> Rate:
        """Figures weighted by their megapixels; older work counts at most as much as the new."""
        old = min(self.megapixels, new.megapixels) or 1e-9
        both = old + new.megapixels

        def mean(a: float, b: float) -> float:
            return (a * old + b * new.megapixels) / both

        return replace(
            new,
            decode=mean(self.decode, new.decode),
            compute=mean(self.compute, new.compute),
            encode=mean(self.encode, new.encode),
            wall=mean(self.wall, new.wall),
            megapixels=both,
        )


def key(recipe: Recipe, placement: Placement, machine: Machine) -> str:
    """What a rate depends on, apart from the number of pixels."""
    device = placement.devices[0]
    gpu = next((g.name for g in machine.gpus if device == f"cuda:{g.index}"), "")
    lies = [placement.offload, placement.state, *_numbers(placement)]
    return "|".join(
        [
            recipe.engine,
            ",".join(f"{k}={v}" for k, v in sorted(recipe.knobs.items())),
            f"{recipe.numerics.dtype} on {len(placement.devices)}x {gpu or machine.cpu}",
            f"{machine.cores} cores",
            f"{recipe.encoder.codec} {recipe.encoder.preset} {recipe.output.bits} bit",
            *([] if lies == ["resident", "device"] else lies),
        ]
    )


def _numbers(placement: Placement) -> list[str]:
    """Those that change the speed of blocks that come in turn."""
    if placement.offload not in STREAMED:
        return []
    names = ("resident_blocks", "host_blocks", "granularity", "bandwidth")
    usual = {f.name: f.default for f in fields(Placement)}
    given = {name: getattr(placement, name) for name in names}
    return [f"{name}={value}" for name, value in given.items() if value != usual[name]]


class Calibration:
    """The file; unreadable or foreign contents count as empty."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rates: dict[str, Rate] = {}
        with contextlib.suppress(OSError, ValueError, TypeError):
            stored = json.loads(path.read_text(encoding="utf-8"))
            self.rates = {k: Rate(**v) for k, v in stored["rates"].items()}

    def time(self, name: str, geometry: Geometry) -> Time | None:
        """Predicted seconds of a whole job, or None where nothing is known."""
        rate = self.rates.get(name)
        if rate is None:
            return None
        size = megapixels(geometry)
        return Time(
            decode=rate.decode * size,
            compute=rate.compute * size,
            encode=rate.encode * size,
            total=rate.wall * size,
        )

    def learn(self, name: str, rate: Rate) -> None:
        """Blend a finished job in and store the file; a read-only cache is no error."""
        known = self.rates.get(name)
        self.rates[name] = known.blended(rate) if known else rate
        body = {k: {f: getattr(v, f) for f in Rate.__slots__} for k, v in self.rates.items()}
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            fresh = self.path.with_suffix(f".{os.getpid()}.tmp")
            text = json.dumps({"version": 1, "rates": body}, indent=1)
            fresh.write_text(text, encoding="utf-8")
            fresh.replace(self.path)


def megapixels(geometry: Geometry) -> float:
    return geometry.frames * geometry.target[0] * geometry.target[1] / 1e6
