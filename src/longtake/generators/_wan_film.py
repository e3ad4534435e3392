"""An open Wan 2.1: from a plan's script to frames, with a checkpoint behind every step."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from longtake.core.media import Clip, Pixels
from longtake.core.plan import Plan, Script, Segment
from longtake.core.ports import CHECKPOINT, Entered, Step
from longtake.core.task import Generate
from longtake.engines._parts import Parts
from longtake.generators import _wan_files as stored
from longtake.generators._wan_decode import Decoding, decode
from longtake.generators._wan_grid import latent_frames, latent_size
from longtake.generators._wan_image import Seen, look
from longtake.generators._wan_job import chunk_tokens
from longtake.generators._wan_load import Dtypes
from longtake.generators._wan_prompt import UNWANTED, UNWANTED_WITH_IMAGE, Tokenizer
from longtake.generators._wan_stream import (
    Checkpoint,
    Sampling,
    begin,
    denoise,
    prepare,
    sampling,
    save,
    saved,
)
from longtake.generators._wan_text import Cache, Words
from longtake.media.scaling import resample
from longtake.media.thumbnail import picture
from longtake.nets.wan.block import Settings
from longtake.nets.wan.tiles import Tiling
from longtake.nets.wan.vae_needs import Tiles
from longtake.weights import home, manifest

_WIDEST: Final = 16_384  # px of a picture


def dtypes(plan: Plan) -> Dtypes:
    knobs = plan.recipe.knobs
    return Dtypes(
        transformer=getattr(torch, plan.recipe.numerics.dtype),
        text=getattr(torch, str(knobs["text_dtype"])),
        vae=getattr(torch, str(knobs["vae_dtype"])),
        image=torch.float32 if plan.recipe.numerics.device == "cpu" else torch.float16,
    )


def words(plan: Plan, files: stored.Found) -> Words:
    """Prompts of a plan, and what is known of them: embeddings that were made with these files by
    the same arithmetic."""
    script, numerics = plan.recipe.reading, plan.recipe.numerics
    assert isinstance(script, Script)
    usual = UNWANTED if script.image is None else UNWANTED_WITH_IMAGE
    texts = [script.prompt]
    if float(plan.recipe.knobs["guidance"]) > 1:
        texts.append(script.negative or usual)
    tokenizer = Tokenizer(stored.tokenizer(files))
    used = [*files["text"], stored.tokenizer(files)]
    facts = [*(manifest.sha256(path) for path in used), numerics.device,
             str(numerics.capability), str(numerics.torch)]  # fmt: skip
    cache = Cache(
        folder=home.home() / "embeddings", identity=json.dumps(facts),
        dtype=str(plan.recipe.knobs["text_dtype"]),
    )  # fmt: skip
    return Words.read([tokenizer.encode(text) for text in texts], cache)


@dataclass(frozen=True, slots=True, kw_only=True)
class WanFilm:
    """Fills `core.ports.Generator`."""

    plan: Plan
    parts: Parts
    """Without "text" where all embeddings are known."""
    words: Words
    device: torch.device
    tiles: Tiles | None

    def generate(self, segment: Segment, folder: Path) -> Iterator[Clip | Step | Entered]:
        path, identity = folder / CHECKPOINT, self.plan.identity
        how = self._sampling()
        now = saved(path, identity) or self._noise()
        steps = how.schedule.steps
        yield Step(done=now.step, of=steps)
        if now.step < steps:
            yield Entered(stage="text")
            texts = self._texts()
            if self._pictured:
                yield Entered(stage="image")
            seen = self._seen()
            yield Entered(stage="denoise", share=(steps - now.step) / steps)
            conditions = prepare(self.parts, how, texts, seen, self.device)
            del texts, seen
            for step in denoise(self.parts, conditions, how, now, self.device):
                save(path, step, identity)
                now = step
                yield Step(done=now.step, of=steps)
            del conditions
        yield Entered(stage="decode")
        parked = torch.device("cpu") if self.tiles is not None and self.tiles.parked else None
        bits = self.plan.recipe.output.bits
        if self.plan.recipe.knobs["decoder"] == "taehv":
            decoding = Decoding(net="taehv", bits=bits)
        else:
            decoding = Decoding(tiling=self._tiling(), parked=parked, bits=bits)
        yield from decode(self.parts, now.latents, decoding, self.device, segment.start)

    def _sampling(self) -> Sampling:
        knobs = self.plan.recipe.knobs
        return sampling(
            str(knobs["sampler"]), int(knobs["steps"]), float(knobs["shift"]),
            float(knobs["guidance"]),
            Settings(chunk_tokens=chunk_tokens(stored.sizes(knobs).transformer)), together=True,
        )  # fmt: skip

    def _noise(self) -> Checkpoint:
        geometry = self.plan.geometry
        frames = range(latent_frames(geometry.frames))
        return begin(self.plan.recipe.seed, frames, latent_size(geometry.target), self.device)

    def _texts(self) -> tuple[Tensor, Tensor | None]:
        """Embeddings of what is wanted and, with guidance, of what is not."""
        found = self.words.embedded(self.parts, self.device)
        return found[0], found[1] if len(found) > 1 else None

    @property
    def _pictured(self) -> bool:
        return isinstance(self.plan.task, Generate) and self.plan.task.image is not None

    def _seen(self) -> Seen | None:
        task, (width, height) = self.plan.task, self.plan.geometry.target
        assert isinstance(task, Generate)
        if task.image is None:
            return None
        whole: Pixels = picture(task.image, _WIDEST)[None]
        image = resample(whole, width, height, "bicubic")[0]
        return look(self.parts, image, self.plan.geometry.frames, self.device, self._tiling())

    def _tiling(self) -> Tiling | None:
        tiles = self.tiles
        return None if tiles is None else Tiling(size=tiles.size, stride=tiles.stride)
