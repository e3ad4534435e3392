"""A film of Wan 2.1 as sizes: what is asked, where bytes lie, which parts and stages there are. No
torch here: `_wan_memory.py` makes bytes of it, `_wan_time.py` seconds.

    text     umT5 reads the prompt
    image    CLIP sees the image                             only models that take one
    encode   the VAE makes latents of image and film         the same
    denoise  the conditioner once, the transformer at every step
    decode   the VAE or TAEHV, latent by latent
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod
from typing import Final, Literal

from longtake.core.blocks import ALIGNED, PAGE, VALUE_BYTES, up
from longtake.core.errors import Usage
from longtake.generators._wan_grid import PATCH, latent_frames, latent_size
from longtake.nets import clip_vision_needs, taehv_needs, umt5_needs
from longtake.nets.wan import sizes, vae_needs
from longtake.nets.wan.sizes import DiTConfig, Shape, Table
from longtake.nets.wan.vae_needs import Tiles
from longtake.offload._partition import Granularity, Partition, partition
from longtake.offload._phases import Declared, in_phase

Stage = Literal["text", "image", "encode", "denoise", "decode"]
Strategy = Literal["resident", "swap", "ring", "disk"]
CHUNK_TOKENS: Final = 2048
"""Tokens at a time through a transformer of 5,120 channels: 5.1 times the bytes of all tokens at
its peak."""
TEXT_TOKENS: Final = 512
"""Of the longest prompt."""


def chunk_tokens(config: DiTConfig) -> int:
    """Tokens at a time through the transformer, a part of the recipe: as many as have the values of
    CHUNK_TOKENS in the largest one, so that matrix products of a narrow one are large, too."""
    return max(CHUNK_TOKENS * sizes.T2V_14B.dim // config.dim // 256, 1) * 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What decides the film, as far as bytes and seconds depend on it."""

    config: DiTConfig
    frames: int
    """1 + 4 n."""
    size: tuple[int, int]
    """(width, height), px."""
    guided: bool = True
    """Whether what is unwanted is evaluated, too."""
    steps: int = 30
    chunk_tokens: int | None = CHUNK_TOKENS
    query_tokens: int | None = None
    dtype: str = "bfloat16"
    """Of the transformer, but for what is always float32."""
    matrices: str | None = None
    """"int8" or "float8_e4m3fn": of the transformer's blocks."""
    text_dtype: str = "bfloat16"
    text_matrices: str | None = None
    stored: frozenset[str] = frozenset({"transformer"})
    """Of "transformer" and "text" those that may be read from block files."""
    image_dtype: str = "float16"
    image_matrices: str | None = None
    vae_dtype: str = "float32"
    """Of TAEHV, too."""
    decoder: Literal["vae", "taehv"] = "vae"
    tiles: Tiles | None = None
    """Of the VAE; None: whole frames."""
    bits: int = 8
    """Of a component of a frame."""
    text_tokens: int = TEXT_TOKENS
    text: umt5_needs.UmT5Config = umt5_needs.XXL
    image: clip_vision_needs.ClipConfig = clip_vision_needs.VIT_H
    vae: vae_needs.Sizes = vae_needs.WAN_2_1
    taehv: taehv_needs.TaehvConfig = taehv_needs.TAEW2_1

    def __post_init__(self) -> None:
        if self.decoder == "taehv" and self.tiles is not None and not self.seen:
            raise Usage("TAEHV is small enough for whole frames: it takes no tiles.")

    @property
    def latents(self) -> tuple[int, int, int]:
        """Frames, rows and columns. Raises Usage where there is no such film."""
        width, height = latent_size(self.size)
        return latent_frames(self.frames), height, width

    @property
    def tokens(self) -> int:
        return prod(self.latents) // PATCH**2

    @property
    def seen(self) -> bool:
        """Whether the model takes an image."""
        return self.config.enter > self.config.leave

    @property
    def branches(self) -> int:
        return 2 if self.guided else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Where bytes lie and when; it decides no pixel. Numbers as those of offload/ring and disk."""

    offload: Strategy = "resident"
    resident_blocks: int = 0
    host_blocks: int = 0
    """Of a disk's others."""
    slots: int = 2
    read_ahead: int = 3
    together: bool = True
    """Both branches of guidance go through a block while it is there."""
    stay: tuple[str, ...] = ()
    """Of "text" and "image" those that do not leave the device when their turn is over."""
    bandwidth: float = 1.0
    """Of what copies and reads could take of bus and disk."""
    granularity: Granularity = "block"
    """What comes to the device at a time."""
    on_gpu: bool = True

    def partition(self, blocks: int, *, stored: bool = True, phases: int = 1) -> Partition:
        """Of a part's blocks; `stored`: they lie on the disk as well; `phases`: that a block has.
        Raises Usage."""
        if self.offload in ("resident", "swap"):
            return partition(blocks, resident=blocks)
        host = self.host_blocks if self.offload == "disk" and stored else None
        return partition(
            blocks, resident=self.resident_blocks, host=host, slots=self.slots,
            read_ahead=self.read_ahead if self.offload == "disk" else 2,
            phases=phases if self.granularity == "phase" else 1,
        )  # fmt: skip

    def partition_of(self, part: Part) -> Partition:
        return self.partition(part.blocks, stored=part.stored, phases=len(part.phases))


