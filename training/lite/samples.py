"""Training samples: pairs of small and large frames, made by worker processes and kept in a pool on
the device.

Sample `index` is a pure function of (recipe, seed, index). The pool is a ring per scale; a step
draws its patches from it at random. So each sample is seen many times, in other cut-outs, before a
newer one takes its place.
"""

from __future__ import annotations

import itertools
import multiprocessing
import queue
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.lite import degrade, motion
from training.lite.canvases import make_canvas
from training.lite.photos import Album

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRecipe:
    """What decides the samples."""

    seed: int = 0
    photos: str = ""
    """Folder of photographs that `photos.py` made; without it all pictures are drawn."""
    scales: tuple[int, ...] = (2, 3, 4)
    shares: tuple[float, ...] = (0.2, 0.2, 0.6)
    """How often each scale is drawn."""
    size: int = 96
    """Side of a small frame, px, even."""
    canvas: int = 768
    """Side of a canvas, px."""
    shot: int = 10
    """Frames that an encoder sees."""
    kept: int = 3
    """Frames of a shot that become the sample."""
    canvases_per_sample: float = 0.4
    """How many new canvases a sample brings in; the others were seen in samples just before."""
    streams: int = 16
    """Sequences of samples that share no canvas, so that as many workers draw each canvas once."""

    def scale_of(self, index: int) -> int:
        rng = np.random.default_rng((self.seed, index, 2))
        return int(rng.choice(self.scales, p=np.array(self.shares) / sum(self.shares)))


VARIANTS = 3
"""Versions of the small frames of a sample: number 0 without a codec, the others through one."""


@lru_cache(maxsize=24)
def _canvas(seed: int, number: int, size: int, photos: str) -> Pixels:
    return make_canvas(seed, number, size, _album(photos))


@lru_cache(maxsize=1)
def _album(photos: str) -> Album | None:
    return Album.of(Path(photos)) if photos else None


def make_sample(recipe: SampleRecipe, index: int) -> tuple[Pixels, Pixels]:
    """(small [VARIANTS, kept, size, size, 3], large [kept, scale * size, scale * size, 3]), uint8
    RGB."""
    scale = recipe.scale_of(index)
    rng = np.random.default_rng((recipe.seed, index, 3))
    stream, place = index % recipe.streams, index // recipe.streams
    newest = int(place * recipe.canvases_per_sample)

    def canvas() -> Pixels:
        number = (newest + int(rng.integers(0, 12))) * recipe.streams + stream
        return _canvas(recipe.seed, number, recipe.canvas, recipe.photos)

    large = motion.render(rng, canvas, recipe.shot, recipe.size * scale, speed=float(scale))
    kept = np.sort(rng.choice(recipe.shot, recipe.kept, replace=False))
    small = np.empty((VARIANTS, recipe.kept, recipe.size, recipe.size, 3), np.uint8)
    clean = degrade.shrink(rng, large[kept], recipe.size, blur=0.05)
    if rng.random() < 0.04:
        clean = degrade.add_noise(rng, clean)
    small[0] = degrade.to_pixels(clean)
    shrunk = degrade.shrink(rng, large, recipe.size, blur=0.15)
    for variant in range(1, VARIANTS):
        taken = degrade.add_noise(rng, shrunk) if rng.random() < 0.25 else shrunk
        conversion = degrade.EXACT if rng.random() < 0.8 else degrade.FAST
        encoder, options = degrade.draw_codec(rng, recipe.size)
        coded = degrade.through_codec(degrade.to_pixels(taken), encoder, options, conversion)
        small[variant] = coded[kept]
    return small, large[kept]


