"""The index of a film as far as a short run of its frames needs it: for `longtake preview`.

Frame numbers are those of the whole film. Two ways lead there:

- `near`: packets are counted from the start, which costs reading but no decoding; only the frames
  around the wanted ones are decoded. It takes every packet for one frame, which is checked where
  frames are decoded, and by the first frame of the film.
- `through`: the film is decoded from its start until a caller has seen enough; exact for any film,
  at the speed of the analysis of a job.

Both fill `index.bin` with the pass that a job uses (`_analysis.Analysis`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from longtake.core.errors import BadInput
from longtake.core.media import VideoInfo
from longtake.media import _analysis, _decode, images, index
from longtake.media._deinterlace import MARGIN
from longtake.media._look import look, thumb
from longtake.media._records import KEY, RECORD, Rows, read_rows, seal
from longtake.media.index import BIN, Facts, FilmIndex

AROUND = MARGIN + 8  # frames beside the wanted ones: for deinterlacing and for finding cuts
_SLICE = 4096  # records written in one go
_MET = 3  # frames by which the analysis knows again where it is


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What is wanted: from a frame, or a time in s from the film's first frame; `length` in s."""

    at: int | Fraction
    length: Fraction

    def frames(self, times: Sequence[int] | NDArray[np.int64], info: VideoInfo) -> tuple[int, int]:
        """The half-open run of frames in a film whose frames are shown at `times` (ticks); behind
        the last of them where the film ends before the span."""
        shown, tick = np.asarray(times, np.int64), info.time_base
        if isinstance(self.at, int):
            first = self.at
        elif int(shown[0]) + self.at / tick >= int(shown[-1]) + 1 / (info.rate * tick):
            first = len(shown)
        else:
            first = int(np.searchsorted(shown, int(shown[0] + self.at / tick), "right")) - 1
        if not 0 <= first < len(shown):
            return len(shown), len(shown)
        end = shown[first] + self.length / tick
        return first, max(first + 1, int(np.searchsorted(shown, float(end) - 0.5, "left")))


class Irregular(Exception):
    """Packets do not tell of this film's frames: only decoding counts them."""


def near(
    info: VideoInfo, folder: Path, span: Span, drop: Sequence[str] = ()
) -> Generator[int, None, tuple[FilmIndex, int, int]]:
    """Index the frames of `span` and some around them; yields frames decoded so far.

    Returns the index, which knows the time of every frame up to there, and the run [first, stop).
    Raises Irregular where `through` must be used, BadInput where the film ends before the span.
    """
    times, keys = _counted(info, span)
    first, stop = span.frames(times, info)
    if first >= len(times):
        raise BadInput(_too_late(info, times, info.time_base))
    low = max(0, first - AROUND)
    entry = int(np.flatnonzero(keys[: max(1, low - 1)])[-1]) if low > 1 else 0
    folder.mkdir(parents=True, exist_ok=True)
    (folder / BIN).unlink(missing_ok=True)
    if entry:
        _seed(info, folder / BIN, times[: entry + _MET], keys)
    analysis = _analysis.Analysis(info, folder / BIN)
    try:
        with closing(analysis.run()) as passes:  # type: ignore[type-var]
            for number in passes:
                yield max(0, number - entry)
                if number >= stop + AROUND:
                    break
    except _analysis.Faulty:
        raise Irregular from None
    found = _concluded(info, folder, analysis)
    seen = found.rows(entry, stop)
    if len(seen) != stop - entry or (seen["raw"] != times[entry:stop]).any():
        raise Irregular
    index.judge(info, found.facts, drop)
    return found, first, stop


def through(
    info: VideoInfo,
    folder: Path,
    span: Span,
    drop: Sequence[str],
    enough: Callable[[FilmIndex, int], bool],
) -> Generator[int, None, tuple[FilmIndex, int, int]]:
    """Index the film from its start until it holds the span and `enough(index, stop)` is true, or
    to its end; yields frames so far. Returns as `near` does. Raises BadInput as a job would."""
    for strict in (True, False):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / BIN).unlink(missing_ok=True)
        analysis = _analysis.Analysis(info, folder / BIN, strict and "damaged" not in drop)
        try:
            yield from _until(analysis, info, folder, span, enough)
            break
        except _analysis.Faulty:
            continue
    found = _concluded(info, folder, analysis)
    times = found.pts(0, len(found))
    if not times:
        index.judge(info, found.facts, drop)
    first, stop = span.frames(times, info)
    if first >= len(times):
        raise BadInput(_too_late(info, times, info.time_base))
    index.judge(info, found.facts, drop)
    return found, first, stop


