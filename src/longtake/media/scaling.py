"""RGB frames to another size, through swscale: the baseline engine and every engine's last fit.

Pixel centres are aligned (no shift), borders repeat their outermost pixel, and each frame is
scaled by itself, so the result does not depend on how frames are grouped.
"""

from __future__ import annotations

from typing import Literal

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from longtake.core.media import Pixels

Kernel = Literal["lanczos", "bicubic", "bilinear", "area"]
KERNELS: dict[str, Interpolation] = {
    "lanczos": Interpolation.LANCZOS,
    "bicubic": Interpolation.BICUBIC,
    "bilinear": Interpolation.BILINEAR,
    "area": Interpolation.AREA,
}
_EXACT = (
    Interpolation.ACCURATE_RND
    | Interpolation.BITEXACT
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)


class Scaler:
    """Keeps swscale's tables between calls; not for use by two threads at once."""

    def __init__(self, kernel: str = "lanczos") -> None:
        self._flags = KERNELS[kernel] | _EXACT
        self._scaler = VideoReformatter()

    def resample(self, pixels: Pixels, width: int, height: int) -> Pixels:
        """[T, H, W, 3] to [T, height, width, 3] of the same dtype, uint8 or uint16."""
        if pixels.shape[1:3] == (height, width):
            return pixels
        name = "rgb24" if pixels.dtype == np.uint8 else "rgb48le"
        scaled = np.empty((len(pixels), height, width, 3), pixels.dtype)
        for made, given in zip(scaled, pixels, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(given), name)
            made[:] = self._scaler.reformat(
                frame, width=width, height=height, interpolation=self._flags, threads=1
            ).to_ndarray()
        return scaled


def resample(pixels: Pixels, width: int, height: int, kernel: Kernel = "lanczos") -> Pixels:
    """[T, H, W, 3] to [T, height, width, 3] of the same dtype, uint8 or uint16."""
    return Scaler(kernel).resample(pixels, width, height)
