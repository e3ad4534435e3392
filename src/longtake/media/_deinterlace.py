"""One progressive picture for every interlaced frame, by libavfilter's bwdif."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import av
from av.error import BlockingIOError as Waiting
from av.error import FFmpegError

from longtake.core.media import VideoInfo

MARGIN = 2
"""Frames before and after a run that bwdif must see, so that the run does not depend on where it
begins: it looks one frame back and one ahead, and treats the first and the last it ever sees
differently (libavfilter/bwdif.h and yadif_common.c, `YADIF_FIELD_END`)."""


class Deinterlacer:
    """Frames in, as many frames out, same order. Parity follows each frame's own flag.

    All frames are treated (deint=all): whoever asks for it knows better than a flag that is not
    there. Where a frame states no parity, bwdif takes its top field as the first, or what the
    header of the film says.
    """

    def __init__(self, info: VideoInfo) -> None:
        self._parity = "bff" if info.fields == "bff" else "auto"
        self._graph: av.filter.Graph | None = None
        self._count = 0

    def run(self, frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        graph = None
        for number, frame in enumerate(frames):
            graph = graph or self._build(frame)
            frame.pts = number
            frame.time_base = Fraction(1, 1000)
            graph.push(frame)
            yield from _drain(graph)
        if graph is not None:
            graph.push(None)
            yield from _drain(graph)

    def _build(self, like: av.VideoFrame) -> av.filter.Graph:
        graph = av.filter.Graph()
        graph.threads = 2
        source = graph.add_buffer(
            width=like.width, height=like.height, format=like.format, time_base=Fraction(1, 1000)
        )
        weave = graph.add("bwdif", f"mode=send_frame:parity={self._parity}:deint=all")
        sink = graph.add("buffersink")
        source.link_to(weave)
        weave.link_to(sink)
        graph.configure()
        return graph


def _drain(graph: av.filter.Graph) -> Iterator[av.VideoFrame]:
    while True:
        try:
            picture = graph.pull()
        except (Waiting, EOFError, FFmpegError):
            return
        assert isinstance(picture, av.VideoFrame)
        yield picture
