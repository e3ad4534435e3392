"""Which frames of a telecined film are repeats, and how the others are put together again.

24 film frames a second become 30 (or 1000/1001 of both) by showing them for two and for three
fields in turn. Five frames, the field that is shown first on the left, then hold

    A A   B B   B C   C D   D D      "3:2", what telecine machines and encoders make
    A A   B B   B C   C C   D D      "2:3:3:2", some DV cameras ("24pA")
    A A   B B   C C   D D   D D      "repeat", a whole frame twice

and four are wanted. Which of them a stretch of film has, in which phase and field order, is found
as the cheapest path (Viterbi) through these patterns and "none of them", given how well the fields
fit together (`_fields.Weaves`). A pattern holds until the pictures contradict it, so that scenes in
which nothing moves keep the phase of what was before or comes after.

What is dropped is found as a second cheapest path: repeats cost nothing, other frames do, and at
every moment the frames kept fill the time that has gone by to within `SLACK`. So where a pattern
breaks off no time is lost or invented: as many frames are dropped as the clock demands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from longtake.media._fields import BOTTOM_EARLY, OWN, TOP_EARLY

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]
Kind = Literal["3:2", "2:3:3:2", "repeat", "none"]

DROP, AS_CODED, BOTTOM_BEFORE, BOTTOM_AFTER, COMBED = range(5)
"""What becomes of a frame: nothing; its own fields; its top field with the bottom field of the
frame before, or of the one after; or no two fields fit, and it is deinterlaced."""

CYCLE = 5  # frames, of which 4 are wanted
SLACK = 5  # quarters of a frame by which the picture may be early or late
AHEAD = 400  # frames beyond those decided that the decision looks at
_BLOCK = 2048  # frames decided in one go
_REACH = 3  # frames before and after that a frame's evidence is compared with

_BEGIN = 1.0  # cost of a pattern in the first frame
_CHANGE = 4.0  # cost of another pattern or phase
_NONE = 0.7  # cost per frame of "no pattern", times the weight of its evidence
_COMB, _PEAK, _STEP = 0.006, 6.0, 0.1  # of comb, peak and movement: what noise makes
_TORN = 40  # peak from which a comb is seen; that of libavfilter's fieldmatch (80 of 256)
_LACED = 0.25  # cost of a comb that is seen where a pattern has none
_KEPT, _HALF = 1.0, 0.5  # cost of dropping a frame that is wanted, and one that fits nothing
_REPEAT = -0.2  # the same of a repeat, which is better gone than kept
_UNEVEN = 0.15  # cost of drops that are not 5 frames apart
SURE = 0.6  # movement of a frame from which it counts


class _Pattern(NamedTuple):
    """What the five frames of a cycle look like, and what is to be done with them.

    Words of letters, one word a frame. Frames of film are put together around their top field,
    whichever field is shown first.
    """

    kind: Kind
    order: str  # tff, bff; "": both look the same
    smooth: str  # weaves without combs: c own fields, p bottom before, n top before
    still: str  # t, b: fields that repeat those of the frame before
    use: str  # were the frame kept: c own fields, p bottom before, n bottom after
    drop: int


PATTERNS = (
    _Pattern("3:2", "tff", "c c p p cp", "- - t - b", "c c p p c", 2),
    _Pattern("3:2", "bff", "c c n n cn", "- - b - t", "c c n n c", 3),
    _Pattern("2:3:3:2", "tff", "c c p cp c", "- - t b -", "c c p c c", 2),
    _Pattern("2:3:3:2", "bff", "c c n cn c", "- - b t -", "c c n c c", 2),
    _Pattern("repeat", "", "c c c c cpn", "- - - - tb", "c c c c c", 4),
)
_USES = {"c": AS_CODED, "p": BOTTOM_BEFORE, "n": BOTTOM_AFTER}
NONE = CYCLE * len(PATTERNS)  # the state "no pattern"; the others are 5 * pattern + frame of cycle


class Evidence(NamedTuple):
    """Of consecutive frames: what the search for patterns works on."""

    comb: Floats  # [T, 3] see _fields.Weaves
    peak: Floats  # [T, 3]
    moved: Floats  # [T, 2]
    fields: Whole  # [T] fields for which each frame is shown: 2, or 3 by a repeat flag

    def cut(self, start: int, stop: int) -> Evidence:
        part = slice(start, stop)
        return Evidence(self.comb[part], self.peak[part], self.moved[part], self.fields[part])


Source = Callable[[int, int], Evidence]
"""Evidence of frames [start, stop), both inside the film."""


class Verdict(NamedTuple):
    """Of consecutive frames: what becomes of them, and what was found."""

    use: Whole  # [T] DROP ... COMBED
    state: Whole  # [T] 5 * pattern + frame of the cycle, or NONE
    moves: Floats  # [T] 0 .. 1: how clearly combs are seen in any weave; 0 where nothing moves


def decide(source: Source, count: int) -> Iterator[Verdict]:
    """Verdicts on all `count` frames, in slices. Memory does not grow with their number.

    Raises ValueError where frames are shown for so long that four fifths as many cannot fill the
    time.
    """
    path, drops = _Path(), _Drops()
    for at in range(0, count, _BLOCK):
        stop, seen = min(at + _BLOCK, count), min(at + _BLOCK + AHEAD, count)
        low, high = max(0, at - _REACH), min(seen + _REACH, count)
        around = source(low, high)
        cost = _costs(around)
        inner = slice(at - low, seen - low)
        state = path.through(cost[inner], stop - at)
        found = _uses(around, state, at - low)
        dropped = drops.through(
            _prices(_liveliness(around, low == 0)[inner], state, found),
            around.fields[inner],
            stop - at,
            last=seen == count,
        )
        use = np.where(dropped, DROP, found[: stop - at])
        yield Verdict(use, state[: stop - at], _moves(around.cut(at - low, stop - low)))


def _costs(of: Evidence) -> Floats:
    """[T, states] cost of each frame in each state."""
    x, weight = _relative(of)
    near = np.stack([_near(of.moved.max(axis=1), np.max), _near(of.moved.min(axis=1), np.min)])
    high, low = near[0][:, None], near[1][:, None]
    sure = ((high - low) / (high + low + _STEP))[:, 0]
    y = np.clip((of.moved - low) / np.maximum(high - low, 1e-9), 0, 1)
    bare = np.clip(of.moved / np.maximum(high, 1e-9), 0, 1)
    torn = of.peak >= _TORN
    costs = np.empty((len(weight), NONE + 1))
    for number, pattern in enumerate(PATTERNS):
        for k in range(CYCLE):
            smooth = [name in pattern.smooth.split()[k] for name in "cpn"]
            still = [name in pattern.still.split()[k] for name in "tb"]
            cost = weight * np.where(smooth, x, 1 - x).sum(axis=1)
            cost += _LACED * (smooth & torn).any(axis=1)
            if pattern.kind == "3:2":
                cost += sure * np.where(still, y, 0).sum(axis=1)
            elif pattern.kind == "2:3:3:2":
                cost += weight * np.where(still, bare, 0).sum(axis=1)
            else:
                cost += weight * np.where(still, bare, (1 - bare) / 2).sum(axis=1)
            costs[:, CYCLE * number + k] = cost
    costs[:, NONE] = _NONE * weight
    return costs


def _moves(of: Evidence) -> Floats:
    """[T] how far the most combed weave stands out from noise."""
    seen = [
        x.max(axis=1) / (x.max(axis=1) + 2 * n) for x, n in ((of.comb, _COMB), (of.peak, _PEAK))
    ]
    moves: Floats = (seen[0] + seen[1]) / 2
    return moves


def _relative(of: Evidence) -> tuple[Floats, Floats]:
    """([T, 3] from 0, the smoothest weave of a frame, to 1, clearly combed; [T] weight)."""
    xs, weights = [], []
    for values, noise in ((of.comb, _COMB), (of.peak, _PEAK)):
        low, high = values.min(axis=1), values.max(axis=1)
        x = (values - low[:, None]) / np.maximum(high - low, 1e-9)[:, None]
        xs.append(np.clip((x - 0.15) / 0.4, 0, 1))
        weights.append((high - low) / (high + low + 2 * noise))
    total = np.maximum(weights[0] + weights[1], 1e-9)
    x = (xs[0] * weights[0][:, None] + xs[1] * weights[1][:, None]) / total[:, None]
    return x, (weights[0] + weights[1]) / 2


def _near(values: Floats, pick: Callable[..., Floats]) -> Floats:
    """The largest or smallest value within `_REACH` frames of each."""
    padded = np.pad(values, _REACH, mode="edge")
    return pick(np.lib.stride_tricks.sliding_window_view(padded, 2 * _REACH + 1), axis=1)


class _Path:
    """The cheapest path through the states, block by block."""

    def __init__(self) -> None:
        self._value = np.full(NONE + 1, _BEGIN)
        self._value[NONE] = 0
        k = np.arange(NONE + 1)
        self._from = np.where(k % CYCLE == 0, k + CYCLE - 1, k - 1)
        self._from[NONE] = NONE

    def through(self, cost: Floats, keep: int) -> Whole:
        """The states of all frames given; the next call goes on after the first `keep`."""
        frames = len(cost)
        value = self._value
        came = np.empty((frames, NONE + 1), np.int16)
        for t in range(frames):
            follow = value[self._from]
            best = int(value.argmin())
            change = value[best] + _CHANGE
            other = change < follow
            came[t] = np.where(other, best, self._from)
            value = np.where(other, change, follow) + cost[t]
        state = np.empty(frames, np.int64)
        at = int(value.argmin())
        for t in range(frames - 1, -1, -1):
            state[t] = at
            at = int(came[t, at])
        self._value = np.full(NONE + 1, np.inf)
        self._value[state[keep - 1]] = 0
        return state


def _uses(of: Evidence, state: Whole, first: int) -> Whole:
    """[T] how each frame is put together, were it kept; frame 0 of `state` is `of`'s `first`.

    The film's first frame has no measure of its own: where there is no pattern, it is as torn as
    the second. A frame whose other field lies beyond an end of the film is woven otherwise only if
    that is smooth beyond doubt.
    """
    count = len(state)
    comb, peak = (_weaves(x, first, count) for x in (of.comb, of.peak))
    table = np.array([_USES[u] for p in PATTERNS for u in p.use.split()] + [AS_CODED])
    rows = np.arange(count)
    use = table[state]
    if first == 0 and use[0] != AS_CODED:
        comb[0, AS_CODED] = peak[0, AS_CODED] = np.inf
    if first == 0 and state[0] == NONE and count > 1:
        peak[0, AS_CODED] = peak[1, AS_CODED]
    best = comb[:, 1:4].argmin(axis=1) + 1
    better = (
        (comb[rows, best] < comb[rows, use] / 2)
        & (peak[rows, best] * 2 < peak[rows, use])
        & (peak[rows, use] > 2 * _PEAK)
    )
    lost = ~np.isfinite(comb[rows, use])
    better &= ~lost | (peak[rows, best] <= _PEAK)
    use = np.where(better, best, use)
    chosen = peak[rows, use]
    torn = ~np.isfinite(chosen) | (chosen >= _TORN)
    return np.where(torn, COMBED, use)


def _weaves(measure: Floats, first: int, count: int) -> Floats:
    """[T, 4] by use: nothing, own fields, bottom before, bottom after; infinite: not there."""
    out = np.full((count, 4), np.inf)
    out[:, AS_CODED] = measure[first : first + count, OWN]
    out[:, BOTTOM_BEFORE] = measure[first : first + count, TOP_EARLY]
    if first == 0:
        out[0, BOTTOM_BEFORE] = np.inf
    after = measure[first + 1 : first + 1 + count, BOTTOM_EARLY]
    out[: len(after), BOTTOM_AFTER] = after
    return out


def _liveliness(of: Evidence, begins: bool) -> Floats:
    """[T] 0 .. 1: how far the top field has moved, next to its neighbours in time. The first frame
    of the film, with which it `begins`, moves as the second does."""
    high = _near(of.moved.max(axis=1), np.max)
    moves: Floats = np.clip(of.moved[:, 0] / np.maximum(high, _STEP), 0, 1)
    if begins:
        moves[0] = moves[min(1, len(moves) - 1)]
    return moves


def _prices(moves: Floats, state: Whole, use: Whole) -> Floats:
    """[T] what dropping each frame costs; `moves` is its liveliness."""
    drop = np.array([k == p.drop for p in PATTERNS for k in range(CYCLE)] + [False])
    price = np.where(state == NONE, moves / 2, np.where(drop[state], _REPEAT, _KEPT))
    return np.where((use == COMBED) & (state != NONE) & ~drop[state], _HALF, price)


class _Drops:
    """The cheapest choice of frames to drop, block by block.

    A state is how far the frames kept lag behind the clock, in quarters of a frame, and how many
    frames ago the last one was dropped.
    """

    _LONG = 2 * CYCLE  # frames since the last drop: so many or more, or none yet

    def __init__(self) -> None:
        self._value = np.full((2 * SLACK + 1, self._LONG + 1), np.inf)
        self._value[SLACK, self._LONG] = 0
        ago = np.arange(self._LONG + 1)
        self._uneven = np.where(ago + 1 == CYCLE, 0, _UNEVEN)
        self._uneven[self._LONG] = 0

    def through(self, price: Floats, fields: Whole, keep: int, *, last: bool) -> NDArray[np.bool_]:
        """Whether each of the first `keep` frames is dropped; the next call goes on after them."""
        value, frames = self._value, len(price)
        since = np.zeros((frames, 2 * SLACK + 1), np.int8)  # at a drop: where it came from
        long = np.zeros((frames, 2 * SLACK + 1), np.bool_)  # at _LONG: it came from _LONG
        for t in range(frames):
            lag = int(fields[t]) * 2
            kept = np.full_like(value, np.inf)
            stay = _moved(value, CYCLE - lag)
            kept[:, 1:] = stay[:, :-1]
            long[t] = stay[:, -1] < kept[:, -1]
            kept[:, -1] = np.minimum(kept[:, -1], stay[:, -1])
            gone = _moved(value, -lag) + self._uneven
            since[t] = gone.argmin(axis=1)
            kept[:, 0] = gone.min(axis=1) + price[t]
            value = kept
            if not np.isfinite(value).any():
                raise ValueError("no choice of frames fills the time")
        return self._back(value, fields, since, long, keep, last)

    def _back(
        self,
        value: Floats,
        fields: Whole,
        since: NDArray[np.int8],
        long: NDArray[np.bool_],
        keep: int,
        last: bool,
    ) -> NDArray[np.bool_]:
        lags = np.abs(np.arange(-SLACK, SLACK + 1))[:, None]
        end = value + 1e-6 * lags
        if last:  # the film's length: nearer than one frame of the output
            end = np.where(lags < SLACK, end, np.inf)
        lag, ago = (int(x) for x in np.unravel_index(int(end.argmin()), end.shape))
        dropped = np.zeros(len(since), np.bool_)
        start = (lag, ago)
        for t in range(len(since) - 1, -1, -1):
            if t == keep - 1:
                start = (lag, ago)
            dropped[t] = ago == 0
            step = int(fields[t]) * 2
            if ago == 0:
                ago = int(since[t, lag])
                lag += step
            else:
                ago -= 0 if ago == self._LONG and long[t, lag] else 1
                lag += step - CYCLE
        self._value = np.full_like(value, np.inf)
        self._value[start] = 0
        return dropped[:keep]


def _moved(value: Floats, by: int) -> Floats:
    """The rows of `value` moved up by so many lags; what leaves the range is lost."""
    out = np.full_like(value, np.inf)
    if by >= 0:
        out[by:] = value[: len(value) - by]
    elif -by < len(value):
        out[:by] = value[-by:]
    return out
