"""`out/` or `out.png`: a folder of PNG files."""

from __future__ import annotations

from longtake.media.sinks._pictures import PictureSink

plugin = PictureSink(codecs=("png",))
