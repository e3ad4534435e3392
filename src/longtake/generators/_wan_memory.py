"""How much a film of Wan 2.1 needs, stage by stage and by cause: arithmetic without torch.

Parts and their turns are those of `_wan_load.Parts`. What lies where is up to the strategy:

    resident   on the device all parts, all the time
    swap       on the device the part whose turn it is; on the host all, page-locked in powers of
               two, so that each may have its turn again
    ring       on the device, of that part, all but blocks, resident blocks and slots, or the whole
               of a part without blocks; on the host all parts, those with blocks to the page
    disk       as ring; on the host, of the transformer, `host_blocks` and those read ahead
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Final

from longtake.core.blocks import VALUE_BYTES, up
from longtake.core.plan import Footprint
from longtake.engines._torch import CUDA_CONTEXT, CUDA_ON_HOST, TORCH_ON_HOST
from longtake.generators._wan_grid import CELL, CHANNELS
from longtake.generators._wan_job import Job, Part, Stage, Where, parts, run, stages
from longtake.nets import clip_vision_needs, taehv_needs, umt5_needs
from longtake.nets.wan import needs, sizes, vae_needs
from longtake.nets.wan.vae_needs import Tiles
from longtake.offload._locked import layout, power

_KERNELS: Final = 200 << 20  # of text encoder, transformer and VAE, beyond those of one net
# Workspace of libraries, and holes between tensors as a part of what torch has taken; measured on
# an H200 by benchmarks/generation/fits.py. Whole frames through the VAE leave large holes.
_WORKSPACE: Final = 100 << 20
_EIGHT_BITS: Final = 64 << 20  # more, where matrices are made wider again and again
_VAE_WORKSPACE: Final = 64 << 20
_HOLES: Final = 0.02
_VAE_HOLES: Final = 0.14
_LIBRARIES: Final = 480 << 20  # of the host: the same kernels, as they are loaded
_GRAIN: Final = 512  # bytes: torch's allocator gives multiples of it
_REMEMBERED: Final = 3  # latents that a sampler remembers, at most
_MASK: Final = 4  # channels of an image's mask
_REMADE: Final = 2048 + 31  # rows of an 8-bit matrix that are made wider at a time (nets/linear.py)


def footprint(job: Job, where: Where) -> Footprint:
    """Of the stage that needs the most on its device, and of the one that needs the most beside it
    on the host. Raises Usage for films there are not."""
    found = [of_stage(job, where, stage) for stage in stages(job)]
    most = max(found, key=lambda x: x.total)
    outside = max(found, key=lambda x: x.outside)
    return replace(most, beside=outside.beside, parked=outside.parked)


def of_stage(job: Job, where: Where, stage: Stage) -> Footprint:
    """Peak bytes by cause while a stage is at work."""
    nets = parts(job)
    turns = [(name, *_pass(job, where, stage, name)) for name in _turns(job, stage)]
    found = []
    for name, state, activations in turns:
        weights = _on_device(nets, name, where) + _staying(job, where, nets, stage, name)
        parked = _on_host(nets, where) + (_parked(job) if stage == "decode" else 0)
        if not where.on_gpu:
            found.append(
                Footprint(
                    context=TORCH_ON_HOST, weights=weights + parked, block=_largest(nets),
                    state=state, activations=activations,
                )
            )  # fmt: skip
            continue
        found.append(
            Footprint(
                context=CUDA_CONTEXT + _KERNELS, weights=weights, block=_largest(nets), state=state,
                activations=activations,
                workspace=_workspace(job, name, weights, state + activations),
                beside=CUDA_ON_HOST + _LIBRARIES + _leaving(job), parked=parked,
            )
        )  # fmt: skip
    return max(found, key=lambda x: x.total)


def _workspace(job: Job, name: str, weights: int, passing: int) -> int:
    """Beside weights, state and activations."""
    if name == "vae":
        holes = _VAE_HOLES if job.tiles is None else _HOLES
        return _VAE_WORKSPACE + int(_HOLES * weights + holes * passing)
    eight = {
        "text": job.text_matrices, "image": job.image_matrices, "transformer": job.matrices,
    }  # fmt: skip
    more = _EIGHT_BITS if eight.get(name) else 0
    return _WORKSPACE + more + int(_HOLES * (weights + passing))


def _turns(job: Job, stage: Stage) -> tuple[str, ...]:
    """Parts that work in a stage, in order."""
    return {
        "text": ("text",),
        "image": ("image",),
        "encode": ("vae",),
        "denoise": ("conditioner", "transformer"),
        "decode": (job.decoder,),
    }[stage]


# --- weights -------------------------------------------------------------------------------------


def _largest(nets: dict[str, Part]) -> int:
    return max(part.slab for part in nets.values())


def _on_device(nets: dict[str, Part], name: str, where: Where) -> int:
    if where.offload == "resident":
        return sum(up(size, _GRAIN) for part in nets.values() for size in part.tensors)
    part = nets[name]
    if where.offload == "swap" or not part.blocks:
        return sum(layout(part.tensors).used)
    return where.partition_of(part).device_bytes(
        part.slab, run(part.rest), phase=max(part.phases, default=None)
    )


def _staying(job: Job, where: Where, nets: dict[str, Part], stage: Stage, name: str) -> int:
    """Of parts whose turn was before, and which did not leave."""
    if where.offload == "resident":
        return 0
    before = stages(job)[: stages(job).index(stage)]
    names = {turn for earlier in before for turn in _turns(job, earlier)} & set(where.stay)
    return sum(_on_device(nets, other, where) for other in names - {name})


def _on_host(nets: dict[str, Part], where: Where) -> int:
    """Page-locked: all parts, so that each may have its turn again."""
    if where.offload == "resident":
        return 0
    locked = 0
    for part in nets.values():
        if where.offload == "swap" or not part.blocks:
            laid = layout(part.tensors)
            locked += laid.locked if where.on_gpu else sum(laid.used)
            continue
        there = where.partition_of(part)
        disk = where.offload == "disk" and part.stored
        locked += there.host_bytes(part.slab, run(part.rest), keeps=not disk)
        if disk and there.device:
            locked += part.slab  # through which the device's own are read
    return locked


# --- passes: state and activations ---------------------------------------------------------------


def _pass(job: Job, where: Where, stage: Stage, name: str) -> tuple[int, int]:
    match stage:
        case "text":
            return _text(job)
        case "image":
            return _image(job)
        case "encode":
            return _encode(job)
        case "denoise":
            return _conditioner(job) if name == "conditioner" else _transformer(job, where)
        case "decode":
            return _decode(job)


def _text(job: Job) -> tuple[int, int]:
    found = umt5_needs.activations(job.text, job.text_tokens, job.text_dtype)
    return 0, found + _remade(job.text_matrices, job.text_tokens, job.text.ffn_dim, job.text_dtype)


def _image(job: Job) -> tuple[int, int]:
    """Beside the image as given, enlarged to CLIP's size and normed."""
    image, dtype = job.image, job.image_dtype
    remade = _remade(job.image_matrices, image.tokens, image.ffn_dim, dtype)
    enlarged = 4 * 3 * image.image**2 * 4
    return _given_image(job), clip_vision_needs.activations(image, dtype) + enlarged + remade


