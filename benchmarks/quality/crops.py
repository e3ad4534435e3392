"""What `lite` looks like, as the picture docs/lite_crops.png.

    python -m benchmarks.quality.crops docs/lite_crops.png [--crf 28]

Stills of free licence panned for nine frames, so that the encoder works as on a film, reduced by
four, compressed, enlarged: Lanczos, faithful, crisp, original. NASA's Eileen Collins (public
domain), "chelsea" (CC0) and "coffee" (CC0) of scikit-image, and a page of its `page` (public
domain), whose letters are the test of painted text.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from skimage import data

from benchmarks.quality import _pictures
from benchmarks.quality._pictures import Film
from benchmarks.quality.lite import methods, opened
from longtake.weights import files

SCALE, FRAMES = 4, 9
DETAIL = (192, 128)  # px of the large picture
DETAILS = (("astronaut", 160, 40), ("chelsea", 130, 80), ("coffee", 200, 130), ("page", 40, 30))
SHOWN = ("Lanczos", "lite", "lite crisp")
GAP, LABEL, ZOOM = 4, 24, 2
INK, PAPER = (235, 235, 235), (24, 24, 24)


def panned(name: str) -> Film:
    """FRAMES views of a still, each two pixels further to the right."""
    picture = getattr(data, name)()
    if picture.ndim == 2:
        picture = picture[..., None].repeat(3, axis=2)
    height, width = picture.shape[0] // 8 * 8, (picture.shape[1] - 2 * FRAMES) // 8 * 8
    return np.stack([picture[:height, 2 * t : 2 * t + width, :3] for t in range(FRAMES)])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--crf", type=int, default=28)
    given = parser.parse_args()
    torch.set_num_threads(1)
    nets = (
        opened(files.shipped(f"lite_{x}.safetensors"), "float32") for x in ("faithful", "crisp")
    )
    found = methods(*nets)
    width, height = (ZOOM * side for side in DETAIL)
    columns = (*SHOWN, "original")
    sheet = Image.new(
        "RGB", (len(columns) * (width + GAP), LABEL + len(DETAILS) * (height + GAP)), PAPER
    )
    draw = ImageDraw.Draw(sheet)
    for place, words in enumerate(columns):
        draw.text((place * (width + GAP) + 6, 3), words, INK, ImageFont.load_default(15))
    for row, (name, left, top) in enumerate(DETAILS):
        film = panned(name)
        small = _pictures.compressed(_pictures.reduced(film, SCALE), given.crf)
        last = small[-1:]
        for place, words in enumerate(columns):
            large = film[-1] if words == "original" else found[words](last, SCALE)[0]
            part = Image.fromarray(large[top : top + DETAIL[1], left : left + DETAIL[0]])
            shown = part.resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(shown, (place * (width + GAP), LABEL + row * (height + GAP)))
    sheet.quantize(256).save(given.out, optimize=True)


if __name__ == "__main__":
    main()
