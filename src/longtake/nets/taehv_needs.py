"""How much TAEHV's decoder needs: arithmetic on sizes, without torch.

Bytes of tensors alone, as in wan/needs.py, of one sample. A frame goes through the whole net before
the next one starts, so what waits at lower resolutions is counted beside what works above it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from longtake.core.blocks import VALUE_BYTES
from longtake.nets._live import Live, Need, Shape, affine, stored

TIMES: Final = (1, 2, 2)  # frames that one becomes, behind each level but the last
MEM_BLOCKS: Final = 3  # per level
CUT: Final = 3  # images of the first latent that nobody gets


@dataclass(frozen=True, slots=True, kw_only=True)
class TaehvConfig:
    """TaehvConfig of the net; the defaults are those of `taew2_1.pth`."""

    latent: int = 16
    """Channels of a latent."""
    widths: tuple[int, int, int, int] = (256, 128, 64, 64)
    """Channels at 1/8, 1/4, 1/2 and full resolution."""


TAEW2_1: Final = TaehvConfig()


def tensors(sizes: TaehvConfig) -> dict[str, Shape]:
    """Key -> shape of the decoder's tensors, under their official names."""
    first, last = sizes.widths[0], sizes.widths[-1]
    table: dict[str, Shape] = {**affine("decoder.1", first, sizes.latent, 3, 3)}
    for level, times in enumerate(TIMES):
        width, narrower = sizes.widths[level : level + 2]
        at = 3 + 6 * level
        for number in range(at, at + MEM_BLOCKS):
            table |= affine(f"decoder.{number}.conv.0", width, 2 * width, 3, 3)
            table |= affine(f"decoder.{number}.conv.2", width, width, 3, 3)
            table |= affine(f"decoder.{number}.conv.4", width, width, 3, 3)
        table[f"decoder.{at + 4}.conv.weight"] = (times * width, width, 1, 1)
        table[f"decoder.{at + 5}.weight"] = (narrower, width, 3, 3)
    return table | affine("decoder.22", 3, last, 3, 3)


def weights(sizes: TaehvConfig, dtype: str) -> int:
    """Bytes of the decoder."""
    return stored(tensors(sizes), dtype)


def decoding(sizes: TaehvConfig, height: int, width: int, dtype: str, *, latents: int = 2) -> Need:
    """Of decoding latents of height x width one by one, beside the latents themselves; one frame is
    held by who takes them. More than 2 latents need no more."""
    e, area = VALUE_BYTES[dtype], height * width
    walk = _Walk(sizes, e * area)
    for number in range(min(latents, 2)):
        walk.latent(begins=not number)
    state = sum(MEM_BLOCKS * c * e * area * 4**i for i, c in enumerate(sizes.widths[:3]))
    return Need(state=state, activations=walk.live.peak - state)


class _Walk:
    """Through the layers, depth first; `channel`: bytes of one at the latent's resolution."""

    def __init__(self, sizes: TaehvConfig, channel: int) -> None:
        self.live = Live()
        self._sizes, self._channel = sizes, channel
        self._image = self._taken = 0  # bytes: of the last image, as made and as handed out
        self._cut = 0

    def latent(self, *, begins: bool) -> None:
        live, entered = self.live, self._sizes.latent * self._channel
        x = self._sizes.widths[0] * self._channel
        self._cut = CUT if begins else 0
        live.beside(2 * entered)
        live.hold(entered + x)
        live.hold(-entered)
        live.beside(x)
        self._level(0, self._channel, begins=begins)
        live.hold(-self._image)
        self._image = 0

    def _level(self, level: int, channel: int, *, begins: bool) -> None:
        """From the frame that enters a level, which is held, to its images."""
        if level == len(TIMES):
            return self._finished(channel)
        live, (width, narrower) = self.live, self._sizes.widths[level : level + 2]
        x, part, made = width * channel, 4 * width * channel, 4 * narrower * channel
        for _ in range(MEM_BLOCKS):
            # both joined and a first result; where a clip begins, zeros for the one before
            live.beside(4 * x if begins else 3 * x)
            if begins:
                live.hold(x)  # a result; what entered is remembered
        past = 0 if begins else x  # the last block's, replaced in memory, still has a name
        live.hold(past + part)
        live.hold(-x)
        for number in range(TIMES[level]):
            live.hold(part + made)
            live.hold(-part)
            self._level(level + 1, 4 * channel, begins=begins and not number)
        live.hold(-past - part)

    def _finished(self, channel: int) -> None:
        """At full resolution: the frame that enters, rectified; an image; from 0, 1 to -1, 1."""
        live, x, image = self.live, self._sizes.widths[-1] * channel, 3 * channel
        live.beside(x)
        live.hold(image)
        live.hold(-x - self._image)
        self._image = image
        if self._cut:
            self._cut -= 1
            return
        live.beside(2 * image)
        live.hold(image - self._taken)
        self._taken = image
