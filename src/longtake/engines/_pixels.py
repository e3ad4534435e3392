"""Between host frames and what networks eat."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from longtake.core.errors import NotANumber
from longtake.core.media import Pixels

if TYPE_CHECKING:
    import torch


def to_floats(frame: Pixels, device: str) -> torch.Tensor:
    """[H, W, 3] uint8 or uint16 -> [1, 3, H, W] float32 in [0, 1] on `device`, channels last.

    uint16 means the full 16-bit scale.
    """
    import torch

    most = float(np.iinfo(frame.dtype).max)
    whole = torch.from_numpy(np.ascontiguousarray(frame)).to(device)
    return whole.permute(2, 0, 1)[None].to(torch.float32).div_(most)


def to_pixels(floats: torch.Tensor, bits: int, number: int) -> Pixels:
    """[1, 3, H, W] floats -> [H, W, 3] on the host, clamped to [0, 1], rounded half up; uses up
    `floats`.

    uint8 up to 8 bits, else uint16 over the full scale. Raises NotANumber for frame `number`.
    """
    import torch

    values = floats[0].permute(1, 2, 0)
    if not bool(torch.isfinite(values.sum())):
        raise NotANumber(f"Frame {number}.")
    most = 255.0 if bits <= 8 else 65535.0
    scaled = values.clamp_(0, 1).mul_(most).add_(0.5)
    if bits <= 8:
        small: Pixels = scaled.to(torch.uint8).cpu().numpy()
        return small
    return scaled.to(torch.int32).cpu().numpy().astype(np.uint16)


def deepened(pixels: Pixels, bits: int) -> Pixels:
    """The same frames in the host dtype of an output of `bits` bits: uint8 up to 8, else uint16."""
    if bits <= 8 and pixels.dtype == np.uint16:
        return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if bits > 8 and pixels.dtype == np.uint8:
        return pixels.astype(np.uint16) * 257
    return pixels
