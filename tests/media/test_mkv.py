"""The patch of an mkv's header keeps everything else, byte for byte in the same length."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest

from longtake.media.sinks import _matroska, mkv
from tests.media import fakes
from tests.media.fakes import FFV1, cuts, output, regular
from tests.media.rich import Source, make, tracks


def elements(data: bytes, start: int, stop: int) -> dict[int, bytes]:
    return {
        e.number: bytes(data[e.body : e.end])
        for e in _matroska._children(bytearray(data), start, stop)
    }


@pytest.mark.parametrize("title", ["", "A film: ä ~", "x" * 150])
@pytest.mark.parametrize("sar", [Fraction(64, 45), Fraction(45, 64), Fraction(12, 11)])
def test_only_name_and_display_change(tmp_path: Path, title: str, sar: Fraction) -> None:
    source = make(tmp_path / "in.mkv", Source(subtitles=(), attachment=False))
    with av.open(str(source)) as given, av.open(str(tmp_path / "named.mkv"), "w") as named:
        copies = {}
        for stream in (given.streams.video[0], given.streams.audio[0]):
            copies[stream.index] = named.add_stream_from_template(stream)
        copies[0].metadata["title"] = title
        for packet in given.demux(video=0, audio=0):
            if packet.size:
                packet.stream = copies[packet.stream.index]
                named.mux(packet)
    path = tmp_path / "named.mkv"
    out = output(sar=sar)
    film = regular(48, out, fakes.info(path, tracks=tracks(path), sar=sar))
    target = fakes.joined(
        mkv.plugin, film, fakes.plan(film, out, FFV1, cuts(48, 10)), tmp_path, "out.mkv"
    )
    with av.open(str(target), options={"err_detect": "crccheck+explode"}) as file:
        stream = file.streams.video[0]
        assert stream.sample_aspect_ratio == sar
        assert stream.metadata.get("title", "") == title
        assert len(list(file.decode(stream))) == 48
        assert len(file.streams.audio) == 1


def test_display_size_in_pixels_where_it_is_whole_else_as_a_ratio() -> None:
    assert elements(
        _matroska._display(output(width=720, height=576, sar=Fraction(64, 45))), 0, 10
    ) == {
        _matroska.WIDTH: (1024).to_bytes(2),
        _matroska.HEIGHT: (576).to_bytes(2),
    }
    odd = _matroska._display(output(width=719, height=576, sar=Fraction(64, 45)))
    found = elements(odd, 0, len(odd))
    assert found[_matroska.UNIT] == bytes([_matroska.AS_RATIO])
    ratio = Fraction(
        int.from_bytes(found[_matroska.WIDTH]), int.from_bytes(found[_matroska.HEIGHT])
    )
    assert ratio == Fraction(719, 576) * Fraction(64, 45)


def test_a_file_without_room_is_not_touched(tmp_path: Path) -> None:
    out = output()
    film = regular(4, out, fakes.info(container="images"))
    target = fakes.joined(mkv.plugin, film, fakes.plan(film, out, FFV1, cuts(4)), tmp_path, "a.mkv")
    before = target.read_bytes()
    with pytest.raises(ValueError, match="no track with room"):
        _matroska.set_aspect(target, output(sar=Fraction(2)), "nobody")
    assert target.read_bytes() == before


@pytest.mark.parametrize("length", [0, 2, 3, 100, 128])
def test_padding_is_as_long_as_asked(length: int) -> None:
    made = _matroska._void(length)
    assert len(made) == length
    if length:
        assert [e.end for e in _matroska._children(bytearray(made), 0, length)] == [length]
