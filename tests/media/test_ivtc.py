"""Telecined films put together again: every film frame once, in order, the same from anywhere."""

from __future__ import annotations

import itertools
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from longtake.core.errors import BadInput
from longtake.media import _decode, _restore, index, scenes
from longtake.media._cadence import AS_CODED, BOTTOM_AFTER, BOTTOM_BEFORE, COMBED
from longtake.media._deinterlace import Deinterlacer
from longtake.media._records import RECORD
from longtake.media._weave import woven
from longtake.media.probe import probe
from longtake.media.source import FileFilm
from tests.media import films, pulldown
from tests.media.restoring import EXACT, MPEG2, as_it_is, counters, mixed, pattern, restored
from tests.media.test_source import pixels

# --- every frame of the film ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "skip", "kind"),
    [
        *((pulldown.CLASSIC, skip, "3:2") for skip in range(0, 10, 3)),
        *((pulldown.ADVANCED, skip, "2:3:3:2") for skip in (0, 4)),
        *((pulldown.REPEAT, skip, "repeat") for skip in (0, 6)),
    ],
)
@pytest.mark.parametrize("order", ["tff", "bff"])
def test_each_film_frame_comes_back_bit_for_bit(
    order: str, counts: tuple[int, ...], skip: int, kind: str, tmp_path: Path
) -> None:
    path = pulldown.make(
        tmp_path / "in.mkv", film=48, counts=counts, skip=skip, order=order, flagged=False, **EXACT
    )
    film = restored(path, tmp_path / "i")
    shown = pulldown.fields(48, counts, skip)
    whole = [k for k in range(48) if shown.count(k) >= 2]  # a lone field at an end is no frame
    truth = pixels(
        as_it_is(films.make(tmp_path / "film.mkv", frames=48, size=(160, 120), **EXACT)),
        0,
        48,
    )
    made = pixels(film, 0, film.frames)
    order_of = [films.read_counter(p) for p in made]
    assert pattern(film) == kind
    assert sorted({*order_of}) == order_of, "a frame twice, or out of order"
    assert {*whole} <= {*order_of}
    assert abs(film.frames - Fraction(4, 5) * len(film.index)) < 1
    for number, picture in zip(order_of, made, strict=True):
        if number in whole:
            assert np.array_equal(picture, truth[number])


@pytest.mark.parametrize("order", ["tff", "bff"])
@pytest.mark.parametrize(
    "how",
    [{"b_frames": 2}, MPEG2 | {"b_frames": 2}, {"flagged": False}, {"options": {"crf": "28"}}],
    ids=["x264", "mpeg2", "unflagged", "crf28"],
)
def test_each_film_frame_comes_back_from_a_coded_film(
    order: str, how: dict[str, Any], tmp_path: Path
) -> None:
    path = pulldown.make(tmp_path / "in.mkv", film=60, order=order, **how)
    film = restored(path, tmp_path / "i")
    assert counters(film) == [*range(60)]
    assert pattern(film) == "3:2"
    assert film.info.telecine.share == 1.0


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14])
def test_any_length_keeps_its_time(frames: int, tmp_path: Path) -> None:
    shown = pulldown.fields(20)[: 2 * frames]
    film = restored(pulldown.make(tmp_path / "in.mkv", shown=shown), tmp_path / "i")
    assert len(film.index) == frames
    assert abs(film.frames / pulldown.FILM - frames / pulldown.NTSC) < 1 / pulldown.FILM
    seen = counters(film)
    assert seen == sorted(seen)


def test_times_are_those_of_the_film(tmp_path: Path) -> None:
    path = pulldown.make(tmp_path / "in.mp4", film=40, start=7)
    film = restored(path, tmp_path / "i")
    base = film._output.time_base
    begin = film.info.start * film.info.time_base
    assert abs(begin - 7 / pulldown.NTSC) < Fraction(1, 1000)
    times = [p * base for p in film.pts(0, 40)]
    assert times == [begin + k / pulldown.FILM for k in range(40)]
    assert film.end() * base == begin + 40 / pulldown.FILM
    assert film._output.rate == pulldown.FILM


