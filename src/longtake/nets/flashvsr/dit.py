"""The diffusion transformer of FlashVSR: one pass a chunk, state passed in.

    latents [1, 16, f, H/8, W/8] -> patches of 1 x 2 x 2 -> tokens, in window order (attention.py)
    30 blocks: sparse self attention over this chunk and the slabs before it, cross attention to the
    text, feed-forward; the low-quality video's tokens are added before the first block(s)
    head -> prediction [1, 16, f, H/8, W/8]

Parameter names are those of the checkpoint `diffusion_pytorch_model_streaming_dmd.safetensors`, the
shape is that of Wan2.1-T2V-1.3B. Time step and text never change, so what follows from them is
computed once (`prepare`). All tokens stay in window order from the patches to the head; everything
but self attention is token by token and goes through in slices, in place.

Source: FlashVSR, https://arxiv.org/abs/2510.12747, github.com/OpenImagingLab/FlashVSR; Wan2.1,
github.com/Wan-Video/Wan2.1, wan/modules/model.py. This module knows no files and no devices.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longtake.nets.flashvsr import attention
from longtake.nets.flashvsr.backends import Attend, reference
from longtake.nets.flashvsr.block import Block, BlockConstants, DiTConfig, Sight, slices
from longtake.nets.flashvsr.state import KVState
from longtake.nets.rope import THETA, grid_rotation

TIMESTEP = 1000.0
"""One step from pure noise: x0 = noise - prediction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a pass is made."""

    topk_ratio: float
    """Key blocks that a head keeps for a query slab of n blocks, over n * n."""
    local_range: int = 11
    """Windows per axis that a query window can see."""
    attend: Attend = reference
    """One of `backends.BACKENDS`."""
    slice_tokens: int | None = None
    """Tokens at a time through the linear layers; None: a slab. Fewer need less memory; on a GPU
    last bits may depend on it."""

    def __post_init__(self) -> None:
        tokens = 1 if self.slice_tokens is None else self.slice_tokens
        if not self.topk_ratio > 0 or self.local_range < 1 or tokens < 1:
            raise ValueError(
                f"topk_ratio must be above 0, local_range and slice_tokens at least 1, not "
                f"{self.topk_ratio}, {self.local_range} and {self.slice_tokens}"
            )


@dataclass(frozen=True, slots=True)
class Constants:
    """What `DiT.prepare` makes of a prompt; the same for every chunk of every film."""

    blocks: tuple[BlockConstants, ...]
    head: Tensor
    """[2, dim]: shift, 1 + scale."""

    def to(self, device: torch.device) -> Constants:
        return Constants(tuple(block.to(device) for block in self.blocks), self.head.to(device))


class Head(nn.Module):
    """[..., dim] -> patches [..., pf * ph * pw * channels], channels fastest."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.eps = config.eps
        self.modulation = nn.Parameter(torch.randn(1, 2, config.dim) / math.sqrt(config.dim))
        self.head = nn.Linear(config.dim, config.channels * math.prod(config.patch))

    def constants(self, t: Tensor) -> Tensor:
        """[2, dim] from t [1, dim]."""
        modulation = self.modulation[0] + t
        modulation[1] += 1
        return modulation

    def forward(self, x: Tensor, constants: Tensor) -> Tensor:
        shift, scale = constants.unbind(0)
        made: Tensor = self.head(F.layer_norm(x, scale.shape, scale, shift, self.eps))
        return made


