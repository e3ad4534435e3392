"""`out.mp4`: x264 in a normal faststart file; text subtitles become mov_text."""

from __future__ import annotations

from longtake.media.sinks._film import FilmSink

# mp4 holds FFV1 too, but hardly a player reads it there
plugin = FilmSink(container="mp4", codecs=("x264",))
