"""How alike two pictures are: PSNR and SSIM of their luma, by libavfilter.

libavfilter's `psnr` and `ssim` are what the field quotes (ffmpeg -lavfi psnr, ssim); the figures of
each frame are read from the metadata that they leave on it.
https://ffmpeg.org/ffmpeg-filters.html#psnr, https://ffmpeg.org/ffmpeg-filters.html#ssim
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from numpy.typing import NDArray

from longtake.core.errors import LongtakeError
from longtake.media.sides import Scale, Size

FILTERS = ("buffer", "buffersink", "psnr", "split", "ssim")
COLUMNS = 600  # of a plot, at least; at most twice as many are kept
CAP = 100.0  # dB at which identical frames are drawn
_BICUBIC = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.BITEXACT
    | Interpolation.FULL_CHR_H_INP
)
_SMALLEST = 8  # px of a side below which libavfilter's SSIM has no window


class NoFilters(LongtakeError):
    """This build of libav cannot compare pictures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """The likeness of one frame."""

    mse: float  # of luma, as a share of the peak squared
    ssim: float | None  # None: too small a picture

    @property
    def psnr(self) -> float:
        """dB; infinite for identical pictures."""
        return -10 * math.log10(self.mse) if self.mse else math.inf


class Likeness:
    """Compares frames of one size, one after the other; not for two threads at once."""

    def __init__(self, size: Size, scale: Scale) -> None:
        lacking = [n for n in FILTERS if n not in av.filter.filters_available]
        if lacking:
            raise NoFilters(f"It lacks {', '.join(lacking)}: install PyAV from its wheel.")
        self.size = size
        self.scale = scale
        self._scalers = VideoReformatter(), VideoReformatter()
        self._count = 0
        self._graph, self._inputs, self._sink = self._built()

    def mark(self, a: NDArray[Any], b: NDArray[Any]) -> Mark:
        """`a`, `b` [H, W] luma on the scale, of any size; brought to this size first (bicubic)."""
        for source, luma, scaler in zip(self._inputs, (a, b), self._scalers, strict=True):
            frame = self._fitted(luma, scaler)
            frame.pts, frame.time_base = self._count, Fraction(1, 1000)
            source.push(frame)
        self._count += 1
        said = self._sink.pull().metadata
        ssim = float(said["lavfi.ssim.Y"])
        return Mark(
            mse=float(said["lavfi.psnr.mse.y"]) / self.scale.peak**2,
            ssim=None if min(self.size) < _SMALLEST or math.isnan(ssim) else ssim,
        )

    def _fitted(self, luma: NDArray[Any], scaler: VideoReformatter) -> av.VideoFrame:
        whole: Any = np.ascontiguousarray(luma)
        frame = av.VideoFrame.from_ndarray(whole, self.scale.format)
        if (frame.width, frame.height) == self.size:
            return frame
        return scaler.reformat(
            frame,
            width=self.size[0],
            height=self.size[1],
            interpolation=_BICUBIC,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.JPEG,
            threads=1,
        )

    def _built(self) -> tuple[Any, Sequence[Any], Any]:
        """A and B to psnr, its result and B to ssim, whose result carries both figures."""
        graph = av.filter.Graph()
        a, b = (
            graph.add_buffer(
                width=self.size[0], height=self.size[1], format=av.VideoFormat(self.scale.format),
                time_base=Fraction(1, 1000), name=name,
            )
            for name in "ab"
        )  # fmt: skip
        psnr, ssim = graph.add("psnr"), graph.add("ssim")
        split, sink = graph.add("split"), graph.add("buffersink")
        a.link_to(psnr, 0, 0)
        b.link_to(split)
        split.link_to(psnr, 0, 1)
        psnr.link_to(ssim, 0, 0)
        split.link_to(ssim, 1, 1)
        ssim.link_to(sink)
        graph.configure()
        return graph, (a, b), sink


@dataclass(slots=True)
class Bins:
    """Least, mean and greatest value in each of a bounded number of equal runs of frames."""

    frames: int = 1  # in each run
    rows: list[list[float]] = field(default_factory=list)  # [least, sum, greatest, count]

    def add(self, value: float) -> None:
        if not self.rows or self.rows[-1][3] == self.frames:
            if len(self.rows) == 2 * COLUMNS:
                self._halve()
            self.rows.append([value, 0.0, value, 0])
        row = self.rows[-1]
        row[0], row[1], row[2] = min(row[0], value), row[1] + value, max(row[2], value)
        row[3] += 1

    def _halve(self) -> None:
        self.rows = [
            [min(x[0], y[0]), x[1] + y[1], max(x[2], y[2]), x[3] + y[3]]
            for x, y in zip(self.rows[::2], self.rows[1::2], strict=True)
        ]
        self.frames *= 2

    def curve(self) -> list[tuple[float, float, float]]:
        """(least, mean, greatest) of every run."""
        return [(low, total / count, high) for low, total, high, count in self.rows]


@dataclass(slots=True)
class Tally:
    """The likeness of a whole film; memory does not grow with it."""

    frames: int = 0
    identical: int = 0
    mse: float = 0.0  # sum
    least_psnr: tuple[float, int] = (math.inf, -1)  # dB and frame
    least_ssim: tuple[float, int] = (math.inf, -1)
    ssim_sum: float = 0.0
    measured: int = 0  # frames that have an SSIM
    psnr_bins: Bins = field(default_factory=Bins)
    ssim_bins: Bins = field(default_factory=Bins)

    def add(self, mark: Mark, number: int) -> None:
        self.frames += 1
        self.identical += mark.mse == 0
        self.mse += mark.mse
        if mark.psnr < self.least_psnr[0] or self.least_psnr[1] < 0:
            self.least_psnr = mark.psnr, number
        self.psnr_bins.add(min(mark.psnr, CAP))
        if mark.ssim is None:
            return
        self.measured += 1
        self.ssim_sum += mark.ssim
        self.ssim_bins.add(mark.ssim)
        if mark.ssim < self.least_ssim[0]:
            self.least_ssim = mark.ssim, number

    @property
    def psnr(self) -> float:
        """dB, from the mean of all squared errors: libavfilter's "average"."""
        return Mark(mse=self.mse / self.frames, ssim=None).psnr if self.frames else math.nan

    @property
    def ssim(self) -> float | None:
        return self.ssim_sum / self.measured if self.measured else None


def finite(value: float | None) -> float | None:
    """For JSON, which has no infinity: None where pictures are identical."""
    return value if value is not None and math.isfinite(value) else None
