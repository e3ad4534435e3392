"""Sources that are no clean telecine, and soft telecine: no time is lost, no frame invented."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from longtake.core.errors import BadInput
from longtake.media import interlace
from longtake.media.probe import probe
from tests.media import films, pulldown
from tests.media.restoring import counters, mixed, pattern, restored


def test_where_a_cadence_breaks_no_time_is_lost_or_invented(tmp_path: Path) -> None:
    """Cuts after the telecine, each into another phase of the pattern."""
    shown: list[int] = []
    for scene in range(8):
        first = 100 * scene
        run = [first + k for k in pulldown.fields(16, skip=(0, 3, 6, 1, 8, 4, 2, 7)[scene])]
        shown += run[: 2 * (13 + scene % 5)]
    film = restored(pulldown.make(tmp_path / "in.mkv", shown=shown), tmp_path / "i")
    seen = counters(film)
    assert seen == sorted(seen)
    table = film.index.table(0, film.frames)
    late = table["source"] - np.arange(film.frames) * 1.25  # in source frames
    assert np.abs(late).max() <= 1.25
    assert abs(film.frames * 1.25 - len(film.index)) < 1.25
    wanted = {k for k in shown if shown.count(k) > 1}
    assert len(wanted - {*seen}) <= 8, "more than one frame lost at a cut"


def test_a_film_that_stands_still_is_thinned_steadily(tmp_path: Path) -> None:
    picture = films.texture((160, 120))(0)
    path = pulldown.make(tmp_path / "in.mkv", film=80, picture=lambda k: picture)
    film = restored(path, tmp_path / "i")
    table = film.index.table(0, film.frames)
    assert film.info.telecine.cycles == 0
    gone = sorted({*range(100)} - {*table["source"].tolist()})
    assert set(np.diff(gone)) == {5}
    assert film.frames == 80


def test_a_scene_that_stands_still_keeps_the_cadence(tmp_path: Path) -> None:
    draw = films.texture((160, 120))

    def stops(number: int) -> films.RGB:
        return draw(number if number < 20 else max(20, number - 30))

    film = restored(pulldown.make(tmp_path / "in.mkv", film=80, picture=stops), tmp_path / "i")
    gone = {*range(100)} - {*film.index.table(0, film.frames)["source"].tolist()}
    assert {g % 5 for g in gone} == {2}


@pytest.mark.parametrize("laced", [True, False])
def test_what_was_never_telecined_is_refused_with_advice(laced: bool, tmp_path: Path) -> None:
    if laced:
        path = pulldown.make(tmp_path / "in.mkv", shown=[*range(120)])
    else:
        path = films.make(tmp_path / "in.mkv", frames=60, size=(160, 120), rate=pulldown.NTSC)
    with pytest.raises(BadInput, match="no telecine was found") as refused:
        restored(path, tmp_path / "i")
    assert "--deinterlace bwdif" in str(refused.value)
    assert ("is marked as interlaced" in str(refused.value)) == laced


def test_a_mixed_film_is_made_with_a_word_about_it(tmp_path: Path) -> None:
    film = restored(mixed(tmp_path / "in.mkv", "tff"), tmp_path / "i")
    assert 0.1 < film.info.telecine.share < 0.9
    assert any("one frame in five was dropped all the same" in n for n in film.info.notes)
    assert any("were deinterlaced" in n for n in film.info.notes)
    seen = counters(film)
    assert seen[:23] == [*range(23)]
    assert seen[-17:] == [*range(203, 220)]
    assert seen == sorted(seen)


def test_variable_rates_that_are_no_pulldown_are_refused(tmp_path: Path) -> None:
    pts = [40 * k + k * k for k in range(30)]
    path = films.make(
        tmp_path / "in.mkv", frames=30, pts=pts, time_base=Fraction(1, 1000), size=(160, 120)
    )
    with pytest.raises(BadInput, match="its frame rate varies"):
        restored(path, tmp_path / "i")


# --- soft telecine -------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_soft_telecine_keeps_every_frame_and_mends_its_times(suffix: str, tmp_path: Path) -> None:
    base = Fraction(1, 1000) if suffix == ".mkv" else Fraction(1, 60000)
    lengths = [2 + k % 2 for k in range(60)]
    starts = [sum(lengths[:k]) for k in range(60)]
    pts = [round(f / (2 * pulldown.NTSC) / base) for f in starts]
    path = films.make(
        tmp_path / f"in{suffix}", frames=60, pts=pts, time_base=base, rate=pulldown.NTSC,
        size=(160, 120),
    )  # fmt: skip
    film = restored(path, tmp_path / "i")
    assert pattern(film) == "soft"
    assert counters(film) == [*range(60)]
    assert (film._output.rate, film._output.variable) == (pulldown.FILM, False)
    ticks = [p * film._output.time_base for p in film.pts(0, 60)]
    assert all(abs(t - k / pulldown.FILM) <= film._output.time_base for k, t in enumerate(ticks))


def test_soft_telecine_that_turns_hard_is_one_film(tmp_path: Path) -> None:
    """As on many discs: 24 film frames with flags, then 24 in fields, then flags again."""
    soft = [(k, k) for k in range(24)]
    hard = pulldown.fields(24)
    shown = [*soft, *((24 + a, 24 + b) for a, b in zip(hard[::2], hard[1::2], strict=True)),
             *((k + 48, k + 48) for k, _ in soft)]  # fmt: skip
    lengths = [2 + k % 2 for k in range(24)] + [2] * 30 + [2 + k % 2 for k in range(24)]
    pts = [sum(lengths[:k]) * 1001 for k in range(len(lengths))]
    path = pulldown.make(
        tmp_path / "in.mp4", shown=[m for pair in shown for m in pair], pts=pts,
        time_base=Fraction(1, 60000),
    )  # fmt: skip
    film = restored(path, tmp_path / "i")
    assert counters(film) == [*range(72)]
    assert film.info.telecine.share == 1.0


def test_repeat_flags_of_mpeg2_are_soft_telecine(tmp_path: Path) -> None:
    path = pulldown.flagged(tmp_path / "in.ts", 48)
    told = interlace.examined(probe(path))
    assert told.telecine.pattern == "soft"
    film = restored(path, tmp_path / "i")
    assert pattern(film) == "soft"
    assert counters(film) == [*range(48)]
    assert film._output.rate == pulldown.FILM