class Pool:
    """A ring of samples for each scale, on the device, and random patches out of them."""

    def __init__(self, recipe: SampleRecipe, capacity: int, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        self.members: dict[int, list[int]] = {}
        """Per scale, the index of the sample in each slot."""
        self._turn = dict.fromkeys(recipe.scales, 0)
        self._small: dict[int, Tensor] = {}
        self._large: dict[int, Tensor] = {}
        self._capacity: dict[int, int] = {}
        for scale, share in zip(recipe.scales, recipe.shares, strict=True):
            slots = max(4, int(capacity * share / sum(recipe.shares)))
            side, kept = recipe.size, recipe.kept
            self.members[scale], self._capacity[scale] = [], slots
            self._small[scale] = torch.empty(
                (slots, VARIANTS, kept, side, side, 3), dtype=torch.uint8, device=device
            )
            large = (slots, kept, side * scale, side * scale, 3)
            self._large[scale] = torch.empty(large, dtype=torch.uint8, device=device)

    def __len__(self) -> int:
        return sum(len(members) for members in self.members.values())

    def ready(self, per_scale: int) -> bool:
        return all(len(members) >= per_scale for members in self.members.values())

    def add(self, index: int, small: Pixels, large: Pixels) -> None:
        scale = self.recipe.scale_of(index)
        members = self.members[scale]
        slot = self._turn[scale] % self._capacity[scale]
        self._turn[scale] += 1
        if slot < len(members):
            members[slot] = index
        else:
            members.append(index)
        self._small[scale][slot].copy_(torch.from_numpy(small))
        self._large[scale][slot].copy_(torch.from_numpy(large))

    def state(self) -> dict[str, Any]:
        return {"members": {s: list(m) for s, m in self.members.items()}, "turn": dict(self._turn)}

    def restore(self, state: dict[str, Any]) -> None:
        """Make the samples of a saved state again."""
        for scale, indices in state["members"].items():
            self.members[scale] = []
            self._turn[scale] = 0
            for index in indices:
                self.add(index, *make_sample(self.recipe, index))
        self._turn = dict(state["turn"])

    def draw(
        self, scale: int, batch: int, patch: int, clean: float, draws: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """(small [B, 3, patch, patch], large [B, 3, scale * patch, ...]) float32 in [0, 1],
        channels last.

        `clean` is the share without a codec. Corners are even, so that the net may know where
        chroma samples lie.
        """

        def integers(below: int) -> Tensor:
            return torch.randint(below, (batch,), generator=draws)

        slot, frame = integers(len(self.members[scale])), integers(self.recipe.kept)
        coded = torch.rand(batch, generator=draws) >= clean
        variant = torch.where(coded, 1 + integers(VARIANTS - 1), 0)
        corner = [2 * integers((self.recipe.size - patch) // 2 + 1) for _ in range(2)]
        packed = torch.stack([slot, variant, frame, *corner]).to(self.device, non_blocking=True)
        slot, variant, frame, top, left = packed[:, :, None, None]
        line = torch.arange(patch * scale, device=self.device)
        y, x = line[:patch, None], line[None, :patch]
        small = self._small[scale][slot, variant, frame, top + y, left + x]
        large = self._large[scale][
            slot, frame, top * scale + line[:, None], left * scale + line[None]
        ]
        return small.permute(0, 3, 1, 2).float() / 255, large.permute(0, 3, 1, 2).float() / 255


class Workers:
    """Processes that make samples from `start` on in no fixed order, handed over through shared
    memory."""

    def __init__(self, recipe: SampleRecipe, count: int, start: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._recipe, self._latest = recipe, start
        self._folder = tempfile.TemporaryDirectory()
        slots = 6 * count
        path = Path(self._folder.name, "slots")
        self._shared = np.memmap(path, np.uint8, "w+", shape=(slots, _slot_bytes(recipe)))
        self._free, self._full = context.Queue(), context.Queue()
        for slot in range(slots):
            self._free.put(slot)
        first = -(-start // recipe.streams)
        self._processes = [
            context.Process(
                target=_work,
                args=(recipe, path, self._free, self._full, range(n, recipe.streams, count), first),
                daemon=True,
            )
            for n in range(min(count, recipe.streams))
        ]

    @property
    def next(self) -> int:
        """An index above all that have been made; the margin is for those not yet handed over."""
        return self._latest + 64 * self._recipe.streams

    def __enter__(self) -> Workers:
        for process in self._processes:
            process.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join()
        del self._shared
        self._folder.cleanup()

    def feed(self, pool: Pool, most: int, wait: float) -> int:
        """Move up to `most` finished samples to the pool; wait up to `wait` s for the first. Gives
        how many."""
        for done in range(most):
            try:
                slot, index = (
                    self._full.get(timeout=wait) if wait and not done else self._full.get_nowait()
                )
            except queue.Empty:
                if not all(process.is_alive() for process in self._processes):
                    raise RuntimeError(
                        "a sample worker ended; its error is printed above"
                    ) from None
                return done
            pool.add(index, *_split(self._recipe, index, self._shared[slot]))
            self._latest = max(self._latest, index)
            self._free.put(slot)
        return most


def _slot_bytes(recipe: SampleRecipe) -> int:
    largest = max(recipe.scales) ** 2
    return (VARIANTS + largest) * recipe.kept * recipe.size**2 * 3


def _split(recipe: SampleRecipe, index: int, slot: Pixels) -> tuple[Pixels, Pixels]:
    """The two arrays of a sample as views of a slot."""
    side, large_side = recipe.size, recipe.size * recipe.scale_of(index)
    small_bytes = VARIANTS * recipe.kept * side**2 * 3
    small = slot[:small_bytes].reshape(VARIANTS, recipe.kept, side, side, 3)
    large_bytes = recipe.kept * large_side**2 * 3
    large = slot[small_bytes : small_bytes + large_bytes].reshape(
        recipe.kept, large_side, large_side, 3
    )
    return small, large


def _work(
    recipe: SampleRecipe, path: Path, free: Any, full: Any, streams: range, first: int
) -> None:
    """Make the samples of some streams for ever, from place `first` of each on."""
    shared = np.memmap(path, np.uint8, "r+").reshape(-1, _slot_bytes(recipe))
    for place in itertools.count(first):
        for stream in streams:
            index, slot = place * recipe.streams + stream, free.get()
            small, large = _split(recipe, index, shared[slot])
            small[:], large[:] = make_sample(recipe, index)
            full.put((slot, index))
