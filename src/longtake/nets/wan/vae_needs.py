"""How much Wan 2.1's VAE needs, whole and in tiles: arithmetic on sizes, without torch.

Bytes of tensors alone, as in needs.py, of one sample, with weights as `causal.arrange` lays them
and attention that has no matrix of scores. The layers are gone through on paper in the order of
vae.py, depth first, until more frames of a clip add nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Final, Literal

from longtake.core.blocks import VALUE_BYTES
from longtake.nets._live import Live, Need, Shape, affine, stored

CELL: Final = 8
"""Frame px per latent px."""
_FLOAT: Final = 4  # bytes: sums of tiles are in float32

Half = Literal["encode", "decode"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Those of `vae.VaeConfig`; the defaults are Wan 2.1's."""

    base: int = 96
    widths: tuple[int, ...] = (1, 2, 4, 4)
    over_time: tuple[bool, ...] = (False, True, True)
    blocks: int = 2
    latent: int = 16


WAN_2_1: Final = Sizes()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiles:
    """As `tiles.Tiling`: height and width in latent px."""

    size: tuple[int, int] = (60, 104)
    stride: tuple[int, int] = (30, 52)
    parked: bool = False
    """Histories of tiles wait on the host."""


@dataclass(frozen=True, slots=True)
class Layer:
    name: str
    kind: Literal["conv", "res", "attend", "up", "down", "head"]
    enter: int
    leave: int
    over_time: bool = False


# --- layers and tensors --------------------------------------------------------------------------


def layers(sizes: Sizes, half: Half) -> tuple[Layer, ...]:
    """Those of the encoder or decoder, in the order of the forward pass."""
    return tuple(_layers(sizes, half))


def _layers(sizes: Sizes, half: Half) -> Iterator[Layer]:
    encodes = half == "encode"
    widths = [sizes.base * w for w in sizes.widths][:: 1 if encodes else -1]
    over_time = sizes.over_time[:: 1 if encodes else -1]
    at = f"{half}r"
    side = "downsamples" if encodes else "upsamples"
    yield Layer(f"{at}.conv1", "conv", 3 if encodes else sizes.latent, widths[0])
    if not encodes:
        yield from _middle(at, widths[0])
    number, enter = 0, widths[0]
    for level, width in enumerate(widths):
        for _ in range(sizes.blocks + (not encodes)):
            yield Layer(f"{at}.{side}.{number}", "res", enter, width)
            number, enter = number + 1, width
        if level < len(over_time):
            enter = width if encodes else width // 2
            kind: Literal["down", "up"] = "down" if encodes else "up"
            yield Layer(f"{at}.{side}.{number}", kind, width, enter, over_time[level])
            number += 1
    if encodes:
        yield from _middle(at, enter)
    yield Layer(f"{at}.head", "head", enter, 2 * sizes.latent if encodes else 3)


def _middle(at: str, width: int) -> Iterator[Layer]:
    yield Layer(f"{at}.middle.0", "res", width, width)
    yield Layer(f"{at}.middle.1", "attend", width, width)
    yield Layer(f"{at}.middle.2", "res", width, width)


def tensors(sizes: Sizes, *, encoder: bool = True) -> dict[str, Shape]:
    """Key -> shape of all tensors, under their official names; without the encoder if asked."""
    table: dict[str, Shape] = {**affine("conv2", sizes.latent, sizes.latent, 1, 1, 1)}
    for layer in layers(sizes, "decode"):
        table |= _tensors(layer)
    if encoder:
        table |= affine("conv1", 2 * sizes.latent, 2 * sizes.latent, 1, 1, 1)
        for layer in layers(sizes, "encode"):
            table |= _tensors(layer)
    return table


