"""`lite`: the built-in upscaler, a small single-frame convolutional net.

    frames [B, 3, H, W] -> pixel-unshuffle 2 [B, 12, H/2, W/2] -> `enter` and `blocks`, each a 3x3
    convolution and ReLU -> features [B, width, H/2, W/2]
    detail = pixel-shuffle(head_s(features)), base = pixel-shuffle(5x5 convolution_s(frames))
    output = base + detail

The trunk works at half the frame's resolution, where a convolution costs a quarter and sees twice
as far (the idea of RTSR, https://arxiv.org/abs/2209.14600, and of ESPCN's sub-pixel layer,
https://arxiv.org/abs/1609.05158). There is one head and one base per scale. A base starts as
bicubic interpolation, so the heads learn what bicubic lacks. Training re-parameterises the blocks
(RepVGG, https://arxiv.org/abs/2101.03697); what is kept here is the merged, plain net.

No state is carried between frames. So the lead of a segment is 0, and a frame never depends on its
neighbours. `forward` also computes frame by frame, because libraries choose their algorithm by the
batch: so how many frames go through per call cannot change a bit, on any device.

This module knows no files, no devices, no tiles and no video.

Memory
------
For B frames of H x W px, scale s, w channels and a trunk of e bytes per value (2 or 4), the live
tensors, weights left aside, are at most `carried` + the largest of the other lines. In bytes;
m = H * W with both rounded up to even:

    carried  B * H * W * 3 * (4 + 4 * s * s)   the frames and the output (if B = 1 only the frames)
    entry    m * (12 * [H or W odd] + 12 * e + w / 4 * e)    made even, cast, unshuffled, entered
    trunk    m * (w / 4 * e * 3)                 entered features, a block's input, a block's output
    head     m * (w / 4 * e + 3 * s * s * e * 2)    features, detail before and after its shuffle
    base     m * (3 * s * s * (e + 4 + 4))          detail, base before and after its shuffle
    padding  m * (3 * s * s * (e + 4) + 12 + 140)   s = 3: the base's 27 channels padded to 32

The last line was seen on CUDA with several frames at once; with one frame and torch 2.11 (H200,
180p to 1080p) it is not, and float32 there takes two more tensors of the trunk (w / 2 * e * m).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BASE_TAPS: Final = 5
"""Per axis of a base kernel, input px. Four would hold a bicubic phase; five are symmetric."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiteConfig:
    """Sizes of the net. They belong to the weights and are stored with them."""

    width: int = 80
    """Channels of the trunk."""
    depth: int = 12
    """Blocks of the trunk."""
    scales: tuple[int, ...] = (2, 3, 4)
    """Enlargements that have a head."""

    def __post_init__(self) -> None:
        if self.width < 1 or self.depth < 1:
            raise ValueError(
                f"width and depth must be at least 1, not {self.width} and {self.depth}"
            )
        if not self.scales or min(self.scales) < 1 or len(set(self.scales)) != len(self.scales):
            raise ValueError(
                f"scales must be different whole numbers of at least 1, not {self.scales}"
            )


