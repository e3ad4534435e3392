"""What holds for every engine: the built-in ones and one that a third party has installed.

Those whose weights are fetched have their own tests, with tiny weights.
"""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from longtake.core.plugins import names
from longtake.media.scaling import resample
from tests.media import films

PLUGINS = Path(__file__).resolve().parent.parent / "plugins"
FETCHED = {"flashvsr"}
ENGINES = [*(name for name in names("engines") if name not in FETCHED), "echo"]
LOSSLESS = ("--codec", "ffv1")


@pytest.fixture
def upscale(longtake, tmp_path):
    """Run a job in a fresh process; the `finished` event."""

    def run(source: Path, target: Path, *flags: object) -> dict:
        done = longtake(
            "upscale", source, target, "--json", *flags,
            PYTHONPATH=str(PLUGINS), LONGTAKE_CACHE=str(tmp_path / "cache"),
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        finished: dict = json.loads(done.stdout.splitlines()[-1])
        return finished

    return run


def pixels(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


@pytest.mark.parametrize("engine", ENGINES)
def test_a_film_of_one_frame(upscale, tmp_path, engine) -> None:
    source = films.make(tmp_path / "in.mp4", frames=1)
    upscale(source, tmp_path / "out.mp4", "--engine", engine)
    assert pixels(tmp_path / "out.mp4").shape == (1, 256, 384, 3)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("scale", "size"), [("1.5", (97, 65)), ("3", (33, 49)), ("4", (7, 5))])
def test_odd_sizes(upscale, tmp_path, engine, scale, size) -> None:
    source = films.make(
        tmp_path / "in.mkv", frames=3, size=size, codec="ffv1", pixel_format="yuv444p"
    )
    upscale(source, tmp_path / "out.mkv", "--engine", engine, "--scale", scale, *LOSSLESS)
    made = pixels(tmp_path / "out.mkv")
    width, height = (round(side * Fraction(scale)) for side in size)
    assert made.shape == (3, height, width, 3)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_picture_is_where_it_was(upscale, tmp_path, engine) -> None:
    """Made smaller again by plain means, every frame is the source's: no shift, no other colour."""
    source = films.make(tmp_path / "in.mkv", frames=4, codec="ffv1", pixel_format="yuv444p",
                        picture=lambda i: films.texture((96, 80))(0)[12:76])  # fmt: skip
    upscale(source, tmp_path / "out.mkv", "--engine", engine, "--scale", "2", *LOSSLESS)
    small = pixels(source).astype(float)
    made = pixels(tmp_path / "out.mkv").astype(float)
    halved = made.reshape(4, 64, 2, 96, 2, 3).mean(axis=(2, 4))
    error = np.abs(halved - small)
    assert error.mean() < 1.5
    for axis in (1, 2):  # a shift by a pixel of the source would be far worse
        assert np.abs(np.roll(halved, 1, axis) - small).mean() > 2 * error.mean()


@pytest.mark.parametrize("engine", ENGINES)
def test_deep_output_from_a_shallow_source_and_back(upscale, tmp_path, engine) -> None:
    source = films.make(tmp_path / "in.mp4", frames=3)
    upscale(source, tmp_path / "deep.mkv", "--engine", engine, "--bits", "10", "--scale", "2")
    with av.open(str(tmp_path / "deep.mkv")) as container:
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p10le"
    upscale(
        tmp_path / "deep.mkv", tmp_path / "back.mp4", "--engine", engine, "--bits", "8",
        "--height", "128",
    )  # fmt: skip
    assert pixels(tmp_path / "back.mp4").shape == (3, 128, 192, 3)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("suffix", [".mkv", ".png"])
def test_a_source_reduced_first_is_cut_as_it_is_whole(upscale, tmp_path, engine, suffix) -> None:
    """--pre-width: neither segments nor where a job begins show in the frames."""
    source = films.make(tmp_path / "in.mkv", frames=40, size=(150, 85), codec="ffv1", gop=7,
                        pixel_format="yuv444p")  # fmt: skip
    codec = LOSSLESS if suffix == ".mkv" else ()
    common = ("--engine", engine, "--scale", "2", "--pre-width", "64", *codec,
              "--set", "segment_frames=40")  # fmt: skip
    whole, tail = tmp_path / f"whole{suffix}", tmp_path / f"tail{suffix}"
    done = upscale(source, whole, *common)
    assert done["frames"] == 40
    upscale(source, tail, *common, "--frames", "7:")
    warm = 2  # frames that `echo` remembers, and without which the tail begins
    if suffix == ".mkv":
        made, late = pixels(whole), pixels(tail)
        assert made.shape == (40, 72, 128, 3)  # 85 * 64 / 150 = 36.27 lines, twice
        assert (made[7 + warm :] == late[warm:]).all()
        return
    names = sorted(p.name for p in whole.iterdir())
    for position in range(7 + warm, 40):
        late = tail / names[position - 7]
        assert (whole / names[position]).read_bytes() == late.read_bytes(), position


@pytest.mark.parametrize("engine", ENGINES)
def test_a_source_reduced_first_is_the_small_film(upscale, tmp_path, engine) -> None:
    """The engine sees what a small file of the same pictures would give it."""
    big = films.make(tmp_path / "big.mkv", frames=4, size=(192, 128), codec="ffv1",
                     pixel_format="bgr0", picture=films.texture((192, 128)))  # fmt: skip
    small = resample(pixels(big), 96, 64)
    given = films.make(tmp_path / "small.mkv", frames=4, size=(96, 64), codec="ffv1",
                       pixel_format="bgr0", picture=lambda i: small[i])  # fmt: skip
    flags = ("--engine", engine, "--scale", "2", *LOSSLESS)
    upscale(big, tmp_path / "a.mkv", *flags, "--pre-width", "96")
    upscale(given, tmp_path / "b.mkv", *flags)
    assert (pixels(tmp_path / "a.mkv") == pixels(tmp_path / "b.mkv")).all()


@pytest.mark.parametrize("engine", ["resize", "lite"])
@pytest.mark.parametrize("deep", [False, True])
def test_predicted_memory_holds_where_the_source_is_reduced(
    upscale, tmp_path, engine, deep
) -> None:
    """N5, for a large source and a small engine."""
    rng = np.random.default_rng(0)
    still = rng.integers(0, 256, (90, 160, 3), dtype=np.uint8).repeat(12, 0).repeat(12, 1)
    how = {"codec": "ffv1", "pixel_format": "yuv422p10le"} if deep else {"b_frames": 3, "gop": 24}
    source = films.make(
        tmp_path / "in.mkv", frames=24, size=(1920, 1080),
        picture=lambda i: np.roll(still, 3 * i, axis=1), **how,
    )  # fmt: skip
    target = tmp_path / "out.mp4"
    done = upscale(source, target, "--engine", engine, "--scale", "2", "--pre-width", "320")
    ratio = done["predicted_ram"] / done["peak_ram"]
    assert ratio >= 0.97, done
    # a decoder is counted with all the pictures that one may hold; FFV1's holds fewer
    assert deep or ratio <= 1.4, done


@pytest.mark.parametrize("engine", ["resize", "lite"])
def test_predicted_memory_holds(upscale, tmp_path, engine) -> None:
    """N5: within 15 %, never more than 3 % under."""
    rng = np.random.default_rng(0)
    still = rng.integers(0, 256, (45, 80, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    source = films.make(
        tmp_path / "in.mp4", frames=72, size=(640, 360), gop=48,
        picture=lambda i: np.roll(still, 3 * i, axis=1),
    )  # fmt: skip
    done = upscale(source, tmp_path / "out.mp4", "--engine", engine, "--scale", "2")
    ratio = done["predicted_ram"] / done["peak_ram"]
    assert 0.97 <= ratio <= 1.15, done
