"""Folders of pictures: exact, deterministic, named, joined by links."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from longtake.core.media import Color
from longtake.media import verify
from longtake.media.sinks import png
from longtake.media.sinks._files import PartDamaged
from tests.media import fakes
from tests.media.fakes import PNG, FakeFilm, cuts, output, regular

OUT = output(chroma="rgb", width=37, height=21)


def pictures(frames: int = 7, bits: int = 8) -> FakeFilm:
    out = dataclasses.replace(OUT, bits=bits)
    return regular(frames, out, fakes.info(container="images", chroma="rgb"))


def content(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.mark.parametrize("bits", [8, 16])
def test_pictures_come_back_exactly(tmp_path: Path, bits: int) -> None:
    film = pictures(bits=bits)
    out = dataclasses.replace(OUT, bits=bits, sar=Fraction(64, 45))
    job = fakes.plan(film, out, PNG, cuts(7, 3))
    target = fakes.joined(png.plugin, film, job, tmp_path, "out")
    assert sorted(content(target)) == [f"{i:08d}.png" for i in range(7)]
    assert film.pixels is not None
    for number, wanted in enumerate(film.pixels):
        frame = fakes.decoded(target / f"{number:08d}.png")[0]
        assert frame.format.name == {8: "rgb24", 16: "rgb48be"}[bits]
        made = frame.to_ndarray(format={8: "rgb24", 16: "rgb48le"}[bits])
        assert np.array_equal(made, wanted)
    with Image.open(target / "00000003.png") as other:
        other.load()
        assert other.size == (37, 21)
        if bits == 8:
            assert np.array_equal(np.asarray(other), film.pixels[3])
    assert list(verify.verify(target, film, job)) == [7]


def test_bytes_depend_on_nothing_but_the_picture(tmp_path: Path) -> None:
    film = pictures(12)
    found = []
    for run, (threads, clip, stops) in enumerate([(1, 1, (5,)), (2, 12, ()), (3, 5, (1, 2))]):
        folder = tmp_path / str(run)
        folder.mkdir()
        job = fakes.plan(film, OUT, dataclasses.replace(PNG, threads=threads), cuts(12, *stops))
        target = folder / "out"
        parts = fakes.write_parts(png.plugin, film, job, folder, clip)
        list(png.plugin.join(parts, target, film, job))
        found.append(content(target))
    assert found[0] == found[1] == found[2]


def test_names_of_the_source_are_kept(tmp_path: Path) -> None:
    film = pictures()
    film.files = [f"shot 1_{i:04d}.PNG" for i in range(90, 97)]
    job = fakes.plan(film, OUT, PNG, cuts(7, 3))
    target = fakes.joined(png.plugin, film, job, tmp_path, "out.png")
    assert sorted(content(target)) == [f"shot 1_{i:04d}.png" for i in range(90, 97)]
    assert list(verify.verify(target, film, job)) == [7]


def test_a_join_can_be_repeated_and_broken_off(tmp_path: Path) -> None:
    film = pictures()
    job = fakes.plan(film, OUT, PNG, cuts(7, 3))
    parts = fakes.write_parts(png.plugin, film, job, tmp_path)
    joining = png.plugin.join(parts, tmp_path / "out", film, job)
    assert next(joining) == 3
    joining.close()
    (parts[0] / "00000000.png").unlink()  # as where a file system has no links
    assert list(png.plugin.join(parts, tmp_path / "out", film, job)) == [3, 7]
    assert len(content(tmp_path / "out")) == 7


def test_a_part_is_begun_anew(tmp_path: Path) -> None:
    film = pictures()
    job = fakes.plan(film, OUT, PNG, cuts(7))
    (tmp_path / "000000").mkdir()
    (tmp_path / "000000" / "00000099.png").write_bytes(b"left over")
    parts = fakes.write_parts(png.plugin, film, job, tmp_path)
    verify.part(parts[0], OUT, 7)
    assert len(content(parts[0])) == 7


def test_missing_pictures_are_named(tmp_path: Path) -> None:
    film = pictures()
    job = fakes.plan(film, OUT, PNG, cuts(7, 3))
    parts = fakes.write_parts(png.plugin, film, job, tmp_path)
    (parts[1] / "00000005.png").unlink()
    with pytest.raises(verify.VerifyFailed, match="3 pictures instead of 4"):
        verify.part(parts[1], OUT, 4)
    with pytest.raises(PartDamaged, match=r"00000005\.png is missing"):
        list(png.plugin.join(parts, tmp_path / "out", film, job))


def test_a_prefix_is_joined(tmp_path: Path) -> None:
    film = pictures()
    job = fakes.plan(film, OUT, PNG, cuts(7, 3))
    parts = fakes.write_parts(png.plugin, film, job, tmp_path)[:1]
    assert list(png.plugin.join(parts, tmp_path / "out", film, job)) == [3]
    assert list(verify.verify(tmp_path / "out", film, job, 3)) == [3]


@pytest.mark.parametrize("color", [Color(), Color(primaries=1, transfer=13, full_range=True)])
def test_tags_do_not_change_the_pixels(tmp_path: Path, color: Color) -> None:
    film = pictures()
    out = dataclasses.replace(OUT, color=color)
    job = fakes.plan(film, out, PNG, cuts(7))
    target = fakes.joined(png.plugin, film, job, tmp_path, "out")
    assert film.pixels is not None
    with Image.open(target / "00000002.png") as shown:
        assert np.array_equal(np.asarray(shown), film.pixels[2])