@pytest.mark.parametrize("rate", [Fraction(30), Fraction(25), Fraction(60000, 1001)])
def test_the_rate_is_four_fifths_exactly(rate: Fraction, tmp_path: Path) -> None:
    film = restored(pulldown.make(tmp_path / "in.mp4", rate=rate), tmp_path / "i")
    assert film._output.rate == rate * 4 / 5
    assert counters(film) == [*range(40)]


def test_a_range_counts_frames_of_the_film(tmp_path: Path) -> None:
    path = pulldown.make(tmp_path / "in.mkv", film=60)
    part = restored(path, tmp_path / "i", first=21, frames=17)
    assert counters(part) == [*range(21, 38)]
    clock = part.clock()
    assert clock.begin == 21 / pulldown.FILM
    assert clock.end == 38 / pulldown.FILM
    assert clock.shift == 21 / pulldown.FILM
    whole = restored(path, tmp_path / "i").clock()
    assert (whole.shift, whole.begin, whole.end) == (0, None, None)


# --- from anywhere -------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["tff", "bff"])
def test_what_is_read_does_not_depend_on_where_reading_begins(order: str, tmp_path: Path) -> None:
    film = restored(mixed(tmp_path / "in.mkv", order), tmp_path / "i")
    uses = {int(u) for u in film.index.table(0, film.frames)["use"]}
    assert COMBED in uses
    assert (BOTTOM_BEFORE if order == "tff" else BOTTOM_AFTER) in uses
    straight = pixels(film, 0, film.frames)
    edges = {0, 1, 2, 3, 9, 20, 24, 25, 26, 30, 31, 37, 38, 44, film.frames - 1, film.frames}
    for start, stop in itertools.combinations(sorted(edges), 2):
        assert np.array_equal(pixels(film, start, stop), straight[start:stop])
    late = restored(tmp_path / "in.mkv", tmp_path / "i", first=13, frames=20)
    assert np.array_equal(pixels(late, 0, 20), straight[13:33])


@pytest.mark.parametrize("order", ["tff", "bff"])
def test_a_mended_frame_shows_its_top_field_and_needs_only_its_margin(
    order: str, tmp_path: Path
) -> None:
    path = pulldown.make(tmp_path / "in.mkv", shown=[*range(40)], order=order, **EXACT)
    info = probe(path)
    container, stream = _decode.open_stream(path, info.stream)
    with container:
        found = [*_decode.frames(container, stream, _decode.Tally(), path)]
    whole = [p.to_ndarray() for p in Deinterlacer(info, order).run(iter(found))]
    assert len(whole) == len(found) == 20
    for picture, source in zip(whole, found, strict=True):
        assert np.array_equal(picture[:, ::2], source.to_ndarray()[:, ::2])
    for start in range(2, 16):
        run = [
            p.to_ndarray()
            for p in Deinterlacer(info, order).run(iter(found[start - 2 : start + 5]))
        ]
        assert np.array_equal(run[2:5], whole[start : start + 3])


def test_the_table_does_not_depend_on_where_an_analysis_was_interrupted(tmp_path: Path) -> None:
    path = mixed(tmp_path / "in.mkv", "tff")
    info = probe(path)
    whole = restored(path, tmp_path / "whole")
    folder = tmp_path / "again"
    for _ in index.build(info, folder, deinterlace="ivtc"):
        pass
    for kept in (4, 13, 22, 57):
        with (folder / index.BIN).open("r+b") as file:
            file.truncate(kept * RECORD.itemsize + 17)
        facts = replace(whole.index.facts, complete=False, frames=0, crc=0)
        index._write(folder, facts)
        (folder / _restore.TABLE).unlink()
        for _ in index.build(info, folder, deinterlace="ivtc"):
            pass
        for name in (index.BIN, _restore.TABLE):
            assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_damaged_table_is_made_anew(tmp_path: Path) -> None:
    path = pulldown.make(tmp_path / "in.mkv")
    film = restored(path, tmp_path / "i")
    table = tmp_path / "i" / _restore.TABLE
    good = table.read_bytes()
    table.write_bytes(good[:40] + b"\x07" + good[41:])
    again = restored(path, tmp_path / "i")
    assert table.read_bytes() == good
    assert again.index.facts == film.index.facts


