"""What engines there are and what can be set on them, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, TypeVar

from longtake.core.codecs import EFFORTS
from longtake.core.errors import Usage
from longtake.core.knobs import Range, ranges, settle
from longtake.core.media import Knob
from longtake.core.plugins import find, names
from longtake.core.ports import Author, Engine, Preset, Works
from longtake.core.task import Generate, Task, Upscale
from longtake.planner.planner import SEGMENT_FRAMES


def described(name: str) -> dict[str, Any]:
    """An engine's devices, scales, presets and knobs, those of the recipe included."""
    engine: Engine = find("engines", name)
    length = engine.grid(settle(engine.knobs, {})).segment_frames
    known = {**ranges(engine.knobs), "segment_frames": (length, SEGMENT_FRAMES)}
    return {**_described(name, engine, known), "scales": [float(s) for s in engine.scales]}


def generator(name: str) -> dict[str, Any]:
    """The same of one that generates films."""
    author: Author = find("generators", name)
    return _described(name, author, ranges(author.knobs))


def _described(name: str, works: Works, known: Mapping[str, tuple[Knob, Range]]) -> dict[str, Any]:
    return {
        "name": name,
        "about": works.about,
        "devices": list(works.devices),
        "presets": [asdict(preset) for preset in presets(name)],
        "knobs": [
            {"name": k, "default": default, "allowed": str(limit), **asdict(limit)}
            for k, (default, limit) in known.items()
        ],
    }


def presets(engine: str) -> tuple[Preset, ...]:
    """Those that come with an engine, of either kind; none where it declares none."""
    group = "generators" if engine in names("generators") else "engines"
    found: tuple[Preset, ...] = getattr(find(group, engine), "presets", ())
    return found


def preset(engine: str, name: str) -> Preset:
    """Raises Usage that names those that there are."""
    known = {one.name: one for one in presets(engine)}
    if name in known:
        return known[name]
    words = f"--preset {name}: the engine {engine} has {', '.join(known) or 'no presets'}."
    if name in EFFORTS:
        words += f" The encoder's effort is --effort {name}."
    raise Usage(words)


T = TypeVar("T", Upscale, Generate)


def filled(task: T, name: str) -> T:
    """The task with the knobs of a preset of its engine; those that it sets itself stay as they
    are. Raises Usage."""
    return replace(task, set={**preset(task.engine, name).knobs, **task.set})


def told(engine: str, name: str, task: Task) -> str:
    """What a preset has set on a task, as a sentence."""
    given = preset(engine, name)
    kept = [f"{k}={v}" for k, v in given.knobs.items() if str(task.set.get(k, v)) == str(v)]
    return f"Preset {name} ({given.about}): {' '.join(kept) or 'nothing, all is set otherwise'}."
