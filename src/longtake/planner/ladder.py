"""Placements from fast to frugal: all give the same bytes.

Each needs less of the host's memory than the one before, or less of the GPU's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from longtake.core.errors import Usage
from longtake.core.plan import Geometry, Placement
from longtake.core.ports import Grid

CLIP_BYTES = 16 << 20  # on a CPU a longer clip of output frames buys no speed
QUEUES = (2, 1)  # clips waiting between two stages


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
        for rung in _down(replace(first, offload=offload, state=state), steps)
    ]


def _down(first: Placement, steps: tuple[int, ...]) -> Iterator[Placement]:
    for step in steps:
        yield replace(first, step=step, queue=QUEUES[0])
    for queue in QUEUES[1:]:
        yield replace(first, step=steps[-1], queue=queue)


def lower(ladder: list[Placement], placement: Placement) -> list[Placement]:
    """The rungs under `placement`, in order. Frames per pass and queues never grow; weights and
    state that lie where the ladder does not know of stay there."""
    places = list(dict.fromkeys((p.offload, p.state) for p in ladder))
    here = placement.offload, placement.state
    left = places[places.index(here) :] if here in places else [here]
    under = [
        replace(placement, offload=offload, state=state, step=p.step, queue=p.queue)
        for offload, state in left
        for p in ladder
        if p.step <= placement.step and p.queue <= placement.queue
    ]
    return [p for p in dict.fromkeys(under) if p != placement]


def below(ladder: list[Placement], placement: Placement) -> Placement | None:
    """The next rung under `placement`, or None on the lowest."""
    return next(iter(lower(ladder, placement)), None)


def held(ladder: list[Placement], grid: Grid, wishes: Mapping[str, Any]) -> list[Placement]:
    """The ladder with what the user fixes by `--place`. Raises Usage for what there is not."""
    offered: dict[str, tuple[Any, ...]] = {
        "offload": tuple(dict.fromkeys(offload for offload, _ in grid.placements)),
        "state": tuple(dict.fromkeys(state for _, state in grid.placements)),
        "step": grid.steps,
        "queue": QUEUES,
    }
    fixed = {}
    for name, given in wishes.items():
        if name not in offered:
            raise Usage(f"--place {name}: there is {', '.join(offered)}.")
        values = {str(value): value for value in offered[name]}
        if str(given) not in values:
            raise Usage(f"--place {name}={given}: this engine has {', '.join(values)}.")
        fixed[name] = values[str(given)]
    kept = dict.fromkeys(replace(rung, **fixed) for rung in ladder)
    possible = [p for p in kept if (p.offload, p.state) in grid.placements]
    if not possible:
        raise Usage(f"--place {_words(wishes)}: this engine cannot do both at once.")
    return possible


def _words(wishes: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in wishes.items())
