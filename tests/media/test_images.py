"""A folder of PNG files is a film like any other."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from longtake.core.errors import BadInput
from longtake.media import images, index
from longtake.media.probe import probe, refuse
from longtake.media.source import digest
from tests.media import films
from tests.media.test_source import film, pixels


def test_order_gaps_and_names(tmp_path: Path) -> None:
    numbers = [7, 8, 9, 10, 11, 100, 1000]
    path = films.folder(tmp_path / "in", numbers, name="shot1_{}.png")
    (path / "notes.txt").write_text("not a frame")
    (path / ".hidden.png").write_text("not a frame")
    info = probe(path, Fraction(24000, 1001))
    assert (info.container, info.frames, info.rate) == ("images", 7, Fraction(24000, 1001))
    assert [*images.names(info)] == [f"shot1_{n}.png" for n in numbers]
    whole = film(path, tmp_path / "i")
    assert [films.read_counter(p) for p in pixels(whole, 0, 7)] == numbers
    assert [films.read_counter(p) for p in pixels(whole, 4, 6)] == [11, 100]
    assert whole.names(4, 6) == ["shot1_11.png", "shot1_100.png"]
    part = film(path, tmp_path / "i", first=2, frames=3)
    assert part.names(0, 3) == ["shot1_9.png", "shot1_10.png", "shot1_11.png"]
    assert part.pts(0, 3) == whole.pts(0, 3)


def test_timing_is_the_rate(tmp_path: Path) -> None:
    path = films.folder(tmp_path / "in", range(5))
    info = probe(path)
    [*index.build(info, tmp_path / "i")]
    timing = index.FilmIndex.open(info, tmp_path / "i").timing(info)
    assert timing == (24, False, Fraction(1, 24), 0)


@pytest.mark.parametrize(
    ("pixel_format", "bits", "chroma", "alpha"),
    [
        ("rgb24", 8, "rgb", False),
        ("rgb48be", 16, "rgb", False),
        ("gray", 8, "gray", False),
        ("gray16be", 16, "gray", False),
        ("pal8", 8, "rgb", False),
        ("rgba", 8, "rgb", True),
        ("ya8", 8, "gray", True),
    ],
)
def test_kinds_of_png(
    pixel_format: str, bits: int, chroma: str, alpha: bool, tmp_path: Path
) -> None:
    if pixel_format == "pal8":
        pil: Any = pytest.importorskip("PIL.Image")
        (tmp_path / "in").mkdir()
        for i in range(3):
            picture = pil.fromarray(films.texture((96, 64))(i)).quantize(64)
            picture.save(tmp_path / "in" / f"{i}.png")
    else:
        films.folder(tmp_path / "in", range(3), pixel_format=pixel_format)
    info = probe(tmp_path / "in")
    assert (info.bits, info.chroma, info.alpha) == (bits, chroma, alpha)
    if alpha:
        with pytest.raises(BadInput, match="--drop alpha"):
            refuse(info)
    refuse(info, ("alpha",))
    got = pixels(film(tmp_path / "in", tmp_path / "i"), 0, 3)
    assert got.dtype == (np.uint8 if bits == 8 else np.uint16)
    assert [films.read_counter(p) for p in got] == [0, 1, 2]


@pytest.mark.parametrize("pixel_format", ["rgb24", "rgb48be", "gray"])
def test_values_are_exact(pixel_format: str, tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    high, kind = (65536, np.uint16) if pixel_format == "rgb48be" else (256, np.uint8)
    picture: Any = random.integers(0, high, (48, 48, 3)).astype(kind)
    if pixel_format == "gray":
        picture[:] = picture[..., :1]
    films.folder(
        tmp_path / "in", [0], size=(48, 48), pixel_format=pixel_format, picture=lambda i: picture
    )
    assert np.array_equal(pixels(film(tmp_path / "in", tmp_path / "i"), 0, 1)[0], picture)


def test_reading_touches_no_other_file(tmp_path: Path) -> None:
    path = films.folder(tmp_path / "in", range(6))
    whole = film(path, tmp_path / "i")
    for name in ("0000.png", "0005.png"):
        kept = (path / name).stat()
        (path / name).chmod(0)
        assert kept.st_size
    (path / "0001.png").rename(tmp_path / "away.png")
    assert [films.read_counter(p) for p in pixels(whole, 2, 4)] == [2, 3]


def test_a_changed_picture_is_noticed(tmp_path: Path) -> None:
    path = films.folder(tmp_path / "in", range(4))
    whole = film(path, tmp_path / "i")
    before = digest(whole.info)
    films.png(path / "0002.png", 9)
    with pytest.raises(BadInput, match="frame 2"):
        pixels(whole, 1, 4)
    assert digest(whole.info) != before
    with pytest.raises(BadInput, match="has changed"):
        index.FilmIndex.open(whole.info, tmp_path / "i")


def test_renaming_changes_the_digest(tmp_path: Path) -> None:
    path = films.folder(tmp_path / "in", range(3))
    before = digest(probe(path))
    (path / "0002.png").rename(path / "0003.png")
    assert digest(probe(path)) != before


def test_alpha_in_a_later_file_is_named(tmp_path: Path) -> None:
    path = films.folder(tmp_path / "in", range(3))
    films.png(path / "0002.png", 2, pixel_format="rgba")
    with pytest.raises(BadInput, match=r"0002.png.*alpha"):
        film(path, tmp_path / "i")


def test_a_resumed_analysis_of_pictures_is_straight(tmp_path: Path) -> None:
    path = films.folder(tmp_path / "in", range(20))
    film(path, tmp_path / "i")
    straight = (tmp_path / "i" / index.BIN).read_bytes()
    index._begin(probe(path), tmp_path / "i", strict=True)
    (tmp_path / "i" / index.BIN).write_bytes(straight[: 11 * 192 + 5])
    film(path, tmp_path / "i")
    assert (tmp_path / "i" / index.BIN).read_bytes() == straight


def test_a_single_picture(tmp_path: Path) -> None:
    path = films.png(tmp_path / "one.png", 5)
    films.png(tmp_path / "two.png", 6)
    whole = film(path, tmp_path / "i")
    assert whole.frames == 1
    assert films.read_counter(pixels(whole, 0, 1)[0]) == 5
    assert whole.names(0, 1) == ["one.png"]
