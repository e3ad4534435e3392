"""A film in a file: parts are mp4, the target is of the container that the sink names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from longtake.core.media import OutputFormat, VideoInfo
from longtake.core.plan import Encoder, Plan
from longtake.core.ports import Film, Losses, Writer
from longtake.media import tracks
from longtake.media.sinks import _join, _parts


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmSink:
    container: tracks.Container
    codecs: tuple[str, ...]
    part: str = _parts.SUFFIX

    def chroma(self, info: VideoInfo, encoder: str) -> str:
        return _parts.chroma(info, encoder)

    def losses(self, info: VideoInfo, drop: Sequence[str]) -> Losses:
        return tracks.losses(info, self.container, drop)

    def open(
        self, path: Path, output: OutputFormat, encoder: Encoder, first: int
    ) -> AbstractContextManager[Writer]:
        del first  # a part counts its frames from its own beginning
        return _parts.open_part(path, output, encoder)

    def join(self, parts: Sequence[Path], target: Path, film: Film, plan: Plan) -> Iterator[int]:
        return _join.join(parts, target, film, plan, self.container)
