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


def to_pixels(floats: torch.Tensor, made: Pixels, number: int) -> None:
    """[1, 3, H, W] floats -> `made` [H, W, 3] on the host, clamped to [0, 1], rounded half up; uses
    up `floats`.

    uint16 over its full scale. Raises NotANumber for frame `number`.
    """
    import torch

    values = floats[0].permute(1, 2, 0)
    if not bool(torch.isfinite(values.sum())):
        raise NotANumber(f"Frame {number}.")
    scaled = values.clamp_(0, 1).mul_(float(np.iinfo(made.dtype).max)).add_(0.5)
    if made.dtype == np.uint8:
        torch.from_numpy(made).copy_(scaled.to(torch.uint8))
    else:  # torch knows uint16 hardly anywhere
        made[:] = scaled.to(torch.int32).cpu().numpy()


def deepened(pixels: Pixels, bits: int) -> Pixels:
    """The same frames in the host dtype of an output of `bits` bits: uint8 up to 8, else uint16."""
    if bits <= 8 and pixels.dtype == np.uint16:
        return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if bits > 8 and pixels.dtype == np.uint8:
        return pixels.astype(np.uint16) * 257
    return pixels
