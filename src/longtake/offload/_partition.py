"""Which blocks of a net lie where, what that takes and how long a pass lasts; without torch.

A pass goes through all blocks in order, again and again, so a cache that keeps what was used last
would never have what comes next. Instead every block has one place for good: on the device, on the
host, or on the disk, those of a kind evenly spaced, so that the others' transfers never crowd.

Of `blocks` blocks R_g lie on the device and R_c on the host. A block takes t_c s to compute, t_x s
to copy to the device and t_d s to read from the disk; all three go on at once:

    pass = max(blocks * t_c, (blocks - R_g) * t_x, (blocks - R_g - R_c) * t_d)

Blocks may come phase by phase (`_phases.py`), into slots as large as the largest phase; on the host
and on the device they lie as a whole. With two slots only the next phase is copied while one
computes, and with t_c,k and t_x,k those of phase k a block that is streamed takes

    sum over k of max(t_c,k, t_x,k+1) >= max(t_c, t_x)

so that a phase of little to compute and much to copy is not hidden by the others, as it is in a
whole block. Three slots make up for most of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal, get_args

from longtake.core.errors import Usage

Granularity = Literal["block", "phase"]
"""What comes to the device at a time."""
SLOTS: Final = (2, 3)
"""Blocks, or phases, that the ring on the device may hold: one computes while others come."""
LEAST_AHEAD: Final = 2
"""Blocks that are read ahead, at least: one is copied while another is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """Numbers of the blocks by where they lie, each in order; together all of them."""

    device: tuple[int, ...]
    host: tuple[int, ...]
    disk: tuple[int, ...]
    slots: int
    """Blocks, or phases, that the device holds beside its own: 0 where all lie there."""
    read_ahead: int
    """Blocks that the host holds beside its own: 0 where none lies on the disk."""
    phases: int = 1
    """In which a block comes."""

    @property
    def blocks(self) -> int:
        return len(self.device) + len(self.streamed)

    @property
    def streamed(self) -> tuple[int, ...]:
        """Those that come to the device in every pass, in order."""
        return tuple(sorted(self.host + self.disk))

    def device_bytes(self, block: int, rest: int = 0, *, phase: int | None = None) -> int:
        """On the device, for blocks of `block` bytes (`Slab.bytes`) and `rest` of the net. `phase`:
        bytes of the largest phase (`_phases.phases`), if blocks come in several."""
        if self.phases > 1 and phase is None:
            raise ValueError("what comes in phases has slots as large as the largest phase")
        slot = block if self.phases == 1 or phase is None else phase
        return len(self.device) * block + self.slots * slot + rest

    def host_bytes(self, block: int, rest: int = 0, keeps: bool = False) -> int:
        """Page-locked on the host. `keeps`: those of the device wait there too, as for nets that
        take turns."""
        kept = len(self.host) + self.read_ahead + (len(self.device) if keeps else 0)
        return kept * block + rest

    def bytes_copied(self, block: int) -> int:
        """To the device in a pass."""
        return len(self.streamed) * block

    def bytes_read(self, block: int) -> int:
        """From the disk in a pass."""
        return len(self.disk) * block


def partition(
    blocks: int,
    *,
    resident: int,
    host: int | None = None,
    slots: int = 2,
    read_ahead: int = 2,
    phases: int = 1,
) -> Partition:
    """`resident` blocks lie on the device, `host` (None: all) of the others on the host; numbers
    above what there is mean all. `phases`: in which a block comes to the device; 1 where
    granularity is "block" or the net's blocks declare none. Blocks for which there would be a slot
    for each phase are resident. Raises Usage for numbers out of range."""
    check(resident=resident, host=host, slots=slots, read_ahead=read_ahead)
    if (blocks - resident) * phases <= slots:
        resident = blocks
    device = spread(resident, blocks)
    streamed = [i for i in range(blocks) if i not in set(device)]
    waiting = len(streamed) if host is None else min(host, len(streamed))
    kept = [streamed[i] for i in spread(waiting, len(streamed))]
    disk = tuple(i for i in streamed if i not in set(kept))
    return Partition(
        device=device,
        host=tuple(kept),
        disk=disk,
        slots=slots if streamed else 0,
        read_ahead=min(read_ahead, len(disk)),
        phases=phases,
    )


