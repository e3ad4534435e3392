"""Telecined films for tests: 24 film frames a second shown as 30, in fields.

    path = pulldown.make(tmp_path / "a.mkv", film=80, order="tff", codec="mpeg2video")

Film frame k carries k as its counter (`films.counter`). `fields` says of which film frame each
field of the source is, in the order in which fields are shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from tests.media import films

NTSC = Fraction(30000, 1001)
FILM = Fraction(24000, 1001)
CLASSIC = (2, 3)
ADVANCED = (2, 3, 3, 2)
REPEAT = (2, 2, 2, 4)


def fields(film: int, counts: Sequence[int] = CLASSIC, skip: int = 0) -> list[int]:
    """The film frame of each field; the first `skip` fields are left out, and an odd last one."""
    shown = [k for k in range(film) for _ in range(counts[k % len(counts)])][skip:]
    return shown[: len(shown) // 2 * 2]


def make(
    path: Path,
    *,
    film: int = 40,
    shown: Sequence[int] | None = None,
    counts: Sequence[int] = CLASSIC,
    skip: int = 0,
    order: str = "tff",
    flagged: bool = True,
    picture: films.Picture | None = None,
    size: tuple[int, int] = (160, 120),
    rate: Fraction = NTSC,
    **how: Any,
) -> Path:
    """Write a telecined film; `shown`: the film frame of each field, else by `counts`."""
    shown = fields(film, counts, skip) if shown is None else shown
    draw = picture or films.texture(size)

    def moment(number: int) -> films.RGB:
        return draw(shown[number])

    woven = moment if flagged else films.woven(moment, order)
    return films.make(
        path, frames=len(shown) // 2, size=size, rate=rate, picture=woven,
        interlaced=order if flagged else None, **how,
    )  # fmt: skip


def flagged(path: Path, film: int, size: tuple[int, int] = (160, 120)) -> Path:
    """MPEG-2 as on a disc: the film's own frames, every second of which says that its first field
    is to be repeated (ISO 13818-2, 6.3.10). libav's encoder cannot say so: the bits are set in its
    packets, and the clock is what a multiplexer makes of them.
    """
    draw = films.texture(size)
    field = 1 / (2 * NTSC)
    coder: Any = av.CodecContext.create("mpeg2video", "w")
    coder.width, coder.height = size
    coder.pix_fmt, coder.framerate, coder.time_base = "yuv420p", NTSC, 1 / NTSC
    coder.max_b_frames, coder.gop_size = 0, 12
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("mpeg2video", rate=NTSC)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        at = 0
        packets = [p for number in range(film) for p in coder.encode(_coded(draw(number), number))]
        for number, packet in enumerate([*packets, *coder.encode(None)]):
            lasts = 2 + number % 2
            made = av.Packet(_repeating(bytes(packet), lasts == 3, number))
            made.stream, made.time_base = stream, Fraction(1, 90000)
            made.pts = made.dts = 90000 + round(at * field * 90000)
            made.duration = round(lasts * field * 90000)
            made.is_keyframe = packet.is_keyframe
            out.mux(made)
            at += lasts
    return path


def _coded(rgb: films.RGB, number: int) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), "rgb24").reformat(
        format="yuv420p"
    )
    frame.pts = number
    return frame


def _repeating(data: bytes, repeat: bool, number: int) -> bytes:
    """A coded picture whose extension says top_field_first, repeat_first_field, progressive_frame,
    in a sequence that is not progressive."""
    out = bytearray(data)
    at = -1
    while (at := out.find(b"\x00\x00\x01\xb5", at + 1)) >= 0:
        kind = out[at + 4] >> 4
        if kind == 1:  # sequence extension: progressive_sequence is bit 12 after its start code
            out[at + 5] &= ~0x08
        if kind == 8:  # picture coding extension
            top = (number * 5 // 2) % 2 == 0  # the field order turns with every repeat
            out[at + 7] = (out[at + 7] & ~0x82) | 0x80 * top | 0x02 * repeat
            out[at + 8] |= 0x80  # progressive_frame
    return bytes(out)
