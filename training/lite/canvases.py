"""Still pictures drawn by a program: what the net learns from instead of photographs.

A canvas is a pure function of (seed, number). Most are dead leaves: shapes whose radii follow r^-3
and that hide each other, which gives the edge, texture and flat-area statistics of natural images
(Lee, Mumford, Huang, Occlusion models for natural images, IJCV 2001; for training: Madhusudana et
al., https://arxiv.org/abs/2104.03188, VibrantLeaves, https://arxiv.org/abs/2504.10201). Others are
fibres (hair, grass), surfaces and, in `screens.py`, user interfaces. Where photographs are given
(`photos.py`), half of the canvases are cut out of them: no drawing has their textures.

Pictures are float32 RGB [S, S, 3] in [0, 1] while they are drawn, and uint8 [S, S, 3] when done.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from training.lite.photos import Album
from training.lite.screens import draw_screen, draw_words

Picture = NDArray[np.float32]
Rng = np.random.Generator

cv2.setNumThreads(1)

SHIFT = 4
"""Binary places of the sub-pixel coordinates given to OpenCV."""


PHOTOGRAPHED = 0.55
"""Share of the canvases that are photographs, where there are any."""


def make_canvas(seed: int, number: int, size: int, album: Album | None = None) -> NDArray[np.uint8]:
    """Canvas `number` of `seed`, uint8 RGB [size, size, 3]."""
    rng = np.random.default_rng((seed, number, 1))
    if album is not None and rng.random() < PHOTOGRAPHED:
        cut = album.cut(rng, size)
        if rng.random() < 0.15:
            titled = np.asarray(cut / 255, np.float32)
            draw_words(rng, titled, int(rng.integers(1, 4)))
            cut = (np.clip(titled, 0, 1) * 255 + 0.5).astype(np.uint8)
        return cut
    kinds: list[Callable[[Rng, int], Picture]] = [
        draw_leaves,
        draw_screen,
        draw_fibres,
        draw_surface,
    ]
    kind = kinds[int(rng.choice(4, p=(0.56, 0.2, 0.12, 0.12)))]
    picture = kind(rng, size)
    if kind is not draw_screen:
        if rng.random() < 0.6:  # shading that has nothing to do with the shapes
            picture = picture * (1 - rng.uniform(0.1, 0.5) * noise(rng, size, 2.2)[..., None])
        if rng.random() < 0.3:
            picture = np.clip(picture, 1e-3, 1) ** rng.uniform(0.7, 1.5)
        if rng.random() < 0.15:  # subtitles and titles
            draw_words(rng, picture, int(rng.integers(1, 4)))
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)


def palette(rng: Rng, count: int) -> Picture:
    """[count, 3] colours around a common grey, most of them little saturated, as in photographs."""
    grey = rng.normal(0.45, 0.22) + rng.normal(0, 0.25, (count, 1))
    return np.clip(grey + rng.normal(0, rng.uniform(0.02, 0.22), (count, 3)), 0.02, 0.98).astype(
        np.float32
    )


def noise(rng: Rng, size: int, beta: float) -> Picture:
    """[size, size] noise in [0, 1] whose amplitude falls as frequency^-beta, stretched by up to 2
    along x."""
    spectrum = np.fft.rfft2(rng.standard_normal((size, size)).astype(np.float32))
    down = np.fft.fftfreq(size)[:, None]
    across = np.fft.rfftfreq(size)[None] * rng.uniform(0.5, 2)
    field = np.fft.irfft2(
        spectrum / np.maximum(np.hypot(across, down), 1 / size) ** beta, s=(size, size)
    )
    field -= field.min()
    return np.asarray(field / (field.max() + 1e-6), np.float32)


def texture(rng: Rng, size: int) -> Picture:
    """A picture without shapes: grain, blotches, gratings, checks, stripes or a gradient between
    two colours."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    angle = rng.uniform(0, np.pi)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    period = float(np.exp(rng.uniform(np.log(4), np.log(48))))
    kind = int(rng.integers(8))
    if kind == 0:
        mix = noise(rng, size, rng.uniform(0.6, 1.8))
    elif kind == 1:  # blotches of nearly two levels
        mix = 1 / (1 + np.exp((0.5 - noise(rng, size, rng.uniform(0.9, 1.6))) * rng.uniform(8, 40)))
    elif kind == 2:  # a grating, warped
        mix = 0.5 + 0.5 * np.sin(
            2 * np.pi * along / period + rng.uniform(0, 24) * noise(rng, size, 1.6)
        )
    elif kind == 3:
        mix = (np.floor(along / period) + np.floor(across / period * rng.uniform(0.5, 1.5))) % 2
    elif kind == 4:  # stripes, blinds
        mix = (along / period) % 1 < rng.uniform(0.1, 0.6)
    elif kind == 5:
        mix = (along - along.min()) / (along.max() - along.min() + 1e-6)
    else:  # fine grain: grass, fabric, skin
        mix = noise(rng, size, rng.uniform(0.2, 1.0))
    first, second = palette(rng, 2)
    if kind >= 6 and rng.random() < 0.7:  # low contrast is what most textures have
        second = first + (second - first) * np.float32(rng.uniform(0.1, 0.5))
    blend = np.asarray(mix, np.float32)[..., None]
    picture = first * (1 - blend) + second * blend
    if rng.random() < 0.3:
        picture = picture + (
            noise(rng, size, rng.uniform(0.5, 1.5))[..., None] - 0.5
        ) * rng.uniform(0.05, 0.3)
    return np.asarray(np.clip(picture, 0, 1), np.float32)


