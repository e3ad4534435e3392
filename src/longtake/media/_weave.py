"""A film put together again from the fields of a telecined source, by the table of its index."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from longtake.core.media import VideoInfo
from longtake.media._cadence import BOTTOM_AFTER, BOTTOM_BEFORE, COMBED
from longtake.media._deinterlace import MARGIN, Deinterlacer


def weave(
    info: VideoInfo,
    order: str,
    table: NDArray[Any],
    pictures: Iterator[av.VideoFrame],
    first: int,
) -> Iterator[av.VideoFrame]:
    """The frames of `table` (records of `_restore.FRAME`).

    `pictures` are the source's frames from `first` on, `MARGIN` frames or more before the first one
    used (unless the film begins there) and as many after the last. Only frames that no two fields
    make whole are deinterlaced, and what that gives does not depend on where reading began.
    """
    combed = set(table["source"][table["use"] == COMBED].tolist())
    wanted = iter(table.tolist())  # (source, use, spare)
    want = next(wanted, None)
    near: deque[tuple[int, av.VideoFrame]] = deque(maxlen=2 * MARGIN + 1)
    mender = _Mender(info, order, combed)
    number = first
    for number, picture in enumerate(pictures, first):
        near.append((number, picture))
        mender.take(number, picture)
        while want is not None and want[0] + MARGIN <= number:
            yield _made(want, dict(near), mender)
            want = next(wanted, None)
    mender.finish()
    while want is not None and want[0] <= number:
        yield _made(want, dict(near), mender)
        want = next(wanted, None)


def _made(
    want: tuple[int, int, Any], near: dict[int, av.VideoFrame], mender: _Mender
) -> av.VideoFrame:
    source, use, _ = want
    if use == COMBED:
        return mender.given.pop(source)
    if use == BOTTOM_BEFORE:
        return woven(near[source], near[source - 1])
    if use == BOTTOM_AFTER:
        return woven(near[source], near[source + 1])
    return near[source]


class _Mender:
    """Deinterlaces the frames `combed`; the others pass it by, but for their neighbours."""

    def __init__(self, info: VideoInfo, order: str, combed: set[int]) -> None:
        self.given: dict[int, av.VideoFrame] = {}
        self._info, self._order, self._combed = info, order, combed
        self._filter: Deinterlacer | None = None
        self._next = 0  # the source frame whose picture comes out next

    def take(self, number: int, picture: av.VideoFrame) -> None:
        if not any(n in self._combed for n in range(number - MARGIN, number + MARGIN + 1)):
            self.finish()
            return
        if self._filter is None:
            self._filter, self._next = Deinterlacer(self._info, self._order), number
        self._keep(self._filter.push(picture))

    def finish(self) -> None:
        if self._filter is not None:
            self._keep(self._filter.finish())
        self._filter = None

    def _keep(self, pictures: Iterator[av.VideoFrame]) -> None:
        for picture in pictures:
            if self._next in self._combed:
                self.given[self._next] = picture
            self._next += 1


def woven(top: av.VideoFrame, bottom: av.VideoFrame) -> av.VideoFrame:
    """A new frame: the even lines of one, the odd lines of the other, in every plane."""
    frame = av.VideoFrame(top.width, top.height, top.format.name)
    for made, even, odd in zip(frame.planes, top.planes, bottom.planes, strict=True):
        lines, above, below = _lines(made), _lines(even), _lines(odd)
        width = min(lines.shape[1], above.shape[1], below.shape[1])
        lines[0::2, :width] = above[0::2, :width]
        lines[1::2, :width] = below[1::2, :width]
    frame.colorspace, frame.color_range = top.colorspace, top.color_range
    frame.color_primaries, frame.color_trc = top.color_primaries, top.color_trc
    return frame


def _lines(plane: av.video.plane.VideoPlane) -> NDArray[np.uint8]:
    """[H, bytes of a line] of a plane, without a copy."""
    raw: Any = plane
    whole: NDArray[np.uint8] = np.frombuffer(raw, np.uint8).reshape(-1, plane.line_size)
    return whole[: plane.height]
