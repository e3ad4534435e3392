"""What the index keeps of a picture: a fingerprint, its brightness, how it differs from before."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Literal

import av
import numpy as np
from numpy.typing import NDArray

GRID = (64, 36)  # cells across and down in which pictures are compared
THUMB = (16, 9)  # cells of the picture that is kept
BINS = 32  # of the histogram of luma
_ROWS = 4  # every 4th row enters the fingerprint

Grid = NDArray[np.float32]
Field = Literal["top", "bottom"]


@dataclass(frozen=True, slots=True)
class Look:
    fingerprint: int  # CRC-32 of every 4th row of every plane as decoded
    grid: Grid  # [36, 64] mean luma of each cell, 0 .. 255
    histogram: Grid  # [32] share of the samples in each bin, sums to 1
    mean: float  # luma, 0 .. 255


def look(frame: av.VideoFrame, field: Field | None = None) -> Look:
    """Measure one decoded frame, or one of its fields; costs a fraction of decoding it."""
    luma = _luma(frame, field)
    grid = _cells(luma)
    counts = np.bincount((luma >> 3).ravel(), minlength=BINS)
    return Look(
        fingerprint(frame), grid, (counts / luma.size).astype(np.float32), float(luma.mean())
    )


def fingerprint(frame: av.VideoFrame) -> int:
    """CRC-32 over every 4th row of each plane: no picture that differs visibly keeps it."""
    value = 0
    for index, plane in enumerate(frame.planes):
        width = _row_bytes(frame, index, plane)
        if not width:
            value = zlib.crc32(memoryview(plane), value)
            continue
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[
            : plane.height
        ]
        value = zlib.crc32(np.ascontiguousarray(rows[::_ROWS, :width]).data, value)
    return value


def _row_bytes(frame: av.VideoFrame, index: int, plane: av.video.plane.VideoPlane) -> int:
    """Bytes of a row that hold picture, without the padding behind it; 0: not made of rows."""
    parts = [c for c in frame.format.components if c.plane == index]
    if not parts:
        return 0  # a palette
    if frame.format.is_planar:
        deep = 2 if max(c.bits for c in parts) > 8 else 1
        return min(plane.line_size, plane.width * deep * len(parts))
    return min(plane.line_size, (frame.width * frame.format.padded_bits_per_pixel + 7) // 8)


def _luma(frame: av.VideoFrame, field: Field | None) -> NDArray[np.uint8]:
    """[h, w] about 320x180 luma samples of the frame or of a field, 8 bits."""
    lines = 1 if field is None or frame.height < 2 else 2
    down = lines * max(1, frame.height // (180 * lines))
    luma = samples(frame, 1, max(1, frame.width // 320))
    return luma[lines - 1 if field == "bottom" else 0 :: down]


def samples(frame: av.VideoFrame, down: int, across: int) -> NDArray[np.uint8]:
    """[h, w] every `down`-th row and `across`-th column of the frame's luma, 8 bits."""
    form = frame.format
    first = form.components[0]
    plain = (
        form.name.startswith(("yuv", "yuvj", "nv", "p0", "p2", "p4", "gray"))
        and first.plane == 0
        and sum(c.plane == 0 for c in form.components) == 1
        and not form.is_big_endian
    )
    if not plain:
        frame = frame.reformat(format="gray", threads=1)
        first = frame.format.components[0]
    plane = frame.planes[0]
    if first.bits <= 8:
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        return rows[: frame.height : down, : frame.width : across]
    wide = np.frombuffer(memoryview(plane), np.dtype("<u2")).reshape(-1, plane.line_size // 2)
    shift = 8 if form.name.startswith("p") else first.bits - 8  # p010 keeps its bits at the top
    return (wide[: frame.height : down, : frame.width : across] >> shift).astype(np.uint8)


def _cells(samples: NDArray[np.uint8]) -> Grid:
    """[36, 64] means of the samples over a grid; cells repeat where the picture is smaller."""
    edges = [
        np.linspace(0, length, cells + 1).astype(int)
        for length, cells in zip(samples.shape, GRID[::-1], strict=True)
    ]
    down, across = (np.minimum(e[:-1], e[-1] - 1) for e in edges)
    sums = np.add.reduceat(samples, down, axis=0, dtype=np.uint32)
    sums = np.add.reduceat(sums, across, axis=1, dtype=np.uint32)
    heights, widths = (np.maximum(np.diff(e), 1) for e in edges)
    means: Grid = (sums / np.outer(heights, widths)).astype(np.float32)
    return means


def thumb(grid: Grid) -> NDArray[np.uint8]:
    """[9, 16] the grid in a quarter of the size each way, rounded."""
    small = grid.reshape(THUMB[1], 4, THUMB[0], 4).mean(axis=(1, 3))
    rounded: NDArray[np.uint8] = np.rint(small).astype(np.uint8)
    return rounded
