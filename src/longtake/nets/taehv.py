"""TAEHV: a tiny decoder of Wan 2.1's latents, for previews and small cards.

It is not the VAE: 9.8 million parameters instead of 73, and pictures that differ. A latent
[B, 16, h, w], normalised as the transformer makes it, gives frames as WanVae.decode does:

      0 -  2   3 tanh(x / 3), conv 256, ReLU
      3 -  5   MemBlock 256      6 -  8   nearest x2, TGrow x1, conv 128
      9 - 11   MemBlock 128     12 - 14   nearest x2, TGrow x2, conv 64      2 frames of time
     15 - 17   MemBlock 64      18 - 20   nearest x2, TGrow x2, conv 64      4 frames of time
     21 - 22   ReLU, conv 3                                                  images in [0, 1]

The numbers are those of the parameters in `taew2_1.pth` (`decoder.22.weight`), whose `encoder.*` is
not needed. A MemBlock sees its input of the step before; those nine tensors are the whole state of
a stream, kept outside the net. A frame goes through the whole net before the next one starts. The
first three images of a clip are cut.

Source: https://github.com/madebyollin/taehv, taehv.py at 115aaa7.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor, nn

from longtake.nets.flashvsr.decoder import MemBlock, TGrow
from longtake.nets.taehv_needs import TaehvConfig

Memory = dict[int, Tensor]
"""What the MemBlocks of a stream remember, by layer number; empty where a clip begins. Changed in
place by every step."""

CUT: Final = 3
"""Frames that a clip's first latent gives too many."""


class Bound(nn.Module):
    """3 tanh(x / 3)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / 3).mul_(3)


class Taehv(nn.Module):
    """See the head of this file."""

    def __init__(self, config: TaehvConfig) -> None:
        super().__init__()
        self.config = config
        layers: list[nn.Module] = [Bound(), _conv(config.latent, config.widths[0]), nn.ReLU()]
        for level, times in enumerate((1, 2, 2)):
            width, narrower = config.widths[level : level + 2]
            layers += [MemBlock(width) for _ in range(3)]
            layers += [nn.Upsample(scale_factor=2), TGrow(width, times)]
            layers += [_conv(width, narrower, bias=False)]
        self.decoder = nn.ModuleList([*layers, nn.ReLU(), _conv(config.widths[3], 3)])

    def decode(self, latent: Tensor, memory: Memory) -> Iterator[Tensor]:
        """The next latent [B, 16, h, w] -> its frames [B, 3, 8 h, 8 w], about [-1, 1], not clamped.

        The first latent gives 1 frame, any other 4. The memory is up to date once all are taken.
        """
        cut = 0 if memory else CUT
        for number, image in enumerate(self._flow(latent, 0, memory)):
            if number >= cut:
                yield image * 2 - 1

    def _flow(self, x: Tensor, first: int, memory: Memory) -> Iterator[Tensor]:
        """What comes out of the layers from `first` on for a frame, depth first."""
        for number in range(first, len(self.decoder)):
            layer = self.decoder[number]
            if isinstance(layer, MemBlock):
                past = memory.get(number)
                memory[number] = x
                x = layer(x, torch.zeros_like(x) if past is None else past)
            elif isinstance(layer, TGrow):
                for part in range(layer.times):
                    yield from self._flow(layer(x, part), number + 1, memory)
                return
            else:
                x = layer(x)
        yield x


def only_encodes(key: str) -> bool:
    """Whether a tensor of the file is for encoding, which Wan's own VAE does."""
    return key.startswith("encoder.")


def _conv(enter: int, leave: int, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(enter, leave, 3, padding=1, bias=bias)
