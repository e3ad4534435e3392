"""Pictures of user interfaces and of text: panels, thin lines, flat colours, tables, small letters.

Letters come from Pillow's built-in outline font, OpenCV's stroke fonts and, if asked for, a folder
of .ttf files.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Picture = NDArray[np.float32]
Rng = np.random.Generator

FONTS_VARIABLE = "LITE_FONTS"
"""Environment variable with a folder of .ttf files to use beside the built-in font. Workers inherit
it."""

_SYLLABLES = (
    *("ka", "lo", "mi", "ren", "ter", "us", "ing", "the", "of", "and", "to", "be", "wo", "rld"),
    *("tion", "pre", "con", "str", "ee", "ou", "Al", "Be", "Da", "Fi", "Qu"),
    *("12", "40", "99", "7", "x2", "3.5"),
)


@lru_cache(maxsize=1)
def _font_files() -> tuple[Path, ...]:
    folder = os.environ.get(FONTS_VARIABLE, "")
    return tuple(sorted(Path(folder).glob("*.ttf"))) if folder else ()


@lru_cache(maxsize=256)
def _font(index: int, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    files = _font_files()
    return ImageFont.truetype(files[index - 1], size) if index else ImageFont.load_default(size)


def words(rng: Rng, count: int) -> str:
    """`count` made-up words of one to three syllables."""
    made = ("".join(rng.choice(_SYLLABLES, int(rng.integers(1, 4)))) for _ in range(count))
    return " ".join(word.capitalize() if rng.random() < 0.2 else word for word in made)


def letters(text: str, font: int, size: int) -> Picture:
    """`text` set in one line `size` px high: how much ink covers each px, [height, width] in [0,
    1]."""
    face = _font(font, size)
    left, top, right, bottom = (int(v) for v in face.getbbox(text))
    image = Image.new("L", (max(1, right - left), max(1, bottom - top)))
    ImageDraw.Draw(image).text((-left, -top), text, 255, font=face)
    return np.asarray(image, np.float32) / np.float32(255)


def pick_font(rng: Rng) -> int:
    """0 is the built-in font, the others are those of the folder."""
    return int(rng.integers(0, 1 + len(_font_files()))) if rng.random() < 0.8 else 0


def _stamp(picture: Picture, ink: Picture, x: int, y: int, colour: NDArray[np.float32]) -> None:
    """Lay ink on the picture at (x, y), cut at its borders; in place."""
    height, width = picture.shape[:2]
    ink = ink[max(0, -y) : max(0, height - y), max(0, -x) : max(0, width - x)]
    if ink.size:
        window = picture[max(0, y) : max(0, y) + ink.shape[0], max(0, x) : max(0, x) + ink.shape[1]]
        window += (colour - window) * ink[..., None]


def draw_words(rng: Rng, picture: Picture, lines: int) -> None:
    """Subtitles or titles over a picture, often with a dark outline; in place."""
    size, font = int(rng.integers(14, 64)), pick_font(rng)
    colour = np.float32(rng.choice([0.95, 0.05])) * np.ones(3, np.float32)
    x, y = int(rng.uniform(0, 0.5) * picture.shape[1]), int(rng.uniform(0, 0.9) * picture.shape[0])
    outline = int(rng.integers(0, 4))
    for line in range(lines):
        ink = np.pad(letters(words(rng, int(rng.integers(1, 6))), font, size), outline)
        if outline:
            disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * outline + 1, 2 * outline + 1))
            around = np.asarray(cv2.dilate(ink, disc), np.float32)
            _stamp(picture, around, x, y + line * size * 5 // 4, 1 - colour)
        _stamp(picture, ink, x, y + line * size * 5 // 4, colour)


def draw_screen(rng: Rng, size: int) -> Picture:
    """A user interface: panels in panels, each with text, a table, buttons, a chart or a
    picture."""
    dark = rng.random() < 0.5
    hue = rng.normal(0, 0.03, 3)
    tone = np.float32(rng.uniform(0.03, 0.2) if dark else rng.uniform(0.85, 1.0))
    picture = np.ones((size, size, 3), np.float32) * np.clip(tone + hue, 0, 1).astype(np.float32)
    theme = _Theme(rng, dark)
    boxes = [(0, 0, size, size)]
    for _ in range(int(rng.integers(3, 14))):
        x0, y0, x1, y1 = boxes.pop(int(rng.integers(len(boxes))))
        across = x1 - x0 > y1 - y0
        length = x1 - x0 if across else y1 - y0
        if length < 120:
            boxes.append((x0, y0, x1, y1))
            continue
        cut = int(length * rng.uniform(0.2, 0.8))
        pair = (
            ((x0, y0, x0 + cut, y1), (x0 + cut, y0, x1, y1))
            if across
            else ((x0, y0, x1, y0 + cut), (x0, y0 + cut, x1, y1))
        )
        boxes.extend(pair)
    for box in boxes:
        _panel(rng, picture, box, theme)
    for _ in range(int(rng.integers(0, 3))):  # a window on top
        x, y = (int(v) for v in rng.uniform(0, 0.7 * size, 2))
        w, h = (int(v) for v in rng.uniform(0.15 * size, 0.5 * size, 2))
        _panel(rng, picture, (x, y, min(size, x + w), min(size, y + h)), theme)
    return picture


class _Theme:
    """Colours and type sizes that a screen keeps to."""

    def __init__(self, rng: Rng, dark: bool) -> None:
        ink = rng.uniform(0.7, 1.0) if dark else rng.uniform(0.0, 0.35)
        self.ink = np.clip(ink + rng.normal(0, 0.03, 3), 0, 1).astype(np.float32)
        self.accents = rng.uniform(0, 1, (5, 3)).astype(np.float32)
        self.panels = np.clip((0.12 if dark else 0.93) + rng.normal(0, 0.05, (6, 3)), 0, 1).astype(
            np.float32
        )
        self.size, self.font = int(rng.integers(9, 26)), pick_font(rng)

    def text(self, rng: Rng) -> NDArray[np.float32]:
        return self.ink if rng.random() < 0.8 else self.accents[rng.integers(5)]


def _panel(rng: Rng, picture: Picture, box: tuple[int, int, int, int], theme: _Theme) -> None:
    x0, y0, x1, y1 = box
    if min(x1 - x0, y1 - y0) < 8:
        return
    picture[y0:y1, x0:x1] = theme.panels[rng.integers(6)]
    if rng.random() < 0.6:
        line = theme.ink * np.float32(rng.uniform(0.2, 1)) + picture[y0, x0] * np.float32(
            rng.uniform(0, 0.5)
        )
        cv2.rectangle(
            picture, (x0, y0), (x1 - 1, y1 - 1), [float(v) for v in line], int(rng.integers(1, 3))
        )
    margin = int(rng.integers(4, 16))
    inner = (x0 + margin, y0 + margin, x1 - margin, y1 - margin)
    if min(inner[2] - inner[0], inner[3] - inner[1]) < 16:
        return
    kinds = (_paragraph, _paragraph, _table, _buttons, _chart, _thumbnail)
    kinds[int(rng.integers(len(kinds)))](rng, picture, inner, theme)


def _paragraph(rng: Rng, picture: Picture, box: tuple[int, int, int, int], theme: _Theme) -> None:
    x0, y0, x1, y1 = box
    size = max(7, int(theme.size * rng.choice([0.8, 1, 1, 1.5, 2.2])))
    colour, pitch = theme.text(rng), int(size * rng.uniform(1.2, 1.9))
    for y in range(y0, y1 - size, pitch):
        if rng.random() < 0.12:
            continue
        ink = letters(words(rng, int(rng.integers(1, 12))), theme.font, size)
        indent = int(rng.integers(0, 4)) * size if rng.random() < 0.3 else 0
        tint = theme.text(rng) if rng.random() < 0.15 else colour
        _stamp(picture, ink[: max(0, y1 - y), : max(0, x1 - x0 - indent)], x0 + indent, y, tint)


def _table(rng: Rng, picture: Picture, box: tuple[int, int, int, int], theme: _Theme) -> None:
    x0, y0, x1, y1 = box
    row, column = int(theme.size * rng.uniform(1.4, 2.4)) + 2, int(rng.uniform(3, 9) * theme.size)
    line = [float(v) for v in (theme.ink * np.float32(0.4) + picture[y0, x0] * np.float32(0.6))]
    for number, y in enumerate(range(y0, y1 - row, row)):
        if number % 2 and rng.random() < 0.7:
            picture[y : y + row, x0:x1] *= np.float32(0.94)
        cv2.line(picture, (x0, y), (x1 - 1, y), line, 1)
        for x in range(x0, x1 - 8, column):
            ink = letters(words(rng, 1), theme.font, max(7, theme.size * 9 // 10))
            _stamp(picture, ink[:, : max(0, min(column - 4, x1 - x - 4))], x + 3, y + 3, theme.ink)
    if rng.random() < 0.5:
        for x in range(x0, x1, column):
            cv2.line(picture, (x, y0), (x, y1 - 1), line, 1)


def _buttons(rng: Rng, picture: Picture, box: tuple[int, int, int, int], theme: _Theme) -> None:
    x0, y0, x1, y1 = box
    height = int(theme.size * rng.uniform(1.6, 2.6)) + 2
    for y in range(y0, y1 - height, int(height * rng.uniform(1.2, 1.8)) + 1):
        x = x0
        while x < x1 - height:
            width = int(height * rng.uniform(1, 5))
            colour = [float(v) for v in theme.accents[rng.integers(5)]]
            right = min(x + width, x1 - 1)
            if rng.random() < 0.3:
                cv2.circle(
                    picture,
                    (x + height // 2, y + height // 2),
                    height // 2,
                    colour,
                    -1 if rng.random() < 0.6 else 1,
                )
            else:
                cv2.rectangle(
                    picture, (x, y), (right, y + height), colour, -1 if rng.random() < 0.6 else 1
                )
                ink = letters(words(rng, 1), theme.font, theme.size)
                _stamp(
                    picture,
                    ink[:, : max(0, right - x - 6)],
                    x + 4,
                    y + height // 5,
                    theme.text(rng),
                )
            x += width + int(rng.integers(4, 24))


def _chart(rng: Rng, picture: Picture, box: tuple[int, int, int, int], theme: _Theme) -> None:
    x0, y0, x1, y1 = box
    grid = [float(v) for v in (theme.ink * np.float32(0.25) + picture[y0, x0] * np.float32(0.75))]
    for y in range(y0, y1, max(10, (y1 - y0) // int(rng.integers(3, 9)))):
        cv2.line(picture, (x0, y), (x1 - 1, y), grid, 1)
    for _ in range(int(rng.integers(1, 5))):
        count = int(rng.integers(5, 40))
        heights = np.clip(0.5 + np.cumsum(rng.normal(0, 0.12, count)), 0, 1)
        points = np.stack(
            [np.linspace(x0, x1 - 1, count), y1 - 1 - heights * (y1 - y0 - 1)], 1
        ).astype(np.int32)
        colour = [float(v) for v in theme.accents[rng.integers(5)]]
        if rng.random() < 0.3:
            for x, y in points:
                cv2.rectangle(
                    picture,
                    (int(x), int(y)),
                    (int(x + (x1 - x0) / count * 0.7), y1 - 1),
                    colour,
                    -1,
                )
        else:
            cv2.polylines(picture, [points], False, colour, int(rng.integers(1, 4)))


def _thumbnail(rng: Rng, picture: Picture, box: tuple[int, int, int, int], _: _Theme) -> None:
    """A small smooth picture: a sky over hills, the nearest thing to a photograph on a screen."""
    x0, y0, x1, y1 = box
    coarse = rng.uniform(0, 1, (int(rng.integers(2, 9)), int(rng.integers(2, 9)), 3)).astype(
        np.float32
    )
    smooth = cv2.resize(coarse, (x1 - x0, y1 - y0), interpolation=cv2.INTER_CUBIC)
    grain = rng.standard_normal((y1 - y0, x1 - x0, 1)).astype(np.float32) * np.float32(
        rng.uniform(0, 0.08)
    )
    picture[y0:y1, x0:x1] = np.clip(smooth + grain, 0, 1)
