"""Cuts are found where there are some, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from longtake.media import index, scenes
from longtake.media.probe import probe
from tests.media import films

SIZE = (160, 90)
RGB = NDArray[np.uint8]
Shown = Callable[[int], RGB]


def found(tmp_path: Path, frames: int, picture: Shown, first: int = 0) -> tuple[int, ...]:
    path = films.make(
        tmp_path / "cuts.mkv", frames=frames, size=SIZE, codec="ffv1", picture=picture
    )
    info = probe(path)
    [*index.build(info, tmp_path / "i")]
    return scenes.cuts(index.FilmIndex.open(info, tmp_path / "i"), first, frames)


def landscape(seed: int, wide: int = 8) -> RGB:
    """A smooth random picture, `wide` times as broad as a frame."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (10, 18 * wide, 3)).astype(np.float32)
    tall, broad = SIZE[1], SIZE[0] * wide
    y = np.linspace(0, coarse.shape[0] - 1.001, tall)
    x = np.linspace(0, coarse.shape[1] - 1.001, broad)
    yi, xi, yf, xf = y.astype(int), x.astype(int), (y % 1)[:, None, None], (x % 1)[None, :, None]
    top = coarse[yi][:, xi] * (1 - xf) + coarse[yi][:, xi + 1] * xf
    low = coarse[yi + 1][:, xi] * (1 - xf) + coarse[yi + 1][:, xi + 1] * xf
    return np.rint(top * (1 - yf) + low * yf).astype(np.uint8)


def pan(seed: int, step: int) -> Shown:
    picture = landscape(seed)
    last = picture.shape[1] - SIZE[0]
    return lambda i: picture[:, (at := abs((i * step) % (2 * last) - last)) : at + SIZE[0]]


@pytest.mark.parametrize("length", [2, 3, 7, 13])
def test_every_hard_cut_is_found_exactly(length: int, tmp_path: Path) -> None:
    count = 12
    picture = films.shots(SIZE, [length] * count, seed=3)
    wanted = tuple(range(length, length * count, length))
    assert found(tmp_path, length * count, picture) == wanted


def test_cuts_between_moving_shots(tmp_path: Path) -> None:
    moving = [pan(seed, step) for seed, step in enumerate((2, 5, 0, 3, 8, 1))]
    wanted = (13, 26, 39, 52, 65)
    assert found(tmp_path, 78, lambda i: moving[i // 13](i)) == wanted


def test_cuts_are_counted_from_the_first_frame_of_the_job(tmp_path: Path) -> None:
    picture = films.shots(SIZE, [13] * 4, seed=3)
    assert found(tmp_path, 52, picture, first=13) == (13, 26)
    assert found(tmp_path, 52, picture, first=10) == (3, 16, 29)


@pytest.mark.parametrize("step", [1, 6, 20, 45])
def test_a_pan_is_no_cut(step: int, tmp_path: Path) -> None:
    assert found(tmp_path, 40, pan(1, step)) == ()


@pytest.mark.parametrize("hold", [2, 3])
def test_motion_on_every_second_or_third_frame_is_no_cut(hold: int, tmp_path: Path) -> None:
    moving = pan(1, 6)
    assert found(tmp_path, 40, lambda i: moving(i // hold)) == ()


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_flash_is_no_cut(length: int, tmp_path: Path) -> None:
    still = pan(4, 1)

    def flash(i: int) -> RGB:
        lit = still(i).astype(np.int32) + (170 if 15 <= i < 15 + length else 0)
        return np.clip(lit, 0, 255).astype(np.uint8)

    assert found(tmp_path, 30, flash) == ()


@pytest.mark.parametrize("length", [5, 12])
def test_a_dissolve_is_no_cut(length: int, tmp_path: Path) -> None:
    a, b = pan(5, 1), pan(6, 1)

    def dissolve(i: int) -> RGB:
        share = np.clip((i - 12) / length, 0, 1)
        return ((1 - share) * a(i) + share * b(i)).astype(np.uint8)

    assert found(tmp_path, 36, dissolve) == ()


def test_a_lamp_is_no_cut(tmp_path: Path) -> None:
    still = pan(7, 1)
    assert found(tmp_path, 30, lambda i: (still(i) * (0.4 if i < 15 else 1)).astype(np.uint8)) == ()


def test_a_still_film_and_one_frame_have_no_cuts(tmp_path: Path) -> None:
    assert found(tmp_path, 20, pan(8, 0)) == ()
    assert found(tmp_path, 1, pan(8, 0)) == ()


def test_real_films_joined_every_13_frames(clips: Path, tmp_path: Path) -> None:
    """Shots of real clips, each mirrored or not, 13 frames long; one clip of each kind."""
    sources: list[Sequence[RGB]] = []
    for path in (p for p in sorted(clips.glob("*.mp4")) if "screen_b" not in p.name):
        with av.open(str(path)) as container:
            frames = [
                f.to_ndarray(format="rgb24", width=SIZE[0], height=SIZE[1])
                for _, f in zip(range(45), container.decode(video=0), strict=False)
            ]
        sources.append(frames)  # type: ignore[arg-type]
        assert found(tmp_path, len(frames), lambda i, f=frames: f[i]) == ()  # type: ignore[misc]

    def shown(i: int) -> RGB:
        shot = i // 13
        picture = sources[shot % len(sources)][13 * (shot // len(sources) % 3) + i % 13]
        return picture[:, ::-1] if shot // len(sources) % 2 else picture

    count = 6 * len(sources)
    assert found(tmp_path, 13 * count, shown) == tuple(range(13, 13 * count, 13))
