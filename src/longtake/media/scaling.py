"""RGB frames to another size, through swscale: the baseline engine and every engine's last fit.

Pixel centres are aligned (no shift), beyond a border lies the border's own pixel again, and each
frame is scaled by itself, so the result does not depend on how frames are grouped.

The three components are handed to swscale as the planes of a 4:4:4 picture, which it scales one by
one. Given RGB, it would go to YUV and back at about 10 bits, and take five times as long.
"""

from __future__ import annotations

from typing import Any, Literal

import av
import numpy as np
from av.video.plane import VideoPlane
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from numpy.typing import NDArray

from longtake.core.media import Pixels

Kernel = Literal["lanczos", "bicubic", "bilinear", "area"]
KERNELS: dict[str, Interpolation] = {
    "lanczos": Interpolation.LANCZOS,  # 3 lobes
    "bicubic": Interpolation.BICUBIC,  # B = 0, C = 0.6
    "bilinear": Interpolation.BILINEAR,
    "area": Interpolation.AREA,  # bilinear upwards, means of areas downwards
}
_EXACT = Interpolation.ACCURATE_RND | Interpolation.BITEXACT | Interpolation.FULL_CHR_H_INP


class Scaler:
    """Keeps swscale's tables between calls; not for two threads at once."""

    def __init__(self, kernel: Kernel = "lanczos") -> None:
        self._flags = KERNELS[kernel] | _EXACT
        self._scaler = VideoReformatter()

    def resample(self, pixels: Pixels, width: int, height: int) -> Pixels:
        """[T, H, W, 3] to [T, height, width, 3] of the same dtype, uint8 or uint16."""
        count, old_height, old_width = pixels.shape[:3]
        if (old_width, old_height) == (width, height):
            return pixels
        given = av.VideoFrame(
            old_width, old_height, "yuv444p" if pixels.dtype == np.uint8 else "yuv444p16le"
        )
        scaled = np.empty((count, height, width, 3), pixels.dtype)
        for before, after in zip(pixels, scaled, strict=True):
            for index, plane in enumerate(given.planes):
                _samples(plane, pixels.dtype)[:] = before[..., index]
            frame = self._scaler.reformat(
                given,
                width=width,
                height=height,
                interpolation=self._flags,
                src_color_range=ColorRange.JPEG,
                dst_color_range=ColorRange.JPEG,
                threads=1,
            )
            for index, plane in enumerate(frame.planes):
                after[..., index] = _samples(plane, pixels.dtype)
        return scaled


def _samples(plane: VideoPlane, dtype: np.dtype[Any]) -> NDArray[Any]:
    """[H, W] the picture in a plane's buffer, without the padding of its rows; no copy."""
    raw: Any = plane  # a buffer, which numpy's types do not know
    rows: NDArray[Any] = np.frombuffer(raw, dtype).reshape(-1, plane.line_size // dtype.itemsize)
    return rows[: plane.height, : plane.width]


def resample(pixels: Pixels, width: int, height: int, kernel: Kernel = "lanczos") -> Pixels:
    """[T, H, W, 3] to [T, height, width, 3] of the same dtype, uint8 or uint16."""
    return Scaler(kernel).resample(pixels, width, height)