def _tensors(layer: Layer) -> dict[str, Shape]:
    at, enter, leave = layer.name, layer.enter, layer.leave
    cube, over_time = (3, 3, 3), f"{layer.name}.time_conv"
    match layer.kind:
        case "conv":
            return affine(at, leave, enter, *cube)
        case "res":
            short = affine(f"{at}.shortcut", leave, enter, 1, 1, 1) if enter != leave else {}
            return {
                f"{at}.residual.0.gamma": (enter, 1, 1, 1),
                **affine(f"{at}.residual.2", leave, enter, *cube),
                f"{at}.residual.3.gamma": (leave, 1, 1, 1),
                **affine(f"{at}.residual.6", leave, leave, *cube),
                **short,
            }
        case "attend":
            seen = affine(f"{at}.to_qkv", 3 * enter, enter, 1, 1)
            return {
                f"{at}.norm.gamma": (enter, 1, 1),
                **seen,
                **affine(f"{at}.proj", enter, enter, 1, 1),
            }
        case "up" | "down":
            twice = 2 if layer.kind == "up" else 1
            time = affine(over_time, twice * enter, enter, 3, 1, 1) if layer.over_time else {}
            return affine(f"{at}.resample.1", leave, enter, 3, 3) | time
        case "head":
            return {f"{at}.0.gamma": (enter, 1, 1, 1), **affine(f"{at}.2", leave, enter, *cube)}


def weights(sizes: Sizes, dtype: str, *, encoder: bool = True) -> int:
    """Bytes of all tensors."""
    return stored(tensors(sizes, encoder=encoder), dtype)


# --- whole frames --------------------------------------------------------------------------------


def need(sizes: Sizes, half: Half, size: tuple[int, int], dtype: str, *, steps: int) -> Need:
    """Of encoding so many frames, or of decoding so many latents, one by one; `size`: height and
    width in latent px. A frame that is encoded counts, latents that are decoded do not. Who takes
    what is made holds the last of it."""
    states, peaks = _walked(sizes, half, size, VALUE_BYTES[dtype], _enough(sizes, half, steps))
    return Need(state=max(states), activations=max(map(max, peaks)) - max(states))


Steps = tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]
"""Bytes step by step: what is remembered behind each; its peak before each of what it makes, and
behind the last."""


@lru_cache(maxsize=4096)
def _walked(sizes: Sizes, half: Half, size: tuple[int, int], e: int, steps: int) -> Steps:
    walk, states, peaks = _Walk(sizes, half, e), list[int](), list[tuple[int, ...]]()
    for _ in range(steps):
        states.append(walk.step(*size))
        peaks.append(walk.peaks())
    return tuple(states), tuple(peaks)


def _period(sizes: Sizes) -> int:
    """Frames of a latent."""
    return int(2 ** sum(sizes.over_time))


def _enough(sizes: Sizes, half: Half, steps: int) -> int:
    """Steps after which nothing new comes: every convolution has its two frames of before."""
    return min(steps, 4 if half == "decode" else 1 + 4 * _period(sizes))


# --- in tiles ------------------------------------------------------------------------------------


def tiled(
    sizes: Sizes, half: Half, size: tuple[int, int], dtype: str, tiles: Tiles, *, steps: int
) -> Need:
    """The same tile by tile, without what is parked (`waiting`)."""
    return _tiled(sizes, half, size, VALUE_BYTES[dtype], tiles, _enough(sizes, half, steps))


def waiting(
    sizes: Sizes, half: Half, size: tuple[int, int], dtype: str, tiles: Tiles, *, steps: int
) -> int:
    """Bytes of all tiles' histories: what lies on the host where they are parked."""
    e, enough = VALUE_BYTES[dtype], _enough(sizes, half, steps)
    return sum(max(_walked(sizes, half, t, e, enough)[0]) for t in tile_sizes(size, tiles))


