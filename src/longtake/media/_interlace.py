"""Whether a film that is marked progressive looks interlaced: evidence from its liveliest frames.

Combing shows only where something moves, so three short runs with the most motion are decoded once
more and shown to libavfilter's `idet`. The answer is a note for the user, never a decision.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from fractions import Fraction
from itertools import islice
from typing import Literal

import av
import numpy as np
from av.error import FFmpegError

from longtake.core.media import VideoInfo
from longtake.media import _decode, guard
from longtake.media._records import KEY, NONE, Rows

Looks = Literal["", "tff", "bff"]

RUN = 48  # frames of a run
_RUNS = 3
_LEAST = 12  # frames that idet must be sure of
_SHARE = 0.8  # of those that are interlaced
_LINES = 200  # of a picture; what is smaller was never interlaced
_MOTION = 0.5  # grid difference below which idet cannot tell


def liveliest(slices: Iterable[Rows]) -> list[Rows]:
    """The keyframes before the runs with the most motion; `slices` are runs of records."""
    known: list[tuple[float, Rows]] = []
    key: Rows | None = None
    for rows in slices:
        for at in range(0, len(rows), RUN):
            run = rows[at : at + RUN]
            keys = np.flatnonzero((run["flags"] & KEY > 0) & (run["raw"] != NONE))
            if len(keys):
                key = run[keys[0] : keys[0] + 1].copy()
            motion = float(np.median(run["diff"]))
            if key is not None and motion >= _MOTION:
                known.append((motion, key))
                known.sort(key=lambda k: -k[0])
                del known[_RUNS:]
    return [k for _, k in known]


def looks(info: VideoInfo, keys: Iterable[Rows], threads: int) -> Looks:
    """What idet says of the frames after each of `keys`, if every run says the same.

    Telecined film counts as interlaced. A picture that scrolls by just two lines a frame deceives
    idet, so one run alone proves nothing unless there is but one.
    """
    said: set[Looks] = set()
    if info.height < _LINES:
        return ""
    for key in keys:
        container, stream = _decode.open_stream(info.path, info.stream, threads)
        with container:
            if not _decode.seek(container, stream, key[0], key[0]):
                continue
            found = _decode.frames(container, stream, _decode.Tally(), info.path)
            with closing(found):
                votes = Counter(_votes(info, islice(found, RUN)))
        sure = votes["tff"] + votes["bff"] + votes["progressive"]
        if sure >= _LEAST:
            said.add(_verdict(votes, sure))
    return said.pop() if len(said) == 1 else ""


def _verdict(votes: Counter[str], sure: int) -> Looks:
    if votes["tff"] + votes["bff"] < _SHARE * sure:
        return ""
    return "tff" if votes["tff"] >= votes["bff"] else "bff"


def _votes(info: VideoInfo, frames: Iterator[av.VideoFrame]) -> Iterator[str]:
    graph: av.filter.Graph | None = None
    for number, frame in enumerate(frames):
        if (frame.width, frame.height) != (info.width, info.height):
            return
        if graph is None:
            graph = av.filter.Graph()
            graph.threads = guard.THREADS
            source = graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format,
                time_base=Fraction(1, 1000),
            )  # fmt: skip
            judge, sink = graph.add("idet"), graph.add("buffersink")
            source.link_to(judge)
            judge.link_to(sink)
            graph.configure()
        frame.pts = number
        try:
            graph.push(frame)
            said = graph.pull().metadata
        except (FFmpegError, EOFError):
            continue
        yield str(said.get("lavfi.idet.single.current_frame", ""))
