"""The built-in model: small, offline, at once; on a CPU or a GPU. Model card: docs/lite.md."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from longtake.core import faults
from longtake.core.knobs import knob
from longtake.core.machine import Machine
from longtake.core.media import Clip, Knobs, OutputFormat, Pixels
from longtake.core.plan import Footprint, Geometry, Placement, Plan, Recipe
from longtake.core.ports import Grid, Offload, Preset
from longtake.engines._pixels import deepened, to_floats, to_pixels
from longtake.engines._torch import (
    CUDA_CONTEXT,
    CUDA_ON_HOST,
    TORCH_ON_HOST,
    VALUE_BYTES,
    auto_dtype,
    closed,
)
from longtake.media.scaling import resample
from longtake.weights import checkpoint, files

if TYPE_CHECKING:
    from torch import nn

WEIGHTS = {"faithful": "lite_faithful.safetensors", "crisp": "lite_crisp.safetensors"}
MiB = 1 << 20
# glibc keeps tensors below 32 MiB on its heap, where what is freed leaves holes: so many bytes of
# them at most, and this part of them; fitted to peaks of the net alone, 180p to 720p
_ON_HEAP, _HOLES = 80 * MiB, 0.6
# What CUDA's allocator keeps beside what lives at once: a segment of small blocks, and bytes per px
# of the frame by scale and size of a value; fitted to 48 peaks on an H200 (benchmarks/memory)
_SEGMENT = 20 * MiB
_KEPT = {(2, 2): 34, (2, 4): 28, (3, 2): 30, (3, 4): 84, (4, 2): 186, (4, 4): 180}


@dataclass(frozen=True, slots=True, kw_only=True)
class LiteKnobs:
    look: str = knob(
        "faithful",
        "faithful: nothing is added to what can be known; crisp: sharper, with likely texture",
        choices=tuple(WEIGHTS),
    )
    dtype: str = knob(
        "auto",
        "arithmetic of the trunk; auto: bfloat16 where the processor has it, else float32",
        choices=("auto", "float32", "bfloat16", "float16"),
    )


@dataclass(frozen=True, slots=True)
class _Open:
    net: nn.Module
    scale: int
    output: OutputFormat
    device: str

    def upscale(self, clips: Iterable[Clip]) -> Iterator[Clip]:
        import torch

        for clip in clips:
            faults.strike("compute")
            made = self._room(len(clip.pixels))
            with torch.inference_mode():
                for i, frame in enumerate(clip.pixels):
                    self._enlarge(frame, made[i], clip.start + i)
            yield Clip(pixels=made, start=clip.start)
            del clip, made  # not held while the next is awaited

    def _room(self, frames: int) -> Pixels:
        shape = frames, self.output.height, self.output.width, 3
        if self.output.bits <= 8:
            return np.empty(shape, np.uint8)
        return np.empty(shape, np.uint16)

    def _enlarge(self, frame: Pixels, made: Pixels, number: int) -> None:
        """[H, W, 3] -> `made` [H', W', 3]; one at a time, so that no batch decides an algorithm."""
        floats = self.net(to_floats(frame, self.device), self.scale)
        if faults.strike("values") == "nan":
            floats = floats * float("nan")
        height, width = floats.shape[-2:]
        if made.shape[:2] == (height, width):
            to_pixels(floats, made, number)
            return
        deep = np.empty((height, width, 3), np.uint16)
        to_pixels(floats, deep, number)
        fitted = resample(deep[None], self.output.width, self.output.height)[0]
        made[:] = deepened(fitted, self.output.bits)


class Lite:
    about = "the built-in model: sharper than Lanczos, works offline on a CPU or a GPU"
    knobs = LiteKnobs
    devices: tuple[str, ...] = ("cpu", "cuda")
    scales: tuple[Fraction, ...] = (Fraction(2), Fraction(3), Fraction(4))
    presets: tuple[Preset, ...] = (
        Preset(
            name="standard", about="adds nothing that cannot be known", knobs={"look": "faithful"}
        ),
        Preset(
            name="crisp",
            about="as sharp as a film is, with likely texture",
            knobs={"look": "crisp"},
        ),
    )

    def grid(self, knobs: Knobs) -> Grid:
        return Grid()

    def weights(self, knobs: Knobs) -> tuple[Path, ...]:
        return (_file(knobs),)

    def decide(self, knobs: Knobs, machine: Machine, device: str) -> tuple[Knobs, tuple[str, ...]]:
        return knobs, ()

    def leaner(self, knobs: Knobs, geometry: Geometry) -> Iterable[Knobs]:
        return ()

    def dtype(self, machine: Machine, device: str, knobs: Knobs) -> str:
        return auto_dtype(machine, device, knobs)

    def footprint(self, geometry: Geometry, recipe: Recipe, placement: Placement) -> Footprint:
        on_gpu = placement.devices[0].startswith("cuda")
        path = _file(recipe.knobs)
        stored, config = files.tensor_bytes(path), _config(path)
        size = VALUE_BYTES[recipe.numerics.dtype]
        scale, (width, height) = head_for(geometry), geometry.source
        live = _activations(geometry.source, scale, config["width"], size, on_gpu)
        kept = _SEGMENT + width * height * _KEPT[scale, size]
        return Footprint(
            beside=CUDA_ON_HOST if on_gpu else 0,
            context=CUDA_CONTEXT if on_gpu else TORCH_ON_HOST,
            weights=2 * stored,
            block=9 * config["width"] ** 2 * size,
            activations=live,
            workspace=kept if on_gpu else int(min(live, _ON_HEAP) * _HOLES),
        )

    @contextmanager
    def open(self, plan: Plan, device: str, offload: Offload) -> Iterator[_Open]:
        import torch

        from longtake.nets.lite import Lite as Net
        from longtake.nets.lite import LiteConfig

        where = "cpu" if device.startswith("cpu") else device
        torch.set_num_threads(plan.placement.threads)  # 1 beside a GPU: cores are for the encoder
        torch.backends.cudnn.allow_tf32 = False
        path = _file(plan.recipe.knobs)
        stored = _config(path)
        config = LiteConfig(
            width=stored["width"], depth=stored["depth"], scales=tuple(stored["scales"])
        )
        net = checkpoint.load(lambda: Net(config), path).float()
        net.trunk_to(getattr(torch, plan.recipe.numerics.dtype))
        net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        try:
            with offload.attach(net, where) as placed:
                yield _Open(placed, head_for(plan.geometry), plan.recipe.output, where)
        finally:
            closed(net, where)


def head_for(geometry: Geometry) -> int:
    """The smallest head that reaches the target, or the largest there is."""
    wanted = max(Fraction(t, s) for t, s in zip(geometry.target, geometry.source, strict=True))
    # a target rounded up by a pixel does not ask for the next head
    reached = [int(s) for s in Lite.scales if s >= wanted or s >= geometry.scale]
    return reached[0] if reached else int(Lite.scales[-1])


def _file(knobs: Knobs) -> Path:
    return files.shipped(WEIGHTS[str(knobs["look"])])


def _config(path: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(files.header(path)["__metadata__"]["config"])
    return config


def _activations(source: tuple[int, int], scale: int, width: int, e: int, on_gpu: bool) -> int:
    """Bytes of the largest set of live tensors for one frame; formula: nets/lite.py, Memory."""
    w, h = source
    m = (w + w % 2) * (h + h % 2)
    odd = 12 if w % 2 or h % 2 else 0
    entry = m * (odd + 12 * e + width * e // 4)
    trunk = m * width * e * 3 // 4
    head = m * (width * e // 4 + 6 * scale**2 * e)
    base = m * 3 * scale**2 * (e + 8)
    if on_gpu:  # in float32 cuDNN takes two more tensors of the trunk
        return w * h * 12 + max(entry, trunk + (width * e // 2 * m if e == 4 else 0), head, base)
    carried = w * h * 12 * (1 + scale**2)  # the frame, and the output while it is rounded
    padding = m * (27 * (e + 4) + 152) if scale == 3 else 0
    return carried + max(entry, trunk, head, base, padding)


plugin = Lite()
