"""What Wan 2.1's image-to-video models take from the image a film begins with.

    image [H, W, 3] -> CLIP's tokens [257, 1280]
    image, then grey frames (0 in [-1, 1]) to the film's end -> latents [16, F, H / 8, W / 8] of the
        VAE, behind a mask [4, F, H / 8, W / 8], one channel for each frame of a latent: 1 where a
        frame is given (the first one, which stands for all four of its latent), else 0

Source: https://github.com/Wan-Video/Wan2.1, wan/image2video.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from longtake.core.errors import BadInput, NotANumber
from longtake.core.media import Pixels
from longtake.engines._parts import Parts
from longtake.engines._pixels import to_floats
from longtake.generators._wan_grid import CELL, PATCH, STEP, latent_frames
from longtake.nets.clip_vision import ClipVision, prepared
from longtake.nets.wan.causal import History
from longtake.nets.wan.tiles import Histories, TiledVae, Tiling
from longtake.nets.wan.vae import WanVae


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a model takes from an image, on the host."""

    tokens: Tensor | None
    """[257, 1280]; None for models without CLIP."""
    beside: Tensor
    """[20, F, H / 8, W / 8], float32: mask and latents."""


def look(
    parts: Parts, image: Pixels, frames: int, device: torch.device, tiling: Tiling | None = None
) -> Seen:
    """From an image [H, W, 3] (uint8, or uint16 over its full scale) of the film's size, for a film
    of so many frames. Raises BadInput for other sides than whole tokens, Usage for a number of
    frames that no film has, NotANumber."""
    height, width, _ = image.shape
    if height % (CELL * PATCH) or width % (CELL * PATCH):
        raise BadInput(
            f"The image is {width} x {height} px; enlarge or cut it to the size of the film, whose "
            f"sides are multiples of {CELL * PATCH} px."
        )
    latents = latent_frames(frames)
    with torch.inference_mode():
        whole = to_floats(image, str(device)).mul_(2).sub_(1)
        tokens = _tokens(parts, whole) if "image" in parts else None
        found = _latents(parts, whole, frames, tiling)
        mask = found.new_zeros(STEP, latents, *found.shape[2:])
        mask[:, 0] = 1
        beside = torch.cat((mask, found)).cpu()
    if not bool(beside.isfinite().all()) or (tokens is not None and not tokens.isfinite().all()):
        raise NotANumber("What is made of the image.")
    return Seen(tokens=tokens, beside=beside)


def _tokens(parts: Parts, image: Tensor) -> Tensor:
    net = parts.turn("image")
    assert isinstance(net, ClipVision)
    found: Tensor = net(prepared(image, net.visual.config.image))
    return found[0].cpu()


def _latents(parts: Parts, image: Tensor, frames: int, tiling: Tiling | None) -> Tensor:
    """[16, F, H / 8, W / 8], float32, of the image and what follows it."""
    vae = parts.turn("vae")
    assert isinstance(vae, WanVae)
    first = image.to(vae.conv2.weight.dtype)
    after = torch.zeros_like(first)
    history: History = {}
    histories: Histories = {}
    tiled = None if tiling is None else TiledVae(vae=vae, tiling=tiling)
    found = []
    for number in range(frames):
        frame = after if number else first
        made = vae.encode(frame, history) if tiled is None else tiled.encode(frame, histories)
        found += [latent[0].float() for latent in made]
    return torch.stack(found, dim=1)
