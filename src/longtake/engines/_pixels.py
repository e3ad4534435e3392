"""Between host frames and what networks eat."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from longtake.core.errors import NotANumber
from longtake.core.media import Clip, Pixels

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
    scaled = _scaled(values, made.dtype == np.uint16)
    if made.dtype == np.uint8:
        torch.from_numpy(made).copy_(scaled.to(torch.uint8))
    else:  # torch knows uint16 hardly anywhere
        made[:] = scaled.to(torch.int32).cpu().numpy()


def _scaled(values: torch.Tensor, deep: bool) -> torch.Tensor:
    """Of [0, 1], in place: what is whole of it is rounded half up, to 8 or to 16 bits."""
    return values.clamp_(0, 1).mul_(65535.0 if deep else 255.0).add_(0.5)


class Leaving:
    """Finished frames on their way from the device to the host, beside other work there."""

    def __init__(self, frames: Iterable[torch.Tensor], count: int, bits: int, start: int) -> None:
        """`frames`: `count` of [1, 3, H, W] floats, used up; clamped to [0, 1] and rounded half up
        to 8 bits, or to 16 for more than 8."""
        import torch

        self._start, self._deep = start, bits > 8
        dtype = torch.int16 if self._deep else torch.uint8
        sums, made = [], torch.empty(0)
        for i, frame in enumerate(frames):
            values = frame[0].permute(1, 2, 0)
            sums.append(values.sum())
            if i == 0:
                made = torch.empty((count, *values.shape), dtype=dtype, device=frame.device)
            scaled = _scaled(values, self._deep)
            made[i] = scaled.to(torch.int32) if self._deep else scaled  # int32 wraps into int16
            del frame, values, scaled  # before the next one is computed
        self._finite = self._taken(torch.stack(sums).isfinite())
        self._frames = self._taken(made)
        self._event: Any = None
        if made.is_cuda:
            self._event = torch.cuda.current_stream(made.device).record_event()

    def arrive(self) -> Clip:
        """Wait for them. Raises NotANumber."""
        if self._event is not None:
            self._event.synchronize()
        if not bool(self._finite.all()):
            raise NotANumber(f"Frame {self._start + int((~self._finite).nonzero()[0])}.")
        pixels: Pixels = self._frames.numpy()
        return Clip(pixels=pixels.view(np.uint16) if self._deep else pixels, start=self._start)

    def _taken(self, made: torch.Tensor) -> torch.Tensor:
        """A copy in page-locked memory, once `_event` has come to pass; on a CPU the same."""
        import torch

        if not made.is_cuda:
            return made
        room = torch.empty(made.shape, dtype=made.dtype, pin_memory=True)
        return room.copy_(made, non_blocking=True)


def arrived(leaving: Iterable[Leaving]) -> Iterator[Clip]:
    """Clips, each when the work on the next one has been given to the device."""
    before = None
    for frames in leaving:
        if before is not None:
            yield before.arrive()
        before = frames
    if before is not None:
        yield before.arrive()


def deepened(pixels: Pixels, bits: int) -> Pixels:
    """The same frames in the host dtype of an output of `bits` bits: uint8 up to 8, else uint16."""
    if bits <= 8 and pixels.dtype == np.uint16:
        return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if bits > 8 and pixels.dtype == np.uint8:
        return pixels.astype(np.uint16) * 257
    return pixels
