"""Placements from fast to frugal: all give the same bytes.

Each needs less of the host's memory than the one before, or less of the GPU's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from longtake.core.plan import Geometry, Placement
from longtake.core.ports import Grid
from longtake.planner.wishes import QUEUES, STREAMED

LEAST_SLOTS = 2
SIZES: tuple[Literal["block", "phase"], ...] = ("block", "phase")  # of what comes at a time
CLIP_BYTES = 16 << 20  # on a CPU a longer clip of output frames buys no speed


def rungs(
    grid: Grid, geometry: Geometry, first: Placement, bytes_per_frame: int
) -> list[Placement]:
    """Every placement for this engine and size, the fastest first.

    Fewer frames per pass come before shorter queues: queues are what keeps decoder, engine and
    encoder busy at once. Both come before weights or state leave the GPU; of a CPU nothing can
    leave. There frames per pass start where a clip fits in `CLIP_BYTES`.
    """
    steps, places = grid.steps, grid.placements
    if first.devices[0].startswith("cpu"):
        places = places[:1]
    if first.devices[0] == "cpu":
        fitting = [s for s in steps if s * bytes_per_frame <= CLIP_BYTES]
        steps = tuple(fitting) or steps[-1:]
    steps = tuple(s for s in steps if s <= max(geometry.frames, 1)) or (1,)
    return [
        rung
        for offload, state in places
        for size in SIZES[: 1 + (grid.phases and offload in STREAMED)]
        for rung in _down(replace(first, offload=offload, state=state, granularity=size), steps)
    ]


def _down(first: Placement, steps: tuple[int, ...]) -> Iterator[Placement]:
    for step in steps:
        yield replace(first, step=step, queue=QUEUES[0])
    for queue in QUEUES[1:]:
        yield replace(first, step=steps[-1], queue=queue)


def lower(ladder: list[Placement], placement: Placement) -> list[Placement]:
    """The rungs under `placement`, in order. Frames per pass, queues and blocks on device and host
    never grow; weights and state that lie where the ladder does not know of stay there."""
    places = list(dict.fromkeys((p.offload, p.state, p.granularity) for p in ladder))
    here = placement.offload, placement.state, placement.granularity
    left = places[places.index(here) :] if here in places else [here]
    under = [
        replace(fewer, offload=offload, state=state, granularity=size, step=p.step, queue=p.queue)
        for offload, state, size in left
        for fewer in (_with_fewer(placement) if offload in STREAMED else (placement,))
        for p in ladder
        if p.step <= placement.step and p.queue <= placement.queue
    ]
    return [p for p in dict.fromkeys(under) if p != placement]


def _with_fewer(placement: Placement) -> Iterator[Placement]:
    """The same with half as many blocks in memory, and half of that, down to none."""
    device, host, slots = placement.resident_blocks, placement.host_blocks, placement.slots
    while True:
        yield replace(placement, resident_blocks=device, host_blocks=host, slots=slots)
        if not device and not host and slots == LEAST_SLOTS:
            return
        device, host, slots = device // 2, host // 2, LEAST_SLOTS


def below(ladder: list[Placement], placement: Placement) -> Placement | None:
    """The next rung under `placement`, or None on the lowest."""
    return next(iter(lower(ladder, placement)), None)
