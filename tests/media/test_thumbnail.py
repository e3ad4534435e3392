"""The small picture of a moment: the right frame, upright, in the film's shape and colours."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from longtake.core.errors import BadInput
from longtake.core.media import Color
from longtake.media import thumbnail
from longtake.media.stills import jpeg
from longtake.media.thumbnail import picture
from tests.media import films

RATE, FRAMES = 25, 100
WAYS: list[tuple[str, dict[str, Any]]] = [
    ("plain.mp4", {}),
    ("reordered.mp4", {"b_frames": 2}),
    ("open.mkv", {"codec": "libx265", "b_frames": 2, "open_gop": True}),
    ("late.mkv", {"start": 50}),
    ("broadcast.ts", {"b_frames": 2, "gop": 12}),
    ("untimed.avi", {"codec": "mpeg4"}),
    ("alone.mkv", {"codec": "ffv1"}),
    ("one keyframe.mp4", {"gop": 1000}),
]


@pytest.mark.parametrize(("name", "how"), WAYS, ids=lambda v: v if isinstance(v, str) else "")
def test_it_is_the_frame_that_is_shown_then(name: str, how: dict[str, Any], tmp_path: Path) -> None:
    film = films.make(tmp_path / name, frames=FRAMES, size=(192, 128), sound=True, **how)
    for number in (0, 1, 9, 10, 11, 37, 60, 98, 99):
        at = Fraction(2 * number + 1, 2 * RATE)  # in the middle of it
        assert films.read_counter(picture(film, 192, at)) == number, number
    if not how.get("start"):
        assert films.read_counter(picture(film, 192)) == FRAMES // 10
    assert films.read_counter(picture(film, 192, Fraction(1000))) == FRAMES - 1


@pytest.mark.parametrize("rotation", [0, 90, 180, -90])
def test_it_stands_upright(rotation: int, tmp_path: Path) -> None:
    film = films.make(tmp_path / "film.mp4", size=(192, 128), rotation=rotation)
    plain = picture(films.make(tmp_path / "plain.mp4", size=(192, 128)), 192)
    turned = picture(film, 192)
    wanted = np.rot90(plain, rotation // 90)
    assert turned.shape == wanted.shape
    assert np.abs(turned.astype(int) - wanted).mean() < 1


@pytest.mark.parametrize(
    ("size", "sar", "width", "shape"),
    [
        ((640, 360), None, 320, (180, 320)),
        ((640, 360), None, 16, (9, 16)),
        ((96, 64), None, 320, (64, 96)),  # never enlarged
        ((720, 576), Fraction(64, 45), 640, (360, 640)),
        ((32, 1024), None, 64, (128, 4)),
        ((4096, 16), None, 64, (1, 64)),
        ((64, 64), Fraction(50), 64, (1, 64)),
    ],
)
def test_its_shape_is_the_film_s(
    size: tuple[int, int], sar: Fraction | None, width: int, shape: tuple[int, int], tmp_path: Path
) -> None:
    film = films.make(tmp_path / "film.mp4", frames=2, size=size, sar=sar)
    small = picture(film, width)
    assert small.shape[:2] == shape
    assert Image.open(io.BytesIO(jpeg(small))).size == shape[::-1]


@pytest.mark.parametrize(("matrix", "full"), [(1, False), (5, True), (9, False), (10, False)])
def test_its_colours_are_the_film_s(matrix: int, full: bool, tmp_path: Path) -> None:
    wanted = np.array([[200, 40, 30], [20, 180, 60], [30, 50, 220], [250, 250, 250]], np.uint8)
    stripes = np.repeat(np.repeat(wanted[None], 64, axis=0), 24, axis=1)
    color = Color(matrix=matrix, primaries=1, transfer=1, full_range=full)
    film = films.make(
        tmp_path / "film.mkv", frames=3, codec="ffv1", pixel_format="yuv444p", color=color,
        picture=lambda _: stripes,
    )  # fmt: skip
    for way in (lambda p: p, lambda p: np.asarray(Image.open(io.BytesIO(jpeg(p))))):
        small = way(picture(film, 48)).astype(int)
        middle = small[16, 6::12]
        bound = 6 if matrix != 10 else 60  # a matrix that cannot be read: it is only near
        assert np.abs(middle - wanted).max() <= bound


def test_a_picture_is_a_film_of_one_frame(tmp_path: Path) -> None:
    path = films.png(tmp_path / "one.png", 5, size=(192, 128))
    for at in (None, Fraction(0), Fraction(50)):
        assert films.read_counter(picture(path, 96, at)) == 5


def test_a_long_way_from_a_keyframe_is_cut_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thumbnail, "_SECONDS", 0.0)
    film = films.make(tmp_path / "film.mp4", frames=50, size=(192, 128), gop=20)
    assert films.read_counter(picture(film, 192, Fraction(39, RATE))) == 20


def test_what_holds_no_frame_says_so(tmp_path: Path) -> None:
    path = films.make(tmp_path / "film.mp4", frames=5)
    data = path.read_bytes()
    path.write_bytes(data[: data.find(b"mdat") + 40] + bytes(len(data)))
    with pytest.raises(BadInput, match=r"film\.mp4"):
        picture(path, 64)
