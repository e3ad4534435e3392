"""Between host frames and what networks eat."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from longtake.core.errors import NotANumber
from longtake.core.media import Pixels

if TYPE_CHECKING:
    import torch


def to_floats(pixels: Pixels, device: str) -> torch.Tensor:
    """[T, H, W, 3] uint8 or uint16 -> [T, 3, H, W] float32 in [0, 1] on `device`, channels last.

    uint16 means the full 16-bit scale.
    """
    import torch

    most = float(np.iinfo(pixels.dtype).max)
    whole = torch.from_numpy(np.ascontiguousarray(pixels)).to(device)
    return whole.permute(0, 3, 1, 2).to(torch.float32).div_(most)


def to_pixels(floats: torch.Tensor, bits: int, first: int) -> Pixels:
    """[T, 3, H, W] floats -> [T, H, W, 3] on the host, clamped to [0, 1], rounded half up.

    uint8 up to 8 bits, else uint16 over the full scale. `first` is the absolute frame of T = 0.
    Raises NotANumber that names the frame.
    """
    import torch

    values = floats.permute(0, 2, 3, 1)
    if not bool(torch.isfinite(values.sum(dtype=torch.float64))):
        bad = [first + i for i, f in enumerate(values) if not bool(torch.isfinite(f).all())]
        raise NotANumber(f"Frame {bad[0] if bad else first}.")
    most, dtype = (255.0, np.uint8) if bits <= 8 else (65535.0, np.uint16)
    scaled = values.clamp(0, 1).mul_(most).add_(0.5)
    if dtype is np.uint8:
        whole: Pixels = scaled.to(torch.uint8).cpu().numpy()
    else:
        whole = scaled.to(torch.int32).cpu().numpy().astype(np.uint16)
    return whole


def deepened(pixels: Pixels, bits: int) -> Pixels:
    """The same frames in the host dtype of an output of `bits` bits: uint8 up to 8, else uint16."""
    if bits <= 8 and pixels.dtype == np.uint16:
        return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if bits > 8 and pixels.dtype == np.uint8:
        return pixels.astype(np.uint16) * 257
    return pixels
