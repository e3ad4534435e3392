"""From small frames on the host to what FlashVSR looks at: the film, enlarged by interpolation.

`exact`     bicubic in float32 to the very size that is wanted; the edge is repeated to the right
            and downwards until the network's windows fit
`official`  the same with the official code's roundings: to 8 bits after each of the two passes of
            Pillow's bicubic, and to the network's dtype
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

from longtake.core.media import Clip, Pixels
from longtake.engines._pixels import deepened, to_floats

if TYPE_CHECKING:
    import torch
    from torch import Tensor

CELL: Final = 128
"""px: sides that the network works on are multiples of it."""


def padded_size(size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) px, rounded up to what the network works on."""
    width, height = (-(-side // CELL) * CELL for side in size)
    return width, height


class Window:
    """The frames of a stream that may still be needed. Frames are counted from the stream's start;
    behind its end stands its last frame."""

    def __init__(self, clips: Iterable[Clip]) -> None:
        self._clips = iter(clips)
        self._frames: deque[Pixels] = deque()
        self._first = 0  # number of the oldest frame that is held
        self.start = 0  # absolute frame of the film at which the stream starts
        self.ended = False

    @property
    def count(self) -> int:
        """Frames of the stream so far."""
        return self._first + len(self._frames)

    def reach(self, stop: int) -> None:
        """Take frames until there are `stop` of them, or no more."""
        while not self.ended and self.count < stop:
            clip = next(self._clips, None)
            if clip is None:
                self.ended = True
                return
            if self.count == 0:
                self.start = clip.start
            self._frames.extend(clip.pixels)

    def drop(self, start: int) -> None:
        """Let go of frames before `start`, but never of the last."""
        while self._first < start and len(self._frames) > 1:
            self._frames.popleft()
            self._first += 1

    def __getitem__(self, number: int) -> Pixels:
        """A frame [H, W, 3] that was reached and not dropped, or that stands behind the end."""
        return self._frames[min(number, self.count - 1) - self._first]


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """[H, W, 3] uint8 or uint16 -> [1, 3, H', W'] float32 in [-1, 1]; sides multiples of CELL."""

    size: tuple[int, int]  # (width, height) px that are wanted
    device: str
    dtype: torch.dtype  # of the network
    official: bool

    def __call__(self, frame: Pixels) -> Tensor:
        from torch.nn import functional as F

        enlarged = self._official(frame) if self.official else self._exact(frame)
        (width, height), (wide, tall) = self.size, padded_size(self.size)
        return F.pad(enlarged, (0, wide - width, 0, tall - height), mode="replicate")

    def _exact(self, frame: Pixels) -> Tensor:
        return bicubic(to_floats(frame, self.device), self.size).clamp_(0, 1).mul_(2).sub_(1)

    def _official(self, frame: Pixels) -> Tensor:
        picture = Image.fromarray(deepened(frame, 8))
        enlarged = np.array(picture.resize(self.size, Image.Resampling.BICUBIC))
        return to_floats(enlarged, self.device).mul_(2).sub_(1).to(self.dtype).float()


def bicubic(frame: Tensor, size: tuple[int, int]) -> Tensor:
    """[1, 3, H, W] float32 -> (width, height) px by Pillow's kernel (a = -0.5), not rounded."""
    from torch.nn import functional as F

    return F.interpolate(frame, size[::-1], mode="bicubic", antialias=True)
