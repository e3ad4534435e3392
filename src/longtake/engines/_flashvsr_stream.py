"""One shot through FlashVSR, chunk by chunk, as it comes; nothing here grows with the film.

Frames wait small, as they were read, and are enlarged where they are looked at: as tokens for the
transformer, as the decoder's condition and as the reference of the colour fix. What is carried from
chunk to chunk are local variables. Where parts and state lie is decided outside (`Parts.turn`,
`Model.kv`).

Source: FlashVSR, https://arxiv.org/abs/2510.12747; github.com/OpenImagingLab/FlashVSR,
diffsynth/pipelines/flashvsr_tiny.py and flashvsr_full.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from longtake.core import faults
from longtake.core.media import Clip, Pixels
from longtake.engines._flashvsr_frames import Window
from longtake.engines._flashvsr_schedule import STEP, Chunk, chunks, made_of
from longtake.engines._pixels import to_pixels
from longtake.nets.flashvsr.decoder import DecoderState
from longtake.nets.flashvsr.dit import Constants, Settings
from longtake.nets.flashvsr.projector import ProjectorState
from longtake.nets.flashvsr.state import KVState
from longtake.nets.wan.causal import History

Draw = Callable[[range], Tensor]
"""Noise [1, 16, f, H / 8, W / 8] of the latents with these numbers in the stream."""
Enlarge = Callable[[Pixels], Tensor]
"""As `_flashvsr_frames.Front`."""
Decode = Callable[[nn.Module, Tensor, Tensor], Iterable[Tensor]]
"""Decoder, latent [1, 16, 1, H / 8, W / 8] and its frames [1, 3, F, H, W] of the enlarged source ->
F images [1, 3, H, W] in about [-1, 1]. Carries a stream's state."""
Fix = Callable[[Tensor, Tensor], Tensor]
"""As `_color_fix.adain`."""


class Parts(nn.ModuleDict):
    """The nets: "projector", "dit", "decoder". `bring` is the seam for strategies that let them
    take turns on the device: it is called with the name of the net that is about to work."""

    def __init__(self, nets: dict[str, nn.Module]) -> None:
        super().__init__(nets)
        self.bring: Callable[[str], None] = _stay

    def turn(self, name: str) -> nn.Module:
        """The net, ready on the device until another one's turn."""
        self.bring(name)
        return self[name]


def _stay(name: str) -> None:
    """All nets are on the device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What streams share; each stream takes a state of its own from the factories."""

    parts: Parts
    constants: Constants
    settings: Settings
    kv: Callable[[], KVState]
    decoding: Callable[[], Decode]
    noise: Callable[[Window], Draw]
    enlarge: Enlarge
    fix: Fix
    dtype: torch.dtype
    size: tuple[int, int]  # (width, height) px of the output
    bits: int  # per component of the output

    def upscale(self, clips: Iterable[Clip]) -> Iterator[Clip]:
        """One shot in, the same frames out, a few at a time."""
        window, kv, decode = Window(clips), self.kv(), self.decoding()
        projected, draw = ProjectorState(), None
        for chunk in chunks():
            window.reach(chunk.seen.stop)
            if chunk.made.start >= window.count:
                return
            faults.strike("compute")
            draw = draw or self.noise(window)
            if chunk.number == 0:
                projected = self._begun(window)
            tokens = self._tokens(chunk, window, projected)
            latents = self._denoised(chunk, draw(chunk.latents), tokens, kv)
            del tokens
            for i, number in enumerate(chunk.latents):
                made = made_of(number)
                if made.start < window.count:
                    yield self._images(latents[:, :, i : i + 1], made, window, decode)
            window.drop(chunk.made.stop)

    def _begun(self, window: Window) -> ProjectorState:
        with torch.inference_mode():
            projector = self.parts.turn("projector")
            first = self._seen(window, range(1)).to(self.dtype)
            begun: ProjectorState = projector.begin(first)  # type: ignore[operator]
            return begun

    def _tokens(self, chunk: Chunk, window: Window, state: ProjectorState) -> list[Tensor]:
        """For each of the transformer's first blocks, tokens [1, f * h * w, dim]."""
        with torch.inference_mode():
            projector = self.parts.turn("projector")
            groups = [
                projector(self._seen(window, range(first, first + STEP)).to(self.dtype), state)
                for first in chunk.seen[::STEP]
            ]
            return [torch.cat(layer, dim=1) for layer in zip(*groups, strict=True)]

    def _denoised(self, chunk: Chunk, noise: Tensor, tokens: list[Tensor], kv: KVState) -> Tensor:
        """Latents of the chunk, in the shape of the noise: one step from noise to picture."""
        first = chunk.latents[0]
        with torch.inference_mode():
            dit = self.parts.turn("dit")
            made: Tensor = dit(noise, tokens, kv, first, self.constants, self.settings)
            return torch.sub(noise, made, out=made)

    def _images(
        self,
        latent: Tensor,
        made: range,
        window: Window,
        decode: Decode,
    ) -> Clip:
        """The frames that a latent stands for, without those behind the stream's end."""
        width, height = self.size
        wanted = min(made.stop, window.count) - made.start
        pixels = np.empty((wanted, height, width, 3), np.uint8 if self.bits <= 8 else np.uint16)
        start = window.start + made.start
        with torch.inference_mode():
            seen = self._seen(window, made)
            decoder = self.parts.turn("decoder")
            for i, image in enumerate(decode(decoder, latent, seen.to(self.dtype))):
                if i < wanted:
                    fixed = self._fixed(image, seen[:, :, i])
                    to_pixels(fixed, pixels[i], start + i)
        return Clip(pixels=pixels, start=start)

    def _fixed(self, image: Tensor, source: Tensor) -> Tensor:
        """[1, 3, H, W] in about [-1, 1] -> [1, 3, height, width] in [0, 1], float32: the border
        that fills the windows is cut off first, so that it does not count as a colour."""
        width, height = self.size
        image, source = (x[:, :, None, :height, :width].float() for x in (image, source))
        if faults.strike("values") == "nan":
            image = image * float("nan")
        return self.fix(image, source)[:, :, 0].add(1).div_(2)

    def _seen(self, window: Window, frames: range) -> Tensor:
        """[1, 3, F, H, W] float32 in [-1, 1]."""
        return torch.stack([self.enlarge(window[i]) for i in frames], dim=2)


# --- the two decoders ----------------------------------------------------------------------------


class SmallDecoding:
    """Mode `tiny`: TCDecoder, guided by the source."""

    def __init__(self, rows: int | None = None) -> None:
        self._state, self._rows = DecoderState(), rows

    def __call__(self, decoder: nn.Module, latent: Tensor, source: Tensor) -> Iterable[Tensor]:
        images: Tensor = decoder(latent, source, self._state, self._rows)
        return images.unbind(dim=2)


class VaeDecoding:
    """Mode `full`: the decoder of Wan's VAE, which does not look at the source."""

    def __init__(self, history: Callable[[], History] = dict) -> None:
        self._history = history()

    def __call__(self, vae: nn.Module, latent: Tensor, _: Tensor) -> Iterable[Tensor]:
        return (image.clamp_(-1, 1) for image in vae.decode(latent[:, :, 0], self._history))  # type: ignore[operator]


def no_fix(frames: Tensor, source: Tensor) -> Tensor:  # noqa: ARG001 -- as all colour fixes
    return frames
