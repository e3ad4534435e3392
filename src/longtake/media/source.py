"""Reading an analysed film: any run of frames, as RGB clips, from the nearest keyframe.

Every frame that is given out has been compared with the index: by timestamp and by fingerprint.
Where they differ (open GOPs, intra refresh, seek tables that lie) the reader starts one keyframe
earlier, and at last from the beginning of the film; what cannot be met again is an error, never
another picture.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, closing
from fractions import Fraction
from itertools import islice

import av
import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

from longtake.core.errors import BadInput
from longtake.core.media import Clip, OutputFormat, Pixels, VideoInfo
from longtake.core.plan import Reading
from longtake.core.ports import Clock
from longtake.core.steps import done
from longtake.media import _decode, color, guard, images
from longtake.media._deinterlace import MARGIN, Deinterlacer
from longtake.media._look import fingerprint
from longtake.media._records import Rows
from longtake.media._restore import RATIO
from longtake.media._weave import weave
from longtake.media.index import FilmIndex
from longtake.media.scaling import Scaler

_TRIES = 3  # keyframes from which reading is tried before it begins at the start
_ROWS = 512  # records fetched in one go
_STRETCH = 16 << 20  # bytes hashed in one go


class FileFilm:
    """Frames [reading.first, reading.first + frames) of a source: fills `core.ports.Film`.

    Frame numbers are those of the job (0 is `reading.first`); with ivtc, source and job count the
    frames of the film without its repeats. Timestamps are in
    `output.time_base`. `info` is what `exact.exact_info` gave. The film's own start is kept, also
    when its first frames are left out, except for MPEG streams, whose clock begins anywhere: there
    the earliest track is put at 0.
    """

    def __init__(
        self,
        info: VideoInfo,
        index: FilmIndex,
        reading: Reading,
        output: OutputFormat,
        frames: int | None = None,
    ) -> None:
        self.info = info
        self.index = index
        self.first = reading.first
        self.frames = index.frames - reading.first if frames is None else frames
        if not 0 <= self.first < self.first + self.frames <= index.frames:
            raise BadInput(
                f"{info.path}: frames {self.first}:{self.first + self.frames} are asked for, but "
                f"it has {index.frames}."
            )
        if index.facts.ivtc != (reading.deinterlace == "ivtc"):
            raise ValueError(f"the index was made for another way of reading than {reading}")
        self._reading = reading
        self._size = reading.size or (info.width, info.height)
        self._output = output
        self._tick = info.time_base
        self._by_picture = info.container in _decode.UNTIMED or not index.facts.sorted
        self._zero = index.pts(0, 1)[0]
        self._start = self._zero * self._tick - index.shift  # s: first frame, on the output's clock

    def clock(self) -> Clock:
        """How times of the source become times of the output; bounds only where frames are left
        out at that side."""
        stop = self.first + self.frames
        begin, end = self._time(self.first), self._time(stop)
        return Clock(
            shift=self.index.shift + begin - self._zero * self._tick,
            begin=begin if self.first else None,
            end=end if stop < self.index.frames or self.index.facts.broken else None,
        )

    def _time(self, frame: int) -> Fraction:
        """When a frame of the film as read is shown, or the one before it ends; s by the source's
        clock."""
        facts = self.index.facts
        if facts.ivtc:
            return self._zero * self._tick + frame / (Fraction(facts.nominal) * RATIO)
        if frame < len(self.index):
            return self.index.pts(frame, frame + 1)[0] * self._tick
        return self.index.end(frame, self._tick, self.info.rate) * self._tick

    def container(self) -> AbstractContextManager[InputContainer]:
        """The source, opened once more under the same guard, for its other tracks."""
        return guard.open_film(self.info.path)

    def names(self, start: int, stop: int) -> list[str] | None:
        """File names of frames [start, stop) of an image folder; None for a film."""
        if self.info.container != "images":
            return None
        files = images.names(self.info)
        start, stop = self.first + start, self.first + stop
        if self.index.facts.ivtc:
            return [files[i] for i in self.index.table(start, stop)["source"].tolist()]
        return files[start:stop]

    def luma(self, start: int, stop: int) -> NDArray[np.float32]:
        """Mean coded luma of frames [start, stop), on the 8-bit scale."""
        rows = self.index.shown(self.first + start, self.first + stop)
        return rows["mean"].astype(np.float32)

    def difference(self, start: int, stop: int) -> NDArray[np.float32]:
        """Mean |luma(t) - luma(t - 1)| over a 64x36 grid; 0 for frame 0 of the job."""
        moved = self.index.shown(self.first + start, self.first + stop)["diff"].astype(np.float32)
        if start == 0:
            moved[:1] = 0
        return moved

    def pts(self, start: int, stop: int) -> list[int]:
        """When output frames [start, stop) are shown, in ticks of the output; strictly rising."""
        base, rate = self._output.time_base, self._output.rate
        if not self._output.variable:
            return [round((self._start + i / rate) / base) for i in range(start, stop)]
        source = self.index.pts(self.first + start, self.first + stop)
        scale = self._tick / base
        offset = self._start / base
        begin = self.index.pts(self.first, self.first + 1)[0]
        return [round((p - begin) * scale + offset) for p in source]

    def end(self) -> int:
        """When the last frame ends, in ticks of the output's time base."""
        if not self._output.variable:
            return round((self._start + self.frames / self._output.rate) / self._output.time_base)
        lasts = self._time(self.first + self.frames) - self._time(self.first)
        return round((self._start + lasts) / self._output.time_base)

    def read(self, start: int, stop: int, size: int) -> Iterator[Clip]:
        """Frames [start, stop) in clips of at most `size`, all of that size but the last.

        Each is reduced to `reading.size` by Lanczos over the whole of its RGB, so that what is too
        fine for fewer pixels is averaged and not folded back (antialiased).
        Raises BadInput where the source no longer gives the frames that were indexed.
        """
        if not 0 <= start <= stop <= self.frames:
            raise ValueError(f"frames {start}:{stop} of {self.frames}")
        if size < 1:
            raise ValueError(f"clips of {size} frames")
        reader = color.Reader(
            self._reading.matrix, self._reading.full_range, color.host_bits(self.info.bits)
        )
        reducer = Scaler()
        held = self._room(min(size, stop - start))
        at, filled = start, 0
        with closing(self._shown(self.first + start, self.first + stop)) as pictures:
            for picture in pictures:
                held[filled] = reducer.resample(reader.rgb(picture)[None], *self._size)[0]
                filled += 1
                if filled == len(held):
                    yield Clip(pixels=held, start=at)
                    at, filled = at + filled, 0
                    held = self._room(min(size, stop - at))

    def pictures(self, start: int, stop: int) -> Generator[av.VideoFrame]:
        """Frames [start, stop) as decoded (and deinterlaced, if asked), before they become RGB."""
        return self._shown(self.first + start, self.first + stop)

    def _room(self, frames: int) -> Pixels:
        shape = frames, self._size[1], self._size[0], 3
        if color.host_bits(self.info.bits) == 8:
            return np.empty(shape, np.uint8)
        return np.empty(shape, np.uint16)

    def _shown(self, start: int, stop: int) -> Generator[av.VideoFrame]:
        """Frames [start, stop) as they are to be read: deinterlaced, or put together anew."""
        if self._reading.deinterlace == "no" or start >= stop:
            yield from self._pictures(start, stop)
            return
        if self._reading.deinterlace == "ivtc":
            yield from self._woven(start, stop)
            return
        lead = max(0, start - MARGIN)
        tail = min(len(self.index), stop + MARGIN)
        weaver = Deinterlacer(self.info)
        with closing(self._pictures(lead, tail)) as pictures:
            for number, picture in enumerate(weaver.run(pictures), lead):
                if number >= stop:
                    return
                if number >= start:
                    yield picture

    def _woven(self, start: int, stop: int) -> Generator[av.VideoFrame]:
        """Frames [start, stop) of the film without its repeats."""
        table = self.index.table(start, stop)
        lead = max(0, int(table[0]["source"]) - MARGIN)
        tail = min(len(self.index), int(table[-1]["source"]) + 1 + MARGIN)
        with closing(self._pictures(lead, tail)) as pictures:
            yield from weave(self.info, self.index.facts.order, table, pictures, lead)

    def _pictures(self, start: int, stop: int) -> Generator[av.VideoFrame]:
        """Frames [start, stop) of the source as decoded, each one compared with the index."""
        at = start
        for key in self._entries(start):
            try:
                with closing(self._from(key, at, stop)) as found:
                    for picture in found:
                        at += 1
                        yield picture
                return
            except _Missed:
                continue
        raise BadInput(
            f"{self.info.path}: frame {at} cannot be read again as it was analysed: the film is "
            "damaged there, or the disk fails. --restart --drop damaged takes it as it comes."
        )

    def _entries(self, frame: int) -> Iterator[int]:
        """Frames to begin decoding at, best first; 0 is the start of the file."""
        if self.info.container != "images":
            at = frame
            for _ in range(_TRIES):
                key = self.index.key_before(at)
                if not key:
                    break
                yield key
                at = key - 1
        yield 0

    def _from(self, key: int, start: int, stop: int) -> Generator[av.VideoFrame]:
        """Frames [start, stop), decoded from keyframe `key`. Raises _Missed."""
        if self.info.container == "images":
            yield from self._verified(images.frames(self.info, start, stop), start, stop)
            return
        container, stream = _decode.open_stream(
            self.info.path, self.info.stream, guard.THREADS if self.index.facts.strict else 1
        )
        with container:
            if key:
                rows = self.index.rows(key - _decode.REORDER, key + 1)
                if not _decode.seek(container, stream, rows[-1], rows[0]):
                    raise _Missed
            tally = _decode.Tally()
            all_found = _decode.frames(container, stream, tally, self.info.path)
            found: Iterator[av.VideoFrame] = all_found
            with closing(all_found):
                if not key:
                    found = _skip(found, start)
                elif self._by_picture:
                    found = _skip(self._from_key(found, key), start - key)
                else:
                    found = self._after(found, start)
                yield from self._verified(found, start, stop)

    def _after(self, found: Iterator[av.VideoFrame], start: int) -> Iterator[av.VideoFrame]:
        """Drop what is shown before frame `start`."""
        first = int(self.index.rows(start, start + 1)[0]["raw"])
        for picture in found:
            raw = _decode.raw_time(picture)
            if raw is not None and raw >= first:
                yield picture
                break
        yield from found

    def _from_key(self, found: Iterator[av.VideoFrame], key: int) -> Iterator[av.VideoFrame]:
        """Drop what comes before the picture of keyframe `key`, where times do not tell."""
        wanted = int(self.index.rows(key, key + 1)[0]["fingerprint"])
        for picture in islice(found, 4 * _decode.REORDER):
            if fingerprint(picture) == wanted:
                yield picture
                break
        else:
            raise _Missed
        yield from found

    def _verified(
        self, found: Iterator[av.VideoFrame], start: int, stop: int
    ) -> Iterator[av.VideoFrame]:
        """The frames, if they are [start, stop) of the index. Raises _Missed at the first not."""
        named = not self._by_picture
        rows: Rows | None = None
        base = start
        for number in range(start, stop):
            if rows is None or number - base >= len(rows):
                base, rows = number, self.index.rows(number, min(number + _ROWS, stop))
            row = rows[number - base]
            picture = next(found, None)
            if picture is None or fingerprint(picture) != int(row["fingerprint"]):
                raise _Missed
            if named and _decode.raw_time(picture) != int(row["raw"]):
                raise _Missed
            yield picture


class _Missed(Exception):
    """The decoder does not give the frame that the index promises."""


def _skip(found: Iterator[av.VideoFrame], count: int) -> Iterator[av.VideoFrame]:
    for number, picture in enumerate(found):
        if number >= count:
            yield picture


def digest(info: VideoInfo) -> str:
    """SHA-256 of the source's bytes; of names and bytes for a folder of images."""
    return done(hashing(info))


def hashing(info: VideoInfo) -> Generator[int, None, str]:
    """The same, a stretch at a time: yields bytes read so far, where more follow."""
    if info.container == "images":
        return images.digest(info)
    total = hashlib.sha256()
    with info.path.open("rb") as file:
        while block := file.read(_STRETCH):
            if file.tell() > len(block):
                yield file.tell()
            total.update(block)
    return total.hexdigest()
