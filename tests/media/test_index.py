"""The analysis: every frame counted and timed, resumable, and honest about what is missing."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from longtake.core.errors import BadInput
from longtake.core.media import VideoInfo
from longtake.media import _clock, exact, index
from longtake.media._records import RECORD
from longtake.media.probe import probe
from tests.media import films


def analyse(
    path: Path, folder: Path, drop: Sequence[str] = ()
) -> tuple[VideoInfo, index.FilmIndex]:
    info = probe(path)
    for _ in index.build(info, folder, drop):
        pass
    found = index.FilmIndex.open(info, folder)
    return exact.exact_info(info, found), found


# --- counting and timing -------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 9, 40, 93])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "mpg"])
def test_every_length_is_counted(frames: int, suffix: str, tmp_path: Path) -> None:
    codec = "mpeg2video" if suffix == "mpg" else "libx264"
    path = films.make(tmp_path / f"a.{suffix}", frames=frames, b_frames=2, codec=codec)
    info, found = analyse(path, tmp_path / "i")
    assert (len(found), info.frames, info.exact) == (frames, frames, True)
    assert not info.variable
    assert info.duration == Fraction(frames, 25)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "ts", "mov", "flv", "mxf"])
@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(60000, 1001), 25])
def test_a_constant_rate_is_recognised_and_exact(suffix: str, rate: Any, tmp_path: Path) -> None:
    codec = "mpeg2video" if suffix == "mxf" else "libx264"
    path = films.make(tmp_path / f"a.{suffix}", frames=70, rate=rate, size=(32, 32), codec=codec)
    info, found = analyse(path, tmp_path / "i")
    timing = found.timing(info)
    assert (timing.rate, timing.variable) == (rate, False)
    assert (1 / (timing.rate * timing.time_base)).denominator == 1
    assert found.timing(probe(path)) == timing  # whatever is known before


def test_a_variable_rate_keeps_every_timestamp(tmp_path: Path) -> None:
    pts = [500, 540, 573, 606, 640, 657, 674, 691, 900, 940]
    path = films.make(
        tmp_path / "a.mkv", frames=10, pts=pts, time_base=Fraction(1, 1000), rate=30, b_frames=2
    )
    info, found = analyse(path, tmp_path / "i")
    assert found.pts(0, 10) == pts
    assert (info.variable, info.start) == (True, 500)
    assert found.timing(info).time_base == Fraction(1, 1000)
    assert any("Variable" in note for note in info.notes)


def test_one_frame_left_out_is_no_rounding(tmp_path: Path) -> None:
    """A tick as long as a frame must not hide a gap of one frame."""
    path = films.make(tmp_path / "a.mp4", frames=6, pts=[0, 1, 3, 4, 5, 6], rate=24)
    assert analyse(path, tmp_path / "i")[0].variable


def test_the_clock_of_a_transport_stream_begins_at_the_earliest_track(tmp_path: Path) -> None:
    path = films.make(tmp_path / "a.ts", sound=True)
    info, found = analyse(path, tmp_path / "i")
    with av.open(str(path)) as container:
        starts = [s.start_time * s.time_base for s in container.streams]  # type: ignore[operator]
    assert found.shift == min(starts)
    assert found.timing(info).start * found.timing(info).time_base == starts[0] - min(starts)


def test_timestamps_that_do_not_rise_are_mended_and_no_frame_is_lost(tmp_path: Path) -> None:
    a = films.make(tmp_path / "a.ts", frames=30)
    b = films.make(tmp_path / "b.ts", frames=12)
    both = tmp_path / "both.ts"
    both.write_bytes(a.read_bytes() + b.read_bytes())
    info, found = analyse(both, tmp_path / "i")
    shown = found.pts(0, len(found))
    assert len(shown) == 42
    assert all(x < y for x, y in itertools.pairwise(shown))
    assert any("timestamp" in note for note in info.notes)


def test_frames_of_avi_are_shown_in_order_at_their_rate(tmp_path: Path) -> None:
    for codec in ("libx264", "mpeg4"):
        path = films.make(tmp_path / f"{codec}.avi", frames=30, codec=codec, b_frames=2)
        assert analyse(path, tmp_path / codec)[1].pts(0, 30) == list(range(30))


def test_a_recording_that_begins_inside_a_picture_begins_at_its_first_whole_one(
    tmp_path: Path,
) -> None:
    path = films.make(tmp_path / "a.ts", frames=40)
    path.write_bytes(path.read_bytes()[188 * 40 :])
    info, found = analyse(path, tmp_path / "i")
    assert 20 <= len(found) < 40
    assert info.start > 0


@pytest.mark.parametrize("order", ["tff", "bff"])
def test_fields_come_from_every_frame(order: str, tmp_path: Path) -> None:
    info, found = analyse(films.make(tmp_path / "a.mkv", interlaced=order), tmp_path / "i")
    assert (info.fields, found.fields()) == (order, order)


@pytest.mark.parametrize("order", ["tff", "bff"])
def test_fields_that_nobody_marked_are_seen(order: str, tmp_path: Path) -> None:
    woven = films.woven(films.texture((320, 240)), order)
    path = films.make(tmp_path / "a.mkv", frames=60, size=(320, 240), picture=woven)
    info, _ = analyse(path, tmp_path / "i")
    assert info.fields == order
    assert any("not marked as interlaced" in note for note in info.notes)


def test_a_change_of_size_is_refused_by_frame(tmp_path: Path) -> None:
    a = films.make(tmp_path / "a.ts", frames=15)
    b = films.make(tmp_path / "b.ts", frames=15, size=(128, 96), start=15)
    both = tmp_path / "both.ts"
    both.write_bytes(a.read_bytes() + b.read_bytes())
    with pytest.raises(BadInput, match="frame 15 is 128x96"):
        analyse(both, tmp_path / "i")


# --- resuming ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("a.mp4", {"b_frames": 2}),
        ("open.mkv", {"b_frames": 2, "open_gop": True, "options": {"preset": "veryfast"}}),
        ("a.ts", {"b_frames": 2}),
        ("a.avi", {"codec": "mpeg4", "b_frames": 2}),
        ("a.webm", {"codec": "libvpx-vp9"}),
        ("vfr.mkv", {"pts": [i * i * 3 + 20 * i for i in range(90)],
                     "time_base": Fraction(1, 1000)}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kept", [0, 2, 41, 89])
def test_resumed_is_straight(name: str, how: dict[str, Any], kept: int, tmp_path: Path) -> None:
    path = films.make(tmp_path / name, frames=90, size=(48, 32), **how)
    analyse(path, tmp_path / "i")
    straight = (tmp_path / "i" / index.BIN).read_bytes()
    facts = (tmp_path / "i" / index.JSON).read_text()
    index._begin(probe(path), tmp_path / "i", strict=True)
    torn = straight[: kept * RECORD.itemsize + 100]
    (tmp_path / "i" / index.BIN).write_bytes(torn)
    analyse(path, tmp_path / "i")
    assert (tmp_path / "i" / index.BIN).read_bytes() == straight
    assert (tmp_path / "i" / index.JSON).read_text() == facts


def test_killed_again_and_again(tmp_path: Path) -> None:
    path = films.make(tmp_path / "a.mp4", frames=900, b_frames=2, size=(320, 176))
    _, whole = analyse(path, tmp_path / "straight")
    code = (
        "import sys, pathlib; from longtake.media import index; "
        "from longtake.media.probe import probe; a, b = map(pathlib.Path, sys.argv[1:]); "
        "[print(n, flush=True) for n in index.build(probe(a), b)]"
    )
    for _ in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", code, str(path), str(tmp_path / "i")], stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        child.stdout.readline()
        os.kill(child.pid, signal.SIGKILL)
        child.stdout.close()
        child.wait()
    analyse(path, tmp_path / "i")
    same = [(tmp_path / f / index.BIN).read_bytes() for f in ("straight", "i")]
    assert same[0] == same[1]
    assert len(whole) == 900


def test_a_damaged_or_foreign_index_is_made_anew(tmp_path: Path) -> None:
    path = films.make(tmp_path / "a.mkv", frames=30)
    folder = tmp_path / "i"
    analyse(path, folder)
    good = (folder / index.BIN).read_bytes()
    for harm in (good[:500], good[:2000] + b"x" + good[2001:], b""):
        (folder / index.BIN).write_bytes(harm)
        analyse(path, folder)
        assert (folder / index.BIN).read_bytes() == good
    (folder / index.JSON).write_text("{")
    analyse(path, folder)
    assert (folder / index.BIN).read_bytes() == good
    films.make(path, frames=20)
    with pytest.raises(BadInput, match="has changed"):
        index.FilmIndex.open(probe(path), folder)
    assert len(analyse(path, folder)[1]) == 20


def test_a_complete_index_is_not_made_again(tmp_path: Path) -> None:
    path = films.make(tmp_path / "a.mp4", frames=30)
    analyse(path, tmp_path / "i")
    made = (tmp_path / "i" / index.BIN).stat().st_mtime_ns
    time.sleep(0.01)
    assert [*index.build(probe(path), tmp_path / "i")] == [30]
    assert (tmp_path / "i" / index.BIN).stat().st_mtime_ns == made


# --- broken off and damaged ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("a.mp4", {"container_options": {"movflags": "faststart"}}),
        ("a.mkv", {}),
        ("a.avi", {}),
        ("a.flv", {}),
        ("a.webm", {"codec": "libvpx-vp9"}),
        ("a.mxf", {"codec": "mpeg2video"}),
    ],
)
def test_a_film_that_broke_off(name: str, how: dict[str, Any], tmp_path: Path) -> None:
    path = films.make(tmp_path / name, frames=60, **how)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    with pytest.raises(BadInput, match="--drop tail") as refused:
        analyse(path, tmp_path / "i")
    info, found = analyse(path, tmp_path / "i", ("tail",))
    assert 25 <= len(found) <= 45
    assert f"{len(found)} of" in str(refused.value)
    assert any("broke off" in note for note in info.notes)
    assert not info.variable


def _spoil(path: Path, packets: Sequence[int]) -> None:
    """Overwrite whole packets with zeros."""
    with av.open(str(path)) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    for number in packets:
        at, size = places[number]
        data[at or 0 : (at or 0) + size] = bytes(size)
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(("codec", "suffix"), [("mjpeg", "mov"), ("libx264", "mp4")])
def test_packets_that_cannot_be_decoded(codec: str, suffix: str, tmp_path: Path) -> None:
    form = "yuvj422p" if codec == "mjpeg" else "yuv420p"
    path = films.make(tmp_path / f"a.{suffix}", frames=60, codec=codec, pixel_format=form, gop=60)
    _spoil(path, [30, 31])
    with pytest.raises(BadInput, match=r"2 of 60 packets cannot be decoded.*before frame 30"):
        analyse(path, tmp_path / "i")
    info, found = analyse(path, tmp_path / "i", ("damaged",))
    assert len(found) == 58
    ticks = [round(Fraction(i, 25) / info.time_base) for i in range(60) if i not in (30, 31)]
    assert found.pts(0, 58) == ticks
    assert any("left out" in note for note in info.notes)


# --- rates ---------------------------------------------------------------------------------------


def _find(pts: Sequence[int], tick: Fraction, *stated: Fraction) -> tuple[Fraction, bool]:
    runs = np.array_split(np.array(pts, np.int64), 3)
    return _clock.find(runs, len(pts), pts[0], pts[-1], tick, stated)


@pytest.mark.parametrize("rate", [*_clock.STANDARD, Fraction(577200, 19043), Fraction(97, 4)])
def test_rounded_timestamps_of_any_rate(rate: Fraction) -> None:
    tick = Fraction(1, 1000)
    if rate > 120:
        tick = Fraction(1, 90000)
    pts = [round(i / rate / tick) for i in range(5000)]
    found, variable = _find(pts, tick, Fraction(25))
    assert not variable
    assert max(abs(round(i / found / tick) - p) for i, p in enumerate(pts)) <= 1
    if rate in _clock.STANDARD:
        assert found == rate


def test_ntsc_is_not_taken_for_its_neighbour_over_two_hours() -> None:
    tick = Fraction(1, 90000)
    for rate in (Fraction(24), Fraction(24000, 1001)):
        pts = [round(i / rate / tick) for i in range(172_800)]
        assert _find(pts, tick, Fraction(24)) == (rate, False)


def test_two_rates_in_one_film_are_variable() -> None:
    pts = [*range(0, 40 * 50, 40), *range(2000, 2000 + 33 * 50, 33)]
    assert _find(pts, Fraction(1, 1000), Fraction(25))[1]


def test_the_clock_never_stands_still() -> None:
    clock = _clock.Clock(Fraction(40))
    raw = [0, 40, 40, 40, 160, None, None, 280, 5, 45, 85]
    shown = [clock.show(r) for r in raw]
    assert shown == [0, 40, 41, 42, 160, 200, 240, 280, 320, 360, 400]
