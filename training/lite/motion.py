"""Moving pictures out of canvases: layers that pan, turn, zoom, shake or stand still, as a camera
or a screen shows them.

A still would do for a net that sees one frame. Motion is there for the codecs in `degrade.py`: what
an encoder leaves of a frame depends on how well the frame before it predicts it.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Picture = NDArray[np.float32]
Rng = np.random.Generator

SUPERSAMPLING = 2
"""Rendered px per axis that are averaged to one px of a frame."""


def render(rng: Rng, canvas: Callable[[], Pixels], frames: int, size: int, speed: float) -> Pixels:
    """A shot of up to three layers: uint8 RGB [frames, size, size, 3].

    `canvas` gives another picture [S, S, 3] at each call. `speed` is the middle of the speeds, px
    per frame.
    """
    if rng.random() < 0.25:
        return _finish(rng, _scrolled(rng, canvas(), frames, size), soft=0.4)
    return _finish(rng, _filmed(rng, canvas, frames, size, speed), soft=0.75)


def _scrolled(rng: Rng, canvas: Pixels, frames: int, size: int) -> Picture:
    """A canvas px for px, or four to one, still or moved by whole px: sharp to the last px, as
    screens are."""
    zoom = 2 if 2 * size <= canvas.shape[0] and rng.random() < 0.6 else 1
    if zoom == 2:
        half = canvas.shape[0] // 2
        canvas = np.asarray(
            cv2.resize(canvas, (half, half), interpolation=cv2.INTER_AREA), np.uint8
        )
    room = canvas.shape[0] - size
    step = (
        np.zeros(2, int) if rng.random() < 0.6 else rng.integers(-6, 7, 2) * (rng.random(2) < 0.6)
    )
    start = rng.integers(0, room + 1, 2)
    shot = np.empty((frames, size, size, 3), np.float32)
    for t in range(frames):
        y, x = np.clip(start + step * t, 0, room)
        shot[t] = canvas[y : y + size, x : x + size]
    return shot


class _Camera:
    """Maps px of frame t to px of a canvas: a zoom, a turn and a path, each changing smoothly, and
    some shake."""

    def __init__(self, rng: Rng, frames: int, size: int, canvas: int, speed: float) -> None:
        t = np.arange(frames) - frames / 2
        moving = rng.random() > 0.3
        pace = speed * np.exp(rng.uniform(-1.6, 1.6)) * moving
        heading = rng.uniform(0, 2 * np.pi)
        shake = rng.normal(size=(frames, 2)) * speed * 0.25 * (rng.random() < 0.3)
        drift = np.outer(t, [np.cos(heading), np.sin(heading)]) * pace
        self.path = drift + np.outer(t**2, rng.normal(size=2)) * pace * 0.03 + shake
        self.angle = rng.normal() * 0.4 + t * rng.normal() * 0.006 * moving * (rng.random() < 0.4)
        self.zoom = min(rng.uniform(1.05, 2.0), canvas / (size * 1.1)) * np.exp(
            t * rng.normal() * 0.006 * moving * (rng.random() < 0.4)
        )
        room = max(0.0, canvas - size * float(self.zoom.max()))
        self.centre = canvas / 2 + rng.uniform(-0.5, 0.5, 2) * room
        self.size = size

    def matrix(self, t: int) -> NDArray[np.float64]:
        """[2, 3], from px of the supersampled frame to px of the canvas (pixel centres at whole
        numbers)."""
        zoom, cos, sin = self.zoom[t], np.cos(self.angle[t]), np.sin(self.angle[t])
        turn = zoom * np.array([[cos, -sin], [sin, cos]])
        middle = np.full(2, self.size / 2 - 0.5 / SUPERSAMPLING)
        origin = self.centre - 0.5 + zoom * self.path[t] - turn @ middle
        return np.column_stack([turn / SUPERSAMPLING, origin])

    def see(self, canvas: NDArray[np.uint8], t: int) -> Picture:
        side = self.size * SUPERSAMPLING
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        fine = cv2.warpAffine(
            canvas, self.matrix(t), (side, side), flags=flags, borderMode=cv2.BORDER_REFLECT
        )
        return np.asarray(
            cv2.resize(fine, (self.size, self.size), interpolation=cv2.INTER_AREA), np.float32
        )


def _filmed(
    rng: Rng, canvas: Callable[[], Pixels], frames: int, size: int, speed: float
) -> Picture:
    shot = np.empty((frames, size, size, 3), np.float32)
    for layer in range(1 + int(rng.choice(3, p=(0.5, 0.35, 0.15)))):
        picture = canvas()
        camera = _Camera(rng, frames, size, picture.shape[0], speed)
        mask = _mask(rng, picture.shape[0]) if layer else None
        still = not np.any(camera.path) and np.ptp(camera.angle) == 0 and np.ptp(camera.zoom) == 0
        for t in range(frames):
            if t == 0 or not still:
                seen = camera.see(picture, t)
                cover = None if mask is None else camera.see(mask, t)[..., None] / 255
            shot[t] = seen if cover is None else shot[t] + (seen - shot[t]) * cover
    return shot


def _mask(rng: Rng, size: int) -> NDArray[np.uint8]:
    """Where a layer in front is opaque: smooth islands, [size, size], 255 inside, with a soft or a
    hard edge."""
    coarse = rng.standard_normal((int(rng.integers(3, 10)), int(rng.integers(3, 10)))).astype(
        np.float32
    )
    islands = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    return np.asarray(
        np.clip((islands - 0.35) * size / rng.choice([8, 20, 60]) + 0.5, 0, 1) * 255, np.uint8
    )


def _graded(rng: Rng, shot: Picture) -> Picture:
    """Colours: exchanged, tinted, paler or stronger, and in one shot of eight none at all.

    A net that has never seen a black-and-white film does badly on one, most of all on a soft one.
    """
    if rng.random() < 0.5:
        shot = np.ascontiguousarray(shot[..., rng.permutation(3)])
    kind = rng.random()
    if kind < 0.5:
        grey = shot @ np.array([0.299, 0.587, 0.114], np.float32)
        strength = 0 if kind < 0.12 else float(np.exp(rng.normal(0, 0.6)))
        shot = grey[..., None] + (shot - grey[..., None]) * np.float32(strength)
    if kind >= 0.12 and rng.random() < 0.25:
        shot = shot * np.exp(rng.normal(0, 0.15, 3)).astype(np.float32)
    return np.clip(shot, 0, 255)


def _finish(rng: Rng, shot: Picture, soft: float) -> Pixels:
    """Lens, exposure, film grain: what stands between a scene and the picture that is to be
    restored.

    Real footage is soft. A net that has seen few soft targets sharpens them too much, which can
    cost more than it wins. `soft` is the share of shots that a lens blurs, by up to about one
    and a third small px.
    """
    size = shot.shape[1]
    shot = _graded(rng, shot)
    if rng.random() < soft:
        across = float(np.exp(rng.uniform(np.log(0.3), np.log(max(0.3, 0.014 * size)))))
        down = across * float(rng.uniform(0.7, 1.4)) if rng.random() < 0.4 else across
        for frame in shot:
            frame[:] = cv2.GaussianBlur(frame, (0, 0), across, sigmaY=down)
        if rng.random() < 0.5:
            shot = shot + rng.standard_normal((1, size, size, 1), np.float32) * np.float32(
                rng.uniform(0, 2.0)
            )
    if rng.random() < 0.2:  # a fade
        shot = (
            shot
            * np.linspace(1, rng.uniform(0.75, 1.25), len(shot), dtype=np.float32)[
                :, None, None, None
            ]
        )
    return np.asarray(np.clip(shot + 0.5, 0, 255), np.uint8)
