"""Where a film is cut into segments: decided by film and engine alone, never by devices."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise
from math import ceil

from longtake.core.plan import Segment


def cut(
    frames: int,
    length: int,
    lead: int = 0,
    tail: int = 0,
    cuts: Sequence[int] = (),
    align: int = 1,
) -> tuple[Segment, ...]:
    """Segments of at most `length` frames, and of at least `align`, that tile [0, frames).

    A segment ends at the last shot boundary within its length, where a cut costs nothing; a shot
    that is longer is divided evenly. `cuts` are the frames at which a shot begins, rising, inside
    (0, frames). Lead and tail never reach into another shot. A segment is computed from a multiple
    of `align` frames behind the start of its shot; for it the lead may be up to `align` - 1 longer.
    """
    edges = [0, *cuts, frames]
    bounds = _bounds(edges, max(length // align, 1) * align, align)
    return tuple(
        _segment(i, _first(start, lead, edges, align), start, stop, tail, edges)
        for i, (start, stop) in enumerate(pairwise(bounds))
    )


def _bounds(edges: Sequence[int], length: int, align: int) -> list[int]:
    """Where segments begin and end. `length` is a multiple of `align`, and so are divided parts of
    a shot, but for its last."""
    frames = edges[-1]
    bounds = [0]
    while (start := bounds[-1]) < frames:
        reach = edges[bisect_right(edges, start + length) - 1]  # the last boundary in reach
        if reach - start > length // 8 or reach == frames:
            bounds.append(reach)
            continue
        after = edges[bisect_right(edges, start + length)]  # none, or only a sliver: go past it
        units, pieces = ceil((after - start) / align), ceil((after - start) / length)
        ends = (start + align * (units * k // pieces) for k in range(1, pieces))
        bounds.extend([*ends, after])
    return bounds


def _first(start: int, lead: int, edges: Sequence[int], align: int) -> int:
    """The frame from which a segment that gives frames from `start` on is computed."""
    shot = edges[bisect_right(edges, start) - 1]
    return shot + max(start - lead - shot, 0) // align * align


def _segment(
    index: int, first: int, start: int, stop: int, tail: int, edges: Sequence[int]
) -> Segment:
    last = min(edges[bisect_left(edges, stop)], stop + tail)
    inside = edges[bisect_right(edges, first) : bisect_left(edges, last)]
    return Segment(
        index=index, lead=first, start=start, stop=stop, tail=last - stop, cuts=tuple(inside)
    )
