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
    header of the film says. With `order` (tff or bff) every frame has that parity, and the picture
    is that of its *top* field, whether it is shown first or second.
    """

    def __init__(self, info: VideoInfo, order: str = "") -> None:
        self._parity = order or ("bff" if info.fields == "bff" else "auto")
        self._second = order == "bff"  # of the two pictures of a frame, take the later
        self._graph: av.filter.Graph | None = None
        self._count = 0  # frames in
        self._given = 0  # pictures out

    def run(self, frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        for frame in frames:
            yield from self.push(frame)
        yield from self.finish()

    def push(self, frame: av.VideoFrame) -> Iterator[av.VideoFrame]:
        """Give one frame; what is ready comes out."""
        graph = self._graph = self._graph or self._build(frame)
        frame.pts = self._count
        frame.time_base = Fraction(1, 1000)
        self._count += 1
        graph.push(frame)
        yield from self._drain(graph)

    def finish(self) -> Iterator[av.VideoFrame]:
        """What is left after the last frame."""
        if self._graph is not None:
            self._graph.push(None)
            yield from self._drain(self._graph)

    def _build(self, like: av.VideoFrame) -> av.filter.Graph:
        graph = av.filter.Graph()
        graph.threads = 2
        source = graph.add_buffer(
            width=like.width, height=like.height, format=like.format, time_base=Fraction(1, 1000)
        )
        mode = "send_field" if self._second else "send_frame"
        weave = graph.add("bwdif", f"mode={mode}:parity={self._parity}:deint=all")
        sink = graph.add("buffersink")
        source.link_to(weave)
        weave.link_to(sink)
        graph.configure()
        return graph

    def _drain(self, graph: av.filter.Graph) -> Iterator[av.VideoFrame]:
        while True:
            try:
                picture = graph.pull()
            except (Waiting, EOFError, FFmpegError):
                return
            assert isinstance(picture, av.VideoFrame)
            self._given += 1
            if not self._second or self._given % 2 == 0:
                yield picture
