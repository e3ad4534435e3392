"""Reading: whatever run of frames is asked for, it is bit for bit the run of a straight decode."""

from __future__ import annotations

import hashlib
import itertools
import random
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from longtake.core.errors import BadInput
from longtake.core.media import OutputFormat, Pixels
from longtake.core.plan import Reading
from longtake.media import _decode, color, exact, index
from longtake.media.probe import probe
from longtake.media.source import FileFilm, digest
from tests.media import films

FILMS: dict[str, dict[str, Any]] = {
    "closed.mp4": {"b_frames": 2, "sound": True},
    "open.mp4": {"b_frames": 2, "open_gop": True, "options": {"preset": "veryfast"}},
    "open.ts": {"b_frames": 2, "open_gop": True, "options": {"preset": "veryfast"}, "sound": True},
    "refresh.mkv": {
        "options": {"preset": "veryfast", "x264-params": "intra-refresh=1:asm=sse2", "threads": "1"}
    },
    "hevc.mkv": {"codec": "libx265", "b_frames": 3, "open_gop": True},
    "mpeg2.ts": {"codec": "mpeg2video", "b_frames": 2, "sound": True},
    "mpeg2.mpg": {"codec": "mpeg2video", "b_frames": 2},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "av1.mkv": {"codec": "libsvtav1"},
    "ffv1.mkv": {"codec": "ffv1", "pixel_format": "yuv422p10le"},
    "mjpeg.avi": {"codec": "mjpeg", "pixel_format": "yuvj422p", "sound": True},
    "asp.avi": {"codec": "mpeg4", "b_frames": 2, "sound": True},
    "h264.avi": {"b_frames": 2},
    "prores.mov": {"codec": "prores_ks", "pixel_format": "yuv422p10le"},
    "flash.flv": {"b_frames": 2, "sound": True},
    "rgb.avi": {"codec": "huffyuv", "pixel_format": "rgb24"},
    "odd.mkv": {"size": (97, 63), "pixel_format": "yuv444p", "rate": Fraction(24000, 1001)},
    "vfr.mkv": {"pts": [500 + 20 * i + i * i for i in range(48)], "b_frames": 2,
                "time_base": Fraction(1, 1000), "rate": 30},
}  # fmt: skip
INTERLACED = {f"{order}.mkv": {"interlaced": order, "b_frames": 2} for order in ("tff", "bff")}


def film(
    path: Path, folder: Path, *, first: int = 0, frames: int | None = None, **how: Any
) -> FileFilm:
    """An analysed film, read as it is: nothing is assumed, nothing is dropped."""
    info = probe(path)
    for _ in index.build(info, folder, how.get("drop", ())):
        pass
    found = index.FilmIndex.open(info, folder)
    info = exact.exact_info(info, found)
    timing = found.timing(info)
    matrix, full, _ = color.reading_of(info, None)
    reading = Reading(
        first=first, deinterlace=how.get("deinterlace", "no"), matrix=matrix, full_range=full,
        drop=how.get("drop", ()),
    )  # fmt: skip
    output = OutputFormat(
        width=info.width, height=info.height, rate=timing.rate, time_base=timing.time_base,
        variable=timing.variable, bits=info.bits, chroma=info.chroma, color=info.color,
        matrix=matrix, full_range=full, sar=info.sar, rotation=info.rotation,
    )  # fmt: skip
    return FileFilm(info, found, reading, output, frames)


def pixels(of: FileFilm, start: int, stop: int, size: int = 7) -> Pixels:
    clips = [*of.read(start, stop, size)]
    assert [c.start for c in clips] == [*range(start, stop, size)]
    assert all(len(c.pixels) == size for c in clips[:-1])
    return np.concatenate([c.pixels for c in clips])  # type: ignore[return-value]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("films")