def _until(
    analysis: _analysis.Analysis,
    info: VideoInfo,
    folder: Path,
    span: Span,
    enough: Callable[[FilmIndex, int], bool],
) -> Generator[int]:
    """Draw the analysis until it is enough, or to its end."""
    due = AROUND
    with closing(analysis.run()) as passes:  # type: ignore[type-var]
        for number in passes:
            yield number
            held = _held(folder / BIN)
            if held < due:
                continue
            due = max(held + 1024, held * 5 // 4)
            so_far = FilmIndex(folder, replace(_named(info, analysis), frames=held))
            first, stop = span.frames(so_far.pts(0, held), info)
            if first < held and stop + AROUND <= held and enough(so_far, stop):
                return


def _held(path: Path) -> int:
    """Records on the disk."""
    return path.stat().st_size // RECORD.itemsize if path.exists() else 0


def _concluded(info: VideoInfo, folder: Path, analysis: _analysis.Analysis) -> FilmIndex:
    """The index of what has been written so far."""
    analysis.frames = _held(folder / BIN)
    if not analysis.frames:
        raise BadInput(f"{info.path}: not one frame of it can be decoded ({info.codec}).")
    facts = replace(_named(info, analysis), **analysis.outcome())
    return FilmIndex(folder, replace(facts, broken=False, missing=0))  # its end was not looked at


def _named(info: VideoInfo, analysis: _analysis.Analysis) -> Facts:
    return Facts(
        version=index.VERSION, source=index.identity(info), stream=info.stream, complete=True,
        strict=analysis.strict, faulty=not analysis.strict,
    )  # fmt: skip


def _counted(info: VideoInfo, span: Span) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """When the film's frames are shown (ticks, rising), a little beyond the span, and which of
    them are keyframes; by packets alone. Raises Irregular."""
    if info.container == "images":
        return np.arange(info.frames, dtype=np.int64), np.ones(info.frames, np.bool_)
    if info.container in _decode.UNTIMED or info.codec == "vp8":  # which has hidden frames
        raise Irregular
    begun = _first(info)
    shown: list[int] = []
    marked: list[bool] = []
    container, stream = _decode.open_stream(info.path, info.stream, 1)
    with container:
        for packet in container.demux(stream):
            if not packet.size or packet.is_discard:
                continue
            if packet.pts is None:
                raise Irregular
            if packet.pts < begun:
                continue
            shown.append(packet.pts)
            marked.append(packet.is_keyframe)
            if packet.is_keyframe and _beyond(info, span, begun, packet.pts, len(shown)):
                break
    if not shown:
        raise Irregular
    times = np.array(shown, np.int64)
    order = np.argsort(times, kind="stable")
    times, keys = times[order], np.array(marked, np.bool_)[order]
    if (np.diff(times) <= 0).any() or not keys[0]:
        raise Irregular
    return times, keys


def _beyond(info: VideoInfo, span: Span, begun: int, pts: int, count: int) -> bool:
    """Whether a keyframe lies so far behind the span that nothing before it is missing."""
    length = span.length / info.time_base
    spare = (AROUND + 2 * _decode.REORDER) / (info.rate * info.time_base)
    if isinstance(span.at, int):
        many = span.at + span.length * info.rate + AROUND + 2 * _decode.REORDER
        return count > many and pts - begun > length
    return pts - begun > span.at / info.time_base + length + spare


def _first(info: VideoInfo) -> int:
    """The timestamp of the first frame that can be decoded. Raises Irregular."""
    container, stream = _decode.open_stream(info.path, info.stream, 1)
    with container, closing(
        _decode.frames(container, stream, _decode.Tally(), info.path)
    ) as found:  # fmt: skip
        first = next(found, None)
        if first is None or first.pts is None:
            raise Irregular
        return first.pts


def _seed(info: VideoInfo, path: Path, times: NDArray[np.int64], keys: NDArray[np.bool_]) -> None:
    """Records up to the keyframe at which decoding begins and a little further: times alone, but
    for the last few, by which the analysis knows where it is. Raises Irregular."""
    with path.open("wb") as file:
        for start in range(0, len(times), _SLICE):
            stop = min(start + _SLICE, len(times))
            rows: Rows = np.zeros(stop - start, RECORD)
            rows["pts"] = rows["raw"] = times[start:stop]
            rows["flags"] = np.where(keys[start:stop], KEY, 0)
            for row in rows:
                seal(row)
            file.write(rows.tobytes())
    met = read_rows(path, len(times) - _MET, len(times)).copy()
    before = read_rows(path, max(0, len(times) - _MET - _decode.REORDER), len(times))
    for row, picture in zip(met, _pictures(info, met, before), strict=True):
        seen = look(picture)
        row["fingerprint"], row["mean"], row["thumb"] = (
            seen.fingerprint,
            seen.mean,
            thumb(seen.grid),
        )
        seal(row)
    with path.open("r+b") as file:
        file.seek((len(times) - _MET) * RECORD.itemsize)
        file.write(met.tobytes())


def _pictures(info: VideoInfo, rows: Rows, before: Rows) -> list[av.VideoFrame]:
    """The frames of `rows`, the first of which is a keyframe. Raises Irregular."""
    wanted = [int(r) for r in rows["raw"]]
    if info.container == "images":
        return list(images.frames(info, wanted[0], wanted[-1] + 1))
    found: list[av.VideoFrame] = []
    container, stream = _decode.open_stream(info.path, info.stream, 1)
    with container:
        if not _decode.seek(container, stream, rows[0], before[0]):
            raise Irregular
        with closing(_decode.frames(container, stream, _decode.Tally(), info.path)) as decoded:
            for picture in decoded:
                raw = _decode.raw_time(picture)
                if raw in wanted:
                    found.append(picture)
                if raw is None or raw >= wanted[-1]:
                    break
    if len(found) != len(wanted):
        raise Irregular
    return found


def _too_late(info: VideoInfo, times: Sequence[int] | NDArray[np.int64], tick: Fraction) -> str:
    lasts = float((int(times[-1]) - int(times[0])) * tick + 1 / info.rate)
    return (
        f"{info.path}: the range begins behind the end of the film, which has {len(times)} frames "
        f"({lasts:.3f} s)."
    )