class Block(nn.Module):
    """A 3x3 convolution and ReLU. [B, width, h, w] -> [B, width, h, w], no value below 0."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.conv(features), inplace=True)


class Lite(nn.Module):
    """Enlarges frames by one of the scales of its config.

    `blocks` is the seam for offloading: the forward pass only iterates over it.
    """

    def __init__(self, config: LiteConfig) -> None:
        super().__init__()
        self.config = config
        self.enter = nn.Conv2d(3 * 4, config.width, 3, padding=1)
        self.blocks = nn.ModuleList(Block(config.width) for _ in range(config.depth))
        self.heads = nn.ModuleDict()
        self.bases = nn.ModuleDict()
        for scale in config.scales:
            self.heads[str(scale)] = nn.Conv2d(config.width, 3 * (2 * scale) ** 2, 3, padding=1)
            base = nn.Conv2d(3, 3 * scale**2, BASE_TAPS, bias=False)
            with torch.no_grad():
                base.weight.copy_(bicubic_phase_kernels(scale))
            self.bases[str(scale)] = base
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def trunk_to(self, dtype: torch.dtype) -> Lite:
        """Let the trunk and the heads compute in `dtype`; base and output stay float32, so that
        gradients do not band."""
        for part in (self.enter, self.blocks, self.heads):
            part.to(dtype)
        return self

    def forward(self, frames: Tensor, scale: int) -> Tensor:
        """Enlarge [B, 3, H, W] float32 RGB in [0, 1] to [B, 3, scale * H, scale * W] float32, not
        clamped.

        H and W may be odd. Raises KeyError if the net has no head for `scale`.
        """
        batch, channels, height, width = frames.shape
        if batch == 1:
            return self.enlarge(frames, scale)
        enlarged = torch.empty(
            (batch, channels, height * scale, width * scale),
            device=frames.device,
            memory_format=torch.channels_last,
        )
        for index in range(batch):
            enlarged[index : index + 1] = self.enlarge(frames[index : index + 1], scale)
        return enlarged

    def enlarge(self, frames: Tensor, scale: int) -> Tensor:
        """`forward` for the whole batch at once, as training wants it: last bits may depend on the
        batch."""
        detail = self._detail(frames, scale)
        height, width = frames.shape[-2] * scale, frames.shape[-1] * scale
        return self._base(frames, scale).add_(detail[..., :height, :width])

    def _detail(self, frames: Tensor, scale: int) -> Tensor:
        """What bicubic lacks: [B, 3, H, W] -> [B, 3, scale * H', scale * W'], H' and W' being H and
        W made even."""
        features = self._features(frames)
        detail: Tensor = self.heads[str(scale)](features)
        del features
        return F.pixel_shuffle(detail, 2 * scale)

    def _features(self, frames: Tensor) -> Tensor:
        """The trunk: [B, 3, H, W] -> [B, width, H' / 2, W' / 2]."""
        height, width = frames.shape[-2:]
        even = (
            F.pad(frames, (0, width % 2, 0, height % 2), mode="replicate")
            if height % 2 or width % 2
            else frames
        )
        cells = F.pixel_unshuffle(even.to(self.enter.weight.dtype) - 0.5, 2)
        entered = F.relu(
            self.enter(cells.contiguous(memory_format=torch.channels_last)), inplace=True
        )
        del even, cells
        features = entered
        for block in self.blocks:
            features = block(features)
        return features + entered

    def _base(self, frames: Tensor, scale: int) -> Tensor:
        """The learned interpolation, in float32: [B, 3, H, W] -> [B, 3, scale * H, scale * W]."""
        margin = BASE_TAPS // 2
        with torch.autocast(frames.device.type, enabled=False):
            padded = F.pad(frames, (margin,) * 4, mode="replicate")
            phases: Tensor = self.bases[str(scale)](
                padded.contiguous(memory_format=torch.channels_last)
            )
        del padded
        return F.pixel_shuffle(phases, scale)


def bicubic_phase_kernels(scale: int) -> Tensor:
    """Bicubic interpolation by a whole number as one convolution: a weight
    [3 * scale ** 2, 3, 5, 5], float32.

    Row c * scale ** 2 + i * scale + j gives output pixel (i, j) of every input pixel's cell, in
    channel c, as `pixel_shuffle` wants it. Keys' kernel with a = -0.5 (R. Keys, Cubic convolution
    interpolation for digital image processing, 1981), pixel centres at half-integers, so it
    enlarges as `interpolate(mode="bicubic", align_corners=False, antialias=True)` does inside the
    picture.
    """
    centre = BASE_TAPS // 2
    phases = torch.tensor(
        [
            [_keys_cubic(tap - centre - ((phase + 0.5) / scale - 0.5)) for tap in range(BASE_TAPS)]
            for phase in range(scale)
        ],
        dtype=torch.float64,
    )
    phases /= phases.sum(dim=1, keepdim=True)
    kernels = torch.einsum("iy,jx->ijyx", phases, phases).reshape(scale**2, BASE_TAPS, BASE_TAPS)
    weight = torch.zeros(3, scale**2, 3, BASE_TAPS, BASE_TAPS)
    for channel in range(3):
        weight[channel, :, channel] = kernels
    return weight.flatten(0, 1)


def _keys_cubic(distance: float, a: float = -0.5) -> float:
    x = math.fabs(distance)
    if x < 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    if x < 2:
        return a * (x**3 - 5 * x**2 + 8 * x - 4)
    return 0.0
