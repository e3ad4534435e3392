"""Presets can be carried out, and are those of the tables."""

from __future__ import annotations

import pytest

from longtake.core.ports import Preset
from longtake.generators._wan_presets import PRESETS
from longtake.generators._wan_stream import SCHEDULES, sampling
from longtake.nets.schedules import distilled
from longtake.nets.wan.block import Settings

TABLE = {
    "fast-preview": (4, 1, 5, "sa_ode_stable"),
    "standard": (30, 6, 5, "unipc"),
    "high-quality": (50, 8, 5, "ddim"),
    "memory-optimized": (30, 6, 5, "unipc"),
    "speed-optimized": (30, 6, 5, "unipc"),
    "distilled-4step": (4, 1, 5, "euler"),
}


def test_numbers_are_those_of_the_tables() -> None:
    order = ("steps", "guidance", "shift", "sampler")
    assert {p.name: tuple(p.knobs[name] for name in order) for p in PRESETS} == TABLE
    assert PRESETS[0].name == "standard"
    shares = {p.name: p.place["vram_threshold_percent"] for p in PRESETS if p.place}
    assert shares == {"memory-optimized": 40, "speed-optimized": 60}


@pytest.mark.parametrize("preset", PRESETS, ids=lambda p: p.name)
def test_each_can_be_carried_out(preset: Preset) -> None:
    knobs = preset.knobs
    found = sampling(
        str(knobs["sampler"]), int(knobs["steps"]), float(knobs["shift"]),
        float(knobs["guidance"]), Settings(), together=True,
    )  # fmt: skip
    assert found.schedule.steps == knobs["steps"]
    assert found.guided == (float(knobs["guidance"]) > 1)


def test_four_steps_of_euler_are_the_distilled_levels() -> None:
    assert SCHEDULES["euler"](4, 5.0) == distilled(5.0)
    assert SCHEDULES["euler"](5, 5.0) != distilled(5.0)
