"""What holds for every engine: the built-in ones and one that a third party has installed."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from longtake.core.plugins import names
from tests.media import films

PLUGINS = Path(__file__).resolve().parent.parent / "plugins"
ENGINES = [*names("engines"), "echo"]
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
