"""What the machine says of itself while a job runs, and what of it makes work slow."""

from __future__ import annotations

import contextlib
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from longtake.core import faults
from longtake.planner import host
from longtake.planner.explain import bytes_
from longtake.planner.host import Host
from longtake.planner.survey import nvml

Cause = Literal["RAM", "VRAM", "heat", "disk", "unknown"]

RESERVE: Final = 256 << 20
"""Bytes of the host's memory that stay free, or 2 % of it where that is less: the kernel's own
reserve is about 1 %, and below that it ends processes."""
PRESSED: Final = 10.0
"""% of ten seconds in which some task waited for memory: more is short of memory."""
WAITED: Final = 0.25
"""Of the time: more of waiting for a disk is its fault."""
_SWAPPED: Final = 64 << 20  # bytes brought back while two laps were late
_FULL: Final = 0.03  # of a card's memory that is free where it is full
# https://docs.nvidia.com/deploy/nvml-api/group__nvmlClocksEventReasons.html
_HOT: Final = {
    0x08: "hardware slowdown", 0x20: "thermal slowdown by the driver",
    0x40: "thermal slowdown by the card", 0x80: "the power supply says stop",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A GPU as NVML sees it now."""

    total: int  # bytes
    free: int
    slowed: tuple[str, ...] = ()  # why its clocks are down, where heat or power is the reason
    celsius: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    host: Host
    card: Card | None = None  # None: no GPU is used, or NVML does not answer
    waited: float = 0.0  # s that the device has waited for blocks from the disk, since its start


_injected = {"swapping": 0.0, "stalled": 0.0}  # bytes, s: what faults have added


def look(uuid: str | None = None, *, waited: float = 0.0) -> Sight:
    """Now; `uuid`: of the GPU that is used."""
    if faults.strike("disk") == "stalled":
        _injected["stalled"] += 10.0
    return Sight(host=look_host(), card=card(uuid), waited=waited + _injected["stalled"])


def look_host() -> Host:
    found = host.look()
    fault = faults.strike("host")
    if fault == "short":
        found = replace(found, free=0)
    if fault == "swapping":
        _injected["swapping"] += 4 * _SWAPPED
    return replace(found, swapped_in=found.swapped_in + int(_injected["swapping"]))


def card(uuid: str | None) -> Card | None:
    if uuid is None:
        return None
    with nvml() as ask:
        if ask is None:
            return None
        try:
            handle = ask.nvmlDeviceGetHandleByUUID(uuid)
            memory = ask.nvmlDeviceGetMemoryInfo(handle)
        except ask.NVMLError:
            return None
        bits = _asked(ask, lambda: ask.nvmlDeviceGetCurrentClocksThrottleReasons(handle)) or 0
        return Card(
            total=int(memory.total), free=int(memory.free),
            slowed=tuple(words for bit, words in _HOT.items() if bits & bit),
            celsius=_asked(ask, lambda: ask.nvmlDeviceGetTemperature(handle, 0)),
        )  # fmt: skip


def _asked(ask: Any, question: Callable[[], int]) -> int | None:
    """None where this card, driver or binding does not say."""
    with contextlib.suppress(ask.NVMLError, AttributeError):
        return int(question())
    return None


# --- what it means -------------------------------------------------------------------------------


def reserve(ram: int) -> int:
    """Bytes that stay free, of so many."""
    return min(RESERVE, ram // 50)


def short_of_ram(at_start: Host, now: Host) -> str | None:
    """In words, where memory is about to run out."""
    least = reserve(now.ram)
    if now.free < least:
        return (
            f"{bytes_(now.free)} of RAM are free, of {bytes_(now.ram)}; {bytes_(least)} are kept "
            f"free."
        )
    pressed = now.pressure >= PRESSED and now.pressure > at_start.pressure
    if pressed and now.free < 4 * least:
        return (
            f"Tasks wait for memory {now.pressure:.0f} % of the time (PSI), {bytes_(now.free)} of "
            f"RAM are free."
        )
    return None


def cause(before: Sight, now: Sight, seconds: float) -> tuple[Cause, str]:
    """The likeliest cause for work that was slow for so many seconds, and the numbers behind it."""
    swapped = now.host.swapped_in - before.host.swapped_in
    if swapped >= _SWAPPED:
        return "RAM", f"the system swaps: {bytes_(swapped)} came back from the swap space"
    throttled = now.host.throttled - before.host.throttled
    if throttled > 0:
        return "RAM", (
            f"the control group was slowed {throttled} times for passing its memory.high"
        )
    card = now.card
    if card is not None and shares_memory() and card.free < _FULL * card.total:
        return "VRAM", (
            f"the card is full ({bytes_(card.free)} free of {bytes_(card.total)}), and this "
            f"system's driver then moves bytes to the host's memory instead of saying so"
        )
    if card is not None and card.slowed:
        heat = "" if card.celsius is None else f" at {card.celsius} °C"
        return "heat", f"the card's clocks are down{heat}: {', '.join(card.slowed)}"
    waited = min(now.waited - before.waited, seconds)
    if waited >= WAITED * seconds:
        return "disk", f"{waited:.1f} s of {seconds:.1f} were spent waiting for weights to be read"
    return "unknown", "no cause was found here: something else may use the processor or the GPU"


def shares_memory() -> bool:
    """Whether a GPU's allocations go on in the host's memory where its own is full: Windows, and
    Linux inside it (https://nvidia.custhelp.com/app/answers/detail/a_id/5490)."""
    return sys.platform == "win32" or "microsoft" in platform.release().lower()
