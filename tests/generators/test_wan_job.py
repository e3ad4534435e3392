"""A film as sizes: parts are those that are loaded, byte for byte."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import pytest
import torch
from torch import nn

from longtake.core.errors import Usage
from longtake.generators._wan_job import Job, Part, Where, parts, run, stages
from longtake.nets import umt5_needs
from longtake.nets.clip_vision import ClipVision
from longtake.nets.clip_vision_needs import BLOCKS, ClipConfig
from longtake.nets.clip_vision_needs import matrix as clip_matrix
from longtake.nets.linear import kinds_of, quantized
from longtake.nets.taehv import Taehv
from longtake.nets.taehv_needs import TaehvConfig
from longtake.nets.umt5 import StoredRows, UmT5
from longtake.nets.umt5_needs import UmT5Config
from longtake.nets.wan import needs, sizes
from longtake.nets.wan.dit import DiT
from longtake.nets.wan.sizes import DiTConfig
from longtake.nets.wan.vae import VaeConfig, WanVae
from longtake.nets.wan.vae_needs import Tiles
from longtake.offload._flat import flat, tensors_of

GIB = 1 << 30
TEXT = umt5_needs.UmT5Config(layers=2)
FILM = Job(config=replace(sizes.T2V_1_3B, layers=2), frames=81, size=(832, 480), text=TEXT)
SEEN = replace(FILM, config=replace(sizes.I2V_14B, layers=2), decoder="taehv", vae_dtype="bfloat16")


def built(job: Job) -> dict[str, nn.Module]:
    """The nets on meta, as `_wan_load` makes them."""
    config = job.config

    def dit(of: DiTConfig) -> DiT:
        net = DiT(of)
        for key, tensor in net.named_parameters():
            if not sizes.exact(key):
                tensor.data = tensor.data.to(getattr(torch, job.dtype))
        return net

    with torch.device("meta"):
        nets: dict[str, nn.Module] = {
            "text": UmT5(UmT5Config(layers=job.text.layers)).to(getattr(torch, job.text_dtype)),
            "conditioner": dit(replace(config, layers=0)),
            "transformer": dit(config),
            "vae": WanVae(VaeConfig(encoder=job.seen)).to(getattr(torch, job.vae_dtype)),
        }
        nets["transformer"].release()  # type: ignore[operator]
        nets["text"].token_embedding = StoredRows(lambda ids: ids)  # in its file
        if config.image_dim is not None:
            nets["image"] = ClipVision(ClipConfig()).to(getattr(torch, job.image_dtype))
        if job.decoder == "taehv":
            tiny = Taehv(TaehvConfig())
            nets["taehv"] = tiny.to(getattr(torch, job.vae_dtype))
    return nets


def checked(part: Part, net: nn.Module) -> None:
    """Tensors, and how a ring lays them out."""
    own = tensors_of(net)
    assert sorted(part.tensors) == sorted(x.nbytes for x in own.values())
    inside = {k: x for k, x in own.items() if k.startswith("blocks.")}
    rest = flat({k: x for k, x in own.items() if k not in inside})
    if part.blocks:
        assert run(part.rest) == rest.slab.bytes
        assert part.slab == flat(tensors_of(net.get_submodule("blocks.0"))).slab.bytes
        assert part.blocks == len(net.get_submodule("blocks"))  # type: ignore[arg-type]
    else:
        assert not inside


@pytest.mark.parametrize("job", [FILM, SEEN], ids=["text", "image"])
def test_parts_are_the_nets_that_are_loaded(job: Job) -> None:
    nets, found = built(job), parts(job)
    assert found.keys() == nets.keys()
    for name, part in found.items():
        checked(part, nets[name])


@pytest.mark.parametrize("kind", ["int8", "float8_e4m3fn"])
def test_parts_in_8_bits_are_the_nets_with_such_layers(kind: str) -> None:
    job = replace(SEEN, matrices=kind, text_matrices=kind, image_matrices=kind)
    nets, found = built(job), parts(job)
    clip = {key: x for key, x in tensors_of(nets["image"]).items() if key.startswith(BLOCKS)}
    named = [
        (key, kind) for key, x in clip.items()
        if clip_matrix(key.removeprefix(BLOCKS).split(".", 1)[1], tuple(x.shape))
    ]  # fmt: skip
    assert len(named) == 31 * 4
    quantized(nets["image"], kinds_of(named))
    checked(found["image"], nets["image"])
    for name, shape_is_matrix in (("transformer", sizes.matrix), ("text", umt5_needs.matrix)):
        inside = {key: x for key, x in tensors_of(nets[name]).items() if key.startswith("blocks.")}
        named = [
            (key, kind) for key, x in inside.items()
            if shape_is_matrix(key.split(".", 2)[2], tuple(x.shape))
        ]  # fmt: skip
        quantized(nets[name], kinds_of(named))
        checked(found[name], nets[name])


@pytest.mark.parametrize(
    ("config", "values", "half", "eight"),
    [
        (sizes.T2V_1_3B, 1.419, 2.64, 1.35),
        (sizes.T2V_14B, 14.288, 26.61, 13.52),
        (sizes.I2V_14B, 16.395, 30.54, 15.49),
        (DiTConfig(dim=3072, heads=24, ffn_dim=14336, enter=48, leave=48), 5.000, 9.31, 4.74),
    ],
)
def test_sizes_of_published_models(config: DiTConfig, values: float, half: float, eight: float):
    """Billions of values, GiB in bfloat16, GiB with the matrices of blocks in 8 bits; without what
    is kept in float32 for exactness, as the table this is from counts."""
    count = sum(map(prod, sizes.tensors(config).values()))
    blocks = config.layers * sum(
        prod(shape)
        for key, shape in sizes.block_tensors(config).items()
        if sizes.matrix(key, shape)
    )
    assert round(count / 1e9, 3) == values
    assert round(2 * count / GIB, 2) == half
    assert (2 * count - blocks) / GIB == pytest.approx(eight, abs=0.03)
    job = Job(config=config, frames=81, size=(832, 480))
    ours = sum(sum(parts(job)[name].tensors) for name in ("conditioner", "transformer"))
    ends = needs.weights(config, "bfloat16").ends  # both have them
    assert half * 0.999 < (ours - ends) / GIB < half * 1.02


def test_stages_are_those_of_the_model() -> None:
    assert stages(FILM) == ("text", "denoise", "decode")
    assert stages(SEEN) == ("text", "image", "encode", "denoise", "decode")
    assert stages(replace(SEEN, config=replace(SEEN.config, image_dim=None))) == (
        "text", "encode", "denoise", "decode",
    )  # fmt: skip


def test_latents_and_tokens() -> None:
    assert FILM.latents == (21, 60, 104)
    assert FILM.tokens == 32760
    assert replace(FILM, size=(1280, 720)).tokens == 75600


@pytest.mark.parametrize("job", [replace(FILM, frames=80), replace(FILM, size=(830, 480))])
def test_films_that_there_are_not(job: Job) -> None:
    with pytest.raises(Usage, match=r"\d"):
        _ = job.latents


def test_tiles_are_the_vae_s() -> None:
    with pytest.raises(Usage, match="whole frames"):
        replace(FILM, decoder="taehv", tiles=Tiles())
    assert replace(SEEN, tiles=Tiles()).tiles  # its encoder is the VAE's


def test_where_the_blocks_lie() -> None:
    assert Where().partition(40).device == tuple(range(40))
    assert Where(offload="swap").partition(40).device == tuple(range(40))
    ring = Where(offload="ring", resident_blocks=10).partition(40)
    assert (len(ring.device), len(ring.host), ring.slots) == (10, 30, 2)
    where = Where(offload="disk", resident_blocks=10, host_blocks=12)
    disk = where.partition(40)
    assert (len(disk.host), len(disk.disk), disk.read_ahead) == (12, 18, 3)
    assert where.partition(40, stored=False).disk == ()
    with pytest.raises(Usage, match="slots"):
        Where(offload="ring", slots=7).partition(40)