def test_an_index_for_ivtc_is_not_one_for_anything_else(tmp_path: Path) -> None:
    path = pulldown.make(tmp_path / "in.mkv")
    info = probe(path)
    film = restored(path, tmp_path / "i")
    with pytest.raises(BadInput, match="not been analysed"):
        index.FilmIndex.open(info, tmp_path / "i")
    with pytest.raises(ValueError, match="another way of reading"):
        FileFilm(film.info, film.index, replace(film._reading, deinterlace="bwdif"), film._output)
    for _ in index.build(info, tmp_path / "i"):
        pass
    assert index.FilmIndex.open(info, tmp_path / "i").frames == 50


# --- shots, looks and pieces ---------------------------------------------------------------------


def test_cuts_are_found_where_the_film_has_them(tmp_path: Path) -> None:
    """The picture before a cut and the one after it share a frame of the source."""
    lengths = [17, 22, 13, 20]
    draw = films.shots((160, 120), lengths, seed=3)
    moves = films.texture((160, 120))

    def picture(number: int) -> films.RGB:
        return (draw(number) // 2 + moves(number) // 4).astype(np.uint8)

    path = pulldown.make(tmp_path / "in.mkv", film=72, picture=picture)
    film = restored(path, tmp_path / "i")
    assert scenes.cuts(film.index) == (17, 39, 52)
    assert scenes.cuts(film.index, 10, 50) == (7, 29)


def test_brightness_and_movement_are_those_of_the_film_frames(tmp_path: Path) -> None:
    levels = [20 + 4 * k for k in range(40)]
    draw = films.texture((160, 120))

    def picture(number: int) -> films.RGB:
        return (draw(number) // 4 + levels[number]).astype(np.uint8)

    path = pulldown.make(tmp_path / "in.mkv", picture=picture, flagged=False, **EXACT)
    film = restored(path, tmp_path / "i")
    truth = films.make(tmp_path / "t.mkv", frames=40, size=(160, 120), picture=picture, **EXACT)
    plain = as_it_is(truth)
    assert np.allclose(film.luma(0, 40), plain.luma(0, 40), atol=2)
    assert np.allclose(film.difference(0, 40), plain.difference(0, 40), atol=1.5)
    assert (film.difference(1, 40) > 2).all()


@pytest.mark.parametrize("form", ["yuv420p", "yuv422p10le", "gray", "rgb24", "nv12", "yuyv422"])
@pytest.mark.parametrize("size", [(16, 12), (17, 13)])
def test_weaving_takes_each_line_from_its_field(form: str, size: tuple[int, int]) -> None:
    if form == "yuyv422" and size[0] % 2:
        pytest.skip("libav has no such picture")
    chance = np.random.default_rng(1)
    fields = []
    for _ in range(2):
        frame = av.VideoFrame(*size, form)
        for plane in frame.planes:
            held: Any = plane
            np.frombuffer(held, np.uint8)[:] = chance.integers(0, 256, plane.buffer_size, np.uint8)
        fields.append(frame)
    made = woven(*fields)
    for plane, top, bottom in zip(made.planes, *(f.planes for f in fields), strict=True):
        lines, a, b = (
            np.frombuffer(p, np.uint8).reshape(-1, p.line_size)[: p.height, : top.line_size]
            for p in (plane, top, bottom)
        )
        used = lines.shape[1]
        assert np.array_equal(lines[::2, :used], a[::2, :used])
        assert np.array_equal(lines[1::2, :used], b[1::2, :used])


def test_the_names_of_pictures_follow_their_frames(tmp_path: Path) -> None:
    shown = pulldown.fields(20)
    draw = films.woven(lambda m: films.texture((160, 120))(shown[m]), "tff")
    folder = films.folder(tmp_path / "in", range(25), size=(160, 120), picture=draw)
    film = restored(folder, tmp_path / "i")
    assert counters(film) == [*range(20)]
    names = film.names(0, film.frames)
    assert names is not None
    assert len({*names}) == 20
    assert names[:3] == ["0000.png", "0001.png", "0003.png"]


def test_frames_that_are_kept_as_coded_are_not_copied(tmp_path: Path) -> None:
    film = restored(pulldown.make(tmp_path / "in.mkv"), tmp_path / "i")
    uses = [int(u) for u in film.index.table(0, film.frames)["use"]]
    assert uses.count(AS_CODED) == 30
