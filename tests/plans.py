"""Plans out of the air: no file, no machine; for tests of what stands above and below a plan."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

from longtake.core.machine import Gpu, Machine
from longtake.core.media import VideoInfo
from longtake.core.plan import Plan
from longtake.core.plugins import find
from longtake.core.task import Limits, Upscale
from longtake.planner.choices import Crafts
from longtake.planner.planner import estimate
from longtake.runtime.prepare import sink_for

GiB = 1 << 30


def a_machine(**how: Any) -> Machine:
    return Machine(
        **{"cores": 2, "ram": 16 * GiB, "free_ram": 12 * GiB, "cpu": "a processor",
           "flags": ("sse4_2", "avx2"), "torch": "2.13.0+cpu", **how}
    )  # fmt: skip


def a_gpu(**how: Any) -> Gpu:
    return Gpu(
        **{"index": 0, "uuid": "GPU-0", "name": "a card", "vram": 8 * GiB, "free": 7 * GiB,
           "capability": (8, 9), **how}
    )  # fmt: skip


def an_info(**how: Any) -> VideoInfo:
    return VideoInfo(
        **{"path": Path("in.mp4"), "container": "mov,mp4", "codec": "h264", "width": 320,
           "height": 180, "frames": 1000, "rate": Fraction(24), "time_base": Fraction(1, 24),
           **how}
    )  # fmt: skip


def a_plan(
    task: dict[str, Any] | None = None,
    info: VideoInfo | None = None,
    machine: Machine | None = None,
    limits: Limits | None = None,
) -> Plan:
    """The estimate of an upscale from in.mp4 to out.mp4 by `resize`, changed as told."""
    wish = Upscale(
        **{"source": Path("in.mp4"), "target": Path("out.mp4"), "engine": "resize", **(task or {})}
    )
    engine, sink = find("engines", wish.engine), sink_for(wish.target)
    crafts = Crafts(works=engine, sink=sink, sha256=lambda path: "0" * 64, only_plan=True)
    return estimate(
        wish, info or an_info(), (1, False), crafts, machine or a_machine(), limits or Limits()
    )  # fmt: skip
