"""The built-in model: small, offline, at once; on a CPU or a GPU. Model card: docs/lite.md."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from longtake.core import faults
from longtake.core.knobs import knob
from longtake.core.machine import Machine
from longtake.core.media import Clip, Knobs, OutputFormat, Pixels
from longtake.core.plan import Footprint, Geometry, Placement, Plan, Recipe
from longtake.core.ports import Grid, Offload
from longtake.engines._pixels import deepened, to_floats, to_pixels
from longtake.media.scaling import resample
from longtake.weights import checkpoint, files

if TYPE_CHECKING:
    from torch import nn

WEIGHTS = "lite.safetensors"
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
MiB = 1 << 20
TORCH_ON_HOST = 325 * MiB  # `import torch` and its thread pool; benchmarks/memory
CUDA_ON_HOST = 1130 * MiB  # torch with CUDA's libraries, in host memory
CUDA_CONTEXT = 630 * MiB  # context and library modules; benchmarks/memory


@dataclass(frozen=True, slots=True, kw_only=True)
class LiteKnobs:
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
            with torch.inference_mode():
                frames = [self._enlarged(f, clip.start + i) for i, f in enumerate(clip.pixels)]
            yield Clip(pixels=cast(Pixels, np.stack(frames)), start=clip.start)

    def _enlarged(self, frame: Pixels, number: int) -> Pixels:
        """[H, W, 3] -> [H', W', 3]; one at a time, so that no batch decides an algorithm."""
        made = self.net(to_floats(frame, self.device), self.scale)
        if faults.strike("values") == "nan":
            made = made * float("nan")
        width, height = self.output.width, self.output.height
        if made.shape[-2:] == (height, width):
            return to_pixels(made, self.output.bits, number)
        deep = to_pixels(made, 16, number)
        return deepened(resample(deep[None], width, height)[0], self.output.bits)


class Lite:
    about = "the built-in model: sharper than Lanczos, works offline on a CPU or a GPU"
    knobs = LiteKnobs
    devices: tuple[str, ...] = ("cpu", "cuda")
    scales: tuple[Fraction, ...] = (Fraction(2), Fraction(3), Fraction(4))

    def grid(self, knobs: Knobs) -> Grid:
        return Grid()

    def weights(self, knobs: Knobs) -> Path | None:
        return files.shipped(WEIGHTS)

    def dtype(self, machine: Machine, device: str, knobs: Knobs) -> str:
        if knobs["dtype"] != "auto":
            return str(knobs["dtype"])
        if device.startswith("cpu"):
            fast = {"avx512_bf16", "amx_bf16"} & set(machine.flags)
            return "bfloat16" if fast else "float32"
        gpu = next((g for g in machine.gpus if f"cuda:{g.index}" == device), None)
        if gpu is None or gpu.capability < (7, 0):
            return "float32"
        return "bfloat16" if gpu.capability >= (8, 0) else "float16"

    def footprint(self, geometry: Geometry, recipe: Recipe, placement: Placement) -> Footprint:
        on_gpu = placement.devices[0].startswith("cuda")
        stored = files.tensor_bytes(files.shipped(WEIGHTS))
        config = _config()
        return Footprint(
            beside=CUDA_ON_HOST if on_gpu else 0,
            context=CUDA_CONTEXT if on_gpu else TORCH_ON_HOST,
            weights=2 * stored,
            block=9 * config["width"] ** 2 * _BYTES[recipe.numerics.dtype],
            activations=_activations(
                geometry.source,
                head_for(geometry),
                config["width"],
                _BYTES[recipe.numerics.dtype],
            ),
        )

    @contextmanager
    def open(self, plan: Plan, device: str, offload: Offload) -> Iterator[_Open]:
        import torch

        from longtake.nets.lite import Lite as Net
        from longtake.nets.lite import LiteConfig

        where = "cpu" if device.startswith("cpu") else device
        if where == "cpu":
            torch.set_num_threads(plan.placement.threads)
        torch.backends.cudnn.allow_tf32 = False
        stored = _config()
        config = LiteConfig(
            width=stored["width"], depth=stored["depth"], scales=tuple(stored["scales"])
        )
        net = checkpoint.load(lambda: Net(config), files.shipped(WEIGHTS)).float()
        net.trunk_to(getattr(torch, plan.recipe.numerics.dtype))
        net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        with offload.attach(net, where) as placed:
            yield _Open(placed, head_for(plan.geometry), plan.recipe.output, where)


def head_for(geometry: Geometry) -> int:
    """The smallest head that reaches the target, or the largest there is."""
    wanted = max(Fraction(t, s) for t, s in zip(geometry.target, geometry.source, strict=True))
    # a target rounded up by a pixel does not ask for the next head
    reached = [int(s) for s in Lite.scales if s >= wanted or s >= geometry.scale]
    return reached[0] if reached else int(Lite.scales[-1])


def _config() -> dict[str, Any]:
    config: dict[str, Any] = json.loads(
        files.header(files.shipped(WEIGHTS))["__metadata__"]["config"]
    )
    return config


def _activations(source: tuple[int, int], scale: int, width: int, e: int) -> int:
    """Bytes of the largest set of live tensors for one frame; formula: nets/lite.py, Memory."""
    w, h = source
    m = (w + w % 2) * (h + h % 2)
    odd = 12 if w % 2 or h % 2 else 0
    carried = w * h * 3 * 4 * (1 + scale**2)  # the frame, and the output while it is rounded
    entry = m * (odd + 12 * e + width * e // 4)
    trunk = m * width * e * 3 // 4
    head = m * (width * e // 4 + 6 * scale**2 * e)
    base = m * 3 * scale**2 * (e + 8)
    padding = m * (27 * (e + 4) + 152) if scale == 3 else 0
    return carried + max(entry, trunk, head, base, padding)


plugin = Lite()
