"""TCDecoder: FlashVSR's small decoder, guided by the low-quality film.

A latent frame and the four frames it stands for, at 1/8 of the resolution, go in together:

    [768 condition, 16 latent] channels -> 3 tanh(x / 3)
      0 -  4   conv 512, ReLU, conv 512, ReLU
      5 -  7   MemBlock 512      8 - 10   nearest x2, TGrow x1, conv 256
     11 - 13   MemBlock 256     14 - 16   nearest x2, TGrow x2, conv 128     2 frames of time
     17 - 19   MemBlock 128     20 - 22   nearest x2, TGrow x2, conv 128     4 frames of time
     23 - 26   ReLU, conv 128, ReLU, conv 3                                  images in [-1, 1]

The numbers are those of the parameters in `TCDecoder.ckpt` (`decoder.22.weight`). A MemBlock sees
its input of the step before; those nine tensors are the whole state. A frame goes through the whole
net before the next one starts. The first three images of a clip are cut.

The layers from 20 on work at full resolution and would need by far the most memory. They look three
px around them, so they can be run in bands of rows with the same result but for last bits, where a
library takes another algorithm for the smaller size.

`fused` merges three layers into one (exact algebra, rounded otherwise).

Source: TCDecoder of https://github.com/OpenImagingLab/FlashVSR, examples/WanVSR/utils/TCDecoder.py,
made from https://github.com/madebyollin/taehv; https://arxiv.org/abs/2510.12747.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STEP: Final = 4
"""Frames per latent frame."""
CELL: Final = 8
"""Frame px per latent px."""
HALO: Final = 2
"""Rows of layer 20's input beside a band: four image rows, where the convolutions see three."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderConfig:
    """Sizes of the net; the defaults are FlashVSR's."""

    latent: int = 16
    """Channels of a latent."""
    widths: tuple[int, int, int, int] = (512, 256, 128, 128)
    """Channels at 1/8, 1/4, 1/2 and full resolution."""
    trimmed: int = 3
    """Frames cut where a clip begins."""


@dataclass(slots=True)
class DecoderState:
    """What the MemBlocks remember of a clip: their input of the step before, by layer number."""

    past: dict[int, Tensor] = field(default_factory=dict)


class MemBlock(nn.Module):
    """[B, C, H, W] of this step and of the step before -> [B, C, H, W], no value below 0."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(2 * width, width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, x: Tensor, past: Tensor) -> Tensor:
        first, _, second, _, third = self.conv
        made = _activated(second, _activated(first, torch.cat((x, past), dim=1)))
        return _activated(third, made, x)


class TGrow(nn.Module):
    """One frame becomes `times` in time. [B, C, H, W] -> the frame number `part` of them."""

    def __init__(self, width: int, times: int) -> None:
        super().__init__()
        self.times = times
        self.conv = nn.Conv2d(width, width * times, 1, bias=False)

    def forward(self, x: Tensor, part: int) -> Tensor:
        return F.conv2d(x, self.kernel(part))

    def kernel(self, part: int) -> Tensor:
        """[C, C, 1, 1]; the earlier frame's channels come first."""
        return self.conv.weight.chunk(self.times)[part]


