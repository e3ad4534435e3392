"""`out.mkv`: H.264, H.265, AV1 or FFV1 in Matroska, with every track of the source by packet."""

from __future__ import annotations

from longtake.media.sinks import _parts
from longtake.media.sinks._film import FilmSink

plugin = FilmSink(container="matroska", codecs=(*_parts.CODED, "ffv1"))
