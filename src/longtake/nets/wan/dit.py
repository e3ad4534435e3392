"""The diffusion transformer of Wan 2.1, from text or from text and image, 1.3B and 14B.

    latents [16, F, H/8, W/8], for an image also its mask and latents [20, ...] -> patches 1 x 2 x 2
    -> tokens; 30 or 40 blocks (block.py); head -> prediction [16, F, H/8, W/8], float32

A pass is three kinds of steps, each of which can be called on its own, with explicit state between
(`Flow`): `enter`, every one of `blocks`, `leave`. `forward` does no more than that, block by block,
phase by phase and within a phase sample by sample: both branches of guidance, or several windows,
go through it while it is there. Samples never meet, so their order changes no bit.

What prompt, image (`give`) and time step (`moment`) give is computed beforehand; after that
`release` drops the modules that only it needs. Parameter names are the official ones; other
layouts: keys_diffusers.py. This module knows no files and no devices.

Source: https://github.com/Wan-Video/Wan2.1, wan/modules/model.py; https://arxiv.org/abs/2503.20314.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longtake.nets.rope import angles, grid_rotation
from longtake.nets.wan.block import Block, Flow, Given, Moment, Settings, TokenNorm, norm
from longtake.nets.wan.sizes import DiTConfig


@dataclass(frozen=True, slots=True)
class Sample:
    """What one prediction is asked for."""

    latents: Tensor
    """[channels, F, height, width]: the noisy latents, one channel behind the other with what the
    model takes from an image."""
    moment: Moment
    given: Given


class Head(nn.Module):
    """[tokens, dim] -> patches [tokens, pf * ph * pw * channels], channels fastest; float32."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.eps = config.eps
        self.modulation = nn.Parameter(torch.randn(1, 2, config.dim) / math.sqrt(config.dim))
        self.head = nn.Linear(config.dim, config.patch_values)

    def forward(self, x: Tensor, moment: Moment) -> Tensor:
        shift, scale = (self.modulation[0].float() + moment.embedding).unbind(0)
        return _exactly(self.head, norm(x.float(), 1 + scale, shift, self.eps))


