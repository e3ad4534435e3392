"""Give an upscaled film the colours of its source. Frame by frame: how many frames come per call
changes nothing.

`adain`    mean and standard deviation of each frame and channel become the source's. Source:
           https://arxiv.org/abs/1703.06868
`wavelet`  what is coarser than about 60 px becomes the source's. Source: wavelet_reconstruction of
           https://github.com/IceClear/StableSR, scripts/wavelet_color_fix.py

Both as in https://github.com/OpenImagingLab/FlashVSR, which skips the fix silently where the sizes
differ; here that is an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from torch import Tensor

LEVELS: Final = 5
"""Blurs of the wavelet, with taps 1, 2, 4, 8, 16 px apart."""
VARIANCE_FLOOR: Final = 1e-5


def adain(frames: Tensor, source: Tensor) -> Tensor:
    """[B, 3, T, H, W] in about [-1, 1] and the source enlarged to the same shape -> `frames`, fixed
    and clamped to [-1, 1] in place. Raises ValueError for different shapes."""
    _same(frames, source)
    for t in range(frames.shape[2]):
        frame, wanted = frames[:, :, t], source[:, :, t]
        mean, deviation = _statistics(frame)
        wanted_mean, wanted_deviation = _statistics(wanted)
        fixed = frame.float().sub_(mean).mul_(wanted_deviation / deviation).add_(wanted_mean)
        frame.copy_(fixed.clamp_(-1, 1))
    return frames


def wavelet(frames: Tensor, source: Tensor) -> Tensor:
    """As `adain`: the fine detail of `frames` on the coarse picture of `source`."""
    _same(frames, source)
    for t in range(frames.shape[2]):
        frame = frames[:, :, t]
        # high(frame) + low(source), and high(frame) = frame - low(frame): one blur does for both
        coarse = _blurred(source[:, :, t].float() - frame.float())
        frame.copy_(coarse.add_(frame).clamp_(-1, 1))
    return frames


def _same(frames: Tensor, source: Tensor) -> None:
    if frames.shape != source.shape:
        raise ValueError(
            f"the colour fix needs a source of the frames' shape {list(frames.shape)}, "
            f"not {list(source.shape)}"
        )


def _statistics(frame: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, float32 [B, 3, 1, 1]."""
    import torch

    variance, mean = torch.var_mean(frame.float(), dim=(-2, -1), correction=0, keepdim=True)
    return mean, (variance + VARIANCE_FLOOR).sqrt_()


def _blurred(frame: Tensor) -> Tensor:
    """[B, 3, H, W] through LEVELS blurs of [1 2 1] / 4 each way, edges repeated."""
    for level in range(LEVELS):
        frame = _blurred_along(_blurred_along(frame, -1, 2**level), -2, 2**level)
    return frame


def _blurred_along(frame: Tensor, dim: int, apart: int) -> Tensor:
    from torch.nn import functional as F

    length = frame.shape[dim]
    around = (apart, apart, 0, 0) if dim == -1 else (0, 0, apart, apart)
    wide = F.pad(frame, around, mode="replicate")
    sides = wide.narrow(dim, 0, length) + wide.narrow(dim, 2 * apart, length)
    return sides.add_(frame, alpha=2).div_(4)
