"""Scaling keeps the geometry, the borders, the depth, and does not know how frames are grouped."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from longtake.core.media import Pixels
from longtake.media.scaling import KERNELS, Kernel, Scaler, resample

ALL: list[Kernel] = ["lanczos", "bicubic", "bilinear", "area"]
DEPTHS = [np.uint8, np.uint16]


def noise(dtype: type, frames: int, height: int, width: int) -> Pixels:
    top = np.iinfo(dtype).max
    drawn = np.random.default_rng(1).integers(0, top + 1, (frames, height, width, 3))
    return drawn.astype(dtype)


def waves(width: int, height: int) -> NDArray[np.float64]:
    """[H, W, 3] in 0..1: smooth, seen at the centres of pixels of a picture of any size."""
    y = ((np.arange(height) + 0.5) / height)[:, None]
    x = ((np.arange(width) + 0.5) / width)[None, :]
    shades = [
        np.sin(2 * np.pi * (2 * x + y)),
        np.cos(2 * np.pi * (x - 3 * y)),
        np.sin(2 * np.pi * 3 * x * y),
    ]
    return 0.5 + 0.45 * np.stack(shades, axis=-1)


def as_pixels(values: NDArray[np.float64], dtype: type) -> Pixels:
    return np.rint(values * np.iinfo(dtype).max).astype(dtype)[None]


def test_all_kernels_are_tested() -> None:
    assert set(ALL) == set(KERNELS)


@pytest.mark.parametrize("kernel", ALL)
@pytest.mark.parametrize("dtype", DEPTHS)
def test_equal_size_is_the_same_frame(kernel: Kernel, dtype: type) -> None:
    given = noise(dtype, 2, 9, 13)
    assert np.array_equal(resample(given, 13, 9, kernel), given)


@pytest.mark.parametrize("kernel", ALL)
@pytest.mark.parametrize("dtype", DEPTHS)
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (53, 479), (64, 1)])
def test_any_size_to_any_size_with_flat_colour_kept(
    kernel: Kernel, dtype: type, size: tuple[int, int]
) -> None:
    colour = (np.array([255, 0, 77]) * (np.iinfo(dtype).max // 255)).astype(dtype)
    given = np.broadcast_to(colour, (1, size[1], size[0], 3))
    width, height = size
    eighth = (max(1, width // 8), max(1, height // 8))
    for target in [(width * 2, height * 2), (width * 3 + 1, height * 3), (7, 300), eighth]:
        made = resample(given, *target, kernel)
        assert made.shape == (1, target[1], target[0], 3)
        assert made.dtype == dtype
        assert np.abs(made.astype(int) - colour).max() <= np.iinfo(dtype).max // 32768


@pytest.mark.parametrize("kernel", ["lanczos", "bicubic"])
@pytest.mark.parametrize("dtype", DEPTHS)
@pytest.mark.parametrize("scale", [(3, 2), (2, 1), (3, 1), (4, 1), (1, 2), (2, 3)])
def test_centres_stay_where_they_are(kernel: Kernel, dtype: type, scale: tuple[int, int]) -> None:
    """What a smooth scene is at the centres of the new pixels; 0.02 px of shift would show."""
    width, height = 120, 90
    target = (width * scale[0] // scale[1], height * scale[0] // scale[1])
    made = resample(as_pixels(waves(width, height), dtype), *target, kernel)[0]
    error = made / np.iinfo(dtype).max - waves(*target)
    inner = error[8:-8, 8:-8]
    assert np.sqrt((inner**2).mean()) < 0.003
    slope = np.gradient(waves(*target), axis=1)[8:-8, 8:-8]
    assert abs((inner * slope).sum() / (slope**2).sum()) < 0.02  # px


@pytest.mark.parametrize("kernel", ["lanczos", "bicubic", "bilinear"])
def test_borders_are_as_good_as_the_inside(kernel: Kernel) -> None:
    """A flat border stays flat, and mirrored pictures give mirrored results."""
    given = noise(np.uint8, 1, 31, 41)
    given[:, :8] = given[:, -8:] = given[:, :, :8] = given[:, :, -8:] = 200
    made = resample(given, 123, 93, kernel)[0]
    for edge in (made[:10], made[-10:], made[:, :10], made[:, -10:]):
        assert np.abs(edge.astype(int) - 200).max() <= 1
    turned = resample(np.ascontiguousarray(given[:, ::-1, ::-1]), 123, 93, kernel)[0]
    assert np.abs(turned[::-1, ::-1].astype(int) - made).max() <= 1


def test_eight_bits_are_rounded_not_cut() -> None:
    """Against Pillow's Lanczos, which has the same three lobes."""
    given = as_pixels(waves(90, 70), np.uint8)
    made = resample(given, 180, 140)[0][6:-6, 6:-6].astype(int)
    other = np.asarray(Image.fromarray(given[0]).resize((180, 140), Image.Resampling.LANCZOS))
    difference = made - other[6:-6, 6:-6].astype(int)
    assert np.abs(difference).max() <= 1
    assert abs(difference.mean()) < 0.02


def test_sixteen_bits_are_sixteen() -> None:
    """A ramp of 1/65535 a pixel survives: it would be a staircase at 8 or 10 bits."""
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint16)[None, None, :, None], (1, 8, 200, 3))
    made = resample(ramp, 400, 16, "bilinear")[0, 8, 8:-8, 1].astype(float)
    wanted = np.arange(400)[8:-8] / 2 - 0.25
    assert np.abs(made - wanted).max() <= 1


@pytest.mark.parametrize("dtype", DEPTHS)
def test_grouping_and_repeats_change_nothing(dtype: type) -> None:
    given = noise(dtype, 5, 37, 53)
    whole = resample(given, 106, 74)
    scaler = Scaler()
    single = np.concatenate([scaler.resample(given[i : i + 1], 106, 74) for i in range(5)])
    scaler.resample(noise(dtype, 1, 8, 8), 16, 16)  # another size between
    assert np.array_equal(whole, single)
    assert np.array_equal(whole, scaler.resample(given, 106, 74))


def test_a_view_is_scaled_like_its_copy() -> None:
    given = noise(np.uint8, 3, 40, 60)
    view = given[:, ::2, 5:45, ::-1]
    assert np.array_equal(resample(view, 80, 40), resample(view.copy(), 80, 40))