def stages(job: Job) -> tuple[Stage, ...]:
    """In the order of work."""
    seen: tuple[Stage, ...] = ("encode",) if job.seen else ()
    if job.config.image_dim is not None:
        seen = ("image", *seen)
    return ("text", *seen, "denoise", "decode")


# --- parts ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Bytes of a net's tensors."""

    rest: tuple[int, ...]
    """All but those of blocks that may be streamed."""
    block: tuple[int, ...] = ()
    blocks: int = 0
    stored: bool = False
    """Whether block files are made of it."""
    phases: tuple[int, ...] = ()
    """Bytes of each phase of a block, in a slot."""

    @property
    def tensors(self) -> list[int]:
        return [*self.rest, *self.blocks * self.block]

    @property
    def slab(self) -> int:
        """Of a block as a run of bytes, as `core.blocks` lays it out."""
        return run(self.block)


def run(tensors: tuple[int, ...]) -> int:
    """Bytes of tensors one behind the other, to the page."""
    return up(sum(up(size, ALIGNED) for size in tensors), PAGE)


def _phases(
    table: Table, declared: Declared, sized: Callable[[Table], Iterable[int]]
) -> tuple[int, ...]:
    """`sized`: bytes of the tensors of a table."""
    found = []
    for names in declared.values():
        inside = {key: shape for key, shape in table.items() if in_phase(key, names)}
        found.append(sum(up(size, ALIGNED) for size in sized(inside)))
    return tuple(found)


def parts(job: Job) -> dict[str, Part]:
    """The nets by name, as `_wan_load.load` makes them of all files that the job needs."""
    config, rest = job.config, sizes.rest_tensors(job.config)
    found = {
        "text": Part(
            rest=_bytes(umt5_needs.kept_tensors(job.text), job.text_dtype),
            block=tuple(umt5_needs.block_sizes(job.text, job.text_dtype, job.text_matrices)),
            blocks=job.text.layers,
            stored="text" in job.stored,
            phases=_phases(
                umt5_needs.block_tensors(job.text),
                umt5_needs.PHASES,
                lambda table: umt5_needs.table_sizes(table, job.text_dtype, job.text_matrices),
            ),
        ),
        "conditioner": Part(rest=_of_dit(rest, job.dtype)),
        "transformer": Part(
            rest=_of_dit({k: s for k, s in rest.items() if not sizes.once(k)}, job.dtype),
            block=_of_dit(sizes.block_tensors(config), job.dtype, job.matrices),
            blocks=config.layers,
            stored="transformer" in job.stored,
            phases=_phases(
                sizes.block_tensors(config),
                sizes.PHASES,
                lambda table: _of_dit(table, job.dtype, job.matrices),
            ),
        ),
    }
    if config.image_dim is not None:
        seen = clip_vision_needs.tensor_sizes(job.image, job.image_dtype, job.image_matrices)
        found["image"] = Part(rest=tuple(seen))
    if job.seen or job.decoder == "vae":
        found["vae"] = Part(
            rest=_bytes(vae_needs.tensors(job.vae, encoder=job.seen), job.vae_dtype)
        )
    if job.decoder == "taehv":
        found["taehv"] = Part(rest=_bytes(taehv_needs.tensors(job.taehv), job.vae_dtype))
    return found


def _bytes(table: dict[str, Shape], dtype: str) -> tuple[int, ...]:
    return tuple(prod(shape) * VALUE_BYTES[dtype] for shape in table.values())


def _of_dit(table: dict[str, Shape], dtype: str, matrices: str | None = None) -> tuple[int, ...]:
    """With the scales of 8-bit matrices."""
    found = []
    for key, shape in table.items():
        inside = matrices is not None and sizes.matrix(key, shape)
        kept = "float32" if sizes.exact(key) else dtype
        width = VALUE_BYTES[matrices if inside and matrices else kept]
        found.append(prod(shape) * width)
        if inside and width == 1:
            found.append(shape[0] * VALUE_BYTES["float32"])
    return tuple(found)
