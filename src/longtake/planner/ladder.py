"""Placements from fast to frugal: all give the same bytes, each needs less than the one before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from longtake.core.plan import Geometry, Placement
from longtake.core.ports import Grid

CLIP_BYTES = 16 << 20  # on a CPU a longer clip of output frames buys no speed
QUEUES = (2, 1)  # clips waiting between two stages


def rungs(
    grid: Grid, geometry: Geometry, first: Placement, bytes_per_frame: int
) -> list[Placement]:
    """Every placement for this engine and size, the fastest first.

    Fewer frames per pass come before shorter queues: queues are what keeps decoder, engine and
    encoder busy at once. On a CPU frames per pass start where a clip fits in `CLIP_BYTES`.
    """
    steps = grid.steps
    if first.devices[0] == "cpu":
        fitting = [s for s in steps if s * bytes_per_frame <= CLIP_BYTES]
        steps = tuple(fitting) or steps[-1:]
    steps = tuple(s for s in steps if s <= max(geometry.frames, 1)) or (1,)
    return [*_down(first, steps)]


def _down(first: Placement, steps: tuple[int, ...]) -> Iterator[Placement]:
    for step in steps:
        yield replace(first, step=step, queue=QUEUES[0])
    for queue in QUEUES[1:]:
        yield replace(first, step=steps[-1], queue=queue)


def below(ladder: list[Placement], placement: Placement) -> Placement | None:
    """The next rung under `placement`, or None on the lowest."""
    frugal = [
        p for p in ladder if p.step <= placement.step and p.queue <= placement.queue
        and (p.step, p.queue) != (placement.step, placement.queue)
    ]  # fmt: skip
    return replace(placement, step=frugal[0].step, queue=frugal[0].queue) if frugal else None
