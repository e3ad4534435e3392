"""How long a film of Wan 2.1 takes: operations over rates, without torch.

A multiplication and its addition are two operations. With N tokens, d channels, f in the
feed-forward, t text tokens and i of an image, a block has

    linear      2 N (6 d^2 + 2 d f) + 4 (t + i) d^2
    attention   4 N^2 d + 4 N (t + i) d

What is done value by value, the loading of weights and their first way to the device are not
counted: percents of a film of many steps. Blocks that come in turn: offload/_partition.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Final

from longtake.core.machine import Machine
from longtake.generators._wan_grid import CELL
from longtake.generators._wan_job import Job, Part, Where, parts
from longtake.nets import clip_vision_needs, taehv_needs, umt5_needs
from longtake.nets.wan import sizes, vae_needs
from longtake.nets.wan.sizes import DiTConfig
from longtake.nets.wan.vae_needs import Half, Layer
from longtake.offload._partition import Pace, first_seconds, pass_seconds

# Of the rate of matrix products; measured on an H200
_CONVOLUTIONS: Final = 0.5
_WIDENED: Final = 0.7  # with 8-bit matrices that are made wider first
_TERA, _GIGA = 1e12, 1e9


# --- operations ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Operations by kind."""

    linear: int = 0
    attention: int = 0

    @property
    def total(self) -> int:
        return self.linear + self.attention


def block_work(config: DiTConfig, tokens: int) -> Work:
    """One sample through one block of the transformer."""
    phases = phase_work(config, tokens)
    return Work(
        linear=sum(work.linear for work in phases),
        attention=sum(work.attention for work in phases),
    )


def phase_work(config: DiTConfig, tokens: int) -> tuple[Work, ...]:
    """The same by phase, in the order of `sizes.PHASES`."""
    dim, told = config.dim, config.text_length + sizes.image_tokens(config)
    return (
        Work(linear=8 * tokens * dim**2, attention=4 * tokens**2 * dim),
        Work(linear=4 * (tokens + told) * dim**2, attention=4 * tokens * told * dim),
        Work(linear=4 * tokens * dim * config.ffn_dim),
    )


def forward_work(config: DiTConfig, tokens: int) -> Work:
    """One sample through the transformer."""
    block = block_work(config, tokens)
    values = config.enter * prod(config.patch) + config.patch_values
    return Work(
        linear=config.layers * block.linear + 2 * tokens * config.dim * values,
        attention=config.layers * block.attention,
    )


def text_work(text: umt5_needs.UmT5Config, tokens: int) -> Work:
    """One prompt through one block of umT5."""
    inner = text.heads * text.head_dim
    return Work(
        linear=2 * tokens * (4 * text.dim * inner + 3 * text.dim * text.ffn_dim),
        attention=4 * tokens**2 * inner,
    )


def image_work(image: clip_vision_needs.ClipConfig) -> Work:
    """An image through CLIP."""
    linear = 4 * image.dim**2 + 2 * image.dim * image.ffn_dim
    return Work(
        linear=image.layers * 2 * image.tokens * linear,
        attention=image.layers * 4 * image.tokens**2 * image.dim,
    )


def vae_work(vae: vae_needs.Sizes, half: Half, latents: tuple[int, int, int]) -> Work:
    """Latents (frames, rows, columns) through the VAE's encoder or decoder."""
    frames, height, width = latents
    many = frames if half == "decode" else 1 + 2 ** sum(vae.over_time) * (frames - 1)
    px = height * width * (1 if half == "decode" else CELL**2)
    linear = attention = 0
    for layer in vae_needs.layers(vae, half):
        if layer.kind == "attend":
            attention += 4 * many * px**2 * layer.enter
        elif layer.kind == "up":
            linear += 2 * many * px * 6 * layer.enter**2 if layer.over_time else 0
            many, px = (2 * many - 1 if layer.over_time else many), 4 * px
        elif layer.kind == "down":
            px //= 4
        linear += 2 * many * px * _taps(layer)
        if layer.kind == "down" and layer.over_time:
            many = (many + 1) // 2
            linear += 2 * many * px * 3 * layer.enter**2
    return Work(linear=linear, attention=attention)


def _taps(layer: Layer) -> int:
    """Products for a pixel that a layer makes, without those over time alone."""
    enter, leave = layer.enter, layer.leave
    match layer.kind:
        case "conv" | "head":
            return 27 * enter * leave
        case "res":
            return 27 * (enter + leave) * leave + (enter * leave if enter != leave else 0)
        case "attend":
            return 4 * enter**2
        case "up" | "down":
            return 9 * enter * leave