@pytest.mark.parametrize("name", FILMS)
def test_any_run_of_frames_is_the_run_of_a_straight_decode(
    name: str, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = films.make(made / name, frames=48, **FILMS[name])
    whole = film(path, made / f"i-{name}")
    straight = pixels(whole, 0, 48)
    assert [films.read_counter(p) for p in straight] == [*range(48)]
    assert straight.dtype == (np.uint8 if whole.info.bits == 8 else np.uint16)

    decoded = 0
    known = _decode.frames

    def counted(*arguments: Any) -> Any:
        nonlocal decoded
        for frame in known(*arguments):
            decoded += 1
            yield frame

    monkeypatch.setattr(_decode, "frames", counted)
    chance = random.Random(1)
    for start in (0, 1, 9, 10, 11, 47, *(chance.randrange(48) for _ in range(4))):
        stop = min(48, start + chance.randrange(1, 20))
        decoded = 0
        assert np.array_equal(pixels(whole, start, stop), straight[start:stop])
        if name != "refresh.mkv":  # which has a single keyframe
            assert decoded <= stop - start + 41  # gop 10, at most three tries


@pytest.mark.parametrize("name", INTERLACED)
def test_deinterlaced_frames_do_not_depend_on_where_reading_begins(name: str, made: Path) -> None:
    path = films.make(made / name, frames=30, **INTERLACED[name])
    whole = film(path, made / f"i-{name}", deinterlace="bwdif")
    straight = pixels(whole, 0, 30)
    assert [films.read_counter(p) for p in straight] == [2 * i for i in range(30)]
    for start, stop in itertools.combinations((0, 1, 2, 9, 10, 17, 29, 30), 2):
        assert np.array_equal(pixels(whole, start, stop), straight[start:stop])
    late = film(path, made / f"i-{name}", first=11, frames=8, deinterlace="bwdif")
    assert np.array_equal(pixels(late, 0, 8), straight[11:19])


def test_a_part_of_the_film_begins_where_the_film_begins(made: Path) -> None:
    path = films.make(made / "part.mkv", frames=40, start=5, rate=Fraction(24000, 1001), sound=True)
    whole, part = film(path, made / "i-part"), film(path, made / "i-part", first=12, frames=20)
    assert np.array_equal(pixels(part, 3, 20), pixels(whole, 15, 32))
    assert part.pts(0, 20) == whole.pts(0, 20)
    assert part.end() == whole.pts(20, 21)[0]
    clock, tick = part.clock(), whole.info.time_base
    assert clock.begin == whole.index.pts(12, 13)[0] * tick
    assert clock.end == whole.index.pts(32, 33)[0] * tick
    assert abs(clock.shift - 12 / whole.info.rate) <= tick
    assert (whole.clock().shift, whole.clock().begin, whole.clock().end) == (0, None, None)


def test_variable_timestamps_come_out_as_they_are(made: Path) -> None:
    pts = [500 + 20 * i + i * i for i in range(30)]
    path = films.make(made / "v.mkv", frames=30, pts=pts, time_base=Fraction(1, 1000), rate=30)
    whole, part = film(path, made / "i-v"), film(path, made / "i-v", first=10)
    assert whole.pts(0, 30) == pts
    assert whole.end() > pts[-1]
    assert part.pts(0, 20) == [p - pts[10] + 500 for p in pts[10:]]


def test_constant_timestamps_are_exact(made: Path) -> None:
    path = films.make(made / "c.mkv", frames=50, rate=Fraction(24000, 1001))
    whole = film(path, made / "i-c")
    base = whole._output.time_base
    assert [p * base for p in whole.pts(0, 50)] == [Fraction(1001, 24000) * i for i in range(50)]
    assert whole.end() * base == Fraction(1001 * 50, 24000)


@pytest.mark.parametrize("suffix", ["ts", "mpg"])
def test_streams_without_an_origin_begin_at_zero(suffix: str, made: Path) -> None:
    codec = "mpeg2video" if suffix == "mpg" else "libx264"
    path = films.make(made / f"o.{suffix}", frames=20, codec=codec)
    whole = film(path, made / f"i-o.{suffix}")
    assert whole.pts(0, 1) == [0]
    assert whole.clock().shift == whole.info.start * whole.info.time_base


def test_a_film_whose_clock_jumps_is_read_in_order(made: Path) -> None:
    a = films.make(made / "j1.ts", frames=30)
    b = films.make(made / "j2.ts", frames=20)
    both = made / "j.ts"
    both.write_bytes(a.read_bytes() + b.read_bytes())
    whole = film(both, made / "i-j")
    counts = [films.read_counter(p) for p in pixels(whole, 0, 50)]
    assert counts == [*range(30), *range(20)]
    assert [films.read_counter(p) for p in pixels(whole, 35, 45)] == [*range(5, 15)]


def test_another_picture_is_never_given(made: Path) -> None:
    path = films.make(made / "x.mkv", frames=30, codec="ffv1")
    whole = film(path, made / "i-x")
    films.make(path, frames=30, codec="ffv1", picture=films.shots((96, 64), [30]))
    with pytest.raises(BadInput, match="frame 20 cannot be read again"):
        pixels(whole, 20, 25)


def test_a_film_with_faults_is_the_same_each_time(made: Path) -> None:
    path = films.make(made / "faults.mkv", frames=40, b_frames=2)
    data = bytearray(path.read_bytes())
    for at in range(len(data) // 3, len(data) * 2 // 3, 997):
        data[at] ^= 0x5A
    path.write_bytes(bytes(data))
    drop = ("damaged", "tail")
    whole = film(path, made / "i-faults", drop=drop)
    straight = pixels(whole, 0, whole.frames)
    for start in range(0, whole.frames, 7):
        assert np.array_equal(pixels(whole, start, whole.frames), straight[start:])


def test_brightness_and_movement_are_known_without_decoding(made: Path) -> None:
    levels = [0, 0, 255, 255, 128]
    path = films.make(
        made / "levels.mkv", frames=5, codec="ffv1", pixel_format="yuv444p",
        picture=lambda i: np.full((64, 96, 3), levels[i], np.uint8),
    )  # fmt: skip
    whole = film(path, made / "i-levels")
    assert np.allclose(whole.luma(0, 5), [16, 16, 235, 235, 126], atol=1)
    assert np.allclose(whole.difference(0, 5), [0, 0, 219, 0, 109], atol=1)
    part = film(path, made / "i-levels", first=2)
    assert np.allclose(part.difference(0, 3), [0, 0, 109], atol=1)


def test_frames_beyond_the_film_cannot_be_asked_for(made: Path) -> None:
    path = films.make(made / "short.mp4", frames=5)
    whole = film(path, made / "i-short")
    with pytest.raises(BadInput, match="it has 5"):
        FileFilm(whole.info, whole.index, whole._reading, whole._output, 6)
    with pytest.raises(ValueError):
        next(whole.read(0, 6, 2))
    assert [*whole.read(2, 2, 4)] == []


def test_the_other_tracks_are_opened_under_the_same_guard(made: Path) -> None:
    path = films.make(made / "tracks.mkv", frames=5, sound=True)
    with film(path, made / "i-tracks").container() as container:
        assert [s.type for s in container.streams] == ["video", "audio"]


def test_digest_is_the_sha256_of_the_bytes(made: Path) -> None:
    path = films.make(made / "digest.mp4", frames=3)
    assert digest(probe(path)) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_film_says_what_it_is(made: Path) -> None:
    whole = film(films.make(made / "info.mp4", frames=3), made / "i-info")
    assert whole.info.exact
    assert whole.names(0, 3) is None
    assert replace(whole.info, exact=False) != whole.info
