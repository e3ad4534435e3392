"""What umT5 makes of prompts, and a cache of it on disk."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Final

import torch
from torch import Tensor

from longtake.core.errors import BadInput, NotANumber
from longtake.engines._parts import Parts
from longtake.generators import _wan_store as store
from longtake.generators._wan_prompt import Prompt
from longtake.nets.umt5 import UmT5

_NAME: Final = "embedding"
_LEFT: Final = 3600  # s, after which a file that was being written belongs to nobody


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """Embeddings by prompt. A file that is damaged counts as missing and is written again; the ones
    used longest ago go first. Several processes may share a folder."""

    folder: Path
    identity: str
    """Of all but the prompt that can change a bit: the weights of the text encoder, the tokenizer,
    and the numerics (kind of device, versions)."""
    dtype: str
    most: int = 1 << 30
    """Bytes of the folder; the latest file stays in any case."""

    def path(self, text: str) -> Path:
        key = json.dumps([self.identity, self.dtype, text]).encode()
        return self.folder / f"{hashlib.sha256(key).hexdigest()}.safetensors"

    def get(self, text: str) -> Tensor | None:
        """[length, dim], on the host; None where it is not known."""
        path = self.path(text)
        try:
            tensors, facts = store.read(path)
        except (FileNotFoundError, BadInput):
            return None  # is made again, and then written over
        if facts != self._facts():
            return None
        try:
            os.utime(path)
        except FileNotFoundError:
            return tensors[_NAME]  # another process has just made room
        return tensors[_NAME]

    def put(self, text: str, embedding: Tensor) -> None:
        path = self.path(text)
        store.write(path, {_NAME: embedding}, self._facts())
        self._trim(path)

    def _facts(self) -> dict[str, str]:
        return {"identity": self.identity, "dtype": self.dtype}

    def _trim(self, latest: Path) -> None:
        found = []
        for path in self.folder.iterdir():
            try:
                about = path.stat()
            except FileNotFoundError:
                continue  # another process was faster
            if path.suffix == store.FRESH and time() - about.st_mtime > _LEFT:
                path.unlink(missing_ok=True)
            elif path.suffix == ".safetensors" and path != latest:
                found.append((about.st_mtime_ns, about.st_size, path))
        room = self.most - latest.stat().st_size
        for _, size, path in sorted(found, reverse=True):
            room -= size
            if room < 0:
                path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """The prompts of a film, and what is known of them."""

    prompts: tuple[Prompt, ...]
    cache: Cache
    found: tuple[Tensor, ...] | None
    """Of each prompt, where all were in the cache."""

    @staticmethod
    def read(prompts: Sequence[Prompt], cache: Cache) -> Words:
        found = [cache.get(prompt.text) for prompt in prompts]
        there = tuple(x for x in found if x is not None)
        return Words(
            prompts=tuple(prompts), cache=cache, found=there if len(there) == len(found) else None
        )

    @property
    def known(self) -> bool:
        """Whether the text encoder has nothing to do."""
        return self.found is not None

    def embedded(self, parts: Parts, device: torch.device) -> Sequence[Tensor]:
        """As `embeddings`."""
        if self.found is not None:
            return self.found
        return embeddings(parts, self.prompts, device, self.cache)


def embeddings(
    parts: Parts, prompts: Sequence[Prompt], device: torch.device, cache: Cache | None = None
) -> list[Tensor]:
    """Of each prompt [length, dim], on the host, in the dtype of the net. The text encoder has its
    turn only if one is not in the cache. Raises BadInput for a tokenizer of another vocabulary,
    NotANumber."""
    found: dict[str, Tensor] = {}
    for prompt in prompts:
        if prompt.text in found:
            continue
        known = None if cache is None else cache.get(prompt.text)
        found[prompt.text] = _embedded(parts, prompt, device) if known is None else known
        if known is None and cache is not None:
            cache.put(prompt.text, found[prompt.text])
    return [found[prompt.text] for prompt in prompts]


def _embedded(parts: Parts, prompt: Prompt, device: torch.device) -> Tensor:
    net = parts.turn("text")
    assert isinstance(net, UmT5)
    known = net.config.vocabulary
    if max(prompt.ids) >= known:
        raise BadInput(
            f"The tokenizer gives token {max(prompt.ids)}, the text encoder knows {known}: they "
            f"belong to different models."
        )
    with torch.inference_mode():
        made: Tensor = net(torch.tensor([prompt.ids], device=device))[0].cpu()
    if not bool(made.isfinite().all()):
        raise NotANumber(f"The text encoder, for a prompt of {len(prompt.ids)} tokens.")
    return made
