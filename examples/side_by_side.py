"""Lanczos on the left, the result on the right: details of the example clip as one picture.

python examples/side_by_side.py clip.mp4 clip_4x.mp4 side_by_side.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import av
from PIL import Image, ImageDraw, ImageFont

DETAILS = ((39, 140, 76), (40, 32, 100), (119, 36, 52))  # frame; left, top in px of the small clip
DETAIL = (120, 68)  # px of the small clip
GAP, LABEL = 4, 34  # px
INK, PAPER = (235, 235, 235), (24, 24, 24)


def frames(path: Path, wanted: set[int]) -> dict[int, Image.Image]:
    """The wanted frames of a film by number, as RGB."""
    with av.open(str(path)) as film:
        decoded = enumerate(film.decode(video=0))
        chosen = {n: frame.to_ndarray(format="rgb24") for n, frame in decoded if n in wanted}
    return {n: Image.fromarray(pixels) for n, pixels in chosen.items()}


def side_by_side(small: Path, large: Path) -> Image.Image:
    """One row per detail; both columns show it at the size of the large film."""
    wanted = {n for n, _, _ in DETAILS}
    before, after = frames(small, wanted), frames(large, wanted)
    scale = after[DETAILS[0][0]].width // before[DETAILS[0][0]].width
    width, height = (side * scale for side in DETAIL)
    sheet = Image.new("RGB", (2 * width + GAP, LABEL + len(DETAILS) * (height + GAP) - GAP), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=18)
    for column, label in enumerate((f"Lanczos {scale}x", f"lite {scale}x")):
        left = column * (width + GAP)
        pen.text((left + width // 2, LABEL // 2), label, fill=INK, font=font, anchor="mm")
    for row, (n, x, y) in enumerate(DETAILS):
        top = LABEL + row * (height + GAP)
        box = (x * scale, y * scale, x * scale + width, y * scale + height)
        plain = before[n].resize(after[n].size, Image.Resampling.LANCZOS)
        sheet.paste(plain.crop(box), (0, top))
        sheet.paste(after[n].crop(box), (width + GAP, top))
    return sheet


if __name__ == "__main__":
    small, large, target = map(Path, sys.argv[1:])
    side_by_side(small, large).save(target)
    print(f"compare    {target}")
