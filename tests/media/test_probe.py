"""What the header and the first frame say, over codecs, containers and tags."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from longtake.core.errors import BadInput
from longtake.core.media import Color
from longtake.media.probe import probe, refuse
from tests.media import films

BT709 = Color(matrix=1, primaries=1, transfer=1, full_range=False)


def test_everything_of_a_plain_film(tmp_path: Path) -> None:
    info = probe(
        films.make(tmp_path / "a.mp4", frames=30, sound=True, chapters=2, sar=Fraction(4, 3))
    )
    assert (info.codec, info.width, info.height, info.frames) == ("h264", 96, 64, 30)
    assert (info.rate, info.duration, info.start) == (25, Fraction(30, 25), 0)
    assert (info.bits, info.chroma, info.alpha, info.fields) == (8, "420", False, "progressive")
    assert (info.sar, info.chapters, info.exact, info.variable) == (Fraction(4, 3), 2, False, False)
    assert info.size == (tmp_path / "a.mp4").stat().st_size
    (sound,) = info.of("audio")
    assert (sound.codec, sound.channels, sound.sample_rate) == ("aac", 2, 48000)


@pytest.mark.parametrize(
    "rate", [Fraction(24000, 1001), Fraction(30000, 1001), 50, Fraction(25, 2), 120, 7]
)
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi"])
def test_rates_stay_exact(rate: Any, suffix: str, tmp_path: Path) -> None:
    assert probe(films.make(tmp_path / f"a.{suffix}", rate=rate)).rate == rate


@pytest.mark.parametrize(
    ("codec", "pixel_format", "suffix", "bits", "chroma"),
    [
        ("libx264", "yuv420p10le", "mkv", 10, "420"),
        ("libx264", "yuv422p", "mp4", 8, "422"),
        ("libx264", "yuv444p10le", "mp4", 10, "444"),
        ("prores_ks", "yuv422p10le", "mov", 10, "422"),
        ("ffv1", "yuv420p16le", "mkv", 16, "420"),
        ("ffv1", "bgr0", "mkv", 8, "rgb"),
        ("ffv1", "gray16le", "mkv", 16, "gray"),
        ("ffv1", "yuv411p", "mkv", 8, "422"),
        ("rawvideo", "bgr24", "avi", 8, "rgb"),
        ("mjpeg", "yuvj422p", "avi", 8, "422"),
    ],
)
def test_bits_and_chroma(
    codec: str, pixel_format: str, suffix: str, bits: int, chroma: str, tmp_path: Path
) -> None:
    path = films.make(tmp_path / f"a.{suffix}", frames=3, codec=codec, pixel_format=pixel_format)
    info = probe(path)
    assert (info.bits, info.chroma) == (bits, chroma)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize(
    "color",
    [BT709, Color(matrix=6, primaries=6, transfer=6, full_range=True), Color(),
     Color(matrix=9, primaries=9, transfer=14, full_range=False)],
)  # fmt: skip
def test_colour_tags_as_code_points(color: Color, suffix: str, tmp_path: Path) -> None:
    assert probe(films.make(tmp_path / f"a.{suffix}", frames=2, color=color)).color == color


def test_mjpeg_is_full_range_and_says_so(tmp_path: Path) -> None:
    path = films.make(tmp_path / "a.avi", frames=2, codec="mjpeg", pixel_format="yuvj420p")
    assert probe(path).color.full_range is True


@pytest.mark.parametrize("degrees", [90, -90, 180])
def test_rotation_is_what_a_writer_must_set(degrees: int, tmp_path: Path) -> None:
    found = probe(films.make(tmp_path / "a.mp4", frames=2, rotation=degrees)).rotation
    again = probe(films.make(tmp_path / "b.mp4", frames=2, rotation=found)).rotation
    assert found == again
    assert (found - degrees) % 360 == 0


@pytest.mark.parametrize("order", ["tff", "bff"])
def test_interlace_is_flagged(order: str, tmp_path: Path) -> None:
    assert probe(films.make(tmp_path / "a.mkv", frames=4, interlaced=order)).fields in (
        "tff",
        "bff",
    )


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_cover_art_is_not_the_film(suffix: str, tmp_path: Path) -> None:
    info = probe(films.make(tmp_path / f"a.{suffix}", frames=4, cover=True, sound=True))
    assert (info.codec, info.width) == ("h264", 96)
    assert any(t.codec == "mjpeg" for t in info.tracks)


def test_the_film_is_the_stream_a_player_shows(tmp_path: Path) -> None:
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as out:
        streams: list[Any] = [out.add_stream("ffv1", rate=25) for _ in range(2)]
        for stream, width in zip(streams, (64, 128), strict=True):
            stream.width, stream.height, stream.pix_fmt = width, 64, "yuv420p"
        for stream in streams:
            frame = av.VideoFrame(stream.width, 64, "yuv420p")
            frame.pts = 0
            out.mux(stream.encode(frame))
    info = probe(path)
    assert (info.stream, info.width) == (1, 128)
    assert [t.kind for t in info.tracks] == ["video"]


def test_frames_of_an_unindexed_container_are_estimated(tmp_path: Path) -> None:
    info = probe(films.make(tmp_path / "a.mkv", frames=50))
    assert info.frames == 50
    assert not info.exact


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_described_but_refused(transfer: int, name: str, tmp_path: Path) -> None:
    color = Color(matrix=9, primaries=9, transfer=transfer, full_range=False)
    path = films.make(tmp_path / "a.mkv", frames=2, pixel_format="yuv420p10le", color=color)
    info = probe(path)
    assert info.color == color
    with pytest.raises(BadInput, match=name):
        refuse(info)


def test_alpha_is_refused_unless_dropped(tmp_path: Path) -> None:
    info = probe(films.make(tmp_path / "a.mkv", frames=2, codec="ffv1", pixel_format="yuva420p"))
    assert info.alpha
    with pytest.raises(BadInput, match="--drop alpha"):
        refuse(info)
    refuse(info, ("alpha",))


def test_a_matrix_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    info = probe(films.make(tmp_path / "a.mkv", frames=2))
    with pytest.raises(BadInput, match="14"):
        refuse(replace(info, color=Color(matrix=14)))


def test_probe_is_quick_and_needs_no_torch(tmp_path: Path) -> None:
    path = films.make(tmp_path / "a.mp4", frames=3)
    code = (
        "import sys, pathlib; from longtake.media.probe import probe; "
        "probe(pathlib.Path(sys.argv[1])); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=30)


def test_one_picture_is_a_film_of_one_frame(tmp_path: Path) -> None:
    info = probe(films.png(tmp_path / "still.png"), Fraction(30000, 1001))
    assert (info.container, info.frames, info.rate) == ("images", 1, Fraction(30000, 1001))
