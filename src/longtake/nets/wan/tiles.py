"""The VAE over overlapping tiles, for a card that cannot hold a whole frame's activations.

Every tile is a stream with a history of its own, and for each latent all tiles are run before the
next latent starts. So what is summed is one latent's frames: memory is flat over the film. (The
original runs each tile over the whole clip and sums whole clips.) A history per tile costs more
than one for the whole frame, by the overlap; `parked` says where they wait for their turn.

Tiles see nothing beyond their edge: the result differs from the untiled one, as in the original.
Source: tiled_decode and encode_tiled of https://github.com/OpenImagingLab/FlashVSR,
diffsynth/models/wan_video_vae.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from longtake.nets.wan.causal import History, moved
from longtake.nets.wan.vae import WanVae

CELL = 8
"""Frame px per latent px."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiling:
    """Height and width in latent px. The defaults are those of FlashVSR's pipeline."""

    size: tuple[int, int] = (60, 104)
    stride: tuple[int, int] = (30, 52)

    def __post_init__(self) -> None:
        if any(not 0 < stride <= size for stride, size in zip(self.stride, self.size, strict=True)):
            raise ValueError(f"a stride must be 1 to the tile's size {self.size}: {self.stride}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TiledVae:
    """A VAE that works tile by tile. It holds no state: histories are the caller's."""

    vae: WanVae
    tiling: Tiling = field(default_factory=Tiling)
    parked: torch.device | None = None
    """Where a tile's history waits; None: where it was made."""

    def decode(self, latent: Tensor, histories: Histories) -> Iterator[Tensor]:
        """As WanVae.decode, in float32: [B, 16, h, w] -> 1 or 4 frames [B, 3, 8 h, 8 w]."""
        return self._tiled(self.vae.decode, latent, histories, (1, CELL))

    def encode(self, frame: Tensor, histories: Histories) -> Iterator[Tensor]:
        """As WanVae.encode, in float32: [B, 3, 8 h, 8 w] -> none or 1 latent [B, 16, h, w]."""
        return self._tiled(self.vae.encode, frame, histories, (CELL, 1))

    def _tiled(
        self, step: Step, given: Tensor, histories: Histories, cells: tuple[int, int]
    ) -> Iterator[Tensor]:
        enter, leave = cells
        height, width = (side // enter for side in given.shape[-2:])
        sums: list[Tensor] = []
        weights = torch.zeros(height * leave, width * leave, device=given.device)
        for tile in tiles(height, width, self.tiling):
            mask = feather(tile, (height, width), self.tiling, leave).to(given.device)
            rows, columns = (slice(a * leave, b * leave) for a, b in tile)
            weights[rows, columns] += mask
            above, left = (slice(a * enter, b * enter) for a, b in tile)
            history = moved(histories.pop(tile, {}), given.device)
            for number, made in enumerate(step(given[..., above, left], history)):
                if number == len(sums):
                    sums.append(weights.new_zeros(*made.shape[:2], *weights.shape))
                sums[number][..., rows, columns] += made * mask
            histories[tile] = moved(history, self.parked) if self.parked else history
        while sums:
            yield sums.pop(0).div_(weights)


Tile = tuple[tuple[int, int], tuple[int, int]]
"""Rows and columns, half-open, latent px."""
Histories = dict[Tile, History]
"""Of one stream: the history of each tile; empty where a clip begins."""
Step = Callable[[Tensor, History], Iterator[Tensor]]


def tiles(height: int, width: int, tiling: Tiling) -> list[Tile]:
    """The tiles of a frame, row by row."""
    (tall, wide), (down, right) = tiling.size, tiling.stride
    rows, columns = spans(height, tall, down), spans(width, wide, right)
    return [(row, column) for row in rows for column in columns]


def spans(length: int, size: int, stride: int) -> list[tuple[int, int]]:
    """Half-open: starts at multiples of the stride, until one reaches the end."""
    last = -(-max(length - size, 0) // stride)
    return [(i * stride, min(i * stride + size, length)) for i in range(last + 1)]


def feather(tile: Tile, frame: tuple[int, int], tiling: Tiling, leave: int) -> Tensor:
    """The weight of a tile's pixels, [rows, columns] in (0, 1]: the smaller of two ramps, which
    rise over the overlap from inner edges only. `leave`: output px per latent px."""
    ramps = []
    for (start, stop), length, size, stride in zip(
        tile, frame, tiling.size, tiling.stride, strict=True
    ):
        ramp = torch.ones((stop - start) * leave)
        border = (size - stride) * leave
        rise = torch.arange(1, border + 1) / max(border, 1)
        if start > 0:
            ramp[:border] = rise
        if stop < length:
            ramp[len(ramp) - border :] = rise.flip(0)
        ramps.append(ramp)
    return torch.minimum(ramps[0][:, None], ramps[1][None, :])
