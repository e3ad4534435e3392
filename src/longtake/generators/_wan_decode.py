"""From latents to frames, one latent at a time; nothing here grows with the film but its latents.

The first latent is 1 frame, any other 4. Frames leave for the host while the next latent is at
work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from longtake.core.media import Clip
from longtake.engines._parts import Parts
from longtake.engines._pixels import Leaving, arrived
from longtake.generators._wan_grid import STEP
from longtake.nets.taehv import Memory, Taehv
from longtake.nets.wan.causal import History
from longtake.nets.wan.tiles import Histories, TiledVae, Tiling
from longtake.nets.wan.vae import WanVae


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """How frames are made. All but `parked` decides the film."""

    net: Literal["vae", "taehv"] = "vae"
    """taehv: small and fast, and other pictures."""
    tiling: Tiling | None = None
    """Of the VAE; None: frames stay whole. Tiles do not see each other."""
    parked: torch.device | None = None
    """Where a tile's history waits; None: where it was made."""
    bits: int = 8
    """Of a component; frames of more than 8 are uint16 over their full scale."""

    def __post_init__(self) -> None:
        if self.net == "taehv" and self.tiling is not None:
            raise ValueError("TAEHV is small enough for whole frames: it takes no tiles")


def decode(
    parts: Parts, latents: Tensor, decoding: Decoding, device: torch.device, start: int = 0
) -> Iterator[Clip]:
    """Latents [16, F, h, w], on the host, of a whole film or shot -> its 4 F - 3 frames, one clip
    for each latent; `start` is the number of the first frame. Raises NotANumber."""
    return arrived(_leaving(parts, latents, decoding, device, start))


def _leaving(
    parts: Parts, latents: Tensor, decoding: Decoding, device: torch.device, start: int
) -> Iterator[Leaving]:
    step = _stepping(parts, decoding)
    for number in range(latents.shape[1]):
        count = STEP if number else 1
        yield _made(step, latents[None, :, number].to(device), count, decoding.bits, start)
        start += count


def _made(step: _Step, latent: Tensor, count: int, bits: int, start: int) -> Leaving:
    with torch.inference_mode():
        frames = (frame.float().add(1).div_(2) for frame in step(latent))
        return Leaving(frames, count, bits, start)


_Step = Callable[[Tensor], Iterator[Tensor]]
"""The next latent [1, 16, h, w] -> its frames [1, 3, 8 h, 8 w], about [-1, 1]. Carries a stream's
state."""


def _stepping(parts: Parts, decoding: Decoding) -> _Step:
    memory: Memory = {}
    history: History = {}
    histories: Histories = {}

    def step(latent: Tensor) -> Iterator[Tensor]:
        net = parts.turn(decoding.net)
        entering = latent.to(next(net.parameters()).dtype)
        if isinstance(net, Taehv):
            return net.decode(entering, memory)
        assert isinstance(net, WanVae)
        if decoding.tiling is None:
            return net.decode(entering, history)
        tiled = TiledVae(vae=net, tiling=decoding.tiling, parked=decoding.parked)
        return tiled.decode(entering, histories)

    return step
