"""Between coded pictures and RGB: who converts, and in how many pieces, shows nowhere."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from longtake.core.media import Color, OutputFormat
from longtake.media import color

SIZES = [(961, 547), (1280, 720), (37, 15_001)]  # all above the size from which threads share


def the_output(width: int, height: int, bits: int, chroma: str, full: bool) -> OutputFormat:
    return OutputFormat(
        width=width, height=height, rate=Fraction(24), time_base=Fraction(1, 24), variable=False,
        bits=bits, chroma=chroma, color=Color(), matrix=1, full_range=full, sar=Fraction(1),
        rotation=0,
    )  # fmt: skip


def samples(frame: av.VideoFrame) -> list[np.ndarray]:
    """The bytes of each plane without the padding of its rows."""
    width = {p.plane: p.width for p in frame.format.components}
    deep = 2 if frame.format.components[0].bits > 8 else 1
    each = 1 if frame.format.is_planar else frame.format.padded_bits_per_pixel // 8 // deep
    found = []
    for index, plane in enumerate(frame.planes):
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        assert index in width
        found.append(rows[: plane.height, : plane.width * deep * each])
    return found


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("bits", "chroma", "full"),
    [(8, "420", False), (8, "444", True), (10, "422", False), (8, "rgb", True), (16, "rgb", True)],
)
def test_the_number_of_threads_changes_no_sample(monkeypatch, size, bits, chroma, full) -> None:
    width, height = size
    output = the_output(width, height, bits, chroma, full)
    codec = "x264" if bits <= 10 else "ffv1"
    dtype = np.uint8 if bits <= 8 else np.uint16
    rgb = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (height, width, 3), dtype)
    assert color._threads(width, height) > 1
    coded = color.Writer(output, codec).frame(rgb)
    back = color.Reader(1, full, color.host_bits(bits)).rgb(coded)
    for threads in (1, 3):
        monkeypatch.setattr(color, "_threads", lambda *_, n=threads: n)
        alone = color.Writer(output, codec).frame(rgb)
        for made, expected in zip(samples(coded), samples(alone), strict=True):
            assert (made == expected).all()
        assert (color.Reader(1, full, color.host_bits(bits)).rgb(alone) == back).all()


@pytest.mark.parametrize(("codec", "chroma"), [("x264", "420"), ("png", "rgb")])
def test_a_frame_outlives_the_array_that_it_was_made_from(codec, chroma) -> None:
    """An array may be lent, not copied: writing into it afterwards must not change the picture."""
    output = the_output(64, 36, 8, chroma, False)
    clip = np.full((2, 36, 64, 3), 200, np.uint8)
    writer = color.Writer(output, codec)
    coded = writer.frame(clip[0])
    before = [s.copy() for s in samples(coded)]
    clip[:] = 0
    del clip
    assert all((a == b).all() for a, b in zip(samples(coded), before, strict=True))


def test_arrays_with_gaps_are_taken_too() -> None:
    output = the_output(64, 36, 8, "444", True)
    wide = np.random.default_rng(1).integers(0, 256, (36, 128, 3), np.uint8)
    for view in (wide[:, ::2], wide[:, 32:96], wide[::-1, :64]):
        given = color.Writer(output, "x264").frame(view)
        whole = color.Writer(output, "x264").frame(view.copy())
        assert all((a == b).all() for a, b in zip(samples(given), samples(whole), strict=True))
