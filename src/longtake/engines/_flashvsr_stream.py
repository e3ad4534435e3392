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

import torch
from torch import Tensor, nn

from longtake.core import faults
from longtake.core.media import Clip, Pixels
from longtake.engines._flashvsr_frames import Window
from longtake.engines._flashvsr_memory import BAND_ROWS
from longtake.engines._flashvsr_schedule import STEP, Chunk, chunks, made_of
from longtake.engines._flashvsr_tiles import Tiles
from longtake.engines._parts import Parts
from longtake.engines._pixels import Leaving, arrived
from longtake.nets.flashvsr.decoder import CELL, DecoderState
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


@dataclass(slots=True, kw_only=True)
class Lane:
    """The part of a picture that has a state of its own: a tile, or all of it."""

    rows: slice
    columns: slice
    kv: KVState
    decode: Decode
    projected: ProjectorState

    def of(self, picture: Tensor, times: int = 1) -> Tensor:
        """Its part of a picture [..., H, W] that is `times` smaller."""
        rows, columns = (
            slice(x.start // times, x.stop // times) for x in (self.rows, self.columns)
        )
        return picture[..., rows, columns]


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
    tiles: Tiles

    def upscale(self, clips: Iterable[Clip]) -> Iterator[Clip]:
        """One shot in, the same frames out, a few at a time."""
        yield from arrived(self._made(clips))

    def _made(self, clips: Iterable[Clip]) -> Iterator[Leaving]:
        window, draw, lanes = Window(clips), None, self._lanes()
        for chunk in chunks():
            window.reach(chunk.seen.stop)
            if chunk.made.start >= window.count:
                return
            faults.strike("compute")
            draw = draw or self.noise(window)
            if chunk.number == 0:
                self._begin(window, lanes)
            tokens = self._tokens(chunk, window, lanes)
            noise = draw(chunk.latents)
            latents = [
                self._denoised(chunk, lane.of(noise, CELL), tokens.pop(0), lane.kv)
                for lane in lanes
            ]
            del noise
            for i, number in enumerate(chunk.latents):
                made = made_of(number)
                if made.start < window.count:
                    yield self._images([x[:, :, i : i + 1] for x in latents], made, window, lanes)
            window.drop(chunk.made.stop)

    def _lanes(self) -> list[Lane]:
        return [
            Lane(
                rows=rows, columns=columns, kv=self.kv(), decode=self.decoding(),
                projected=ProjectorState(),
            )
            for rows, columns in self.tiles.parts()
        ]  # fmt: skip

    def _begin(self, window: Window, lanes: list[Lane]) -> None:
        with torch.inference_mode():
            projector = self.parts.turn("projector")
            first = self._seen(window, range(1)).to(self.dtype)
            for lane in lanes:
                lane.projected = projector.begin(lane.of(first))  # type: ignore[operator]

    def _tokens(self, chunk: Chunk, window: Window, lanes: list[Lane]) -> list[list[Tensor]]:
        """Of each lane, for each of the transformer's first blocks, tokens [1, f * h * w, dim]."""
        made: list[list[tuple[Tensor, ...]]] = [[] for _ in lanes]
        with torch.inference_mode():
            projector = self.parts.turn("projector")
            for first in chunk.seen[::STEP]:
                seen = self._seen(window, range(first, first + STEP)).to(self.dtype)
                for lane, groups in zip(lanes, made, strict=True):
                    groups.append(projector(lane.of(seen), lane.projected))
            del seen
            return [
                [torch.cat(layer, dim=1) for layer in zip(*made.pop(0), strict=True)] for _ in lanes
            ]

    def _denoised(self, chunk: Chunk, noise: Tensor, tokens: list[Tensor], kv: KVState) -> Tensor:
        """Latents of the chunk, in the shape of the noise: one step from noise to picture."""
        first = chunk.latents[0]
        with torch.inference_mode():
            dit = self.parts.turn("dit")
            made: Tensor = dit(noise, tokens, kv, first, self.constants, self.settings)
            return torch.sub(noise, made, out=made)

    def _images(
        self, latents: list[Tensor], made: range, window: Window, lanes: list[Lane]
    ) -> Leaving:
        """The frames that the lanes' latents stand for, without those behind the stream's end."""
        count = min(made.stop, window.count) - made.start
        with torch.inference_mode():
            seen = self._seen(window, made)
            images = enumerate(self._decoded(latents, seen, lanes))
            fixed = (self._fixed(image, seen[:, :, i]) for i, image in images if i < count)
            return Leaving(fixed, count, self.bits, window.start + made.start)

    def _decoded(self, latents: list[Tensor], seen: Tensor, lanes: list[Lane]) -> Iterable[Tensor]:
        """Images [1, 3, H, W] in about [-1, 1]; those of tiles, blended."""
        decoder, source = self.parts.turn("decoder"), seen.to(self.dtype)
        if len(lanes) == 1:
            return lanes[0].decode(decoder, latents[0], source)
        whole = torch.zeros_like(seen)
        shares = self.tiles.shares(seen.device)
        for lane, latent, share in zip(lanes, latents, shares, strict=True):
            for i, image in enumerate(lane.decode(decoder, latent, lane.of(source))):
                lane.of(whole[:, :, i]).addcmul_(image.float(), share)
            del image  # before the next tile's are made
        return whole.unbind(dim=2)

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

    def __init__(self) -> None:
        self._state = DecoderState()

    def __call__(self, decoder: nn.Module, latent: Tensor, source: Tensor) -> Iterable[Tensor]:
        images: Tensor = decoder(latent, source, self._state, BAND_ROWS)
        return images.unbind(dim=2)


class VaeDecoding:
    """Mode `full`: the decoder of Wan's VAE, which does not look at the source."""

    def __init__(self, history: Callable[[], History] = dict) -> None:
        self._history = history()

    def __call__(self, vae: nn.Module, latent: Tensor, _: Tensor) -> Iterable[Tensor]:
        return (image.clamp_(-1, 1) for image in vae.decode(latent[:, :, 0], self._history))  # type: ignore[operator]


def no_fix(frames: Tensor, source: Tensor) -> Tensor:  # noqa: ARG001 -- as all colour fixes
    return frames