def draw_leaves(rng: Rng, size: int) -> Picture:
    """Dead leaves: outlines, ellipses, polygons, strokes and words with flat, textured or graded
    fills."""
    textures = [texture(rng, size) for _ in range(5)]
    colours = palette(rng, 24)
    picture = textures[0].copy()
    for radius in _radii(rng, size):
        centre = rng.uniform(-0.3 * radius, size + 0.3 * radius, 2)
        low = np.maximum(centre - 2.4 * radius - 4, 0).astype(int)
        high = np.minimum(centre + 2.4 * radius + 5, size).astype(int)
        if (high - low).min() < 2:
            continue
        mask = _shape(rng, radius, centre - low, (int(high[1] - low[1]), int(high[0] - low[0])))
        if rng.random() < 0.15 and radius > 10:  # out of focus, a soft shadow
            spread = float(rng.uniform(1, max(1.1, radius * 0.1)))
            mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), spread), np.uint8)
        window = (slice(low[1], high[1]), slice(low[0], high[0]))
        cover = mask[..., None].astype(np.float32) / 255
        picture[window] += (_fill(rng, colours, textures, window) - picture[window]) * cover
    return picture


def _radii(rng: Rng, size: int) -> NDArray[np.float64]:
    """Radii in px with density r^-3 between two bounds, some canvases with more large ones, some
    sorted."""
    smallest, largest = rng.uniform(2, 5), size * rng.uniform(0.12, 0.45)
    count = int(np.exp(rng.uniform(np.log(60), np.log(900))) * (size / 768) ** 2) + 30
    radii = (smallest**-2 + rng.random(count) * (largest**-2 - smallest**-2)) ** -0.5
    if rng.random() < 0.6:
        radii = np.where(
            rng.random(count) < 0.25, rng.uniform(min(3 * smallest, largest), largest, count), radii
        )
    return np.sort(radii)[::-1] if rng.random() < 0.5 else radii


def _shape(
    rng: Rng, radius: float, centre: NDArray[np.float64], size: tuple[int, int]
) -> NDArray[np.uint8]:
    """A mask [height, width] uint8 of one shape around `centre` (x, y)."""
    mask = np.zeros(size, np.uint8)
    kind = rng.random()
    if kind < 0.34:
        outline = _blob(rng) * radius
    elif kind < 0.6:
        outline = _ellipse(rng, max(12, min(64, int(radius * 2)))) * radius
    elif kind < 0.86:
        outline = _polygon(rng) * radius
    elif kind < 0.93:  # hair, branches, wires
        for _ in range(int(rng.integers(1, 7))):
            path = (
                np.cumsum(rng.normal(0, radius * 0.6, (int(rng.integers(2, 7)), 2)), axis=0)
                + centre
            )
            thickness = int(rng.integers(1, 1 + max(2, min(8, int(radius / 6)))))
            cv2.polylines(mask, [_fixed(path)], False, 255, thickness, cv2.LINE_AA, SHIFT)
        return mask
    else:
        letters = "".join(chr(c) for c in rng.integers(33, 127, int(rng.integers(1, 9))))
        font, start = (
            int(rng.choice([0, 1, 2, 3, 4, 6, 7])),
            (int(max(0, centre[0] - radius)), int(centre[1])),
        )
        scale, thickness = max(0.3, radius / 34), int(max(1, radius / 14))
        cv2.putText(mask, letters, start, font, scale, 255, thickness, cv2.LINE_AA)
        return mask
    cv2.fillPoly(mask, [_fixed(outline + centre)], 255, cv2.LINE_AA, SHIFT)
    return mask


def _fixed(points: NDArray[np.float64]) -> NDArray[np.int32]:
    return np.round(points * (1 << SHIFT)).astype(np.int32)


def _turn(rng: Rng, points: NDArray[np.float64]) -> NDArray[np.float64]:
    angle = rng.uniform(0, 2 * np.pi)
    cos, sin = np.cos(angle), np.sin(angle)
    turned: NDArray[np.float64] = points @ np.array([[cos, sin], [-sin, cos]])
    return turned


