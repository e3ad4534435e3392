"""Recurrent state that waits on the host, for GPUs that cannot hold it. Bit for bit the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from longtake.engines._flashvsr_memory import history_layout, slab_layout
from longtake.engines._flashvsr_stream import SmallDecoding
from longtake.nets.flashvsr.state import KVState, LayerKV
from longtake.offload import _locked

Pair = tuple[Tensor, Tensor]  # keys and values


class Desk:
    """Room on the device for the slabs of two layers, and the stream that copies them: for all
    states that take turns with it."""

    def __init__(
        self, shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device
    ) -> None:
        """`shape` of a layer's keys or values: [places, tokens, dim]."""
        on_gpu = device.type == "cuda"
        about: Any = {"dtype": dtype, "device": device}
        self.copies: Any = torch.cuda.Stream(device) if on_gpu else None  # type: ignore[no-untyped-call]
        self.buffers: list[Pair] = [
            (torch.empty(shape, **about), torch.empty(shape, **about)) for _ in range(2)
        ]
        if self.copies:
            for tensor in (x for pair in self.buffers for x in pair):
                tensor.record_stream(self.copies)
        self.held: list[int | None] = [None, None]
        """Which layer each buffer has."""
        self.ready: list[Any] = [None, None]
        """The event after which it has it."""

    def aside(self) -> Any:
        return torch.cuda.stream(self.copies) if self.copies else nullcontext()


class HostKV(KVState):
    """Slabs in host memory, page-locked beside a GPU; on the device there is a desk.

    While a layer computes, a second stream brings the old slabs of the next one; of a layer that is
    done only the newest slabs are taken back. All copies are made by that one stream, in order, so
    nothing is read before it is written.
    """

    def __init__(self, *, desk: Desk, **about: Any) -> None:
        """`about`: as of a KVState."""
        self._desk = desk
        super().__init__(**about)

    def _allocate(self, layers: int, shape: tuple[int, int, int], dtype: torch.dtype) -> None:
        self._slabs = _slabs(layers, self._desk.buffers[0][0], self.device.type == "cuda")

    @contextmanager
    def chunk(self, slabs: int) -> Iterator[None]:
        with super().chunk(slabs):
            self._desk.held = [None, None]  # places have changed hands
            yield

    @contextmanager
    def layer(self, number: int) -> Iterator[LayerKV]:
        desk = self._desk
        for wanted in (number, number + 1):
            if wanted < len(self._slabs) and desk.held[wanted % 2] != wanted:
                self._fetch(wanted)
        keys, values = desk.buffers[number % 2]
        if desk.copies:
            torch.cuda.current_stream(self.device).wait_event(desk.ready[number % 2])
        yield LayerKV(keys, values, self._means[number], self._newest)
        self._store(number)

    def _fetch(self, number: int) -> None:
        """Begin to bring the old slabs of a layer."""
        desk = self._desk
        with desk.aside():
            for place in set(self.order) - set(self._newest):
                self._move(self._slabs[number][place], self._place(number, place))
            if desk.copies:
                desk.ready[number % 2] = desk.copies.record_event()
        desk.held[number % 2] = number

    def _store(self, number: int) -> None:
        """Begin to take the newest slabs of a layer back, once they are computed."""
        desk = self._desk
        if desk.copies:
            desk.copies.wait_stream(torch.cuda.current_stream(self.device))
        with desk.aside():
            for place in self._newest:
                self._move(self._place(number, place), self._slabs[number][place])

    def _place(self, number: int, place: int) -> Pair:
        keys, values = self._desk.buffers[number % 2]
        return keys[place], values[place]

    def _move(self, source: Pair, target: Pair) -> None:
        for a, b in zip(source, target, strict=True):
            b.copy_(a, non_blocking=True)


def _slabs(layers: int, buffer: Tensor, on_gpu: bool) -> list[list[Pair]]:
    """Host memory by layer and place; `buffer` is [places, tokens, dim]."""
    places = len(buffer)
    laid = slab_layout(layers * places, buffer[0].nbytes)
    memory = _locked.blocks(laid, locked=on_gpu)
    rooms = (_locked.view(memory, place, buffer[0]) for place in laid.places)
    pairs = list(zip(rooms, rooms, strict=True))
    return [pairs[first : first + places] for first in range(0, len(pairs), places)]


class ParkedDecoding(SmallDecoding):
    """The small decoder whose state waits on the host between its turns, page-locked beside a GPU:
    for tiles, of which only one is decoded at a time."""

    def __init__(self, device: torch.device, sizes: list[int]) -> None:
        """`sizes`: bytes of all tensors of the state."""
        super().__init__()
        self._device = device
        laid = history_layout(sizes)
        self._memory = _locked.blocks(laid, locked=device.type == "cuda")
        self._places = list(zip(sizes, laid.places, strict=True))
        self._rooms: dict[int, Tensor] = {}

    def __call__(self, decoder: nn.Module, latent: Tensor, source: Tensor) -> Iterable[Tensor]:
        past = self._state.past
        for number, room in self._rooms.items():
            past[number] = torch.empty_like(room, device=self._device)
            past[number].copy_(room, non_blocking=True)
        images = super().__call__(decoder, latent, source)
        for number, x in past.items():
            if number not in self._rooms:
                self._rooms[number] = self._room(x)
            self._rooms[number].copy_(x, non_blocking=True)
        self._state.past = dict(self._rooms)  # it is not empty: the clip goes on
        return images

    def _room(self, x: Tensor) -> Tensor:
        """Host memory for a tensor of that size, which nobody has yet."""
        found = next(pair for pair in self._places if pair[0] == x.nbytes)
        self._places.remove(found)
        return _locked.view(self._memory, found[1], torch.empty_like(x, device="meta"))


Frames = tuple[Tensor, ...]
Place = tuple[int, int]


class HostHistory(dict[nn.Module, Frames]):
    """A `History` of the VAE whose frames lie on the host, page-locked beside a GPU.

    A layer that looks back is given copies on the device; of what it leaves only the newest frame
    is taken to the host, into the place of the one that it dropped.
    """

    def __init__(self, device: torch.device, sizes: list[int]) -> None:
        """`sizes`: bytes of all frames that there will be."""
        super().__init__()
        self._device = device
        laid = history_layout(sizes)
        self._memory = _locked.blocks(laid, locked=device.type == "cuda")
        self._free: defaultdict[int, list[Place]] = defaultdict(list)
        for size, place in zip(sizes, laid.places, strict=True):
            self._free[size].append(place)
        self._places: dict[nn.Module, tuple[Place, ...]] = {}
        self._brought: Frames = ()
        """What the layer that looked back last was given."""

    def get(self, layer: nn.Module, default: Any = None) -> Any:
        if layer not in self:
            return default
        waiting = self[layer]
        self._brought = tuple(
            torch.empty_like(x, device=self._device).copy_(x, non_blocking=True) for x in waiting
        )
        return self._brought

    def __setitem__(self, layer: nn.Module, frames: Frames) -> None:
        known = dict(zip(map(id, self._brought), self._places.get(layer, ()), strict=True))
        self._brought = ()
        free = [place for key, place in known.items() if key not in set(map(id, frames))]
        places, waiting = [], []
        for frame in frames:
            place = known.get(id(frame)) or (free or self._free[frame.nbytes]).pop()
            room = _locked.view(self._memory, place, torch.empty_like(frame, device="meta"))
            if id(frame) not in known:
                room.copy_(frame, non_blocking=True)
            places.append(place)
            waiting.append(room)
        self._places[layer] = tuple(places)
        super().__setitem__(layer, tuple(waiting))
