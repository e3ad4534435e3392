"""Joining: exact times, whole tracks, no new encoding, any cut of the film into parts."""

from __future__ import annotations

import dataclasses
import hashlib
import tracemalloc
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from longtake.core.media import OutputFormat
from longtake.core.plan import Encoder, Plan
from longtake.core.ports import Clock
from longtake.media.sinks import mkv, mp4
from longtake.media.sinks._files import PartDamaged
from tests.media import fakes, rich
from tests.media.fakes import FFV1, NTSC, X264, FakeFilm, cuts, output, regular, write_parts

SINKS: dict[str, Any] = {"mp4": mp4.plugin, "mkv": mkv.plugin}
SMALL = {"width": 32, "height": 32}
B_FRAMES = dataclasses.replace(X264, preset="fast")  # reorders two deep


def silent(frames: int, out: OutputFormat, stamps: Sequence[int] | None = None) -> FakeFilm:
    film = regular(frames, out, fakes.info(container="images"))
    if stamps is not None:
        film.stamps, film.last = list(stamps[:-1]), stamps[-1]
    return film


def ticks(path: Path, base: Fraction) -> list[Fraction]:
    return [start / base for start, _ in fakes.shown(path)]


def variable(frames: int, seed: int = 3) -> list[int]:
    """Stamps in 1/90000 s with gaps between one tick and two seconds, from an odd start."""
    gaps = np.random.default_rng(seed).choice([1, 2, 1500, 3003, 3750, 180_000], frames)
    return [7 + int(x) for x in np.concatenate([[0], np.cumsum(gaps)])]


@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize("encoder", [X264, B_FRAMES, FFV1], ids=["x264", "b-frames", "ffv1"])
@pytest.mark.parametrize(
    ("rate", "base", "first"),
    [
        (NTSC, Fraction(1, 24000), 0),
        (Fraction(25), Fraction(1, 12800), 512 * 3),
        (Fraction(30000, 1001), Fraction(1001, 30000), 0),
        (Fraction(60), Fraction(1, 1000), 33),
    ],
)
def test_constant_rates_are_exact(
    tmp_path: Path, sink: str, encoder: Encoder, rate: Fraction, base: Fraction, first: int
) -> None:
    out = output(rate=rate, time_base=base, **SMALL)
    film = silent(21, out, [first + round(i / rate / base) for i in range(22)])
    job = fakes.plan(film, out, encoder, cuts(21, 1, 2, 9, 10))
    target = fakes.joined(SINKS[sink], film, job, tmp_path, f"out.{sink}")
    tick = base if sink == "mp4" else max(base, Fraction(1, 1000))
    found = ticks(target, base)
    slack = 0 if sink == "mp4" else tick / base / 2
    assert len(found) == 21
    assert all(abs(a - b) <= slack for a, b in zip(found, film.stamps, strict=True))
    with av.open(str(target)) as file:
        assert file.streams.video[0].average_rate == rate or base == Fraction(1, 1000)
        if sink == "mp4":
            assert file.streams.video[0].time_base == Fraction(1, base.denominator)
    assert len(fakes.decoded(target)) == 21
    last = fakes.shown(target)[-1]
    assert abs(sum(last) - film.last * base) <= (0 if sink == "mp4" else 2 * tick)


@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize("encoder", [B_FRAMES, FFV1], ids=["b-frames", "ffv1"])
def test_variable_stamps_are_exact(tmp_path: Path, sink: str, encoder: Encoder) -> None:
    out = output(rate=Fraction(24), time_base=Fraction(1, 90000), variable=True, **SMALL)
    film = silent(40, out, variable(40))
    job = fakes.plan(film, out, encoder, cuts(40, 1, 13, 14, 30))
    target = fakes.joined(SINKS[sink], film, job, tmp_path, f"out.{sink}")
    found = ticks(target, out.time_base)
    if sink == "mp4":
        assert found == film.stamps
        assert [f.pts for f in fakes.decoded(target)] == film.stamps
        if encoder is FFV1:
            assert [d / out.time_base for _, d in fakes.shown(target)] == [
                b - a for a, b in pairwise([*film.stamps, film.last])
            ]
    else:
        assert all(abs(a - b) <= 45 for a, b in zip(found, film.stamps, strict=True))
        times = [f.pts for f in fakes.decoded(target)]
        assert times == [round(Fraction(s, 90)) for s in film.stamps]


def test_an_mp4_of_variable_rate_knows_its_length(tmp_path: Path) -> None:
    out = output(rate=Fraction(24), time_base=Fraction(1, 90000), variable=True, **SMALL)
    gaps = np.random.default_rng(5).integers(1500, 6000, 30)
    gaps[0] = 6000
    film = silent(30, out, [0, *(int(x) for x in np.cumsum(gaps))])
    job = fakes.plan(film, out, B_FRAMES, cuts(30, 11))
    target = fakes.joined(mp4.plugin, film, job, tmp_path, "out.mp4")
    with av.open(str(target)) as file:
        assert file.streams.video[0].duration == film.last