@lru_cache(maxsize=4096)
def _tiled(
    sizes: Sizes, half: Half, size: tuple[int, int], e: int, tiles: Tiles, steps: int
) -> Need:
    given = e * 3 * CELL**2 if half == "encode" else 0  # bytes per latent px
    channels, px = (3, CELL**2) if half == "decode" else (sizes.latent, 1)
    weight = _FLOAT * px  # bytes per latent px, as of a sum's channel
    each, whole = tile_sizes(size, tiles), prod(size)
    walks = [_walked(sizes, half, tile, e, steps) for tile in each]
    frames, made = ([x * h * w for h, w in each] for x in (given, e * channels * px))
    state = peak = 0
    for step in range(steps):
        kept = min(step + 1, 2)
        after = [states[step] for states, _ in walks]
        before = [states[step - 1] if step else 0 for states, _ in walks]
        for i, tile in enumerate(each):
            passes = list(walks[i][1][step])
            # what was made last and still has a name is the tile's before, not of the step before
            named = made[i - 1] if i else 0
            passes[0] += named - (made[i] if step else 0)
            sums = [len(passes) - 1 if i else number for number in range(len(passes))]
            summed = weight * channels * whole
            passed = max(x + n * summed for x, n in zip(passes, sums, strict=True))
            beside = weight * (whole * (1 + channels * bool(step)) + prod(tile)) + given * whole
            if tiles.parked:  # so has its history, when the next one is brought
                lingers = after[i - 1] - frames[i - 1] + sums[0] * summed if i else 0
                peak = max(peak, beside + max(lingers + named + before[i], passed - frames[i]))
                continue
            others = sum(after[:i]) + sum(before[i + 1 :])
            # of given frames, which others look at, only the whole ones are there
            views = kept * sum(frames[: i + 1]) + min(step, 2) * sum(frames[i + 1 :])
            older = given * whole * min(step, 1 if i == len(each) - 1 else 2)
            peak = max(peak, beside + older + others + passed - views)
        if not tiles.parked:
            state = max(state, sum(after) - kept * sum(frames) + kept * given * whole)
    return Need(state=state, activations=peak - state)


def tile_sizes(size: tuple[int, int], tiles: Tiles) -> list[tuple[int, int]]:
    """Height and width of all tiles, row by row, latent px."""
    rows, columns = (_spans(*side) for side in zip(size, tiles.size, tiles.stride, strict=True))
    return [(a, b) for a in rows for b in columns]


