"""An engine with a memory, installed as third parties install theirs: by an entry point.

Each output frame is the mean of the last frames of its shot, so a lost warm-up, a state that
crosses a cut, or a chunk that matters shows in the pixels. Tests put this folder on PYTHONPATH.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from longtake.core import faults
from longtake.core.knobs import knob
from longtake.core.machine import Machine
from longtake.core.media import Clip, Knobs
from longtake.core.plan import Footprint, Geometry, Placement, Plan, Recipe
from longtake.core.ports import Grid, Offload
from longtake.media.scaling import resample

MEMORY = 2  # earlier frames that a frame is mixed with


@dataclass(frozen=True, slots=True, kw_only=True)
class EchoKnobs:
    memory: bool = knob(True, "mix earlier frames in")
    endless: bool = knob(False, "mix in all that it was given, warm-up too")


@dataclass(frozen=True, slots=True)
class _Open:
    size: tuple[int, int]
    memory: int

    def upscale(self, clips: Iterable[Clip]) -> Iterator[Clip]:
        past: list[np.ndarray] = []
        for clip in clips:
            faults.strike("compute")
            made = []
            for frame in clip.pixels:
                past = [*past, frame.astype(np.uint32)][-1 - self.memory :]
                made.append((sum(past) // len(past)).astype(clip.pixels.dtype))
            yield Clip(pixels=resample(np.stack(made), *self.size), start=clip.start)


class Echo:
    about = "a test's engine with a memory"
    knobs = EchoKnobs
    devices: tuple[str, ...] = ("cpu",)
    scales: tuple[Fraction, ...] = ()

    def grid(self, knobs: Knobs) -> Grid:
        return Grid(lead=MEMORY, segment_frames=40)

    def weights(self, knobs: Knobs) -> tuple[Path, ...]:
        return ()

    def decide(self, knobs: Knobs, machine: Machine, device: str) -> tuple[Knobs, tuple[str, ...]]:
        return knobs, ()

    def leaner(self, knobs: Knobs, geometry: Geometry) -> Iterable[Knobs]:
        return ()

    def dtype(self, machine: Machine, device: str, knobs: Knobs) -> str:
        return "uint8"

    def footprint(self, geometry: Geometry, recipe: Recipe, placement: Placement) -> Footprint:
        return Footprint(state=MEMORY * geometry.source[0] * geometry.source[1] * 3 * 4)

    @contextmanager
    def open(self, plan: Plan, device: str, offload: Offload) -> Iterator[_Open]:
        memory = 10_000 if plan.recipe.knobs["endless"] else MEMORY
        yield _Open(plan.geometry.target, memory if plan.recipe.knobs["memory"] else 0)


plugin = Echo()
