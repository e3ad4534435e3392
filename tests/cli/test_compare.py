"""`longtake compare`: films that meet by time, figures that are true, a page that needs nothing."""

from __future__ import annotations

import csv
import json
import os
import signal
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from longtake.core.media import Color
from tests.jobs import Command, job
from tests.media import films

__all__ = ["job"]
SIZE = (96, 64)
CODED = {"codec": "ffv1", "pixel_format": "yuv420p"}
BT709 = Color(matrix=1, primaries=1, transfer=1, full_range=False)


@pytest.fixture
def compare(job: Command, tmp_path: Path):
    """Run `longtake compare` into a folder; its last event."""

    def run(a: Path, b: Path, *flags: object, out: str = "out") -> dict:
        done = job("compare", a, b, tmp_path / out, *flags)
        assert done.code == 0, done.events[-1]
        last: dict = done.last
        return {**last, "notes": " ".join(e["message"] for e in done.named("warned"))}

    return run


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "frames.csv").open() as file:
        return list(csv.DictReader(file))


def pixels(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def lumas(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        height = container.streams.video[0].height
        return [f.to_ndarray()[:height] for f in container.decode(video=0)]


def noisy(amount: int, seed: int = 0):
    """The usual picture with noise of +-amount, but frame 7 with three times as much."""
    clean, random = films.texture(SIZE), np.random.default_rng(seed)

    def picture(number: int) -> films.RGB:
        much = amount * (3 if number == 7 else 1)
        noise = random.integers(-much, much + 1, (SIZE[1], SIZE[0], 1))
        return np.clip(clean(number).astype(int) + noise, 0, 255).astype(np.uint8)

    return picture


def test_figures_are_those_of_numpy_and_near_those_of_skimage(compare, tmp_path) -> None:
    a = films.make(tmp_path / "a.mkv", frames=12, **CODED)
    b = films.make(tmp_path / "b.mkv", frames=12, picture=noisy(6), **CODED)
    done = compare(a, b)
    pairs = list(zip(lumas(a), lumas(b), strict=True))
    found = rows(tmp_path / "out")
    for row, (x, y) in zip(found, pairs, strict=True):
        assert float(row["psnr_y"]) == pytest.approx(
            peak_signal_noise_ratio(x, y, data_range=255), abs=1e-3
        )
        assert float(row["ssim_y"]) == pytest.approx(
            structural_similarity(x, y, data_range=255), abs=0.03
        )  # libavfilter's windows are 8x8 blocks, skimage's 7x7 at every pixel
    mse = np.mean([np.mean((x.astype(float) - y) ** 2) for x, y in pairs])
    assert done["psnr_y"] == pytest.approx(10 * np.log10(255**2 / mse), abs=1e-3)
    assert done["ssim_y"] == pytest.approx(np.mean([float(r["ssim_y"]) for r in found]), abs=1e-5)
    assert done["worst_frame"] == 7
    assert done["worst_psnr_y"] == pytest.approx(min(float(r["psnr_y"]) for r in found), abs=1e-5)
    assert (done["frames"], done["identical"], done["at"]) == (12, 0, [96, 64])
    stills = sorted(p.name for p in (tmp_path / "out" / "stills").iterdir())
    assert {"00000007-a.png", "00000007-b.png"} <= set(stills)


def test_a_film_against_itself(compare, tmp_path) -> None:
    a = films.make(tmp_path / "a.mp4", frames=10, b_frames=2)
    done = compare(a, a)
    assert (done["psnr_y"], done["worst_psnr_y"], done["worst_frame"]) == (None, None, None)
    assert (done["ssim_y"], done["identical"], done["frames"]) == (1.0, 10, 10)
    assert {r["psnr_y"] for r in rows(tmp_path / "out")} == {"inf"}
    summary = json.loads(
        (tmp_path / "out" / "summary.json").read_text(), parse_constant=pytest.fail
    )
    assert summary["psnr_y"] is None
    assert pixels(tmp_path / "out" / "difference.mp4")[:, 12:].max() < 4  # below the label


def test_films_are_laid_out_as_asked(compare, tmp_path) -> None:
    a = films.make(tmp_path / "a.mkv", frames=4, picture=lambda i: _flat(200, 40, 40), **CODED)
    b = films.make(tmp_path / "b.mkv", frames=4, picture=lambda i: _flat(190, 40, 40), **CODED)
    compare(a, b, "--layout", "all", "--gain", "5")
    made = {n: pixels(tmp_path / "out" / f"{n}.mp4") for n in ("side", "stack", "split")}
    assert made["side"].shape == (4, 64, 192, 3)
    assert made["stack"].shape == (4, 128, 96, 3)
    assert made["split"].shape == (4, 64, 96, 3)
    for left, right in (
        (made["side"][:, 20:, :90], made["side"][:, 20:, 102:]),
        (made["stack"][:, 20:60], made["stack"][:, 84:]),
        (made["split"][:, 20:, :40], made["split"][:, 20:, 56:]),
    ):
        assert abs(left[..., 0].mean() - 200) < 4
        assert abs(right[..., 0].mean() - 190) < 4
    apart = pixels(tmp_path / "out" / "difference.mp4")[:, 20:]
    assert abs(apart[..., 0].mean() - 50) < 8
    assert apart[..., 1:].mean() < 8


def _flat(*rgb: int) -> films.RGB:
    return np.full((64, 96, 3), rgb, np.uint8)


def test_films_are_what_browsers_play(compare, tmp_path) -> None:
    a = films.make(tmp_path / "a.mp4", frames=5, rate=Fraction(24000, 1001))
    compare(a, a)
    for name in ("side", "difference"):
        with av.open(str(tmp_path / "out" / f"{name}.mp4")) as film:
            video = film.streams.video[0]
            assert (video.codec_context.name, video.codec_context.pix_fmt) == ("h264", "yuv420p")
            frames = list(film.decode(video))
            assert {int(f.colorspace) for f in frames} == {1}
            times = [f.pts * f.time_base for f in frames]
            assert times == [Fraction(1001 * i, 24000) for i in range(5)]


@pytest.mark.parametrize("flags", [(), ("--layout", "none")])
def test_a_later_start_is_matched_by_time(compare, tmp_path, flags) -> None:
    tex = films.texture(SIZE)
    a = films.make(tmp_path / "a.mkv", frames=30, **CODED)
    b = films.make(tmp_path / "b.mkv", frames=25, start=10, picture=lambda i: tex(i + 10), **CODED)
    done = compare(a, b, *flags)
    assert [(int(r["frame_a"]), int(r["frame_b"])) for r in rows(tmp_path / "out")] == [
        (i, i - 10) for i in range(10, 30)
    ]
    assert (done["frames"], done["identical"]) == (20, 20)
    assert "10 frames of A lie before B begins" in done["notes"]
    assert "B goes on after the end of A" in done["notes"]
    assert "B begins 0.400 s later" in done["notes"]
    assert (tmp_path / "out" / "side.mp4").exists() == (not flags)


def test_only_the_container_differs_or_the_edit(compare, tmp_path) -> None:
    """--align first for another start of the clock, --shift for another cut."""
    a = films.make(tmp_path / "a.mkv", frames=20, **CODED)
    late = films.make(tmp_path / "late.mkv", frames=20, start=5, **CODED)
    assert compare(a, late, "--align", "first")["identical"] == 20
    tex = films.texture(SIZE)
    cut = films.make(tmp_path / "cut.mkv", frames=15, picture=lambda i: tex(i + 5), **CODED)
    done = compare(a, cut, "--shift", "0.2", out="cut")
    assert (done["frames"], done["identical"]) == (15, 15)


@pytest.mark.parametrize("suffix", [".ts", ".mkv", ".avi"])
def test_containers_with_clocks_of_their_own(compare, tmp_path, suffix) -> None:
    """MPEG streams begin at any time, Matroska rounds to 1 ms, AVI knows no presentation times."""
    codec = "mpeg4" if suffix == ".avi" else "libx264"
    a = films.make(tmp_path / "a.mp4", frames=40, rate=Fraction(30000, 1001), b_frames=2)
    b = films.make(
        tmp_path / f"b{suffix}", frames=40, rate=Fraction(30000, 1001), b_frames=2, codec=codec
    )
    flags = ("--align", "first") if suffix == ".avi" else ()
    done = compare(a, b, "--layout", "none", *flags)
    assert [(r["frame_a"], r["frame_b"]) for r in rows(tmp_path / "out")] == [
        (str(i), str(i)) for i in range(40)
    ]
    assert done["psnr_y"] is None or done["psnr_y"] > 30


def test_variable_and_other_rates_meet_by_time(compare, tmp_path) -> None:
    """B shows every picture twice as often; C leaves every third one out, so that it stays."""
    tex = films.texture(SIZE)
    a = films.make(tmp_path / "a.mkv", frames=20, **CODED)
    b = films.make(tmp_path / "b.mkv", frames=40, rate=50, picture=lambda i: tex(i // 2), **CODED)
    done = compare(a, b)
    assert (done["frames"], done["identical"]) == (20, 20)
    side = pixels(tmp_path / "out" / "side.mp4")
    assert len(side) == 40  # all frames of both
    kept = [i for i in range(20) if i % 3 != 2]
    c = films.make(
        tmp_path / "c.mkv", frames=len(kept), time_base=Fraction(1, 1000), **CODED,
        picture=lambda i: tex(kept[i]), pts=[40 * k for k in kept],
    )  # fmt: skip
    compare(a, c, out="c")
    for row in rows(tmp_path / "c"):
        shown = int(row["frame_a"])
        assert kept[int(row["frame_b"])] == (shown if shown % 3 != 2 else shown - 1)
        assert (row["psnr_y"] == "inf") == (shown % 3 != 2)
    back = compare(c, a, out="back")
    assert (back["frames"], back["identical"]) == (len(kept), len(kept))
    assert len(pixels(tmp_path / "back" / "side.mp4")) == 20


def test_jitter_of_less_than_half_a_frame_changes_nothing(compare, tmp_path) -> None:
    random = np.random.default_rng(1)
    pts = [40 * i + int(random.integers(-15, 16)) + 20 for i in range(30)]
    a = films.make(tmp_path / "a.mkv", frames=30, **CODED)
    b = films.make(tmp_path / "b.mkv", frames=30, pts=pts, time_base=Fraction(1, 1000), **CODED)
    assert compare(a, b, "--layout", "none", "--shift", "-0.02")["identical"] == 30


@pytest.mark.parametrize(
    ("at", "size"), [("a", [96, 64]), ("b", [192, 128]), ("larger", [192, 128])]
)
def test_sizes(compare, tmp_path, at, size) -> None:
    tex = films.texture(SIZE)
    a = films.make(tmp_path / "a.mkv", frames=5, **CODED)
    b = films.make(
        tmp_path / "b.mkv", frames=5, size=(192, 128), **CODED,
        picture=lambda i: tex(i).repeat(2, 0).repeat(2, 1),
    )  # fmt: skip
    done = compare(a, b, "--at", at)
    assert done["at"] == size
    assert done["psnr_y"] > 27
    assert pixels(tmp_path / "out" / "side.mp4").shape == (5, 128, 384, 3)
    assert f"{size[0]}x{size[1]} px (--at {at})" in (tmp_path / "out" / "report.html").read_text()


def test_sample_aspect_ratio_and_rotation_are_applied(compare, tmp_path) -> None:
    wide, upright = films.texture((192, 64)), films.texture((64, 96))
    a = films.make(
        tmp_path / "a.mkv", frames=5, sar=Fraction(2), picture=lambda i: wide(i)[:, ::2], **CODED
    )
    b = films.make(tmp_path / "b.mkv", frames=5, size=(192, 64), picture=wide, **CODED)
    assert compare(a, b)["psnr_y"] > 20
    side = pixels(tmp_path / "out" / "side.mp4")
    assert side.shape == (5, 64, 384, 3)
    assert _alike(side[:, 10:, :192], side[:, 10:, 192:]) > 20
    for degrees in (90, 180, -90):
        turned = films.make(
            tmp_path / f"turned{degrees}.mp4", frames=5, rotation=degrees,
            size=(96, 64) if degrees % 180 else (64, 96),
            picture=lambda i, d=degrees: np.rot90(upright(i), -d // 90).copy(),
        )  # fmt: skip
        plain = films.make(tmp_path / "plain.mp4", frames=5, size=(64, 96), picture=upright)
        out = f"turned{degrees}.out"
        assert compare(plain, turned, out=out)["psnr_y"] > 30
        side = pixels(tmp_path / out / "side.mp4")
        assert side.shape == (5, 96, 128, 3)
        assert _alike(side[:, 20:, :64], side[:, 20:, 64:]) > 25
        assert side[:, 20:].std() > 20


def _alike(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


@pytest.mark.parametrize(
    ("how", "least"),
    [
        ({"pixel_format": "yuv420p10le"}, 48),
        ({"pixel_format": "yuv444p16le"}, 48),
        ({"pixel_format": "gray", "color": replace(BT709, full_range=True)}, 45),
        ({"color": Color(matrix=6, primaries=6, transfer=6, full_range=True)}, 45),
        ({"codec": "ffv1", "pixel_format": "bgr0", "color": None}, 45),
    ],
)
def test_bits_matrices_and_ranges_are_brought_together(compare, tmp_path, how, least) -> None:
    """The same picture, coded in another way, stays the same picture."""
    colours = CODED | {"color": BT709}
    if how.get("pixel_format") == "gray":  # of coloured pictures, luma depends on the matrix
        colours |= {"picture": lambda i: films.texture(SIZE)(i)[..., :1].repeat(3, -1)}
    a = films.make(tmp_path / "a.mkv", frames=4, **colours)
    b = films.make(tmp_path / "b.mkv", frames=4, **(colours | how))
    for one, other, out in ((a, b, "ab"), (b, a, "ba")):
        assert compare(one, other, "--layout", "side", out=out)["psnr_y"] > least
        side = pixels(tmp_path / out / "side.mp4")[:, 20:]
        assert _alike(side[:, :, :96], side[:, :, 96:]) > 25


def test_what_one_film_does_not_say_of_its_colours_the_other_tells(compare, tmp_path) -> None:
    """An untagged small film and its untagged, large result would be guessed apart."""
    tex = films.texture(SIZE)
    a = films.make(tmp_path / "a.mkv", frames=2, **CODED)
    b = films.make(
        tmp_path / "b.mkv", frames=2, size=(1344, 896), **CODED,
        picture=lambda i: tex(i).repeat(14, 0).repeat(14, 1),
    )  # fmt: skip
    done = compare(a, b, "--layout", "side")
    assert done["notes"].count("read as bt601-limited") == 2
    side = pixels(tmp_path / "out" / "side.mp4")[0, 200:]
    width = side.shape[1] // 2
    assert np.abs(side[:, :width].mean((0, 1)) - side[:, width:].mean((0, 1))).max() < 2


def test_folders_of_pictures(compare, tmp_path) -> None:
    a = films.folder(tmp_path / "a", range(3, 13))
    b = films.folder(tmp_path / "b", range(3, 13), pixel_format="rgb48be")
    done = compare(a, b)
    assert (done["frames"], done["psnr_y"]) == (10, None)
    film = films.make(
        tmp_path / "c.mp4", frames=10, picture=lambda i: films.texture(SIZE)(i + 3), color=BT709
    )
    assert compare(film, a, "--rate", "25", out="film")["psnr_y"] > 30
    slow = films.make(
        tmp_path / "slow.mkv",
        frames=10,
        rate=10,
        picture=lambda i: films.texture(SIZE)(i + 3),
        **CODED,
    )
    done = compare(a, slow, out="slow")  # without --rate the film's own
    assert (done["frames"], "10.000 fps: see --rate" in done["notes"]) == (10, True)


def test_large_pictures_side_by_side_are_reduced_and_it_is_said(compare, tmp_path) -> None:
    a = films.make(tmp_path / "a.mp4", frames=2, size=(2400, 64), picture=lambda i: _wide())
    done = compare(a, a, "--layout", "side,difference")
    assert pixels(tmp_path / "out" / "side.mp4").shape[2] == 3840
    assert pixels(tmp_path / "out" / "difference.mp4").shape[2] == 2400
    assert "each view is reduced to 1920x" in done["notes"]


def _wide() -> films.RGB:
    return np.full((64, 2400, 3), 99, np.uint8)


def test_what_cannot_be_compared_is_said(job, tmp_path) -> None:
    a = films.make(tmp_path / "a.mp4", frames=10)
    late = films.make(tmp_path / "late.mkv", frames=10, start=500)
    (tmp_path / "text.mp4").write_text("no film")
    (tmp_path / "empty").mkdir()
    for b, words in (
        (late, "no time in common"),
        (tmp_path / "text.mp4", "text.mp4"),
        (tmp_path / "none.mp4", "no such file"),
        (tmp_path / "empty", "empty"),
    ):
        done = job("compare", a, b)
        assert done.code == 2, done.events
        assert words in done.message
    for flags in (("--layout", "circle"), ("--gain", "0"), ("--at", "c"), ("--shift", "x")):
        assert job("compare", a, a, *flags).code == 2
    assert not list(tmp_path.glob("*.compare*"))


def test_results_are_replaced_only_when_told_and_only_our_own(job, tmp_path) -> None:
    a = films.make(tmp_path / "a.mp4", frames=5)
    assert job("compare", a, a).code == 0
    made = tmp_path / "a.mp4.compare"
    assert {p.name for p in made.iterdir()} == {
        "report.html", "summary.json", "frames.csv", "side.mp4", "difference.mp4", "stills",
    }  # fmt: skip
    again = job("compare", a, a)
    assert (again.code, "--restart" in again.message) == (2, True)
    (made / "extra.txt").write_text("x")
    assert job("compare", a, a, "--restart", "--layout", "split").code == 0
    assert not (made / "extra.txt").exists()
    assert (made / "split.mp4").exists()
    foreign = tmp_path / "holiday"
    foreign.mkdir()
    (foreign / "photo.jpg").write_bytes(b"x")
    assert job("compare", a, a, foreign, "--restart").code == 2
    assert [p.name for p in foreign.iterdir()] == ["photo.jpg"]
    assert not list(tmp_path.glob("*.longtake"))
    pictures = films.folder(tmp_path / "pictures", range(2))
    inside = job("compare", pictures, a, pictures / "out")
    assert (inside.code, "inside" in inside.message) == (2, True)
    around = job("compare", made / "split.mp4", a, made, "--restart")
    assert (around.code, "inside" in around.message, (made / "split.mp4").exists()) == (
        2,
        True,
        True,
    )


def test_names_of_any_letters(job, tmp_path) -> None:
    """Also such as UTF-8 cannot write, in the page, the figures and what is said."""
    a = films.make(tmp_path / "a.mp4", frames=3)
    for number, name in enumerate(("电影 <b>&.mp4", os.fsdecode(b'x\xff"<i>.mp4'))):
        b, out = tmp_path / name, tmp_path / f"out{number}"
        b.write_bytes(a.read_bytes())
        done = job("compare", a, b, out)
        assert done.code == 0, done.events[-1]
        page = (out / "report.html").read_text(encoding="utf-8")
        assert "<b>" not in page
        assert "<i>" not in page
        assert Path(json.loads((out / "summary.json").read_text())["b"]) == b
    assert "电影 &lt;b&gt;&amp;.mp4" in (tmp_path / "out0" / "report.html").read_text("utf-8")


def test_a_stopped_comparison_leaves_nothing(job, tmp_path) -> None:
    a = films.make(tmp_path / "a.mp4", frames=900)
    stopped = job.stopped(
        lambda e: e["event"] == "compared", signal.SIGINT, "compare", a, a, tmp_path / "out"
    )
    assert stopped.code == 130
    assert "begins anew" in stopped.message
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4"]
    killed = job.stopped(
        lambda e: e["event"] == "compared", signal.SIGKILL, "compare", a, a, tmp_path / "out"
    )
    assert killed.code == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    assert job("compare", a, a, tmp_path / "out", "--layout", "none").code == 0
    assert not (tmp_path / "out.longtake").exists()


def test_damaged_packets_are_told_and_the_rest_is_compared(job, tmp_path) -> None:
    a = films.make(tmp_path / "a.mkv", frames=30, gop=5)
    data = bytearray(a.read_bytes())
    with av.open(str(a)) as film:
        at = [p.pos for p in film.demux(video=0) if p.size][12]
    data[at + 30 : at + 60] = bytes(30)
    b = tmp_path / "b.mkv"
    b.write_bytes(bytes(data))
    done = job("compare", a, b, tmp_path / "out", "--layout", "none")
    assert done.code == 0, done.events[-1]
    assert done.last["frames"] >= 25
    assert done.last["identical"] < 30


def test_it_speaks_plainly_without_json(longtake, tmp_path) -> None:
    a = films.make(tmp_path / "a.mp4", frames=6)
    b = films.make(tmp_path / "b.mp4", frames=6, picture=noisy(20))
    done = longtake("compare", a, b, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "6 frames at 96x64 px: PSNR" in done.stdout
    assert "report.html" in done.stdout
