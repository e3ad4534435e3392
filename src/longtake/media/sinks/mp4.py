"""`out.mp4`: H.264, H.265 or AV1 in a normal faststart file; text subtitles become mov_text."""

from __future__ import annotations

from longtake.media.sinks import _parts
from longtake.media.sinks._film import FilmSink

# mp4 holds FFV1 too, but hardly a player reads it there
plugin = FilmSink(container="mp4", codecs=_parts.CODED)