@pytest.mark.parametrize("sink", SINKS)
def test_frames_are_those_of_the_parts_in_order(tmp_path: Path, sink: str) -> None:
    out = output(chroma="444", bits=8)
    film = silent(19, out)
    job = fakes.plan(film, out, FFV1, cuts(19, 4, 5, 11))
    target = fakes.joined(SINKS[sink], film, job, tmp_path, f"out.{sink}")
    assert film.pixels is not None
    for frame, wanted in zip(fakes.decoded(target), film.pixels, strict=True):
        made = frame.to_ndarray(format="rgb24").astype(int)
        assert np.abs(made - wanted).mean() < 1.5


@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize("encoder", [B_FRAMES, FFV1], ids=["x264", "ffv1"])
def test_packets_are_those_of_the_parts(tmp_path: Path, sink: str, encoder: Encoder) -> None:
    out = output(**SMALL)
    film = silent(20, out)
    job = fakes.plan(film, out, encoder, cuts(20, 7, 8))
    parts = write_parts(SINKS[sink], film, job, tmp_path)
    target = tmp_path / f"out.{sink}"
    list(SINKS[sink].join(parts, target, film, job))

    def payload(paths: Sequence[Path]) -> list[bytes]:
        found = []
        for path in paths:
            with av.open(str(path)) as file:
                found += [bytes(p) for p in file.demux(video=0) if p.size]
        return found

    assert payload([target]) == payload(parts)


@pytest.mark.parametrize("sink", SINKS)
def test_repeats_give_the_same_bytes(tmp_path: Path, sink: str) -> None:
    source = rich.make(tmp_path / "in.mkv", rich.Source(attachment=sink == "mkv"))
    out = output()
    info = fakes.info(source, tracks=rich.tracks(source), chapters=2)
    film = regular(48, out, info)
    job = fakes.plan(film, out, B_FRAMES, cuts(48, 20))
    sums = set()
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        target = fakes.joined(SINKS[sink], film, job, folder, f"out.{sink}")
        sums.add(hashlib.sha256(target.read_bytes()).hexdigest())
    assert len(sums) == 1


def test_mp4_starts_fast_and_knows_its_length(tmp_path: Path) -> None:
    out = output(**SMALL)
    film = silent(30, out)
    target = fakes.joined(
        mp4.plugin, film, fakes.plan(film, out, X264, cuts(30, 11)), tmp_path, "out.mp4"
    )
    head = target.read_bytes()
    assert head.index(b"moov") < head.index(b"mdat")
    with av.open(str(target)) as file:
        stream = file.streams.video[0]
        assert (stream.frames, stream.duration) == (30, film.last)


@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize("sar", [Fraction(1), Fraction(64, 45), Fraction(16, 11), Fraction(1, 2)])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_shape_on_screen_is_kept(tmp_path: Path, sink: str, sar: Fraction, rotation: int) -> None:
    out = output(sar=sar, rotation=rotation, width=62, height=46)
    film = silent(2, out)
    for encoder in (X264, FFV1):
        job = fakes.plan(film, out, encoder, cuts(2))
        target = fakes.joined(SINKS[sink], film, job, tmp_path, f"out.{sink}")
        with av.open(str(target)) as file:
            stream = file.streams.video[0]
            assert (stream.sample_aspect_ratio or 1) == sar
            frame = next(file.decode(stream))
        assert frame.rotation % 360 == rotation


@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize("count", [1, 2])
def test_a_prefix_joins_with_its_sound(tmp_path: Path, sink: str, count: int) -> None:
    """`recover`: the parts there are, and of the other tracks what lies under them."""
    source = rich.make(tmp_path / "in.mkv", rich.Source(subtitles=("subrip",), attachment=False))
    out = output()
    info = fakes.info(source, tracks=rich.tracks(source), chapters=2)
    film = regular(48, out, info)
    job = fakes.plan(film, out, X264, cuts(48, 12, 30))
    parts = write_parts(SINKS[sink], film, job, tmp_path)[:count]
    target = tmp_path / f"out.{sink}"
    frames = [12, 30][count - 1]
    assert list(SINKS[sink].join(parts, target, film, job))[-1] == frames
    end = Fraction(film.stamps[frames], 24000)
    assert len(fakes.decoded(target)) == frames
    with av.open(str(target)) as file:
        for stream in file.streams.audio:
            stamps = [p.pts * p.time_base for p in file.demux(stream) if p.pts is not None]
            assert end - Fraction(1, 20) < stamps[-1] < end
            file.seek(0)
        assert all(
            c["end"] * (c["time_base"] or 1) <= end + Fraction(1, 1000) for c in file.chapters()
        )
    with av.open(str(target)) as file:
        text = [p for p in file.demux(subtitles=0) if p.size > 2 and p.pts is not None]
    assert [round(p.pts * p.time_base * 1000) for p in text] == (
        [100] if count == 1 else [100, 900]
    )
    assert (text[-1].pts + text[-1].duration) * text[-1].time_base <= end + Fraction(1, 1000)