def _spans(length: int, size: int, stride: int) -> list[int]:
    """Lengths of the tiles along a side, as `tiles.spans` cuts them."""
    last = -(-max(length - size, 0) // stride)
    return [min(i * stride + size, length) - i * stride for i in range(last + 1)]


# --- layer by layer ------------------------------------------------------------------------------


class _Walk:
    """A stream through the layers, depth first. `kept`: bytes of what each convolution remembers.

    A frame that a convolution sees stays alive by being remembered; its oldest one goes."""

    def __init__(self, sizes: Sizes, half: Half, e: int) -> None:
        self.live, self.kept = Live(), dict[str, tuple[int, ...]]()
        self._sizes, self._half, self._e = sizes, half, e
        self._layers = layers(sizes, half)
        self._begun: set[str] = set()
        self._handed = 0  # bytes of the last that was made, which its taker holds
        self._peaks: list[int] = []

    def peaks(self) -> tuple[int, ...]:
        """Of the step that was made."""
        found, self._peaks = (*self._peaks, self.live.peak), []
        self.live.peak = self.live.now
        return found

    def step(self, height: int, width: int) -> int:
        """One frame or latent; bytes that are remembered then."""
        if self._half == "encode":
            height, width = CELL * height, CELL * width
            self.live.hold(self._bytes(3, height, width))
        else:
            latent = self._bytes(self._sizes.latent, height, width)
            self.live.beside(2 * latent)
            self.live.hold(latent)
        self._through(0, height, width)
        return sum(map(sum, self.kept.values()))

    def _bytes(self, channels: int, height: int, width: int) -> int:
        return channels * height * width * self._e

    def _through(self, first: int, height: int, width: int, *, named: bool = False) -> None:
        """From a layer on, with a frame that is alive; `named`: somebody else holds it, too."""
        live = self.live
        for number, layer in enumerate(self._layers[first:], first):
            if layer.kind in ("up", "down"):
                (self._up if layer.kind == "up" else self._down)(number, height, width)
                return
            x = self._bytes(layer.enter, height, width)
            if layer.kind == "attend":
                live.beside(8 * x)  # queries, keys and values, twice; what is found, and projected
                continue
            if layer.kind == "conv":
                self._convolve(layer.name, (layer.enter, layer.leave), height, width)
                continue
            if layer.kind == "res":
                self._residual(layer, height, width)
            else:
                self._normed(x, height, width)
                self._convolve(layer.name, (layer.enter, layer.leave), height, width)
            live.hold(0 if named else -x)
            named = False
        self._finished(height, width)

    def _finished(self, height: int, width: int) -> None:
        channels = 3 if self._half == "decode" else self._sizes.latent
        made = self._bytes(channels, height, width)
        if self._half == "encode":  # mean and variance, convolved, shifted, scaled
            self.live.beside(4 * made)
            self.live.hold(-made)
        self._peaks.append(self.live.peak)
        self.live.hold(-self._handed)
        self._handed, self.live.peak = made, self.live.now

    def _normed(self, x: int, height: int, width: int) -> None:
        """A normed copy; the lengths of the pixels' vectors, twice where channels are few."""
        lengths = self._bytes(1, height, width)
        self.live.beside(max(x, lengths) + lengths)
        self.live.hold(x)

    def _convolve(self, name: str, channels: tuple[int, int], height: int, width: int) -> None:
        seen, made = (self._bytes(c, height, width) for c in channels)
        before = self.kept.get(name, ())
        window = (*before, seen)
        self.live.beside(made + (sum(window) if before else 0))
        self.live.hold(made)
        self.kept[name] = window[-2:]
        self.live.hold(-sum(window[:-2]))

    def _residual(self, layer: Layer, height: int, width: int) -> None:
        made = self._bytes(layer.leave, height, width)
        self._normed(self._bytes(layer.enter, height, width), height, width)
        self._convolve(f"{layer.name}.2", (layer.enter, layer.leave), height, width)
        self._normed(made, height, width)
        self.live.hold(-made)
        self._convolve(f"{layer.name}.6", (layer.leave, layer.leave), height, width)
        self.live.beside(made if layer.enter != layer.leave else 0)

    def _up(self, number: int, height: int, width: int) -> None:
        layer, live = self._layers[number], self.live
        height, width = 2 * height, 2 * width
        wide, made = (self._bytes(c, height, width) for c in (layer.enter, layer.leave))
        held, parts = wide // 4, 1
        if layer.over_time and layer.name in self._begun:
            both = (layer.enter, 2 * layer.enter)
            self._convolve(layer.name, both, height // 2, width // 2)
            held, parts = 2 * held, 2  # one tensor until the second half is taken
        self._begun.add(layer.name)
        for part in range(parts):
            live.beside(wide + made)
            live.hold(made)
            live.hold(-held if part == parts - 1 else 0)
            self._through(number + 1, height, width)

    def _down(self, number: int, height: int, width: int) -> None:
        layer, live = self._layers[number], self.live
        x, filled = (self._bytes(layer.enter, height + i, width + i) for i in (0, 1))
        height, width = height // 2, width // 2
        made = self._bytes(layer.enter, height, width)
        live.beside(filled + made)
        live.hold(made - x)
        if not layer.over_time:
            self._through(number + 1, height, width, named=True)
            live.hold(-made)
            return
        window = (*self.kept.get(layer.name, ()), made)
        self.kept[layer.name] = window[-1:] if len(window) == 3 else window
        if len(window) == 1:
            self._through(number + 1, height, width, named=True)
        elif len(window) == 3:
            live.beside(4 * made)
            live.hold(made)
            self._through(number + 1, height, width)
            live.hold(-2 * made)
