"""Wan 2.1: films from words, and from a picture, with the official weights.

https://arxiv.org/abs/2503.20314, github.com/Wan-Video/Wan2.1. One run of the sampler makes a whole
film; how far it is, is kept after every step, so that a film that was interrupted goes on from
there to the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from longtake.core.errors import Usage, WeightsMissing
from longtake.core.knobs import knob
from longtake.core.machine import Machine
from longtake.core.media import Knobs
from longtake.core.plan import Footprint, Geometry, Outlook, Placement, Plan, Recipe, Script
from longtake.core.ports import Grid, Made, Offload, Preset
from longtake.engines._torch import auto_dtype, closed
from longtake.generators import _wan_files as stored
from longtake.generators import _wan_memory as memory
from longtake.generators import _wan_time as times
from longtake.generators._wan_grid import CELL, PATCH, STEP, latent_frames, latent_size
from longtake.generators._wan_job import Job, Strategy, Where, chunk_tokens
from longtake.generators._wan_outlook import outlook
from longtake.generators._wan_presets import PRESETS
from longtake.generators._wan_prompt import Tokenizer
from longtake.nets.wan.vae_needs import Tiles
from longtake.weights.block_manifest import Description

if TYPE_CHECKING:
    from longtake.generators._wan_film import WanFilm

RATE: Final = Fraction(16)
"""Frames/s of all models."""
_CELL: Final = CELL * PATCH
_FEW: Final = 8  # steps; a distilled model is made for 4
# Host memory for words, measured: the library; bytes for each byte of its file (256,384 tokens)
_WORDS: Final = 24 << 20
_TOKENIZER: Final = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class WanKnobs:
    model: str = knob("t2v-1.3b", "which weights", choices=tuple(stored.MODELS))
    size: str = knob(
        "832x480", "px, multiples of 16; with a picture: as many px in the picture's own shape"
    )
    frames: int = knob(81, "4 n + 1, at 16 frames/s", least=1, most=241)
    steps: int = knob(30, "of the sampler", least=1, most=1000)
    guidance: float = knob(
        6.0, "how far from what is unwanted; 1: not at all, in half the time", least=1, most=30
    )
    shift: float = knob(5.0, "of the noise levels; 3 for 480p with a picture", least=0.1, most=100)
    sampler: str = knob(
        "unipc", "unipc is the official one", choices=("unipc", "ddim", "euler", "sa_ode_stable")
    )
    dtype: str = knob(
        "auto",
        "of the transformer; auto: bfloat16 where the processor has it, else float32",
        choices=("auto", "bfloat16", "float32"),
    )
    text_dtype: str = knob("bfloat16", "of the text encoder", choices=("bfloat16", "float32"))
    vae_dtype: str = knob(
        "float32", "of the decoder; bfloat16: half the memory", choices=("float32", "bfloat16")
    )
    decoder: str = knob(
        "vae", "taehv: small and quick, other pictures; needs `longtake weights pull taew-2.1`",
        choices=("vae", "taehv"),
    )  # fmt: skip
    tile: int = knob(
        0, "longest side of the decoder's tiles, px; 0: pictures stay whole", least=0, most=8192
    )
    raw_fp8: bool = knob(
        False, "take fp8 files without scales, whose small weights have lost most digits"
    )
    folder: str = knob("", 'where the weights lie; "": where `weights pull` puts them', local=True)


class Wan:
    about = "Wan 2.1, text and picture to video; for a GPU; needs `longtake weights pull wan-...`"
    knobs = WanKnobs
    devices: tuple[str, ...] = ("cuda", "cpu")
    presets: tuple[Preset, ...] = PRESETS

    def grid(self, knobs: Knobs) -> Grid:
        """A disk helps where a net lies in block files."""
        sizes = stored.sizes(knobs)
        ways = ("resident", "swap", "ring", *(("disk",) if sizes.stored else ()))
        return Grid(
            segment_frames=int(knobs["frames"]), steps=(STEP,),
            placements=tuple((way, "device") for way in ways),
            blocks=max(sizes.transformer.layers, sizes.text.layers), phases=True,
            encoders=("text", *(("image",) if stored.takes_image(knobs) else ())),
        )  # fmt: skip

    def weights(self, knobs: Knobs) -> tuple[Path, ...]:
        found = stored.find(knobs)
        return tuple(path for role in sorted(found) for path in found[role])

    def decide(self, knobs: Knobs, machine: Machine, device: str) -> tuple[Knobs, tuple[str, ...]]:
        """Raises Usage."""
        del machine, device
        if 0 < int(knobs["tile"]) < 2 * _CELL:
            raise Usage(f"tile={knobs['tile']}: a tile is at least {2 * _CELL} px wide.")
        made_for = str(knobs["model"]).endswith(stored.DISTILLED)
        if made_for and (float(knobs["guidance"]) > 1 or int(knobs["steps"]) > _FEW):
            return knobs, (
                f"model={knobs['model']} was made for 4 steps without guidance: take the preset "
                f"distilled-4step.",
            )
        return knobs, ()

    def leaner(self, knobs: Knobs, geometry: Geometry) -> Iterable[Knobs]:
        """The decoder in bfloat16 changes little; tiles do not see each other; fewer frames are
        another film."""
        change: Knobs = {}
        tiny = knobs["decoder"] == "taehv"
        if knobs["vae_dtype"] != "bfloat16":
            change = {"vae_dtype": "bfloat16"}
            yield change
        for side in () if tiny else (512, 256):
            if max(geometry.target) > side and not 0 < int(knobs["tile"]) <= side:
                change = {**change, "tile": side}
                yield change
        for frames in (49, 33, 17):
            if frames < int(knobs["frames"]):
                yield {**change, "frames": frames}

    def dtype(self, machine: Machine, device: str, knobs: Knobs) -> str:
        """Block files are used as they are. Raises Usage where they are not as asked for."""
        text = _blocks(knobs, "text")
        if text is not None and knobs["text_dtype"] != stored.stored_dtype(text):
            raise Usage(
                f"text_dtype={knobs['text_dtype']}: the text encoder's block files hold "
                f"{stored.stored_dtype(text)}."
            )
        written = _blocks(knobs)
        if written is not None:
            kept = stored.stored_dtype(written)
            if knobs["dtype"] not in ("auto", kept):
                raise Usage(f"dtype={knobs['dtype']}: the block files hold {kept}.")
            return kept
        found = auto_dtype(machine, device, knobs)
        return "float32" if found == "float16" else found  # too narrow for these nets

    def film(self, knobs: Knobs, script: Script) -> Made:
        """Raises Usage."""
        frames = int(knobs["frames"])
        latent_frames(frames)
        wanted = _size(str(knobs["size"]))
        latent_size(wanted)
        if stored.takes_image(knobs) != (script.image is not None):
            lacks = "needs a picture: --image FILE, or the `asset` of a job of the service"
            if script.image is not None:
                lacks = "takes no picture"
            raise Usage(f"model={knobs['model']} {lacks}.")
        size = wanted if script.image is None else _as_shaped(wanted, script.image)
        return Made(frames=frames, size=size, rate=RATE, notes=_cut_short(knobs, script))

    def footprint(self, geometry: Geometry, recipe: Recipe, placement: Placement) -> Footprint:
        sizes = stored.sizes(recipe.knobs)
        found = memory.footprint(_job(geometry, recipe, sizes), _where(placement))
        words = _words(sizes)
        if placement.devices[0].startswith("cuda"):
            return replace(found, beside=found.beside + words)
        return replace(found, context=found.context + words)

    def outlook(self, plan: Plan, machine: Machine) -> Outlook:
        sizes = stored.sizes(plan.recipe.knobs)
        job, where = _job(plan.geometry, plan.recipe, sizes), _where(plan.placement)
        rates = times.rates_of(machine, plan.placement.devices[0])
        return outlook(job, where, rates, plan.memory.host.total + _words(sizes))

    @contextmanager
    def open(self, plan: Plan, device: str, offload: Offload) -> Iterator[WanFilm]:
        import torch

        from longtake.generators._wan_film import WanFilm, dtypes, words
        from longtake.generators._wan_load import close, load

        where = "cpu" if device.startswith("cpu") else device
        torch.set_num_threads(plan.placement.threads)
        torch.backends.cudnn.allow_tf32 = False
        found = stored.find(plan.recipe.knobs)
        prompts = words(plan, found)
        streamed = plan.placement.offload == "disk"
        if prompts.known and (not streamed or stored.blocks(found)):
            del found["text"]  # it has nothing to do, and is not all that streams
        raw = bool(plan.recipe.knobs["raw_fp8"])
        parts = load(found, dtypes(plan), offload.home(where), streamed=streamed, raw=raw)
        try:
            with offload.attach(parts, where) as attached:
                yield WanFilm(
                    plan=plan, parts=cast(Any, attached), words=prompts, device=torch.device(where),
                    tiles=_tiles(plan.recipe.knobs, plan.geometry.target),
                )  # fmt: skip
        finally:
            close(parts)
            closed(parts, where)


def _words(sizes: stored.Sizes) -> int:
    """Bytes on the host for words."""
    return _WORDS + _TOKENIZER * sizes.tokenizer


def _job(geometry: Geometry, recipe: Recipe, sizes: stored.Sizes) -> Job:
    knobs = recipe.knobs
    return Job(
        config=sizes.transformer, frames=geometry.frames, size=geometry.target,
        guided=float(knobs["guidance"]) > 1, steps=int(knobs["steps"]),
        chunk_tokens=chunk_tokens(sizes.transformer), dtype=recipe.numerics.dtype,
        matrices=sizes.matrices,
        text_dtype=str(knobs["text_dtype"]), text_matrices=sizes.text_matrices,
        image_dtype="float32" if recipe.numerics.device == "cpu" else "float16",
        image_matrices=sizes.image_matrices,
        vae_dtype=str(knobs["vae_dtype"]), stored=sizes.stored,
        decoder="taehv" if knobs["decoder"] == "taehv" else "vae",
        tiles=_tiles(knobs, geometry.target), bits=recipe.output.bits,
        text=sizes.text, image=sizes.image, vae=sizes.vae, taehv=sizes.taehv,
    )  # fmt: skip


def _cut_short(knobs: Knobs, script: Script) -> tuple[str, ...]:
    """Whether a prompt is longer than the model reads, where its tokens are known."""
    try:
        tokenizer = Tokenizer(stored.tokenizer(stored.find(knobs)))
    except WeightsMissing:
        return ()
    said = (tokenizer.encode(text).notice() for text in (script.prompt, script.negative))
    return tuple(f"{words[0].upper()}{words[1:]}." for words in said if words)


def _blocks(knobs: Knobs, role: str = "transformer") -> Description | None:
    """What the block files of a role hold, where there are such."""
    return stored.blocks(stored.there(knobs), role)


def _where(placement: Placement) -> Where:
    leave = {"text": placement.offload_text, "image": placement.offload_image}
    return Where(
        offload=cast(Strategy, placement.offload), resident_blocks=placement.resident_blocks,
        host_blocks=placement.host_blocks, slots=placement.slots, read_ahead=placement.read_ahead,
        stay=tuple(name for name, leaves in leave.items() if not leaves),
        bandwidth=placement.bandwidth, granularity=placement.granularity,
        on_gpu=placement.devices[0].startswith("cuda"),
    )  # fmt: skip


def _tiles(knobs: Knobs, size: tuple[int, int]) -> Tiles | None:
    """In latent px, a quarter of a tile shared with the next, as in the diffusers library; None
    where pictures stay whole. What tiles remember waits on the host: together it is more than that
    of a whole picture."""
    side = int(knobs["tile"])
    whole = knobs["decoder"] == "taehv" and not stored.takes_image(knobs)  # nothing for the VAE
    if whole or not 0 < side < max(size):
        return None
    width, height = (min(side, length) // CELL for length in size)
    return Tiles(
        size=(height, width), stride=(max(height * 3 // 4, 1), max(width * 3 // 4, 1)), parked=True
    )


def _size(text: str) -> tuple[int, int]:
    width, x, height = text.partition("x")
    if not x or not (width.isascii() and width.isdigit() and height.isascii() and height.isdigit()):
        raise Usage(f"size={text}: give WIDTHxHEIGHT in px, such as 832x480.")
    return int(width), int(height)


def _as_shaped(size: tuple[int, int], image: tuple[int, int]) -> tuple[int, int]:
    """As many px as `size` has, in the shape of an image, in whole tokens.

    Source: wan/image2video.py of https://github.com/Wan-Video/Wan2.1 (`max_area`).
    """
    area, aspect = size[0] * size[1], image[1] / image[0]
    height = max(round((area * aspect) ** 0.5) // _CELL, 1) * _CELL
    width = max(round((area / aspect) ** 0.5) // _CELL, 1) * _CELL
    return width, height


plugin = Wan()
