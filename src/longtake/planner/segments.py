"""Where a film is cut into segments: decided by film and engine alone, never by devices."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise
from math import ceil

from longtake.core.plan import Segment


def cut(
    frames: int, length: int, lead: int = 0, tail: int = 0, cuts: Sequence[int] = ()
) -> tuple[Segment, ...]:
    """Segments of at most `length` frames that tile [0, frames).

    A segment ends at the last shot boundary within its length, where a cut costs nothing; a shot
    that is longer is divided evenly. `cuts` are the frames at which a shot begins, rising, inside
    (0, frames). Lead and tail never reach into another shot.
    """
    edges = [0, *cuts, frames]
    bounds = _bounds(edges, length)
    return tuple(
        _segment(i, start, stop, lead, tail, edges)
        for i, (start, stop) in enumerate(pairwise(bounds))
    )


def _bounds(edges: Sequence[int], length: int) -> list[int]:
    frames = edges[-1]
    bounds = [0]
    while (start := bounds[-1]) < frames:
        reach = edges[bisect_right(edges, start + length) - 1]  # the last boundary in reach
        if reach - start > length // 8 or reach == frames:
            bounds.append(reach)
            continue
        after = edges[bisect_right(edges, start + length)]  # none, or only a sliver: go past it
        pieces = ceil((after - start) / length)
        bounds.extend(start + (after - start) * k // pieces for k in range(1, pieces + 1))
    return bounds


def _segment(
    index: int, start: int, stop: int, lead: int, tail: int, edges: Sequence[int]
) -> Segment:
    first = max(edges[bisect_right(edges, start) - 1], start - lead)
    last = min(edges[bisect_left(edges, stop)], stop + tail)
    inside = edges[bisect_right(edges, first) : bisect_left(edges, last)]
    return Segment(
        index=index, lead=first, start=start, stop=stop, tail=last - stop, cuts=tuple(inside)
    )