@pytest.mark.parametrize("sink", SINKS)
def test_a_stretch_takes_its_sound_along(tmp_path: Path, sink: str) -> None:
    """`--frames 12:36`: other tracks are cut to the stretch and moved by as much."""
    source = rich.make(tmp_path / "in.mkv", rich.Source(subtitles=("subrip",), attachment=False))
    out = output()
    info = fakes.info(source, tracks=rich.tracks(source), chapters=2)
    film = regular(24, out, info)
    begin, end = 12 / NTSC, 36 / NTSC
    film.time = Clock(shift=begin, begin=begin, end=end)
    target = fakes.joined(
        SINKS[sink], film, fakes.plan(film, out, X264, cuts(24, 10)), tmp_path, f"out.{sink}"
    )
    length = end - begin
    with av.open(str(target)) as file:
        stream = file.streams.audio[0]
        stamps = [p.pts * p.time_base for p in file.demux(stream) if p.pts is not None]
        chapters = [
            (c["metadata"]["title"], round(float(c["start"] * (c["time_base"] or 1)), 3))
            for c in file.chapters()
        ]
    assert 0 <= stamps[0] < Fraction(1, 40)
    assert length - Fraction(1, 20) < stamps[-1] < length
    assert chapters == [("Eins", 0.0), ("Zwei", pytest.approx(0.9 - float(begin), abs=0.001))]
    with av.open(str(target)) as file:
        text = [p for p in file.demux(subtitles=0) if p.size > 2 and p.pts is not None]
    assert text[0].pts == 0  # it began before the stretch
    ends = text[0].duration * text[0].time_base
    assert abs(ends - (Fraction(7, 10) - begin)) <= Fraction(1, 1000)


def test_damaged_parts_are_named(tmp_path: Path) -> None:
    out = output(**SMALL)
    film = silent(20, out)
    job = fakes.plan(film, out, X264, cuts(20, 7))
    parts = write_parts(mp4.plugin, film, job, tmp_path)
    swapped = [parts[1], parts[0]]
    with pytest.raises(PartDamaged, match=r"000001.mp4 holds 13 frames instead of 7"):
        list(mp4.plugin.join(swapped, tmp_path / "out.mp4", film, job))
    other = fakes.plan(film, out, dataclasses.replace(X264, preset="fast"), cuts(20, 7))
    folder = tmp_path / "other"
    folder.mkdir()
    mixed = [parts[0], write_parts(mp4.plugin, film, other, folder)[1]]
    with pytest.raises(PartDamaged, match="other parameters"):
        list(mp4.plugin.join(mixed, tmp_path / "out.mp4", film, job))


@pytest.mark.parametrize("sink", SINKS)
def test_a_join_that_is_given_up_leaves_no_open_file(tmp_path: Path, sink: str) -> None:
    out = output(**SMALL)
    film = silent(600, out)
    job = fakes.plan(film, out, FFV1, cuts(600, 300))
    parts = write_parts(SINKS[sink], film, job, tmp_path, clip=100)
    joining = SINKS[sink].join(parts, tmp_path / f"out.{sink}", film, job)
    assert next(joining) == 256
    joining.close()
    assert list(SINKS[sink].join(parts, tmp_path / f"out.{sink}", film, job))[-1] == 600


def test_memory_does_not_grow_with_the_film(tmp_path: Path) -> None:
    """Python's own memory; libav keeps 100 bytes a packet for an mp4's index."""

    def peak(frames: int) -> int:
        out = output(width=16, height=16, rate=Fraction(25), time_base=Fraction(1, 25))
        film = silent(8, out)
        film.stamps, film.last = [*range(frames)], frames
        job: Plan = fakes.plan(film, out, FFV1, cuts(frames, *range(50, frames, 50)))
        parts = []
        for segment in job.segments:
            path = tmp_path / f"{frames}_{segment.index}.mp4"
            with mp4.plugin.open(path, out, FFV1, segment.start) as writer:
                for at in range(segment.start, segment.stop):
                    assert film.pixels is not None
                    clip = fakes.Clip(pixels=film.pixels[at % 8][None], start=at)
                    writer.write(clip, [at])
            parts.append(path)
        tracemalloc.start()
        list(mp4.plugin.join(parts, tmp_path / "out.mp4", film, job))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(50)
    assert peak(1000) < 1.1 * peak(200) + 10_000
