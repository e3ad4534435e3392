"""Verify passes what is right and says of what is wrong where it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from longtake.core.errors import VerifyFailed
from longtake.core.media import Color
from longtake.core.plan import Encoder, Plan
from longtake.media import verify
from longtake.media.sinks import mkv, mp4, png
from tests.media import fakes, rich
from tests.media.fakes import FFV1, PNG, X264, FakeFilm, cuts, output, regular

SINKS: dict[str, Any] = {"mp4": mp4.plugin, "mkv": mkv.plugin}
FRAMES = 48


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    return rich.make(folder / "in.mkv", rich.Source(attachment=False, cover=True))


def right(source: Path, encoder: Encoder = X264, **changes: Any) -> tuple[FakeFilm, Plan]:
    out = output(**changes)
    film = regular(FRAMES, out, fakes.info(source, tracks=rich.tracks(source), chapters=2))
    return film, fakes.plan(film, out, encoder, cuts(FRAMES, 20))


def failure(target: Path, film: FakeFilm, job: Plan, frames: int | None = None) -> str:
    with pytest.raises(VerifyFailed) as caught:
        list(verify.verify(target, film, job, frames))
    return str(caught.value)


@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize("encoder", [X264, FFV1], ids=["x264", "ffv1"])
def test_what_is_right_passes(tmp_path: Path, source: Path, sink: str, encoder: Encoder) -> None:
    tags = Color(matrix=6, primaries=6, transfer=6, full_range=False)
    film, job = right(source, encoder, sar=Fraction(64, 45), rotation=270, color=tags)
    target = fakes.joined(SINKS[sink], film, job, tmp_path, f"out.{sink}")
    assert list(verify.verify(target, film, job)) == [verify.TELL, FRAMES]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"sar": Fraction(2)}, "sample aspect ratio 1 instead of 2"),
        ({"rotation": 90}, "rotation 0 instead of 90"),
        ({"color": Color(matrix=1)}, "colour matrix 2 instead of 1"),
        ({"color": Color(primaries=9)}, "colour primaries 2 instead of 9"),
        ({"color": Color(transfer=8)}, "transfer curve 2 instead of 8"),
        ({"color": Color(full_range=True)}, "full range False instead of True"),
        ({"width": 32}, "frame 0 to 47: is 64x48"),
    ],
    ids=str,
)
def test_another_shape_or_colour_is_found(
    tmp_path: Path, source: Path, change: dict[str, Any], told: str
) -> None:
    film, job = right(source)
    target = fakes.joined(mkv.plugin, film, job, tmp_path, "out.mkv")
    planned = dataclasses.replace(job.recipe.output, **change)
    other = dataclasses.replace(job, recipe=dataclasses.replace(job.recipe, output=planned))
    assert told in failure(target, film, other)


def test_missing_frames_and_wrong_times_are_found(tmp_path: Path, source: Path) -> None:
    film, job = right(source)
    parts = fakes.write_parts(mp4.plugin, film, job, tmp_path)
    list(mp4.plugin.join(parts[:1], tmp_path / "out.mp4", film, job))
    assert list(verify.verify(tmp_path / "out.mp4", film, job, 20)) == [20]
    told = failure(tmp_path / "out.mp4", film, job)
    assert "20 frames instead of 48" in told
    assert "audio track 1" in told
    list(mp4.plugin.join(parts, tmp_path / "out.mp4", film, job))
    film.stamps = [s + (700 if i in (5, 6, 7, 30) else 0) for i, s in enumerate(film.stamps)]
    told = failure(tmp_path / "out.mp4", film, job)
    assert "frame 5 to 7, 30: is shown at another time" in told


Painter = Callable[[Any], None]


def black(pixels: Any) -> None:
    pixels[10:13] = 0


def white(pixels: Any) -> None:
    pixels[21] = 255


def frozen(pixels: Any) -> None:
    pixels[30:33] = pixels[29]


@pytest.mark.parametrize("sink", ["mp4", "png"])
@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (black, "frame 10 to 12: is black, the source is not"),
        (white, "frame 21: is much lighter or darker"),
        (frozen, "frame 30 to 32: repeats the one before"),
    ],
)
def test_lost_pictures_are_found(
    tmp_path: Path, source: Path, sink: str, spoil: Painter, told: str
) -> None:
    changes: dict[str, Any] = {} if sink == "mp4" else {"chroma": "rgb"}
    film, job = right(source, X264 if sink == "mp4" else PNG, **changes)
    film.luma(0, 1)  # the film's own tables, before it is spoilt
    assert film.pixels is not None
    spoil(film.pixels)
    plugin = mp4.plugin if sink == "mp4" else png.plugin
    target = fakes.joined(plugin, film, job, tmp_path, "out.mp4" if sink == "mp4" else "out")
    assert told in failure(target, film, job)


def test_black_and_still_sources_may_be_so(tmp_path: Path, source: Path) -> None:
    film, job = right(source)
    assert film.pixels is not None
    for spoil in (black, frozen):
        spoil(film.pixels)
    target = fakes.joined(mp4.plugin, film, job, tmp_path, "out.mp4")
    assert list(verify.verify(target, film, job)) == [verify.TELL, FRAMES]


def spoil_frame(target: Path, number: int) -> None:
    """Six bytes inside one coded frame, as a bad disk would."""
    raw = bytearray(target.read_bytes())
    with av.open(str(target)) as file:
        places = [(p.pos, p.size) for p in file.demux(video=0) if p.size]
    at, size = places[number]
    assert at is not None
    for i in range(6):
        raw[at + size // 2 + i] ^= 0x5A
    target.write_bytes(raw)


@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize("encoder", [X264, FFV1], ids=["x264", "ffv1"])
def test_damaged_frames_are_found(
    tmp_path: Path, source: Path, sink: str, encoder: Encoder
) -> None:
    film, job = right(source, encoder)
    target = fakes.joined(SINKS[sink], film, job, tmp_path, f"out.{sink}")
    spoil_frame(target, 33)
    told = failure(target, film, job)
    if encoder is FFV1:
        assert "frame 33: has a slice with a wrong checksum" in told
    else:
        assert "cannot be decoded" in told


def test_damaged_pictures_are_found(tmp_path: Path, source: Path) -> None:
    film, job = right(source, PNG, chroma="rgb")
    target = fakes.joined(png.plugin, film, job, tmp_path, "out")
    whole = (target / "00000007.png").read_bytes()
    (target / "00000007.png").write_bytes(whole[: len(whole) // 2])
    (target / "00000009.png").unlink()
    (target / "notes.txt").write_text("x")
    told = failure(target, film, job)
    assert "frame 7: cannot be decoded" in told
    assert "frame 9: has no file" in told
    assert "notes.txt" in told


def without(path: Path, target: Path, keep: Callable[[Any], bool], shift: int = 0) -> None:
    """A copy of `path` with only the packets that `keep` wants; sound later by `shift` ms."""
    with av.open(str(path)) as given, av.open(str(target), "w") as out:
        copies = {s.index: out.add_stream_from_template(s) for s in given.streams if keep(s)}
        for packet in given.demux([s for s in given.streams if keep(s)]):
            if packet.size and keep(packet):
                if packet.stream.type == "audio" and packet.pts is not None:
                    packet.pts, packet.dts = packet.pts + shift, packet.pts + shift
                packet.stream = copies[packet.stream.index]
                out.mux(packet)


def test_lost_and_moved_sound_is_found(tmp_path: Path, source: Path) -> None:
    film, job = right(source)
    whole = fakes.joined(mkv.plugin, film, job, tmp_path, "out.mkv")

    def no_cover(x: Any) -> bool:
        stream = x if hasattr(x, "codec_context") else x.stream
        return stream.type != "video" or stream.index == 0

    def second(x: Any) -> bool:
        return no_cover(x) and (x if hasattr(x, "codec_context") else x.stream).index != 2

    def gap(x: Any) -> bool:
        late = hasattr(x, "pts") and x.pts is not None and 500 < x.pts < 700
        return no_cover(x) and not (late and x.stream.index == 1)

    target = tmp_path / "other.mkv"
    without(whole, target, second)
    assert "1 audio tracks instead of 2" in failure(target, film, job)
    without(whole, target, gap)
    assert "audio track 1: 85 packets instead of 94" in failure(target, film, job)
    without(whole, target, no_cover, shift=30)
    told = failure(target, film, job)
    assert "audio track 1: begins at 0.009000 s, not at -0.021000 s" in told


def test_what_is_no_film_is_said(tmp_path: Path, source: Path) -> None:
    film, job = right(source)
    target = tmp_path / "out.mp4"
    target.write_bytes(b"\0" * 1000)
    assert "cannot be decoded" in failure(target, film, job)
    with pytest.raises(VerifyFailed, match="cannot be read"):
        verify.part(target, job.recipe.output, 3)


def test_a_part_is_looked_at(tmp_path: Path, source: Path) -> None:
    film, job = right(source)
    path = fakes.write_parts(mp4.plugin, film, job, tmp_path)[0]
    verify.part(path, job.recipe.output, 20)
    with pytest.raises(VerifyFailed, match="20 frames instead of 21"):
        verify.part(path, job.recipe.output, 21)
    with pytest.raises(VerifyFailed, match="64x48 instead of 32x48"):
        verify.part(path, dataclasses.replace(job.recipe.output, width=32), 20)


def test_many_faults_are_told_shortly(tmp_path: Path, source: Path) -> None:
    film, job = right(source)
    target = fakes.joined(mp4.plugin, film, job, tmp_path, "out.mp4")
    film.levels = [(200.0 if i % 2 else 20.0, 90.0) for i in range(FRAMES)]
    told = failure(target, film, job)
    assert told.count("\n") <= 25
    assert len(told) < 2000


def test_no_picture_is_lost_in_long_films_between_stretches(tmp_path: Path) -> None:
    out = output(width=16, height=16, rate=Fraction(25), time_base=Fraction(1, 25))
    film = regular(600, out, fakes.info(container="images"))
    assert film.pixels is not None
    film.pixels = np.ascontiguousarray(film.pixels)
    job = fakes.plan(film, out, FFV1, cuts(600, 250, 500))
    target = fakes.joined(mp4.plugin, film, job, tmp_path, "out.mp4")
    counts = list(verify.verify(target, film, job))
    assert counts[-1] == 600
    assert len(counts) >= 3