def _encode(job: Job) -> tuple[int, int]:
    """Beside the image and latents, of which there are three copies at last. Tiles wait here."""
    frames, height, width = job.latents
    tiles = job.tiles and Tiles(size=job.tiles.size, stride=job.tiles.stride)
    state, activations = _vae(job, "encode", tiles, job.frames)
    made = (2 * CHANNELS + CHANNELS + _MASK) * frames * height * width * VALUE_BYTES["float32"]
    return state + _given_image(job) + made, activations


def _conditioner(job: Job) -> tuple[int, int]:
    """What it gives, beside a prompt as it comes and filled up, and the widest of its own layers:
    a text's first, or an image's last, which is normed in float32 before anything is given."""
    config, e = job.config, VALUE_BYTES[job.dtype]
    given = job.branches * needs.given(config, job.dtype, job.steps)
    casts = 1 + (job.text_dtype != job.dtype)
    texts = config.text_length * config.text_dim * (VALUE_BYTES[job.text_dtype] + casts * e)
    tokens, image = sizes.image_tokens(config), config.image_dim or 0
    layer = tokens * ((8 + e) * config.dim + e * image)
    widest = max(config.text_length * config.dim * e, layer - needs.given(config, job.dtype, 0))
    return given + tokens * image * VALUE_BYTES["float32"], texts + widest