def check(
    *,
    resident: int,
    host: int | None,
    slots: int,
    read_ahead: int,
    granularity: Granularity = "block",
) -> None:
    """Raises Usage for numbers out of range."""
    if granularity not in get_args(Granularity):
        raise Usage(f"granularity={granularity} must be {' or '.join(get_args(Granularity))}.")
    if resident < 0 or (host is not None and host < 0):
        raise Usage(f"resident_blocks={resident} and host_blocks={host} must be 0 or more.")
    if slots not in SLOTS:
        raise Usage(f"slots={slots} must be {' or '.join(map(str, SLOTS))}.")
    if read_ahead < LEAST_AHEAD:
        raise Usage(f"read_ahead={read_ahead} must be at least {LEAST_AHEAD}.")


def spread(count: int, among: int) -> tuple[int, ...]:
    """`count` (`among` at most) of the numbers [0, among), evenly spaced, the last included."""
    if not count:
        return ()
    count = min(count, among)
    return tuple(-(-(i + 1) * among // count) - 1 for i in range(count))


# --- time ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds of one block."""

    compute: float
    """All that goes through it in a pass: both branches of guidance, all windows."""
    copy: float
    """From page-locked memory to the device."""
    read: float = 0.0
    """From the disk, by all readers together: their bandwidth is one."""
    phases: tuple[tuple[float, float], ...] = ()
    """(compute, copy) of each phase, which add up to those of the block; empty: equal parts."""

    def parts(self, count: int) -> tuple[tuple[float, float], ...]:
        """Of a block that comes in so many phases."""
        if count == 1 or not self.phases:
            return ((self.compute / count, self.copy / count),) * count
        if len(self.phases) != count:
            raise ValueError(f"{len(self.phases)} phases have a pace, and a block has {count}")
        return self.phases


def pass_seconds(where: Partition, pace: Pace) -> float:
    """A pass among others, the first block having come while the pass before computed. Of blocks
    that come in phases it is taken from `simulate`.

    What `simulate` finds is less than one block above it with 3 slots (2 if nothing lies on the
    device) and 3 blocks read ahead. With fewer, and two of the three about equal, nothing makes up
    for blocks that come at uneven distances: up to a tenth more.
    """
    if where.phases > 1 and where.streamed:
        ends = simulate(where, pace, 4)
        return (ends[-1] - ends[-3]) / 2
    return max(
        where.blocks * pace.compute,
        len(where.streamed) * pace.copy,
        len(where.disk) * pace.read,
    )


def first_seconds(where: Partition, pace: Pace) -> float:
    """What the first pass takes more, about: nothing has come yet."""
    if not where.streamed:
        return 0.0
    return pace.parts(where.phases)[0][1] + (pace.read if where.disk else 0.0)


def resident_needed(blocks: int, compute: float, copy: float) -> int:
    """Blocks on the device, at least, for which copying is hidden behind computing."""
    if copy <= compute:
        return 0
    return math.ceil(blocks * (1 - Fraction(compute) / Fraction(copy)))


def host_needed(blocks: int, resident: int, compute: float, read: float) -> int:
    """Blocks on the host, at least, for which reading is hidden behind computing."""
    if read <= 0:
        return 0
    from_disk = math.floor(blocks * Fraction(compute) / Fraction(read))
    return max(0, blocks - resident - from_disk)


def simulate(where: Partition, pace: Pace, passes: int) -> list[float]:
    """When each pass ends, s after the first read begins: event by event, by the ring's own rules.

    A read waits for the one before and for room on the host, a copy for the one before, its read
    and a slot that is free; a block, or a phase, for the one before and its copy.
    """
    return list(_ends(where, pace, passes))


def _ends(where: Partition, pace: Pace, passes: int) -> Iterator[float]:
    copies, reads, slots, rooms = 0.0, 0.0, [0.0] * where.slots, [0.0] * where.read_ahead
    device, disk, end = set(where.device), set(where.disk), 0.0
    parts, copied, read = pace.parts(where.phases), 0, 0
    for _ in range(passes):
        for block in range(where.blocks):
            if block in device:
                end += pace.compute
                continue
            arrived = 0.0
            if block in disk:
                arrived = reads = max(reads, rooms[read % len(rooms)]) + pace.read
            for compute, copy in parts:
                slot = copied % len(slots)
                copies = max(copies, arrived, slots[slot]) + copy
                end = slots[slot] = max(end, copies) + compute
                copied += 1
            if block in disk:
                rooms[read % len(rooms)] = copies
                read += 1
        yield end