def _blob(rng: Rng) -> NDArray[np.float64]:
    t = np.linspace(0, 2 * np.pi, int(rng.integers(12, 40)), endpoint=False)
    reach = 1 + sum(
        rng.normal(0, 0.35 / (h + 1)) * np.cos(h * t + rng.uniform(0, 6.3)) for h in range(1, 6)
    )
    return np.stack([reach * np.cos(t), reach * np.sin(t)], 1)


def _ellipse(rng: Rng, corners: int) -> NDArray[np.float64]:
    t = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return _turn(rng, np.stack([np.cos(t), rng.uniform(0.25, 1) * np.sin(t)], 1))


def _polygon(rng: Rng) -> NDArray[np.float64]:
    corners = int(rng.integers(3, 7))
    if rng.random() < 0.4:
        t = np.sort(rng.uniform(0, 2 * np.pi, corners))
    else:  # rectangles, upright, on a corner or turned
        t = np.arange(4) * np.pi / 2 + rng.choice([np.pi / 4, np.pi / 4, 0, rng.uniform(0, 1.5)])
    reach = rng.uniform(0.4, 1.2, len(t)) if rng.random() < 0.3 else np.ones(len(t))
    return np.stack([reach * np.cos(t), reach * np.sin(t) * rng.uniform(0.3, 1)], 1)


def _fill(
    rng: Rng, colours: Picture, textures: list[Picture], window: tuple[slice, slice]
) -> Picture:
    """A colour, a part of a texture or a gradient of two colours, to fill [height, width, 3]."""
    kind = rng.random()
    colour: Picture = colours[rng.integers(len(colours))]
    if kind < 0.45:
        return colour
    if kind < 0.8:
        return textures[int(rng.integers(len(textures)))][window]
    axis = int(rng.integers(2))
    length = window[axis].stop - window[axis].start
    ramp = np.linspace(0, 1, length, dtype=np.float32).reshape(
        (-1, 1, 1) if axis == 0 else (1, -1, 1)
    )
    return np.asarray(colour + (colours[rng.integers(len(colours))] - colour) * ramp, np.float32)


def draw_fibres(rng: Rng, size: int) -> Picture:
    """Hair, fur, grass: thousands of thin curves that follow a smooth field, light and dark over
    each other."""
    picture = draw_surface(rng, size) if rng.random() < 0.5 else texture(rng, size)
    for _ in range(int(rng.integers(1, 4))):
        spread, base = rng.uniform(0.03, 0.25), palette(rng, 1)[0]
        heading = rng.uniform(0, 2 * np.pi) + (noise(rng, size, 2.2) - 0.5) * rng.uniform(0.5, 6)
        middle, width = rng.uniform(0, size, 2), rng.uniform(0.15, 0.6) * size
        for _ in range(int(rng.integers(150, 900))):
            at = rng.normal(middle, width)
            path, turn = [at], rng.normal(0, 0.15)
            step = rng.uniform(3, 12)
            for _ in range(int(rng.integers(4, 14))):
                x, y = np.clip(path[-1], 0, size - 1).astype(int)
                angle = heading[y, x] + turn
                path.append(path[-1] + step * np.array([np.cos(angle), np.sin(angle)]))
            colour = np.clip(base + rng.normal(0, spread), 0, 1)
            thickness = 1 if rng.random() < 0.7 else int(rng.integers(2, 4))
            shade = tuple(float(v) for v in colour)
            cv2.polylines(
                picture, [_fixed(np.array(path))], False, shade, thickness, cv2.LINE_8, SHIFT
            )
    spread = float(rng.uniform(0.4, 0.8))  # OpenCV smooths lines of uint8 only
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), spread), np.float32)


def draw_surface(rng: Rng, size: int) -> Picture:
    """Clouds, walls, skin, water: 1/f fields that warp each other, lit from one side."""
    height = noise(rng, size, rng.uniform(1.1, 2.2))
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    reach = rng.uniform(0, 0.15) * size
    x, y = (line + (noise(rng, size, 2.0) - 0.5) * reach for line in (x, y))
    warped = cv2.remap(height, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    height = np.asarray(warped, np.float32)
    light = (
        cv2.Sobel(height, cv2.CV_32F, 1, 0) * rng.normal()
        + cv2.Sobel(height, cv2.CV_32F, 0, 1) * rng.normal()
    )
    colours = palette(rng, int(rng.integers(2, 5)))
    stops = np.linspace(0, 1, len(colours))
    tint = np.stack([np.interp(height, stops, colours[:, c]) for c in range(3)], -1)
    lit: Picture = (tint + rng.uniform(0, 2) * light[..., None]).astype(np.float32)
    return np.clip(lit, 0, 1)
