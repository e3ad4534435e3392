"""`out.tiff`, or `out/` with `--codec tiff`: a folder of TIFF files, deflated."""

from __future__ import annotations

from longtake.media.sinks._pictures import PictureSink

plugin = PictureSink(codecs=("tiff",))
