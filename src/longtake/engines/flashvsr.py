"""FlashVSR: streaming one-step diffusion, with the official weights of v1.0 and v1.1.

https://arxiv.org/abs/2510.12747, github.com/OpenImagingLab/FlashVSR. The official code's numbers,
for films of any size and length; what differs on purpose is a knob (`front_end`, `noise`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Final

from longtake.core.errors import Usage, WeightsMissing
from longtake.core.knobs import knob
from longtake.core.machine import Machine
from longtake.core.media import Knobs
from longtake.core.plan import Footprint, Geometry, Placement, Plan, Recipe
from longtake.core.ports import Grid, Offload, Preset
from longtake.engines import _flashvsr_files as stored
from longtake.engines import _flashvsr_memory as memory
from longtake.engines._flashvsr_frames import CELL, padded_size
from longtake.engines._flashvsr_schedule import AHEAD, FRAMES, STEP
from longtake.engines._flashvsr_tiles import proposals
from longtake.engines._torch import CUDA_CONTEXT, CUDA_ON_HOST, TORCH_ON_HOST, auto_dtype, closed
from longtake.nets.flashvsr.needs import flex_lacks

_MiB: Final = 1 << 20
# figures: benchmarks/flashvsr
_KERNELS: Final = 140 * _MiB  # in the context, beside those that all engines load
_COMPILER: Final = 170 * _MiB  # the same on the host

if TYPE_CHECKING:
    from longtake.engines._flashvsr_stream import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class FlashVSRKnobs:
    version: str = knob("1.1", "of the weights; 1.1 is steadier", choices=("1.1", "1.0"))
    mode: str = knob(
        "tiny",
        "decoder; tiny: small and fast; full: that of Wan's VAE, slower, more memory",
        choices=("tiny", "full"),
    )
    dtype: str = knob(
        "auto",
        "arithmetic; auto: bfloat16 where the processor has it, else float16 on a GPU and float32 "
        "on a CPU",
        choices=("auto", "bfloat16", "float16", "float32"),
    )
    sparse_ratio: float = knob(
        2.0, "how much attention is kept; 1.5: faster, 2: steadier", least=0.1, most=16
    )
    kv_ratio: int = knob(3, "steps of 8 frames that are remembered", least=1, most=16)
    local_range: int = knob(
        11, "how far attention reaches, windows of 128 px; 9: sharper, 11: steadier",
        least=1, most=99,
    )  # fmt: skip
    color_fix: str = knob(
        "adain",
        "colours of the source; adain: mean and spread per frame; wavelet: all coarse detail",
        choices=("adain", "wavelet", "none"),
    )
    attention: str = knob(
        "auto",
        "how attention is computed; auto: flex on a GPU that can, gathered on others, reference "
        "on a CPU",
        choices=("auto", "reference", "gathered", "flex"),
    )
    front_end: str = knob(
        "exact",
        "the source is enlarged with its full precision, or with the official code's roundings",
        choices=("exact", "official"),
    )
    noise: str = knob(
        "position",
        "position: the same wherever a film is cut; official: as the official code draws it, for "
        "streams up to 1,000 frames",
        choices=("position", "official"),
    )
    lead: int = knob(3, "steps of 8 frames for warming up behind a cut", least=0, most=16)
    tile: int = knob(
        0,
        "longest side of a tile, px; 0: pictures stay whole. Needs less memory; tiles do not see "
        "each other",
        least=0, most=8192,
    )  # fmt: skip
    folder: str = knob("", 'where the weights lie; "": where `weights pull` puts them', local=True)


_PRESETS: Final = (
    Preset(
        name="standard",
        about="steady pictures, the small decoder",
        knobs={"mode": "tiny", "sparse_ratio": 2.0, "local_range": 11},
    ),
    Preset(name="fast", about="less attention is kept", knobs={"sparse_ratio": 1.5}),
    Preset(name="sharp", about="sharper and less steady", knobs={"local_range": 9}),
    Preset(
        name="full",
        about="the decoder of Wan's VAE: slower, more memory",
        knobs={"mode": "full"},
    ),
    Preset(
        name="official",
        about="the official code's numbers, to compare with it",
        knobs={"front_end": "official", "noise": "official"},
    ),
)


class FlashVSR:
    about = "one-step video diffusion; for a GPU; needs `longtake weights pull flashvsr-v1.1`"
    knobs = FlashVSRKnobs
    devices: tuple[str, ...] = ("cuda", "cpu")
    scales: tuple[Fraction, ...] = (Fraction(3, 2), Fraction(2), Fraction(3), Fraction(4))
    presets: tuple[Preset, ...] = _PRESETS

    def grid(self, knobs: Knobs) -> Grid:
        lead = FRAMES * int(knobs["lead"])
        return Grid(
            lead=lead, tail=AHEAD, align=FRAMES, segment_frames=max(240, 20 * lead), steps=(STEP,),
            placements=(
                ("resident", "device"), ("swap", "device"), ("ring", "device"),
                ("resident", "host"), ("swap", "host"), ("ring", "host"),
            ),
            blocks=stored.layers(_shapes(knobs).transformer),
        )  # fmt: skip

    def weights(self, knobs: Knobs) -> tuple[Path, ...]:
        return tuple(stored.find(knobs))

    def decide(self, knobs: Knobs, machine: Machine, device: str) -> tuple[Knobs, tuple[str, ...]]:
        """The attention, from what the machine has. Raises Usage."""
        if 0 < int(knobs["tile"]) < 2 * CELL:
            raise Usage(f"tile={knobs['tile']}: a tile is at least {2 * CELL} px wide.")
        if knobs["attention"] != "auto":
            return knobs, ()
        gpu = machine.gpu(device)
        if gpu is None:
            return {**knobs, "attention": "reference"}, ()
        why = flex_lacks(gpu.capability, here=machine.here)
        if why is None:
            return {**knobs, "attention": "flex"}, ()
        note = f"attention: gathered, several times slower than flex. Of flex: {why}."
        return {**knobs, "attention": "gathered"}, (note,)

    def leaner(self, knobs: Knobs, geometry: Geometry) -> Iterable[Knobs]:
        sides = proposals(padded_size(geometry.target))
        return [{"tile": side} for side in sides if not 0 < int(knobs["tile"]) <= side]

    def dtype(self, machine: Machine, device: str, knobs: Knobs) -> str:
        return auto_dtype(machine, device, knobs)

    def footprint(self, geometry: Geometry, recipe: Recipe, placement: Placement) -> Footprint:
        on_gpu = placement.devices[0].startswith("cuda")
        outside = Footprint(
            beside=CUDA_ON_HOST + _COMPILER if on_gpu else 0,
            context=CUDA_CONTEXT + _KERNELS if on_gpu else TORCH_ON_HOST,
        )
        return memory.footprint(geometry, recipe, placement, _shapes(recipe.knobs), outside)

    @contextmanager
    def open(self, plan: Plan, device: str, offload: Offload) -> Iterator[Model]:
        import torch

        from longtake.engines._flashvsr_load import load

        where = "cpu" if device.startswith("cpu") else device
        torch.set_num_threads(plan.placement.threads)
        torch.backends.cudnn.allow_tf32 = False
        model = load(plan, where, offload.home(where))
        try:
            with offload.attach(model.parts, where) as parts:
                yield replace(model, parts=parts)  # type: ignore[arg-type]
        finally:
            closed(model.parts, where)


def _shapes(knobs: Knobs) -> stored.Shapes:
    """A plan may be made before weights are fetched; a job is refused."""
    try:
        return stored.shapes(stored.find(knobs), knobs)
    except WeightsMissing:
        return stored.official(knobs)


plugin = FlashVSR()
