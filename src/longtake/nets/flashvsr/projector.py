"""FlashVSR's projection of the low-quality film, enlarged by interpolation, to tokens of its DiT.

    frames [B, 3, 4, H, W] in [-1, 1] -> pixel-unshuffle 16 [B, 768, 4, H / 16, W / 16]
    -> conv1, norm, SiLU: 2 frames of 2048 -> conv2, norm, SiLU: 1 frame of 3072 -> linear: 1536

Both convolutions have a kernel of 4 frames and a stride of 2 frames, and need two frames in front
of a group of four. The two releases differ in which:

    "buffer"  v1.0: the last two of the *same* group (x2 x3 x0 x1 x2 x3). Groups are independent.
    "causal"  v1.1: the last two of the group before. The state carries them.

Both have the same parameters, named as in `LQ_proj_in.ckpt`, so nothing but the config can tell
them apart. Around a frame its edge is repeated.

Source: Buffer_LQ4x_Proj and Causal_LQ4x_Proj of https://github.com/OpenImagingLab/FlashVSR,
examples/WanVSR/utils; https://arxiv.org/abs/2510.12747.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longtake.nets.wan.causal import ChannelNorm, convolve

GROUP: Final = 4
"""Frames per latent frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectorConfig:
    """Sizes of the net; the defaults are FlashVSR's."""

    variant: Literal["buffer", "causal"]
    patch: int = 16
    """Frame px per token, each way."""
    hidden: tuple[int, int] = (2048, 3072)
    dim: int = 1536
    """Channels of a token."""
    layers: int = 1
    """Blocks of the DiT that are given tokens, from the first on."""

    def __post_init__(self) -> None:
        if self.variant not in ("buffer", "causal"):
            raise ValueError(f'the variant must be "buffer" or "causal", not "{self.variant}"')


@dataclass(slots=True)
class ProjectorState:
    """The last two input frames of each convolution, oldest first; "buffer" keeps nothing."""

    cells: tuple[Tensor, ...] = ()
    """Two of [B, 3 * patch ** 2, h, w]."""
    features: tuple[Tensor, ...] = ()
    """Two of [B, hidden[0], h, w]."""


class Projector(nn.Module):
    """See the head of this file."""

    def __init__(self, config: ProjectorConfig) -> None:
        super().__init__()
        self.config = config
        first, second = config.hidden
        kernel, stride = (4, 3, 3), (2, 1, 1)
        self.conv1 = nn.Conv3d(3 * config.patch**2, first, kernel, stride)
        self.norm1 = ChannelNorm(first)
        self.conv2 = nn.Conv3d(first, second, kernel, stride)
        self.norm2 = ChannelNorm(second)
        self.linear_layers = nn.ModuleList(
            nn.Linear(second, config.dim) for _ in range(config.layers)
        )

    def begin(self, frame: Tensor) -> ProjectorState:
        """The state behind the first frame [B, 3, 1, H, W] of a clip, which makes no token."""
        if frame.shape[2] != 1:
            raise ValueError(f"a clip begins with 1 frame, not {frame.shape[2]}")
        if self.config.variant == "buffer":
            return ProjectorState()
        (cells,) = self._cells(frame)
        features = _activated(self.conv1, self.norm1, (cells,) * 4)
        return ProjectorState((cells, cells), (features, features))

    def forward(self, frames: Tensor, state: ProjectorState) -> tuple[Tensor, ...]:
        """[B, 3, 4 k, H, W] in [-1, 1] -> for each linear layer tokens [B, k * h * w, dim].

        h = H / 16, w = W / 16; tokens run by latent frame, row, column. Changes `state`.
        Raises ValueError if frames are missing or H or W is no multiple of 16.
        """
        count, height, width = frames.shape[2:]
        if count % GROUP or height % self.config.patch or width % self.config.patch:
            raise ValueError(
                f"{count} frames of {width} x {height} px: the number of frames must be a multiple "
                f"of {GROUP}, their sides multiples of {self.config.patch}"
            )
        groups = (frames[:, :, first : first + GROUP] for first in range(0, count, GROUP))
        latents = [self._latent(group, state).flatten(2) for group in groups]
        tokens = torch.cat(latents, dim=2).transpose(1, 2)
        return tuple(linear(tokens) for linear in self.linear_layers)

    def _latent(self, group: Tensor, state: ProjectorState) -> Tensor:
        """Four frames [B, 3, 4, H, W] -> [B, hidden[1], h, w]."""
        cells = self._cells(group)
        causal = self.config.variant == "causal"
        before = state.cells if causal else cells[2:]
        earlier = _activated(self.conv1, self.norm1, (*before, *cells[:2]))
        later = _activated(self.conv1, self.norm1, cells)
        before = state.features if causal else (earlier, later)
        if causal:
            state.cells, state.features = cells[2:], (earlier, later)
        return _activated(self.conv2, self.norm2, (*before, earlier, later))

    def _cells(self, frames: Tensor) -> tuple[Tensor, ...]:
        return tuple(F.pixel_unshuffle(x, self.config.patch) for x in frames.unbind(dim=2))


def _activated(conv: nn.Conv3d, norm: nn.Module, window: Sequence[Tensor]) -> Tensor:
    """Four frames [B, C, h, w] -> one, convolved, normed, through SiLU."""
    around = [F.pad(x, (1, 1, 1, 1), mode="replicate") for x in window]
    return F.silu(norm(convolve(conv, around)), inplace=True)
