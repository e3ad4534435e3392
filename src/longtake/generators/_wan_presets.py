"""Named choices of knobs for Wan 2.1. No torch here.

Numbers are those of the seeds' tables. What two of them say about memory and speed decides where
bytes lie, and no pixel.
"""

from __future__ import annotations

from typing import Final

from longtake.core.media import Knobs
from longtake.core.ports import Preset

_STANDARD: Final[Knobs] = {"steps": 30, "guidance": 6.0, "shift": 5.0, "sampler": "unipc"}

PRESETS: Final = (
    Preset(name="standard", about="30 steps of unipc, guidance 6", knobs=_STANDARD),
    Preset(
        name="fast-preview",
        about="4 steps without guidance; a first look, sharp with a distilled model only",
        knobs={"steps": 4, "guidance": 1.0, "shift": 5.0, "sampler": "sa_ode_stable"},
    ),
    Preset(
        name="high-quality",
        about="50 steps of ddim, guidance 8",
        knobs={"steps": 50, "guidance": 8.0, "shift": 5.0, "sampler": "ddim"},
    ),
    Preset(
        name="memory-optimized",
        about="the pictures of standard in 40 % of the GPU's memory",
        knobs=_STANDARD,
        place={"vram_threshold_percent": 40},
    ),
    Preset(
        name="speed-optimized",
        about="the pictures of standard in 60 % of the GPU's memory",
        knobs=_STANDARD,
        place={"vram_threshold_percent": 60},
    ),
    Preset(
        name="distilled-4step",
        about="for models distilled to 4 steps, without guidance",
        knobs={"steps": 4, "guidance": 1.0, "shift": 5.0, "sampler": "euler"},
    ),
)
"""The first is the defaults. Four even steps of euler are the levels of the distilled models."""
