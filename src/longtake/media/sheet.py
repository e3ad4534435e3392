"""Several views of one moment as one picture: beside each other, above each other, halved, as a
difference. Everything is RGB with 8 bits, [H, W, 3]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from longtake.media import _letters
from longtake.media.scaling import Kernel, Scaler
from longtake.media.sides import Size

RGB = NDArray[np.uint8]
Layout = Literal["side", "stack", "split", "difference"]
LAYOUTS: tuple[Layout, ...] = ("side", "stack", "split", "difference")
LARGEST: Size = (3840, 2160)  # px of a film that browsers play everywhere; larger ones are reduced
_PAPER, _INK, _LINE = 16, 235, 255


def cell(size: Size, columns: int, rows: int) -> Size:
    """The even size of one view so that `columns` x `rows` of them stay within LARGEST."""
    width, height = size
    share = min(1.0, LARGEST[0] / (columns * width), LARGEST[1] / (rows * height))
    return max(2, int(width * share) // 2 * 2), max(2, int(height * share) // 2 * 2)


def arranged(views: int) -> Size:
    """(columns, rows) for so many views: two beside each other, more in a grid."""
    columns = min(views, 2) if views <= 4 else 3
    return columns, -(-views // columns)


def grid_of(layout: Layout) -> Size:
    """(columns, rows) of views in a layout for two films."""
    return {"side": (2, 1), "stack": (1, 2), "split": (1, 1), "difference": (1, 1)}[layout]


class Fitter:
    """Pictures to one size: Lanczos where they grow, means of areas where they shrink."""

    def __init__(self, size: Size) -> None:
        self.size = size
        self._scalers: dict[Kernel, Scaler] = {}

    def fit(self, pixels: RGB) -> RGB:
        height, width = pixels.shape[:2]
        if (width, height) == self.size:
            return pixels
        shrinks = width >= self.size[0] and height >= self.size[1]
        kernel: Kernel = "area" if shrinks else "lanczos"
        scaler = self._scalers.setdefault(kernel, Scaler(kernel))
        fitted: RGB = scaler.resample(pixels[None], *self.size)[0]
        return fitted


class Sheet:
    """Draws one layout of two films; `label` names A and B."""

    def __init__(self, layout: Layout, size: Size, labels: Sequence[str], gain: int) -> None:
        self.layout = layout
        self.cell = cell(size, *grid_of(layout))
        self._fitters = tuple(Fitter(self.cell) for _ in labels)
        self._labels = tuple(labels)
        self._gain = gain

    @property
    def size(self) -> Size:
        columns, rows = grid_of(self.layout)
        return columns * self.cell[0], rows * self.cell[1]

    def draw(self, a: RGB, b: RGB) -> RGB:
        one, two = (f.fit(x) for f, x in zip(self._fitters, (a, b), strict=True))
        if self.layout == "difference":
            made = difference(one, two, self._gain)
            label(made, f"|A - B| x {self._gain}", 0, 0, self.cell)
            return made
        if self.layout == "split":
            made, middle = one.copy(), self.cell[0] // 2
            made[:, middle:] = two[:, middle:]
            made[:, middle - 1 : middle + 1] = _LINE
            half = middle, self.cell[1]
            label(made, self._labels[0], 0, 0, half)
            label(made, self._labels[1], middle, 0, half)
            return made
        return tiled([one, two], self._labels, grid_of(self.layout))


class Grid:
    """Draws any number of views, each with its label."""

    def __init__(self, size: Size, labels: Sequence[str]) -> None:
        self._shape = arranged(len(labels))
        self.cell = cell(size, *self._shape)
        self._fitters = tuple(Fitter(self.cell) for _ in labels)
        self._labels = tuple(labels)

    @property
    def size(self) -> Size:
        return self._shape[0] * self.cell[0], self._shape[1] * self.cell[1]

    def draw(self, views: Sequence[RGB]) -> RGB:
        fitted = [f.fit(v) for f, v in zip(self._fitters, views, strict=True)]
        return tiled(fitted, self._labels, self._shape)


def tiled(views: Sequence[RGB], labels: Sequence[str], shape: Size) -> RGB:
    """Views of one size in rows of `shape` (columns, rows); what stays empty is dark."""
    height, width = views[0].shape[:2]
    made = np.full((shape[1] * height, shape[0] * width, 3), _PAPER, np.uint8)
    for place, (view, words) in enumerate(zip(views, labels, strict=True)):
        top, left = place // shape[0] * height, place % shape[0] * width
        made[top : top + height, left : left + width] = view
        label(made, words, left, top, (width, height))
    return made


def difference(a: RGB, b: RGB, gain: int) -> RGB:
    """How far each component is apart, times `gain`: black where the pictures are equal."""
    apart = np.abs(a.astype(np.int16) - b.astype(np.int16)).astype(np.uint32) * gain
    made: RGB = np.minimum(apart, 255).astype(np.uint8)
    return made


def label(picture: RGB, words: str, left: int, top: int, size: Size) -> None:
    """Write at a corner of a view of `size` on the picture: on a dark ground, cut to its width."""
    letter = max(1, min(6, size[1] // 180))
    fits = (size[0] - 4 * letter) // ((_letters.WIDTH + 1) * letter)
    if fits < 1 or size[1] < 3 * _letters.HEIGHT:
        return
    shown = words if len(words) <= fits else words[: max(1, fits - 2)] + ".."[: fits - 1]
    ink = np.pad(_letters.drawn(shown, letter), 2 * letter)
    ground = picture[top : top + ink.shape[0], left : left + ink.shape[1]]
    ink = ink[: ground.shape[0], : ground.shape[1]]
    ground[:] = np.where(ink[..., None], _INK, ground // 4)