class ImageEmbedding(nn.Module):
    """CLIP's tokens [tokens, image_dim] -> [tokens, dim]."""

    def __init__(self, enter: int, leave: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(
            TokenNorm(enter),
            nn.Linear(enter, enter),
            nn.GELU(),
            nn.Linear(enter, leave),
            TokenNorm(leave),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        made: Tensor = self.proj(tokens)
        return made


class DiT(nn.Module):
    """`blocks` is the seam for offloading: the forward pass only iterates over it."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        self.patch_embedding = nn.Conv3d(config.enter, dim, config.patch, config.patch)
        self.text_embedding = nn.Sequential(
            nn.Linear(config.text_dim, dim), nn.GELU(approximate="tanh"), nn.Linear(dim, dim)
        )
        self.time_embedding = nn.Sequential(
            nn.Linear(config.freq_dim, dim), nn.SiLU(), nn.Linear(dim, dim)
        )
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))
        if config.image_dim is not None:
            self.img_emb = ImageEmbedding(config.image_dim, dim)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.head = Head(config)

    # --- once --------------------------------------------------------------------------------

    def give(self, text: Tensor, image: Tensor | None = None) -> Given:
        """From a prompt's tokens [length, text_dim], filled up with zeros to `text_length`, and
        CLIP's tokens of an image [257, image_dim]. Raises ValueError where a prompt is longer, or
        the net wants an image and has none, or the other way round; RuntimeError after `release`.
        """
        length, most = len(text), self.config.text_length
        if length > most:
            raise ValueError(f"a prompt has {most} tokens at most, not {length}")
        if (image is None) != (self.config.image_dim is None):
            wanted = "no image" if self.config.image_dim is None else "an image's tokens"
            raise ValueError(f"this net takes {wanted}")
        self._whole()
        dtype = self.patch_embedding.weight.dtype
        filled = F.pad(text.to(dtype), (0, 0, 0, most - length))
        seen = None if image is None else self.img_emb(image.to(dtype))
        return Given(self.text_embedding(filled), seen)

    def moment(self, time: float) -> Moment:
        """From a time step, 1000 for pure noise to 0; in float32. Raises RuntimeError after
        `release`."""
        self._whole()
        first, _, second = self.time_embedding
        phases = angles([time], self.config.freq_dim)
        wave = torch.cat((phases.cos(), phases.sin()), dim=1).to(self.head.modulation.device)
        embedding = _exactly(second, F.silu(_exactly(first, wave)))
        modulation = _exactly(self.time_projection[1], F.silu(embedding))
        return Moment(embedding[0], modulation.view(6, -1))

    def release(self) -> None:
        """Drop the modules that only `give` and `moment` need."""
        del self.text_embedding, self.time_embedding, self.time_projection
        if self.config.image_dim is not None:
            del self.img_emb

    def _whole(self) -> None:
        if not hasattr(self, "text_embedding"):
            raise RuntimeError("this needs the modules that release has dropped; load them anew")

    # --- every step --------------------------------------------------------------------------

    def forward(self, samples: Sequence[Sample], settings: Settings) -> list[Tensor]:
        """The predictions [channels, F, height, width], float32, in order."""
        turns: dict[tuple[int, int, int], Tensor] = {}
        flows = []
        for sample in samples:
            grid = self.grid(sample.latents)
            if grid not in turns:
                turns[grid] = self.turns(grid, sample.latents.device)
            flows.append(self.enter(sample, turns[grid], settings))
        for block in self._blocks():
            for phase in block:
                for flow in flows:
                    phase(flow)
        return [self.leave(flow) for flow in flows]

    def _blocks(self) -> Iterator[Block]:
        yield from self.blocks  # type: ignore[misc]

    def grid(self, latents: Tensor) -> tuple[int, int, int]:
        """Frames, rows and columns of tokens. Raises ValueError for latents that do not fit."""
        channels, frames, height, width = latents.shape
        pf, ph, pw = self.config.patch
        if channels != self.config.enter or frames % pf or height % ph or width % pw:
            raise ValueError(
                f"latents of {channels} channels, {frames} frames and {height} x {width} values; "
                f"the net takes {self.config.enter} channels and patches of {pf} x {ph} x {pw}"
            )
        return frames // pf, height // ph, width // pw

    def turns(self, grid: tuple[int, int, int], device: torch.device) -> Tensor:
        """Rotations of the tokens' places: [tokens, head_dim / 2], complex."""
        frames, height, width = grid
        turns = grid_rotation(range(frames), height, width, self.config.head_dim, device)
        return turns.flatten(0, 2)

    def enter(self, sample: Sample, turns: Tensor, settings: Settings) -> Flow:
        """Before the first block: a convolution of stride = kernel, as a product of matrices."""
        f, h, w = grid = self.grid(sample.latents)
        pf, ph, pw = self.config.patch
        weight, bias = self.patch_embedding.weight.flatten(1), self.patch_embedding.bias
        cells = sample.latents.to(weight.dtype).reshape(-1, f, pf, h, ph, w, pw)
        patches = cells.permute(1, 3, 5, 0, 2, 4, 6).reshape(f * h * w, -1)
        x = patches.new_empty(len(patches), len(weight))
        for rows in settings.chunks(len(x)):
            x[rows] = F.linear(patches[rows], weight, bias)
        return Flow(x, turns, grid, sample.given, sample.moment, settings)

    def leave(self, flow: Flow) -> Tensor:
        """Behind the last block: the prediction [channels, F, height, width]."""
        f, h, w = flow.grid
        pf, ph, pw = self.config.patch
        patches = flow.x.new_empty(
            len(flow.x), self.config.patch_values, dtype=flow.moment.embedding.dtype
        )
        for rows in flow.settings.chunks(len(flow.x)):
            patches[rows] = self.head(flow.x[rows], flow.moment)
        cells = patches.view(f, h, w, pf, ph, pw, -1).permute(6, 0, 3, 1, 4, 2, 5)
        return cells.reshape(-1, f * pf, h * ph, w * pw)


def _exactly(linear: nn.Module, x: Tensor) -> Tensor:
    """The layer in float32, whatever its weights are kept in."""
    assert isinstance(linear, nn.Linear)
    return F.linear(x.float(), linear.weight.float(), linear.bias.float())