def _transformer(job: Job, where: Where) -> tuple[int, int]:
    """Latents, what the sampler remembers, and what an image adds, beside a pass."""
    config, branches = job.config, job.branches
    latent = prod(job.latents) * VALUE_BYTES["float32"]
    channels = (1 + _REMEMBERED) * config.leave
    channels += 2 * config.enter - config.leave if job.seen else 0
    at_once = branches if where.together else 1
    channels += config.leave * (branches - at_once)  # the first branch's prediction
    state = channels * latent + needs.given(config, job.dtype, job.steps) * branches
    activations = needs.activations(
        config, job.tokens, job.dtype, chunk_tokens=job.chunk_tokens,
        query_tokens=job.query_tokens, samples=at_once,
    )  # fmt: skip
    rows = min(job.chunk_tokens or job.tokens, job.tokens)
    widest = max(config.dim, config.ffn_dim)
    return state, activations + _remade(job.matrices, rows, widest, job.dtype)


def _decode(job: Job) -> tuple[int, int]:
    frames, height, width = job.latents
    given = 2 * CHANNELS * height * width * VALUE_BYTES["float32"]
    # four frames as they leave, one in float32 that still has a name in `Leaving`
    leaving = 3 * height * width * CELL**2 * (4 * (1 if job.bits <= 8 else 2) + 4)
    if job.decoder == "taehv":
        need = taehv_needs.decoding(job.taehv, height, width, job.vae_dtype, latents=frames)
        return need.state, need.activations + given + leaving
    state, activations = _vae(job, "decode", job.tiles, frames)
    return state, activations + given + leaving


def _vae(job: Job, half: vae_needs.Half, tiles: Tiles | None, steps: int) -> tuple[int, int]:
    size = job.latents[1:]
    if tiles is None:
        need = vae_needs.need(job.vae, half, size, job.vae_dtype, steps=steps)
    else:
        need = vae_needs.tiled(job.vae, half, size, job.vae_dtype, tiles, steps=steps)
    return need.state, need.activations


def _given_image(job: Job) -> int:
    """In float32, and as it was read."""
    return prod(job.size) * 3 * (VALUE_BYTES["float32"] + 2)


def _remade(matrices: str | None, rows: int, widest: int, dtype: str) -> int:
    """Some rows of an 8-bit matrix made wider, for float16 in float32 with and without their
    scales, and what they make of `rows` tokens."""
    if matrices is None or VALUE_BYTES[matrices] > 1:
        return 0
    made, wide = VALUE_BYTES[dtype], 2 * 4 if dtype == "float16" else VALUE_BYTES[dtype]
    return min(_REMADE, widest) * (widest * wide + rows * made)


# --- on the host ---------------------------------------------------------------------------------


def _parked(job: Job) -> int:
    """Histories of tiles that wait on the host while a film is decoded."""
    if job.tiles is None or not job.tiles.parked or job.decoder != "vae":
        return 0
    frames, height, width = job.latents
    return vae_needs.waiting(
        job.vae, "decode", (height, width), job.vae_dtype, job.tiles, steps=frames
    )


def _leaving(job: Job) -> int:
    """Frames of two latents on their way, page-locked; the film's latents, a step's checkpoint."""
    frames = power(4 * 3 * prod(job.size) * (1 if job.bits <= 8 else 2))
    latents = CHANNELS * prod(job.latents) * VALUE_BYTES["float32"]
    return 2 * frames + (2 + _REMEMBERED) * latents
