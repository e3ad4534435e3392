"""How close an enlarged film is to its original.

Films are float32 [T, 3, H, W], RGB in [0, 255], at least 16 px a side. Nothing is cut off at
the borders.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class Score:
    """Of one film; means over frames."""

    psnr_y: float
    """dB, of luma."""
    psnr_rgb: float
    """dB, of the three components together."""
    ssim: float
    """Of luma; 1 is equal."""
    gmsd: float
    """Of luma; 0 is equal."""
    sharpness: float
    """High frequencies over those of the original; 1 is as sharp."""
    flicker: float
    """Error of the differences between frames that follow each other, levels of 255."""


def score(made: Tensor, original: Tensor) -> Score:
    y, true_y = luma(made), luma(original)
    return Score(
        psnr_y=psnr(y, true_y),
        psnr_rgb=psnr(made, original),
        ssim=ssim(y, true_y),
        gmsd=gmsd(y, true_y),
        sharpness=high_frequencies(y) / max(high_frequencies(true_y), 1e-6),
        flicker=flicker(y, true_y),
    )


def mean(scores: list[Score]) -> Score:
    names = Score.__slots__
    return Score(*(sum(getattr(s, n) for s in scores) / len(scores) for n in names))


def luma(film: Tensor) -> Tensor:
    """[T, 3, H, W] -> [T, 1, H, W], weights of ITU-R BT.601, not rounded."""
    weights = film.new_tensor([0.299, 0.587, 0.114])
    return (film * weights[:, None, None]).sum(1, keepdim=True)


def psnr(made: Tensor, original: Tensor) -> float:
    """Mean over frames of the PSNR of each, dB; a frame without an error counts 100."""
    error = (made - original).double().square().mean(dim=(1, 2, 3)).clamp(min=255**2 * 1e-10)
    return float((10 * torch.log10(255**2 / error)).mean())


def ssim(y: Tensor, true_y: Tensor) -> float:
    """Wang et al., Image quality assessment, IEEE TIP 2004: Gaussian window of 11 px, sigma 1.5."""
    reach = torch.arange(11, dtype=torch.float32) - 5
    line = torch.exp(-(reach**2) / (2 * 1.5**2))
    window = torch.outer(line, line)[None, None] / line.sum() ** 2

    def blurred(x: Tensor) -> Tensor:
        return F.conv2d(x, window)

    mu, true_mu = blurred(y), blurred(true_y)
    variance = blurred(y * y) - mu * mu
    true_variance = blurred(true_y * true_y) - true_mu * true_mu
    covariance = blurred(y * true_y) - mu * true_mu
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    structure = (2 * covariance + c2) / (variance + true_variance + c2)
    return float(((2 * mu * true_mu + c1) / (mu**2 + true_mu**2 + c1) * structure).mean())


def gmsd(y: Tensor, true_y: Tensor) -> float:
    """Xue et al., Gradient magnitude similarity deviation, https://arxiv.org/abs/1308.3052."""
    slope = torch.tensor([[1.0, 0, -1]]).repeat(3, 1) / 3
    prewitt = torch.stack([slope, slope.T])[:, None]

    def gradient(x: Tensor) -> Tensor:
        return F.conv2d(F.avg_pool2d(x, 2), prewitt, padding=1).square().sum(1).sqrt()

    g, true_g = gradient(y), gradient(true_y)
    similarity = (2 * g * true_g + 170) / (g**2 + true_g**2 + 170)
    return float(similarity.flatten(1).std(1, correction=0).mean())


def high_frequencies(y: Tensor) -> float:
    """Mean size of the Laplacian."""
    laplacian = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]
    return float(F.conv2d(y, laplacian).abs().mean())


def flicker(y: Tensor, true_y: Tensor) -> float:
    """0 for a single frame."""
    error = (y - true_y).diff(dim=0)
    return float(error.abs().mean()) if len(error) else 0.0
