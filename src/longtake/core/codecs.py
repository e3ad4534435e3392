"""What the codecs of a target take, in numbers that a plan needs before anything is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from longtake.core.media import Chroma

EFFORTS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow")
_SAME = dict(zip(EFFORTS, EFFORTS, strict=True))
_SVT = dict(zip(EFFORTS, ("12", "11", "10", "9", "8", "6", "4"), strict=True))
_NVENC = dict(zip(EFFORTS, ("p1", "p2", "p3", "p4", "p5", "p6", "p7"), strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    bits: tuple[int, ...]
    chroma: tuple[Chroma, ...]  # that it writes; 4:2:0 stands for what it does not
    crf: int | None = None  # by default; None: it loses nothing
    worst: int = 51  # the largest crf
    efforts: Mapping[str, str] = field(default_factory=dict)  # its own name of each --effort
    least: int = 1  # px of a side
    most: tuple[int, int] = (16384, 16384)  # (width, height) px
    software: str = ""  # what stands in for a part of the GPU that is not there


CODECS: Mapping[str, Codec] = {
    "x264": Codec(bits=(8, 10), chroma=("420", "422", "444"), crf=16, efforts=_SAME),
    "x265": Codec(
        bits=(8, 10), chroma=("420", "422", "444"), crf=18, efforts=_SAME, least=96
    ),  # smaller ones give other bytes each time, or end the process (docs/lab.md)
    "av1": Codec(
        bits=(8, 10), chroma=("420",), crf=25, worst=63, efforts=_SVT, least=64, most=(16384, 8704)
    ),
    "ffv1": Codec(bits=(8, 10, 12, 16), chroma=("420", "422", "444", "rgb")),
    "png": Codec(bits=(8, 16), chroma=("rgb",)),
    "tiff": Codec(bits=(8, 16), chroma=("rgb",)),
    "nvenc-h264": Codec(
        bits=(8,), chroma=("420",), crf=16, efforts=_NVENC, least=160, most=(4096, 4096),
        software="x264",
    ),
    "nvenc-h265": Codec(
        bits=(8, 10), chroma=("420",), crf=18, efforts=_NVENC, least=160, most=(8192, 8192),
        software="x265",
    ),
    "nvenc-av1": Codec(
        bits=(8, 10), chroma=("420",), crf=25, worst=63, efforts=_NVENC, least=192,
        most=(8192, 8192), software="av1",
    ),
}  # fmt: skip
"""By the name on the command line. The default crf of x264, x265 and av1 lose about the same at 4x
(docs/lab.md)."""