class SubPixel(nn.Module):
    """TGrow, nearest x2 and a 3x3 convolution as one 2x2 convolution at the lower resolution.

    An output px sees only 2x2 input px, which ones depends on its place (odd or even row, column):
    so there is a kernel for each of the four places, whose taps are sums of the 3x3 kernel's.
    """

    def __init__(self, grow: TGrow, conv: nn.Conv2d) -> None:
        super().__init__()
        self.kernels = nn.ParameterList()  # one for each part of time
        for part in range(grow.times):
            point = grow.kernel(part)[:, :, 0, 0].double()
            kernel = torch.einsum("omyx,mi->oiyx", conv.weight.double(), point)
            rows = torch.stack(_pairs(kernel, 2))  # [place, O, I, 2, 3]
            both = torch.stack(_pairs(rows, 4), dim=1)  # [place, place, O, I, 2, 2]
            merged = both.flatten(0, 2).to(conv.weight.dtype)
            laid = merged.contiguous(memory_format=torch.channels_last)
            self.kernels.append(nn.Parameter(laid, requires_grad=False))

    def forward(self, x: Tensor, part: int) -> Tensor:
        """[B, I, h, w] -> [B, O, 2 h, 2 w]."""
        height, width = x.shape[-2:]
        places = F.conv2d(x, self.kernels[part], padding=1)
        last = places.is_contiguous(memory_format=torch.channels_last)
        made = torch.empty(
            (len(x), places.shape[1] // 4, 2 * height, 2 * width),
            dtype=x.dtype,
            device=x.device,
            memory_format=torch.channels_last if last else torch.contiguous_format,
        )
        for place, values in enumerate(places.chunk(4, dim=1)):
            row, column = divmod(place, 2)
            made[..., row::2, column::2] = values[..., row : row + height, column : column + width]
        return made


class TCDecoder(nn.Module):
    """See the head of this file."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        a, b, c, d = config.widths
        enter = 3 * STEP * CELL**2 + config.latent
        self.decoder = nn.ModuleList([
            nn.Identity(),  # 3 tanh(x / 3)
            nn.Conv2d(enter, a, 3, padding=1), nn.ReLU(inplace=True),
            _plain(a, a), nn.ReLU(inplace=True),
            *(MemBlock(a) for _ in range(3)), nn.Upsample(scale_factor=2.0), TGrow(a, 1),
            _plain(a, b),
            *(MemBlock(b) for _ in range(3)), nn.Upsample(scale_factor=2.0), TGrow(b, 2),
            _plain(b, c),
            *(MemBlock(c) for _ in range(3)), nn.Upsample(scale_factor=2.0), TGrow(c, 2),
            _plain(c, d), nn.ReLU(inplace=True),
            _plain(d, d), nn.ReLU(inplace=True),
            nn.Conv2d(d, 3, 3, padding=1),
        ])  # fmt: skip

    def forward(
        self, latents: Tensor, condition: Tensor, state: DecoderState, rows: int | None = None
    ) -> Tensor:
        """Latents [B, 16, T, h, w] as the DiT makes them, and the low-quality film at the output's
        size [B, 3, F, 8 h, 8 w] in [-1, 1] -> images of the same size, about [-1, 1], not clamped.

        F = 4 T - 3 where a clip begins (a fresh state), else 4 T; raises ValueError otherwise.
        `rows`: image rows per band, even; None: all at once. Changes `state`.
        """
        if rows is not None and (rows < 2 or rows % 2):
            raise ValueError(f"a band must have an even number of rows, not {rows}")
        cut = 0 if state.past else self.config.trimmed
        count = latents.shape[2]
        wanted = (3, STEP * count - cut, *(CELL * side for side in latents.shape[-2:]))
        if condition.shape[1:] != wanted:
            raise ValueError(
                f"latents {list(latents.shape)} with {cut} frames to cut need a condition "
                f"[B, {', '.join(map(str, wanted))}], not {list(condition.shape)}"
            )
        images = torch.empty_like(condition, dtype=latents.dtype)
        for number, latent in enumerate(latents.unbind(dim=2)):
            first = STEP * number - cut
            seen = [condition[:, :, max(i, 0)] for i in range(first, first + STEP)]
            for i, (features, part) in enumerate(self._steps(latent, seen, state), first):
                if i >= 0:
                    self._paint(features, part, images[:, :, i], rows)
        return images

    def _steps(
        self, latent: Tensor, seen: list[Tensor], state: DecoderState
    ) -> Iterator[tuple[Tensor, int]]:
        """Layers 0 to 19: for each of a latent's four images, features [B, 128, 4 h, 4 w] and which
        of the two images made from them it is."""
        x = F.pixel_unshuffle(torch.stack(seen, dim=2).flatten(1, 2), CELL)
        x = torch.cat((x.to(latent.dtype), latent), dim=1).div_(3).tanh_().mul_(3)
        x = _activated(self.decoder[3], _activated(self.decoder[1], x))
        x = self._remembered(x, 5, state)
        x = self._remembered(self._grown(x, 8), 11, state)
        for half in range(2):
            features = self._remembered(self._grown(x, 14, half), 17, state)
            for part in range(2):
                yield features, part

    def _remembered(self, x: Tensor, first: int, state: DecoderState) -> Tensor:
        """Through the three MemBlocks from layer `first` on."""
        for number in range(first, first + 3):
            past = state.past.get(number)
            state.past[number] = x
            x = self.decoder[number](x, torch.zeros_like(x) if past is None else past)
        return x

    def _grown(self, x: Tensor, first: int, part: int = 0) -> Tensor:
        """Nearest x2, TGrow, convolution. A 1x1 convolution and nearest x2 may change places: the
        lower resolution is the cheaper one."""
        up, grow, conv = self.decoder[first : first + 3]
        made: Tensor = conv(up(grow(x, part)))
        return made

    def _paint(self, features: Tensor, part: int, image: Tensor, rows: int | None) -> None:
        """Layers 20 to 26: [B, 128, 4 h, 4 w] -> `image` [B, 3, 8 h, 8 w], band by band."""
        height = features.shape[2]
        step = height if rows is None else rows // 2
        for start in range(0, height, step):
            stop = min(start + step, height)
            above = max(start - HALO, 0)
            x = self._grown(features[:, :, above : stop + HALO], 20, part).relu_()
            x = self.decoder[26](_activated(self.decoder[24], x))
            band = x[:, :, 2 * (start - above) : 2 * (stop - above)]
            torch.sub(band.mul_(2), 1, out=image[:, :, 2 * start : 2 * stop])


def fused(decoder: TCDecoder) -> TCDecoder:
    """The same decoder with fewer operations: each TGrow, nearest x2 and convolution are one layer.

    Equal up to rounding. It shares all other weights with `decoder`, whose names it no longer has:
    load first.
    """
    with torch.device("meta"):
        made = TCDecoder(decoder.config)
    layers = list(decoder.decoder)
    for first in (8, 14, 20):
        _, grow, conv = layers[first : first + 3]
        assert isinstance(grow, TGrow)
        assert isinstance(conv, nn.Conv2d)
        layers[first : first + 3] = [nn.Identity(), SubPixel(grow, conv), nn.Identity()]
    made.decoder = nn.ModuleList(layers)
    return made.train(decoder.training)


def _activated(conv: nn.Module, x: Tensor, plus: Tensor | None = None) -> Tensor:
    """relu(conv(x) + plus) of a 3x3 convolution; one kernel and one rounding where cuDNN has such:
    that takes half the time of three."""
    assert isinstance(conv, nn.Conv2d)
    weight, bias, one = conv.weight, conv.bias, (1, 1)  # stride, padding and dilation
    if x.is_cuda and x.dtype.itemsize == 2 and torch.cuda.get_device_capability(x.device) >= (8, 0):
        if plus is None:
            return torch.cudnn_convolution_relu(x, weight, bias, one, one, one, 1)
        return torch.cudnn_convolution_add_relu(x, weight, plus, 1.0, bias, one, one, one, 1)
    made: Tensor = conv(x)
    return (made if plus is None else made.add_(plus)).relu_()


def _plain(enter: int, leave: int) -> nn.Conv2d:
    return nn.Conv2d(enter, leave, 3, padding=1, bias=False)


def _pairs(kernel: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The two taps that the three along `dim` become, for an even and for an odd output px."""
    a, b, c = kernel.unbind(dim)
    return torch.stack((a, b + c), dim), torch.stack((a + b, c), dim)
