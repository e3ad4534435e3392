"""Files that nobody vouches for: each is refused, quickly and with a reason."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from longtake.core.errors import BadInput
from longtake.media import guard, index
from longtake.media.probe import probe, refuse
from tests.media import films, hostile


@pytest.mark.parametrize("name", hostile.CORPUS)
def test_hostile_file_is_refused_with_a_reason(name: str, tmp_path: Path) -> None:
    path = hostile.CORPUS[name](tmp_path)
    start = time.monotonic()
    with pytest.raises(BadInput) as refused:
        info = probe(path)
        refuse(info)
        for _ in index.build(info, tmp_path / "index"):
            pass
    said = str(refused.value)
    assert hostile.WHY[name] in said
    assert str(path.name) in said
    assert "Traceback" not in said
    assert "Errno" not in said
    assert time.monotonic() - start < 20


def test_the_victim_itself_is_a_good_film(tmp_path: Path) -> None:
    assert probe(hostile.victim(tmp_path)).frames == 5


@pytest.mark.parametrize("name", ["concat:a.mp4", "http:x.mp4", "a b%03d.mp4", "-i.mp4", "ä.mp4"])
def test_a_name_is_never_taken_for_a_protocol_or_a_pattern(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    films.make(tmp_path / "x.mp4", frames=3).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert probe(Path(name)).frames == 3


def test_a_link_to_a_film_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link.mp4").symlink_to(films.make(tmp_path / "x.mp4", frames=3))
    assert probe(tmp_path / "link.mp4").frames == 3


def test_the_decoder_is_checked_although_libav_opened_the_file(tmp_path: Path) -> None:
    path = films.make(tmp_path / "m.avi", frames=3, codec="magicyuv", pixel_format="gbrp")
    with guard.open_film(path) as container, pytest.raises(BadInput, match="magicyuv"):
        guard.film_stream(container, path)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "ts", "flv"])
def test_a_film_with_random_damage_is_refused_or_read_but_never_breaks(
    suffix: str, tmp_path: Path
) -> None:
    good = films.make(tmp_path / f"good.{suffix}", frames=20, b_frames=2).read_bytes()
    random = np.random.default_rng(7)
    for attempt in range(12):
        data = bytearray(good)
        for _ in range(int(random.choice([1, 5, 60]))):
            data[int(random.integers(len(data)))] = int(random.integers(256))
        if attempt % 4 == 3:
            data = data[: int(random.integers(len(data)))]
        path = tmp_path / f"bad{attempt}.{suffix}"
        path.write_bytes(bytes(data))
        try:
            info = probe(path)
            folder = tmp_path / f"index{attempt}"
            frames = [*index.build(info, folder, ("tail", "damaged"))][-1]
            shown = index.FilmIndex.open(info, folder).pts(0, frames)
        except BadInput:
            continue
        assert frames > 0
        assert all(a < b for a, b in pairwise(shown))
