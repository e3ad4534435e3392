"""Pictures in overlapping tiles, for GPUs that cannot hold a whole one.

Tiles change the film: each is a stream of its own, and attention ends at its sides. They have one
size, a multiple of `CELL`; they begin at multiples of `ALIGNED`, so that tokens and latents, and
with them the noise, are those of the whole picture. Where tiles overlap, each fades out towards its
side; at the picture's own border none fades.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from longtake.engines._flashvsr_frames import CELL

if TYPE_CHECKING:
    import torch
    from torch import Tensor

ALIGNED: Final = 16
"""px of a token."""
OVERLAP: Final = 64
"""px at least."""
DEAR: Final = 1.35
"""Pixels in all tiles over those of the picture: more is not proposed."""


@dataclass(frozen=True, slots=True)
class Tiles:
    """A grid of tiles over a padded picture."""

    size: tuple[int, int]  # (width, height) px of the padded picture
    tile: tuple[int, int]  # the same of a tile
    left: tuple[int, ...]  # px, first column of each column of tiles
    top: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.left) * len(self.top)

    @property
    def work(self) -> float:
        """Pixels in all tiles over those of the picture."""
        whole, each = (width * height for width, height in (self.size, self.tile))
        return len(self) * each / whole

    def parts(self) -> list[tuple[slice, slice]]:
        """Rows and columns of each tile."""
        width, height = self.tile
        return [(slice(y, y + height), slice(x, x + width)) for y in self.top for x in self.left]

    def shares(self, device: torch.device) -> list[Tensor]:
        """What each tile adds to the picture: float32 [height, width], 1 in sum everywhere."""
        across = _shares(self.left, self.tile[0], self.size[0], device)
        down = _shares(self.top, self.tile[1], self.size[1], device)
        return [y[:, None] * x for y in down for x in across]


def tiles(size: tuple[int, int], most: int) -> Tiles:
    """Of a padded picture (width, height), with sides of at most `most` px; 0: one tile, the whole.
    Of all such grids the one that works on the fewest pixels."""
    (width, left), (height, top) = (_axis(side, most) for side in size)
    return Tiles(size=size, tile=(width, height), left=left, top=top)


def proposals(size: tuple[int, int]) -> list[int]:
    """Sides for `tiles`, the largest first, that save memory at a fair price."""
    found: dict[tuple[int, int], int] = {}
    for most in range(max(size) - CELL, 2 * CELL - 1, -CELL):
        grid = tiles(size, most)
        if grid.work <= DEAR:
            found.setdefault(grid.tile, max(grid.tile))
    return list(found.values())


def _axis(side: int, most: int) -> tuple[int, tuple[int, ...]]:
    """Length of a tile and where tiles begin."""
    if not most or side <= most:
        return side, (0,)
    grids = []
    for length in range(2 * CELL, most + 1, CELL):
        count = -(-(side - OVERLAP) // (length - OVERLAP))
        grids.append((count * length, count, length))
    _, count, length = min(grids)
    last = side - length
    starts = (round(i * last / (count - 1) / ALIGNED) * ALIGNED for i in range(count))
    return length, tuple(starts)


def _shares(starts: tuple[int, ...], length: int, side: int, device: torch.device) -> list[Tensor]:
    """Along one axis: float32 [length] for each tile."""
    import torch

    places = torch.arange(side, device=device)
    ramp = min((starts[i] + length - starts[i + 1] for i in range(len(starts) - 1)), default=1)
    weights = []
    for start in starts:
        inside = torch.minimum(places - start + 0.5, start + length - places - 0.5)
        fading = (inside / ramp).clamp(0, 1)
        if start == 0:
            fading[: length - ramp] = 1
        if start + length == side:
            fading[start + ramp :] = 1
        weights.append(fading)
    total = torch.stack(weights).sum(0)
    return [
        (weight / total)[start : start + length]
        for weight, start in zip(weights, starts, strict=True)
    ]
