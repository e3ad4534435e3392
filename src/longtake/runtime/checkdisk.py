"""What `doctor` says of the disks: how fast they are read, and for what that is enough."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from longtake.core.errors import LongtakeError
from longtake.core.machine import Machine
from longtake.core.plan import BlocksOutlook
from longtake.core.task import Generate, Limits
from longtake.planner.calibration import Calibration
from longtake.planner.explain import bytes_
from longtake.runtime import diskspeed
from longtake.runtime.check import Check
from longtake.runtime.prepare import draft_generated

_STREAMING: Final = 1_000_000_000  # bytes/s: less is a bottleneck for any large model
_WORKING: Final = 100_000_000  # bytes/s: parts of films are small beside that
_LARGE: Final = "t2v-14b"
_ROOMY: Final = Limits(vram=1 << 50, ram=1 << 50)  # where the blocks lie is not the question


def checks(machine: Machine, weights: Path, work: Path) -> Iterator[Check]:
    """Reads for a second from each; what is written for it is removed."""
    speed = _measured(weights)
    same = _device(weights) == _device(work)
    name = "disk of weights" if not same else "disk of both"
    if isinstance(speed, str):
        yield Check(name=name, state="note", says=f"{weights}: {speed}")
    else:
        yield _judged(
            name, speed, _STREAMING,
            "blocks that are read in every step want 1,000 MB/s and more: put the weights on an "
            "NVMe disk (LONGTAKE_WEIGHTS), or keep them in RAM",
        )  # fmt: skip
        yield from _streaming(machine, speed)
    if not same:
        speed = _measured(work)
        if isinstance(speed, str):
            yield Check(name="disk of work", state="note", says=f"{work}: {speed}")
            return
        yield _judged(
            "disk of work", speed, _WORKING,
            "below 100 MB/s films are joined and verified slowly: work on another disk",
        )  # fmt: skip


def _judged(name: str, speed: diskspeed.Speed, least: int, otherwise: str) -> Check:
    if speed.rate >= least:
        return Check(name=name, state="good", says=_said(speed))
    return Check(name=name, state="note", says=f"{_said(speed)}; {otherwise}")


def _measured(folder: Path) -> diskspeed.Speed | str:
    try:
        return diskspeed.measure(folder)
    except OSError as error:
        return f"not measured: {error.strerror or error}"


def _device(folder: Path) -> int:
    """Of the file system that it is on, or will be."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    return os.stat(there).st_dev


def _said(speed: diskspeed.Speed) -> str:
    how = "" if speed.direct else ", through the page cache, which flatters"
    return f"{speed.rate / 1e6:,.0f} MB/s ({speed.of}; {bytes_(speed.bytes)} read{how})"


def _streaming(machine: Machine, speed: diskspeed.Speed) -> Iterator[Check]:
    """Whether reading the blocks of Wan 2.1 14B is hidden behind computing, on each GPU."""
    for gpu in machine.gpus:
        name = f"14B on GPU {gpu.index}"
        there = _blocks(machine, f"cuda:{gpu.index}")
        if there is None or not there.compute:
            says = f"how fast a {gpu.name} computes is not known: whether reads are hidden neither"
            yield Check(name=name, state="note", says=says)
            continue
        yield _hidden(name, there, speed.rate)


def _hidden(name: str, there: BlocksOutlook, rate: float) -> Check:
    assert there.compute is not None
    wanted, read = there.block / there.compute, there.block / rate
    about = (
        f"wan 14B at 832x480 px computes a block of {bytes_(there.block)} in {there.compute:.2f} "
        f"s: reading is hidden from {wanted / 1e6:,.0f} MB/s on"
    )
    if read <= there.compute:
        return Check(name=name, state="good", says=f"{about}, with all blocks on the disk")
    kept = there.blocks - int(there.blocks * there.compute / read)
    says = (
        f"{about}; here {kept} of {there.blocks} blocks ({bytes_(kept * there.block)}) in memory "
        f"hide the rest: the planner keeps as many as fit, or convert to 8 bits (`longtake weights "
        f"convert --quant int8`)"
    )
    return Check(name=name, state="note", says=says)


def _blocks(machine: Machine, device: str) -> BlocksOutlook | None:
    """As planned, with the sizes of the published weights."""
    task = Generate(
        prompt="", target=Path("film.mp4").absolute(), set={"model": _LARGE, "size": "832x480"}
    )
    limits = Limits(vram=_ROOMY.vram, ram=_ROOMY.ram, devices=device)
    nothing_known = Calibration(Path(os.devnull))
    try:
        plan, _ = draft_generated(task, limits, machine, nothing_known, only_plan=True)
    except LongtakeError:
        return None
    return plan.outlook.blocks if plan.outlook else None
