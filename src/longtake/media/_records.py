"""The record of one frame in `index.bin`."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from longtake.media._look import THUMB

Rows = NDArray[Any]  # of RECORD

RECORD = np.dtype(
    [
        ("pts", "<i8"),  # shown, source ticks
        ("raw", "<i8"),  # as decoded; NONE where the frame had none
        ("duration", "<i4"),  # ticks; 0: not known
        ("fingerprint", "<u4"),
        ("mean", "<f4"),  # luma, 0 .. 255
        ("diff", "<f4"),  # mean absolute difference of the 64x36 grid to the frame before
        ("skip", "<f4"),  # the same to the frame before that
        ("hist", "<f4"),  # half the L1 distance of the luma histograms, 0 .. 1, to the one before
        ("flags", "<u2"),
        ("lost", "<u2"),  # packets before this frame that could not be decoded
        ("check", "<u4"),  # CRC-32 of all other bytes of the record
        ("thumb", "u1", THUMB[::-1]),  # [9, 16] luma
        ("comb", "<f4", 3),  # see _fields.Weaves; 0 unless the film is analysed for ivtc
        ("moved", "<f4", 2),
        ("peak", "u1", 3),
        ("spare", "u1"),
    ]
)
KEY, INTERLACED, TOP, CORRUPT = 1, 2, 4, 8
BATCH = 256  # records between two writes to the disk
NONE = -(1 << 63)  # no timestamp: libav's AV_NOPTS_VALUE


class Appender:
    """Appends records to a file after its first `keep`, a batch at a time.

    The file is cut to `keep` records only when the first new one is asked for, so that a pass that
    fails before it has anything to say leaves it as it was.
    """

    def __init__(self, path: Path, keep: int) -> None:
        self._path = path
        self._keep = keep
        self._rows: Rows = np.zeros(BATCH, RECORD)
        self._held = 0
        self._file: BinaryIO | None = None

    def __enter__(self) -> Appender:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._file is None:
            self._open()
        if self._file is not None:
            self._flush()
            self._file.close()

    def next(self) -> Rows:
        """The record to be filled now; it counts once the next one is asked for."""
        if self._file is None:
            self._open()
        if self._held == BATCH:
            self._flush()
        self._held += 1
        row: Rows = self._rows[self._held - 1]
        return row

    def _open(self) -> None:
        self._file = self._path.open("ab")
        self._file.truncate(self._keep * RECORD.itemsize)

    def _flush(self) -> None:
        assert self._file is not None
        self._file.write(self._rows[: self._held].tobytes())
        self._file.flush()
        self._rows[:] = 0  # a record that is never filled must not look like an old one
        self._held = 0


def seal(row: Rows) -> None:
    """Write the checksum of a single record."""
    row["check"] = 0
    row["check"] = zlib.crc32(row.tobytes())


def sealed(row: Rows) -> bool:
    """True if the record is as it was written."""
    bare = row.copy()
    bare["check"] = 0
    return int(row["check"]) == zlib.crc32(bare.tobytes())


def read_rows(path: Path, start: int, stop: int) -> Rows:
    """Records [start, stop) of a file that may still be growing."""
    return np.fromfile(path, RECORD, stop - start, offset=start * RECORD.itemsize)


def crc_of(path: Path) -> int:
    """CRC-32 of a file."""
    value = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            value = zlib.crc32(block, value)
    return value