class DiT(nn.Module):
    """`blocks` is the seam for offloading: the forward pass only iterates over it."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        dim, patch = config.dim, config.patch
        self.patch_embedding = nn.Conv3d(config.channels, dim, patch, patch)
        self.text_embedding = nn.Sequential(
            nn.Linear(config.text_dim, dim), nn.GELU(approximate="tanh"), nn.Linear(dim, dim)
        )
        self.time_embedding = nn.Sequential(
            nn.Linear(config.freq_dim, dim), nn.SiLU(), nn.Linear(dim, dim)
        )
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.head = Head(config)

    # --- once --------------------------------------------------------------------------------

    def prepare(self, context: Tensor) -> Constants:
        """All that follows from the prompt [1, length, text_dim] and the time step. Raises
        RuntimeError after `release`."""
        if not hasattr(self, "text_embedding"):
            raise RuntimeError("prepare needs the modules that release has dropped; load them anew")
        t, t_mod = self.times()
        text = self.text_embedding(context[0].to(t.dtype))
        return Constants(
            blocks=tuple(block.constants(t_mod, text) for block in self._blocks()),
            head=self.head.constants(t),
        )

    def times(self) -> tuple[Tensor, Tensor]:
        """t [1, dim] and t_mod [1, 6, dim] of the one time step."""
        wave = sinusoid(TIMESTEP, self.config.freq_dim).to(self.head.modulation)
        t: Tensor = self.time_embedding(wave)
        return t, self.time_projection(t).unflatten(1, (6, -1))

    def release(self) -> None:
        """Drop the modules that only `prepare` needs: an eighth of the parameters."""
        del self.text_embedding, self.time_embedding, self.time_projection
        for block in self._blocks():
            del block.cross_attn.k, block.cross_attn.v, block.cross_attn.norm_k

    def keep_prompt(self) -> None:
        """Drop the modules that `prepare` does not need: seven eighths of the parameters."""
        del self.patch_embedding, self.head.head
        for block in self._blocks():
            del block.self_attn, block.norm3, block.ffn
            del block.cross_attn.q, block.cross_attn.o, block.cross_attn.norm_q

    # --- every chunk -------------------------------------------------------------------------

    def forward(
        self,
        latents: Tensor,
        lq: Tensor | Sequence[Tensor],
        state: KVState,
        position: int,
        constants: Constants,
        settings: Settings,
    ) -> Tensor:
        """Prediction [1, 16, f, H/8, W/8] for noise latents of that shape; changes `state`.

        `position` is the film's latent index of the first; f is 6 at its start and 2 later; H and W
        are multiples of 128 px. `lq` are tokens [1, f * H/16 * W/16, dim] in raster order, or a
        list of them for the first blocks. Raises ValueError for other sizes.
        """
        grid = self._grid(latents)
        x = self._embed(latents, grid)
        turns = self._turns(position, grid, x.device)
        extra = [lq] if isinstance(lq, Tensor) else list(lq)
        with state.chunk(len(x)):
            sight = self._sight(grid, state, settings, x.device)
            for number, block in enumerate(self._blocks()):
                if number < len(extra):
                    _add_raster(x, extra[number], grid)
                with state.layer(number) as kv:
                    block(x, kv, sight, turns, constants.blocks[number], settings.slice_tokens)
        return self._predict(x, grid, constants, settings.slice_tokens)

    def _blocks(self) -> Iterator[Block]:
        yield from self.blocks  # type: ignore[misc]

    def _grid(self, latents: Tensor) -> tuple[int, int, int]:
        """Frames, rows and columns of tokens."""
        pf, ph, pw = self.config.patch
        frames, height, width = latents.shape[2:]
        return frames // pf, height // ph, width // pw

    def _embed(self, latents: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """[1, channels, F, H, W] -> [slabs, n * 128, dim]; a convolution of stride = kernel."""
        f, h, w = grid
        pf, ph, pw = self.config.patch
        patches = latents[0].reshape(-1, f, pf, h, ph, w, pw).permute(1, 3, 5, 0, 2, 4, 6)
        windows = attention.to_windows(patches.reshape(f, h, w, -1))
        return F.linear(windows, self.patch_embedding.weight.flatten(1), self.patch_embedding.bias)

    def _predict(
        self, x: Tensor, grid: tuple[int, int, int], constants: Constants, slice_tokens: int | None
    ) -> Tensor:
        """[slabs, n * 128, dim] -> [1, channels, F, H, W]."""
        f, h, w = grid
        pf, ph, pw = self.config.patch
        patches = x.new_empty(*x.shape[:2], math.prod(self.config.patch) * self.config.channels)
        for slab, rows in slices(x, slice_tokens):
            patches[slab, rows] = self.head(x[slab, rows], constants.head)
        cells = attention.from_windows(patches, h, w).reshape(f, h, w, pf, ph, pw, -1)
        return cells.permute(6, 0, 3, 1, 4, 2, 5).reshape(1, -1, f * pf, h * ph, w * pw)

    def _turns(self, position: int, grid: tuple[int, int, int], device: torch.device) -> Tensor:
        """Turns [slabs, n * 128, head_dim / 2], complex."""
        times = range(position, position + grid[0])
        turns = grid_rotation(times, grid[1], grid[2], self.config.head_dim, device)
        return attention.to_windows(turns)

    def _sight(
        self, grid: tuple[int, int, int], state: KVState, settings: Settings, device: torch.device
    ) -> Sight:
        _, wh, ww = attention.WINDOW
        rows, columns = grid[1] // wh, grid[2] // ww
        windows = rows * columns
        if state.windows != windows:
            raise ValueError(
                f"the state has slabs of {state.windows} windows and the latents {rows} x {columns}"
            )
        places = [place * windows + window for place in state.order for window in range(windows)]
        return Sight(
            heads=self.config.heads,
            budget=attention.block_budget(windows, settings.topk_ratio),
            local=attention.local_mask(rows, columns, settings.local_range, device),
            columns=torch.tensor(places, device=device),
            attend=settings.attend,
        )


def sinusoid(time: float, dim: int) -> Tensor:
    """[1, dim]: cosines, then sines, of `time` at dim / 2 frequencies; float64."""
    half = dim // 2
    phases = time * THETA ** (-torch.arange(half, dtype=torch.float64) / half)
    return torch.cat((phases.cos(), phases.sin()))[None]


def _add_raster(x: Tensor, tokens: Tensor, grid: tuple[int, int, int]) -> None:
    """Add tokens [1, f * h * w, dim] in raster order to x [slabs, n * 128, dim], slab by slab."""
    if tokens.shape[1] != math.prod(grid):
        raise ValueError(
            f"{tokens.shape[1]} tokens of the low-quality video for {' x '.join(map(str, grid))}"
        )
    frames = tokens[0].view(*grid, -1)
    depth = attention.WINDOW[0]
    for number, slab in enumerate(x):
        slab.add_(attention.to_windows(frames[depth * number : depth * (number + 1)])[0])
