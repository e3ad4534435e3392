"""How much of the disk stays free, and whether there is room for more work."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_GIB: Final = 1 << 30
_LEAST, _MOST = _GIB, 10 * _GIB  # bytes
_SLACK: Final = 20  # a part of the mark: so much more must be free until work goes on


def low_water(root: Path, given: int | None) -> int:
    """Bytes of the disk of `root` that stay free: as given, else a tenth of it, at least 1 GiB (of
    a disk below 4 GiB a quarter) and at most 10 GiB."""
    if given is not None:
        return given
    total = shutil.disk_usage(_there(root)).total
    return min(max(total // 10, min(_LEAST, total // 4)), _MOST)


def space(root: Path) -> tuple[int, int]:
    """Total and free bytes of the disk of `root`, which need not be there yet."""
    found = shutil.disk_usage(_there(root))
    return found.total, found.free


@dataclass(slots=True)
class Room:
    """Of one disk, asked again and again: once short, it needs a little more than the mark."""

    root: Path
    mark: int
    short: bool = False

    def lacks(self) -> str | None:
        """Why no work may begin; None where there is room."""
        free = shutil.disk_usage(_there(self.root)).free
        need = self.mark + (self.mark // _SLACK if self.short else 0)
        self.short = free < need
        if not self.short:
            return None
        return (
            f"The disk of the data has {free / 1e9:,.2f} GB free; work begins with "
            f"{need / 1e9:,.2f} GB. Free some space: it goes on by itself."
        )


def _there(root: Path) -> Path:
    return next(path for path in (root, *root.absolute().parents) if path.exists())
