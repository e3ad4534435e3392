"""Lanczos by swscale: the baseline that every model must beat; needs no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

from longtake.core import faults
from longtake.core.knobs import knob
from longtake.core.machine import Machine
from longtake.core.media import Clip, Knobs, OutputFormat
from longtake.core.plan import Footprint, Geometry, Placement, Plan, Recipe
from longtake.core.ports import Grid, Offload, Preset
from longtake.engines._pixels import deepened
from longtake.media.scaling import Kernel, resample


@dataclass(frozen=True, slots=True, kw_only=True)
class ResizeKnobs:
    kernel: str = knob(
        "lanczos", "interpolation kernel", choices=("lanczos", "bicubic", "bilinear")
    )


@dataclass(frozen=True, slots=True)
class _Open:
    output: OutputFormat
    kernel: Kernel

    def upscale(self, clips: Iterable[Clip]) -> Iterator[Clip]:
        for clip in clips:
            faults.strike("compute")
            made = resample(
                deepened(clip.pixels, self.output.bits),
                self.output.width,
                self.output.height,
                self.kernel,
            )
            yield Clip(pixels=made, start=clip.start)


class Resize:
    about = "Lanczos interpolation: the baseline, exact and fast, adds no detail"
    knobs = ResizeKnobs
    devices: tuple[str, ...] = ("cpu",)
    scales: tuple[Fraction, ...] = ()
    presets: tuple[Preset, ...] = (
        Preset(name="standard", about="Lanczos: the sharpest kernel", knobs={"kernel": "lanczos"}),
        Preset(
            name="soft", about="bicubic: less ringing at hard edges", knobs={"kernel": "bicubic"}
        ),
    )

    def grid(self, knobs: Knobs) -> Grid:
        return Grid()

    def weights(self, knobs: Knobs) -> tuple[Path, ...]:
        return ()

    def decide(self, knobs: Knobs, machine: Machine, device: str) -> tuple[Knobs, tuple[str, ...]]:
        return knobs, ()

    def leaner(self, knobs: Knobs, geometry: Geometry) -> Iterable[Knobs]:
        return ()

    def dtype(self, machine: Machine, device: str, knobs: Knobs) -> str:
        return "uint8"

    def footprint(self, geometry: Geometry, recipe: Recipe, placement: Placement) -> Footprint:
        width, height = geometry.target
        deep = 1 if recipe.output.bits <= 8 else 2
        return Footprint(activations=width * height * 3 * deep)  # one frame inside swscale

    @contextmanager
    def open(self, plan: Plan, device: str, offload: Offload) -> Iterator[_Open]:
        yield _Open(plan.recipe.output, cast(Kernel, plan.recipe.knobs["kernel"]))


plugin = Resize()