def taehv_work(tiny: taehv_needs.TaehvConfig, latents: tuple[int, int, int]) -> Work:
    """Latents (frames, rows, columns) through TAEHV's decoder; those cut at the start, too."""
    frames, height, width = latents
    many, px, linear = frames, height * width, 0
    linear += 2 * many * px * 9 * tiny.latent * tiny.widths[0]
    for level, times in enumerate(taehv_needs.TIMES):
        wide, narrower = tiny.widths[level : level + 2]
        linear += 2 * many * px * taehv_needs.MEM_BLOCKS * 9 * 4 * wide**2
        many, px = many * times, 4 * px
        linear += 2 * many * px * (wide**2 + 9 * wide * narrower)
    return Work(linear=linear + 2 * many * px * 9 * tiny.widths[-1] * 3)


# --- rates ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What is reached, not what is printed on the box. Operations or bytes per s."""

    gemm: float
    """Matrix products in bfloat16."""
    eight: float
    """The same in 8 bits, by kernels that multiply so."""
    single: float
    """In float32, not rounded to TF32."""
    attention: float
    """In bfloat16."""
    h2d: float
    """From page-locked memory to the device."""
    disk: float
    """By several readers together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reached:
    """Parts of a peak."""

    gemm: float = 0.75
    single: float = 0.75
    attention: float = 0.60
    eight: float = 1.8  # times the rate of gemm


def _rates(half: float, single: float, h2d: float, reached: _Reached) -> Rates:
    """From peaks in Tflop/s and GB/s; a disk of 3 GB/s is assumed."""
    gemm = half * reached.gemm * _TERA
    return Rates(
        gemm=gemm, eight=gemm * reached.eight, single=single * reached.single * _TERA,
        attention=half * reached.attention * _TERA, h2d=h2d * _GIGA, disk=3 * _GIGA,
    )  # fmt: skip


_SMALL, _LARGE = _Reached(), _Reached(attention=0.65)
_H200 = _Reached(gemm=0.46, single=0.75, attention=0.57)
GPUS: Final = {
    "NVIDIA GeForce RTX 3060": _rates(25.5, 12.7, 25, _SMALL),
    "NVIDIA GeForce RTX 4060": _rates(30.2, 15.1, 12.5, _SMALL),
    "NVIDIA GeForce RTX 4080": _rates(97.5, 48.7, 25, _LARGE),
    "NVIDIA GeForce RTX 4090": _rates(165.2, 82.6, 25, _LARGE),
    "NVIDIA RTX 6000 Ada Generation": _rates(364.2, 91.1, 25, _LARGE),
    "NVIDIA H200": _rates(989, 67, 55, _H200),
}
"""By NVML's name. Peaks (dense, sums in float32) are the makers'; what is reached of them is
estimated, for the RTX 4060 and 4090 from what others have measured; the H200's is measured
(benchmarks/generation), with what is done value by value."""


def cpu_rates(cores: int) -> Rates:
    """Of a CPU of so many cores without matrix units, estimated."""
    single = cores * 40 * _GIGA
    return Rates(
        gemm=single / 2, eight=single / 2, single=single, attention=single / 4,
        h2d=8 * _GIGA, disk=1 * _GIGA,
    )  # fmt: skip


def rates_of(machine: Machine, device: str) -> Rates | None:
    """Of a device of the machine, "cpu" or "cuda:0"; None: this GPU is not known."""
    if device.startswith("cpu"):
        return cpu_rates(machine.cores)
    gpu = machine.gpu(device)
    return None if gpu is None else GPUS.get(gpu.name)


# --- time ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Seconds:
    """Of a film, by stage; 0 for stages it has not."""

    text: float
    image: float
    encode: float
    step: float
    """Of one step, its one or two branches together."""
    denoise: float
    """All steps, and what the first one takes more."""
    decode: float
    copies_hidden: bool
    """Blocks come to the device no slower than the transformer computes."""
    reads_hidden: bool
    """The same of those that are read from the disk."""

    @property
    def total(self) -> float:
        return self.text + self.image + self.encode + self.denoise + self.decode

    @property
    def hidden(self) -> bool:
        return self.copies_hidden and self.reads_hidden


def time_of(job: Job, where: Where, rates: Rates, *, eight_bit: bool = False) -> Seconds:
    """`eight_bit`: kernels multiply 8-bit matrices as they are; else they are made wider first,
    which is slower than bfloat16. Raises Usage for films there are not."""
    nets, image = parts(job), job.config.image_dim is not None
    steps = _passes(job, where) * job.steps
    there = where.partition_of(nets["transformer"])
    at = pace(job, where, rates, eight_bit=eight_bit)
    one = pass_seconds(there, at)
    compute = there.blocks * at.compute
    return Seconds(
        text=_reading(job, where, rates, nets["text"]),
        image=_needed(image_work(job.image), rates, job.image_dtype) if image else 0.0,
        encode=_through_vae(job, "encode", rates) if job.seen else 0.0,
        step=_passes(job, where) * one,
        denoise=first_seconds(there, at) + steps * one,
        decode=(
            _needed(taehv_work(job.taehv, job.latents), rates, job.vae_dtype, _CONVOLUTIONS)
            if job.decoder == "taehv"
            else _through_vae(job, "decode", rates) + _parking(job, rates)
        ),
        copies_hidden=len(there.streamed) * at.copy <= compute,
        reads_hidden=len(there.disk) * at.read <= compute,
    )


def pace(job: Job, where: Where, rates: Rates, *, eight_bit: bool = False) -> Pace:
    """Seconds of a block of the transformer: of all branches that go through it at once."""
    fast = eight_bit and job.matrices is not None
    forward = forward_work(job.config, job.tokens)
    dtype = job.matrices if fast and job.matrices else job.dtype
    reached = 1.0 if fast or job.matrices is None else _WIDENED
    seconds = _needed(forward, rates, dtype, reached)
    at_once = job.branches // _passes(job, where)
    work = phase_work(job.config, job.tokens)
    return _pace(
        parts(job)["transformer"], where, rates, at_once * seconds / job.config.layers,
        [_needed(x, rates, job.dtype) for x in work],
    )  # fmt: skip


def _pace(part: Part, where: Where, rates: Rates, compute: float, shares: list[float]) -> Pace:
    """Of a block that takes `compute` s, shared out to its phases."""
    bus = where.bandwidth * rates.h2d
    phases = [compute * share / sum(shares) for share in shares]
    return Pace(
        compute=compute, copy=part.slab / bus, read=part.slab / (where.bandwidth * rates.disk),
        phases=tuple((took, size / bus) for took, size in zip(phases, part.phases, strict=True)),
    )  # fmt: skip


def _passes(job: Job, where: Where) -> int:
    """Of a step: how often blocks come to the device."""
    return 1 if where.together else job.branches


def _needed(work: Work, rates: Rates, dtype: str, reached: float = 1.0) -> float:
    if dtype == "float32":
        return work.linear / (rates.single * reached) + work.attention / min(
            rates.single, rates.attention
        )
    gemm = rates.gemm if dtype in ("bfloat16", "float16") else rates.eight
    return work.linear / (gemm * reached) + work.attention / rates.attention


def _reading(job: Job, where: Where, rates: Rates, text: Part) -> float:
    """Prompts through the text encoder."""
    there, whole = where.partition_of(text), text_work(job.text, job.text_tokens)
    inner = job.text.heads * job.text.head_dim
    attention = replace(whole, linear=2 * job.text_tokens * 4 * job.text.dim * inner)
    work = attention, Work(linear=whole.linear - attention.linear)
    at = _pace(
        text, where, rates, _needed(whole, rates, job.text_dtype),
        [_needed(x, rates, job.text_dtype) for x in work],
    )  # fmt: skip
    return first_seconds(there, at) + job.branches * pass_seconds(there, at)


def _through_vae(job: Job, half: Half, rates: Rates) -> float:
    """Whole frames, or all tiles with what they share."""
    frames, height, width = job.latents
    each = [(height, width)]
    if job.tiles is not None:
        each = vae_needs.tile_sizes((height, width), job.tiles)
    return sum(
        _needed(vae_work(job.vae, half, (frames, *tile)), rates, job.vae_dtype, _CONVOLUTIONS)
        for tile in each
    )


def _parking(job: Job, rates: Rates) -> float:
    """Histories of tiles, to the host and back for each latent."""
    if job.tiles is None or not job.tiles.parked:
        return 0.0
    frames, *size = job.latents
    waiting = vae_needs.waiting(
        job.vae, "decode", (size[0], size[1]), job.vae_dtype, job.tiles, steps=frames
    )
    return 2 * frames * waiting / rates.h2d
