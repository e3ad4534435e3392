"""Between coded pictures and RGB arrays: matrices, ranges and pixel formats live here only.

Reading and writing use the same matrix and range, so that what an engine leaves alone comes back
as it was. Code points are those of ITU-T H.273 (2021), tables 2 to 4.
"""

from __future__ import annotations

from typing import Literal, cast

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from longtake.core.errors import BadInput
from longtake.core.media import UNSPECIFIED, Chroma, Color, OutputFormat, Pixels, VideoInfo

# swscale takes H.273 code points for these; others (YCgCo, ICtCp, constant luminance) it does not.
MATRICES = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020"}
_RED_BLUE = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114),
             7: (0.212, 0.087), 9: (0.2627, 0.0593)}  # fmt: skip
IDENTITY = 0  # the stream carries RGB
ASSUMED = {"bt601": 6, "bt709": 1, "bt2020": 9}
_LIMITED, _FULL = 1, 2  # AVCOL_RANGE_MPEG, AVCOL_RANGE_JPEG
_EXACT = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)


def _threads(width: int, height: int) -> int:
    """Threads of a conversion. Their number changes no sample: swscale cuts the picture in slices,
    and dithers by position (tests/media/test_color.py)."""
    return 4 if width * height >= 1 << 19 else 1


def reading_of(info: VideoInfo, assume: str | None) -> tuple[int, bool, str | None]:
    """Matrix, full range, and a sentence for the user where the source states no matrix.

    `assume` is "<matrix>-<range>" as in `--assume-color`; it speaks only for what is not stated.
    Raises BadInput for a matrix that cannot be read faithfully.
    """
    color = info.color
    if info.chroma == "rgb" or color.matrix == IDENTITY:
        return IDENTITY, True, None
    name, _, span = (assume or "").partition("-")
    full = color.full_range
    if full is None:
        full = span == "full"
    if color.matrix in MATRICES:
        return color.matrix, full, None
    if color.matrix != UNSPECIFIED:
        raise BadInput(
            f"{info.path}: colour matrix {color.matrix} (H.273) is not supported; "
            f"there are: {', '.join(f'{k} {v}' for k, v in MATRICES.items())}."
        )
    if name:
        return ASSUMED[name], full, None
    guess = "bt709" if info.width >= 1280 or info.height > 576 else "bt601"
    shown = "full" if full else "limited"
    return (
        ASSUMED[guess],
        full,
        f"The source states no colour matrix: read and written as {guess}-{shown}, and left "
        f"untagged. --assume-color says otherwise.",
    )


class Reader:
    """Coded pictures to RGB; keeps swscale's tables between frames."""

    def __init__(self, matrix: int, full_range: bool, bits: Literal[8, 16]) -> None:
        self._scaler = VideoReformatter()
        self._matrix = matrix or ASSUMED["bt709"]
        self._range = _FULL if full_range else _LIMITED
        self._format = "rgb24" if bits == 8 else "rgb48le"

    def rgb(self, frame: av.VideoFrame) -> Pixels:
        """[H, W, 3], uint8 or uint16 over the full 16-bit scale."""
        shown = self._scaler.reformat(
            frame,
            format=self._format,
            interpolation=_EXACT,
            src_colorspace=self._matrix,
            src_color_range=self._range,
            dst_color_range=_FULL,
            threads=_threads(frame.width, frame.height),
        )
        return shown.to_ndarray()  # type: ignore[return-value]


def luma_weights(matrix: int) -> tuple[float, float, float]:
    """Parts of red, green and blue in the luma of an H.273 matrix; their sum is 1."""
    red, blue = _RED_BLUE[matrix or ASSUMED["bt709"]]
    return red, 1 - red - blue, blue


def host_bits(bits: int) -> Literal[8, 16]:
    """Bits of a host frame that holds components of `bits` bits."""
    return 8 if bits <= 8 else 16


def pixel_format(codec: str, chroma: Chroma, bits: int) -> str:
    """libav's name of the coded pixel format. Raises ValueError where the codec has none."""
    if codec in ("png", "tiff"):
        return {8: "rgb24", 16: "rgb48be" if codec == "png" else "rgb48le"}[bits]
    if codec.startswith("nvenc") and bits == 10:
        return "p010le"
    if chroma == "rgb":
        return "bgr0" if bits == 8 else f"gbrp{bits}le"
    if chroma == "gray":
        raise ValueError("grey is written as 4:2:0")
    return f"yuv{chroma}p" if bits == 8 else f"yuv{chroma}p{bits}le"


class Writer:
    """RGB arrays to coded pictures; keeps swscale's tables between frames."""

    def __init__(self, output: OutputFormat, codec: str) -> None:
        self._scaler = VideoReformatter()
        self._format = pixel_format(codec, output.chroma, output.bits)
        self._matrix = output.matrix or ASSUMED["bt709"]
        self._range = _FULL if output.full_range else _LIMITED
        self._color = output.color

    def frame(self, pixels: Pixels) -> av.VideoFrame:
        """`pixels` [H, W, 3] uint8 or uint16, as `Reader.rgb` gives them."""
        name = "rgb24" if pixels.dtype == np.uint8 else "rgb48le"
        whole = cast(Pixels, np.ascontiguousarray(pixels))
        if name == self._format:  # nothing to convert: an encoder's threads may keep the picture
            given = av.VideoFrame.from_ndarray(whole, name)
        else:  # lent, not copied: a copy holds up all of Python
            given = av.VideoFrame.from_numpy_buffer(whole, name)
        coded = self._scaler.reformat(
            given,
            format=self._format,
            interpolation=_EXACT,
            src_color_range=_FULL,
            dst_colorspace=self._matrix,
            dst_color_range=self._range,
            threads=_threads(given.width, given.height),
        )
        tag(coded, self._color)
        return coded


def tag(target: av.VideoFrame | av.VideoCodecContext, color: Color) -> None:
    """Write colour tags on a frame or an encoder; what is not stated stays not stated."""
    target.colorspace = color.matrix
    target.color_primaries = color.primaries
    target.color_trc = color.transfer
    target.color_range = {None: 0, False: _LIMITED, True: _FULL}[color.full_range]
