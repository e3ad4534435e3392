"""Convolutions over time that get their frames one by one, and the norm that stands between them.

A causal Conv3d sees its own frame and those before, never a later one. So a clip can go through
frame by frame: what a convolution saw is kept outside the net, in a `History`. Here every tensor is
one frame [B, C, H, W], and a step of a Conv3d is a Conv2d over the taps' frames, laid one behind
the other along the channels: no copy of a whole clip, and the kernels that libraries tune most.

Source: CausalConv3d and RMS_norm of https://github.com/Wan-Video/Wan2.1, wan/modules/vae.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

History = dict[nn.Module, tuple[Tensor, ...]]
"""What each layer of a net still has to know of the frames before, oldest first; empty where a clip
begins. It belongs to one stream and is changed in place by every step."""


class ChannelNorm(nn.Module):
    """x / |x| * sqrt(C) * gamma over the channels of each pixel. [B, C, H, W] -> the same.

    `axes` is the number of ones behind C in gamma's stored shape.
    """

    def __init__(self, channels: int, axes: int = 3) -> None:
        super().__init__()
        self.scale = channels**0.5
        self.gamma = nn.Parameter(torch.ones(channels, *(1,) * axes))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=1).mul_(self.scale).mul_(self.gamma.view(-1, 1, 1))


class CausalConv3d(nn.Conv3d):
    """A Conv3d with (taps, side, side) kernel: frames before the clip and around it are zero."""

    def __init__(self, enter: int, leave: int, taps: int = 3, side: int = 3) -> None:
        super().__init__(enter, leave, (taps, side, side))

    def forward(self, frame: Tensor, history: History) -> Tensor:  # type: ignore[override]
        """The next frame [B, enter, H, W] -> [B, leave, H, W]."""
        taps, _, side = self.kernel_size
        window = (*history.get(self, ()), frame)
        if taps > 1:
            history[self] = window[1 - taps :]
        return convolve(self, window, side // 2)


class Chain(nn.Sequential):
    """Layers one after the other; those that look back are given the history."""

    def forward(self, frame: Tensor, history: History) -> Tensor:  # type: ignore[override]
        for layer in self:
            frame = layer(frame, history) if isinstance(layer, CausalConv3d) else layer(frame)
        return frame


def convolve(conv: nn.Conv3d, window: Sequence[Tensor], padding: int = 0) -> Tensor:
    """One output frame of `conv`. The window's frames [B, C, H, W] meet the last taps, so a window
    shorter than the kernel means zeros before it. `padding`: zeros around each frame, px."""
    weight = merged(conv.weight[:, :, conv.kernel_size[0] - len(window) :])
    frames = torch.cat(tuple(window), dim=1) if len(window) > 1 else window[0]
    return F.conv2d(frames, weight, conv.bias, padding=padding)


def merged(weight: Tensor) -> Tensor:
    """[O, C, T, H, W] -> [O, T * C, H, W], channels last; a view if `arrange` was there."""
    leave, enter, taps, height, width = weight.shape
    flat = weight.permute(0, 3, 4, 2, 1).reshape(leave, height, width, taps * enter)
    return flat.permute(0, 3, 1, 2)


def arrange(net: nn.Module) -> None:
    """Lay the weights of convolutions out in memory as they are read. Names, shapes and values stay
    as they are. Without it, every call copies the weights."""
    for conv in net.modules():
        if isinstance(conv, nn.Conv3d):
            laid = conv.weight.data.permute(0, 3, 4, 2, 1).contiguous()
            conv.weight.data = laid.permute(0, 4, 3, 1, 2)
        elif isinstance(conv, nn.Conv2d):
            conv.weight.data = conv.weight.data.contiguous(memory_format=torch.channels_last)


def moved(history: History, device: torch.device) -> History:
    """The same history with its frames on `device`."""
    return {layer: tuple(x.to(device) for x in kept) for layer, kept in history.items()}
