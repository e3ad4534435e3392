"""What fits on which GPU: the table of the README, from the planner alone.

    python -m benchmarks.flashvsr.fits

Every cell is planned for a described machine with an idle GPU of that size and room in RAM: VRAM
that the fastest placement that fits needs, RAM of its page-locked memory where there is any. No
GPU, no weights and no film are needed.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from longtake.core.errors import DoesNotFit
from longtake.core.media import VideoInfo
from longtake.core.plan import Plan
from longtake.core.plugins import find
from longtake.core.task import Limits, Upscale
from longtake.planner import machines
from longtake.planner.choices import Crafts
from longtake.planner.planner import estimate
from longtake.runtime.prepare import sink_for

GiB = 1 << 30
SIZES = {540: 960, 720: 1280, 1080: 1920, 1440: 2560, 2160: 3840}
CARDS = (8, 12, 16, 24, 48)
MODES = ("tiny", "full")


def planned(mode: str, height: int, vram: int, ram: float = 256, tile: int = 0) -> Plan:
    """Twice a film's size on a GPU with `vram` GiB. Raises DoesNotFit."""
    about = {"gpu": "a GPU", "vram": vram, "capability": "8.9", "ram": ram, "cores": 16}
    task = Upscale(
        source=Path("in.mp4"), target=Path("out.mp4"), scale=Fraction(2), engine="flashvsr",
        set={"mode": mode, "folder": "no-weights-are-needed", "tile": tile}, codec="x264",
    )  # fmt: skip
    info = VideoInfo(
        path=task.source, container="mov,mp4", codec="h264", width=SIZES[height] // 2,
        height=height // 2, frames=7200, rate=Fraction(24), time_base=Fraction(1, 24),
    )  # fmt: skip
    crafts = Crafts(
        works=find("engines", "flashvsr"), sink=sink_for(task.target), sha256=str,
        only_plan=True,
    )  # fmt: skip
    machine = machines.machine(f"{vram} GiB", about)
    return estimate(task, info, (1, False), crafts, machine, Limits(devices="cuda:0"))


def cell(mode: str, height: int, vram: int) -> str:
    """VRAM in GiB, what leaves the GPU, and how much page-locked RAM that takes."""
    try:
        plan = planned(mode, height, vram)
    except DoesNotFit:
        return "-"
    place, memory = plan.placement, plan.memory
    letters = {"swap": "w", "ring": "b"}.get(place.offload, "") + "s" * (place.state == "host")
    if not letters:
        return f"{memory.vram / GiB:.1f}"
    return f"{memory.vram / GiB:.1f} {letters} {memory.ram / GiB:.0f}"


def table() -> str:
    """In Markdown."""
    head = ["output", "mode", *(f"{vram} GiB" for vram in CARDS)]
    rows = [head, ["---"] * len(head)]
    for height, width in SIZES.items():
        for mode in MODES:
            cells = (cell(mode, height, vram) for vram in CARDS)
            rows.append([f"{width}x{height}", mode, *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    print(table())
