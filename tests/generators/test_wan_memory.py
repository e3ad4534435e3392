"""Predicted bytes are those of the engine's own steps, counted on meta tensors, and of the real
strategies."""

from __future__ import annotations

import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from longtake.core.plan import Footprint
from longtake.core.plugins import find
from longtake.engines._parts import Parts
from longtake.engines._pixels import Leaving
from longtake.generators import _wan_decode, _wan_image, _wan_memory, _wan_stream
from longtake.generators._wan_decode import Decoding
from longtake.generators._wan_job import Job, Stage, Where, parts, stages
from longtake.generators._wan_memory import footprint, of_stage
from longtake.generators._wan_stream import Conditions, prepare, sampling
from longtake.nets import umt5_needs
from longtake.nets.samplers import State
from longtake.nets.taehv import Taehv
from longtake.nets.taehv_needs import TaehvConfig
from longtake.nets.umt5 import StoredRows, UmT5
from longtake.nets.umt5_needs import UmT5Config
from longtake.nets.wan import needs, sizes, vae_needs
from longtake.nets.wan.block import Given, Moment, Settings
from longtake.nets.wan.causal import arrange
from longtake.nets.wan.dit import DiT
from longtake.nets.wan.sizes import T2V_1_3B, T2V_14B
from longtake.nets.wan.tiles import Tiling
from longtake.nets.wan.vae import VaeConfig, WanVae
from longtake.nets.wan.vae_needs import Tiles
from longtake.offload import _copies
from longtake.offload._host import Host
from longtake.offload._partition import partition
from tests.engines.meta_trace import peak
from tests.generators.test_wan_job import FILM
from tests.nets.on_meta import attending, efficient

META = torch.device("meta")
GIB = 1 << 30
T2V = replace(FILM, config=replace(T2V_1_3B, layers=1), steps=3)
I2V = replace(
    T2V, config=replace(T2V_1_3B, layers=1, enter=36, image_dim=1280), vae=vae_needs.Sizes(base=16)
)
BOTH = pytest.mark.parametrize("job", [T2V, I2V], ids=["text", "image"])


@pytest.fixture(autouse=True)
def _asked() -> Iterator[None]:
    with torch.inference_mode():
        yield


def needed(job: Job, where: Where, stage: Stage) -> int:
    found = of_stage(job, where, stage)
    return found.state + found.activations


def nbytes(*tensors: Tensor | None) -> int:
    return sum(x.nbytes for x in tensors if x is not None)


# --- stages --------------------------------------------------------------------------------------


def dit(job: Job, *, blocks: bool) -> DiT:
    with META:
        net = DiT(job.config if blocks else replace(job.config, layers=0))
    for key, tensor in net.named_parameters():
        tensor.data = tensor.data if sizes.exact(key) else tensor.data.bfloat16()
    return net


def sampled(job: Job, together: bool) -> Any:
    how = Settings(chunk_tokens=job.chunk_tokens, query_tokens=job.query_tokens)
    return sampling("unipc", job.steps, 5.0, 6.0 if job.guided else 1.0, how, together)


def conditions(job: Job) -> Conditions:
    config, (frames, height, width) = job.config, job.latents

    def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=META)

    image = None if config.image_dim is None else empty(257, config.dim, dtype=torch.bfloat16)
    told = Given(empty(config.text_length, config.dim, dtype=torch.bfloat16), image)
    return Conditions(
        given=(told,) * job.branches,
        moments=tuple(Moment(empty(config.dim), empty(6, config.dim)) for _ in range(job.steps)),
        beside=empty(20, frames, height, width) if job.seen else None,
    )


@BOTH
@pytest.mark.parametrize(
    ("guided", "together", "chunk", "queries"),
    [
        (True, True, 2048, None),
        (True, False, 2048, None),
        (False, True, 8192, 8192),
        (True, True, None, None),
    ],
)
def test_a_step_needs_what_was_said(
    job: Job, guided: bool, together: bool, chunk: int | None, queries: int | None
) -> None:
    job = replace(job, guided=guided, chunk_tokens=chunk, query_tokens=queries)
    transformer = dit(job, blocks=True)
    turns = (job.tokens, job.config.head_dim // 2)
    transformer.turns = lambda *_: torch.empty(turns, dtype=torch.complex64, device=META)  # type: ignore[method-assign]
    told, how = conditions(job), sampled(job, together)
    x = torch.empty(16, *job.latents, device=META)
    state = State(2, {name: torch.empty_like(x) for name in ("start", "clean", "earlier")})
    beside = nbytes(x, told.beside, *state.kept.values())
    beside += sum(nbytes(m.embedding, m.modulation) for m in told.moments)
    beside += job.branches * nbytes(told.given[0].text, told.given[0].image)
    model = Parts({"transformer": transformer})
    traced = beside + peak(lambda: _wan_stream._stepped(model, told, how, x, state))
    said = needed(job, Where(together=together), "denoise")
    assert traced <= said <= 1.01 * traced + job.branches * job.steps * 7 * job.config.dim * 4


@BOTH
@pytest.mark.parametrize("guided", [True, False])
def test_the_conditioner_needs_no_more_than_was_said(job: Job, guided: bool) -> None:
    job = replace(job, guided=guided)
    told = [torch.empty(512, 4096, dtype=torch.bfloat16, device=META) for _ in range(2)]
    seen = _wan_image.Seen(
        tokens=torch.empty(257, 1280, device=META), beside=torch.empty(20, 1, 1, 1, device=META)
    )
    model = Parts({"conditioner": dit(job, blocks=False)})
    how = sampled(job, True)
    traced = peak(lambda: prepare(model, how, (told[0], told[1]), seen if job.seen else None, META))
    state, activations = _wan_memory._conditioner(job)
    traced += nbytes(told[0], seen.tokens if job.seen else None)  # brought from the host
    assert traced <= state + activations <= 1.1 * traced


class Away(Leaving):
    """To the host, where nothing is counted."""

    def _taken(self, made: Tensor) -> Any:
        return None


@pytest.mark.parametrize(
    ("decoder", "tiles", "dtype", "bits"),
    [
        ("vae", None, "float32", 10),
        ("vae", Tiles(size=(32, 56), stride=(28, 48)), "bfloat16", 8),
        ("taehv", None, "bfloat16", 10),
    ],
)
def test_decoding_needs_what_was_said(
    monkeypatch: pytest.MonkeyPatch, decoder: Any, tiles: Tiles | None, dtype: str, bits: int
) -> None:
    base = vae_needs.Sizes(base=96 if tiles is None else 32)
    job = replace(T2V, frames=9, decoder=decoder, tiles=tiles, vae_dtype=dtype, bits=bits, vae=base)
    with META:
        net: nn.Module = Taehv(TaehvConfig())
        if decoder == "vae":
            net = WanVae(VaeConfig(base=base.base, encoder=False))
        latents = torch.empty(16, *job.latents)
    arrange(net.to(getattr(torch, dtype)))
    how = Decoding(net=decoder, bits=bits)
    if tiles is not None:
        how = replace(how, tiling=Tiling(size=tiles.size, stride=tiles.stride))
        monkeypatch.setattr("longtake.nets.wan.tiles.feather", _flat)
    monkeypatch.setattr(_wan_decode, "Leaving", Away)
    model = Parts({decoder: net})
    with attending(efficient):
        traced = peak(lambda: deque(_wan_decode._leaving(model, latents, how, META, 0), maxlen=0))
    said = needed(job, Where(), "decode")
    assert traced <= said <= (1.01 if tiles is None else 1.02) * traced, (said, traced)


def _flat(tile: Any, frame: Any, tiling: Any, leave: int) -> Tensor:
    return torch.empty([(b - a) * leave for a, b in tile], device=META)


@pytest.mark.parametrize("tiles", [None, Tiles(size=(32, 56), stride=(28, 48))])
def test_encoding_needs_no_more_than_was_said(
    monkeypatch: pytest.MonkeyPatch, tiles: Tiles | None
) -> None:
    job = replace(I2V, frames=9, tiles=tiles)
    with META:
        net = WanVae(VaeConfig(base=16))
        image = torch.empty(1, 3, 480, 832)
    arrange(net)
    monkeypatch.setattr("longtake.nets.wan.tiles.feather", _flat)
    how = None if tiles is None else Tiling(size=tiles.size, stride=tiles.stride)
    model = Parts({"vae": net})
    with attending(efficient):
        traced = image.nbytes + peak(lambda: _wan_image._latents(model, image, 9, how))
    said = needed(job, Where(), "encode")
    assert traced <= said <= 1.1 * traced, (said, traced)


# --- strategies ----------------------------------------------------------------------------------


class Counted(_copies.ThreadCopies):
    """Counts bytes as a GPU's copies would take them."""

    def __init__(self) -> None:
        super().__init__()
        self.locked = self.there = self.most = 0

    def host(self, size: int) -> Host:
        self.locked += super().host(size).size
        return super().host(size)

    def room(self, size: int) -> Tensor:
        self.there += size
        self.most = max(self.most, self.there)
        return super().room(size)

    def close(self) -> None:
        super().close()
        self.there = 0


@pytest.mark.parametrize("where", [
    Where(offload="ring"), Where(offload="ring", resident_blocks=3, slots=3),
    Where(offload="ring", resident_blocks=99), Where(offload="ring", granularity="phase"),
    Where(offload="ring", resident_blocks=2, slots=3, granularity="phase"),
])  # fmt: skip
def test_a_ring_takes_what_was_said(monkeypatch: pytest.MonkeyPatch, where: Where) -> None:
    text = umt5_needs.UmT5Config(vocabulary=99, dim=48, heads=2, head_dim=24, ffn_dim=70, layers=5)
    config = replace(T2V_1_3B, dim=96, heads=4, layers=7, ffn_dim=130, text_dim=48)
    job = replace(
        T2V, config=config, text=text, text_dtype="float32", dtype="float32", decoder="taehv",
        vae_dtype="float32",
    )  # fmt: skip
    with torch.inference_mode(False):
        small = {key: getattr(text, key) for key in type(text).__dataclass_fields__}
        transformer = DiT(config)
        transformer.release()
        model = Parts(
            {
                "text": UmT5(UmT5Config(**small)),
                "conditioner": DiT(replace(config, layers=0)),
                "transformer": transformer,
                "taehv": Taehv(TaehvConfig()),
            }
        )
        model["text"].token_embedding = StoredRows(lambda ids: ids)  # in its file
        taken: list[Counted] = []
        monkeypatch.setattr(
            "longtake.offload._attach.copies_for", lambda _: taken.append(Counted()) or taken[-1]
        )
        strategy = replace(
            find("offload", "ring"), resident_blocks=where.resident_blocks, slots=where.slots,
            granularity=where.granularity,
        )  # fmt: skip
        with strategy.attach(model, "cpu"):
            model.turn("text")
            model.turn("transformer")
    nets, on_cpu = parts(job), replace(where, on_gpu=False)
    others = {name: nets[name] for name in ("conditioner", "taehv")}
    locked = _wan_memory._on_host(nets, on_cpu) - _wan_memory._on_host(others, on_cpu)
    assert sum(copies.locked for copies in taken) == locked
    assert [copies.most for copies in taken] == [
        _wan_memory._on_device(nets, name, where) for name in ("text", "transformer")
    ]


def test_what_waits_in_turns_is_kept_in_powers_of_two() -> None:
    """1.5 times the bytes of 14B, and a ring's to the page."""
    job = Job(config=T2V_14B, frames=81, size=(1280, 720))
    exactly = sum(sum(part.tensors) for part in parts(job).values())
    swap, ring = (footprint(job, Where(offload=x)).parked for x in ("swap", "ring"))  # type: ignore[arg-type]
    assert exactly < ring < 1.02 * exactly  # parts without blocks are small
    assert 1.2 * exactly < swap < 1.6 * exactly
    blocks = 40 * parts(job)["transformer"].slab
    host = partition(40, resident=0).host_bytes(parts(job)["transformer"].slab)
    assert host == blocks
    assert blocks / GIB == pytest.approx(26.2, abs=0.05)


def test_a_disk_keeps_on_the_host_what_it_is_told() -> None:
    job = Job(config=T2V_14B, frames=81, size=(1280, 720), matrices="int8")
    slab = parts(job)["transformer"].slab
    ring = footprint(job, Where(offload="ring")).parked
    for count in (0, 20):
        disk = footprint(job, Where(offload="disk", host_blocks=count)).parked
        assert ring - disk == (40 - count - 3) * slab
    assert 20 * slab / GIB == pytest.approx(6.5, abs=0.1)


def test_all_parts_stay_where_they_are_resident_and_one_is_there_in_turns() -> None:
    job = Job(config=sizes.I2V_14B, frames=81, size=(832, 480))
    weights = {
        offload: [of_stage(job, Where(offload=offload), stage).weights for stage in stages(job)]  # type: ignore[arg-type]
        for offload in ("resident", "swap")
    }
    exactly = sum(sum(part.tensors) for part in parts(job).values())
    (all_of_them,) = set(weights["resident"])
    assert exactly <= all_of_them <= exactly + 512 * 3000
    assert exactly / 2 < max(weights["swap"]) < exactly
    assert len(set(weights["swap"])) == 4  # the VAE twice
    assert footprint(job, Where()).parked == 0


# --- figures -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "size", "frames", "gib"),
    [
        (T2V_14B, (832, 480), 81, 1.60),
        (T2V_14B, (1280, 720), 81, 3.69),
        (T2V_14B, (960, 544), 97, 2.49),
        (T2V_1_3B, (832, 480), 81, 0.50),
        (T2V_1_3B, (960, 544), 97, 0.756),
    ],
)
def test_activations_of_published_models(config, size, frames, gib) -> None:
    job = Job(config=config, size=size, frames=frames)
    said = needs.activations(config, job.tokens, "bfloat16", chunk_tokens=2048) / GIB
    assert said == pytest.approx(gib, rel=0.03)


def test_14b_at_720p_fits_a_card_of_8_gb() -> None:
    """With branches one after the other or together; on an H200 a job in 8 bits took 6.13 GiB."""
    tiles = Tiles(size=(32, 32), stride=(24, 24), parked=True)
    job = Job(
        config=T2V_14B, frames=81, size=(1280, 720), matrices="int8", vae_dtype="bfloat16",
        tiles=tiles,
    )  # fmt: skip
    found = [footprint(job, Where(offload="ring", together=x)).total / GIB for x in (False, True)]
    assert found == pytest.approx([5.54, 6.26], abs=0.1)
    half = replace(job, matrices=None)
    found = [footprint(half, Where(offload="ring", together=x)).total / GIB for x in (False, True)]
    assert found == pytest.approx([6.0, 6.7], abs=0.1)


# --- properties ----------------------------------------------------------------------------------

films = st.builds(
    Job,
    config=st.sampled_from([T2V_1_3B, T2V_14B, sizes.I2V_14B]),
    frames=st.integers(0, 40).map(lambda n: 4 * n + 1),
    size=st.tuples(st.integers(4, 80), st.integers(4, 80)).map(lambda x: (16 * x[0], 16 * x[1])),
    guided=st.booleans(),
    chunk_tokens=st.sampled_from([256, 2048, 8192]),
    matrices=st.sampled_from([None, "int8"]),
    vae_dtype=st.sampled_from(["float32", "bfloat16"]),
    decoder=st.sampled_from(["vae", "taehv"]),
)
places = st.builds(
    Where,
    offload=st.sampled_from(["resident", "swap", "ring", "disk"]),
    resident_blocks=st.integers(0, 45),
    host_blocks=st.integers(0, 45),
    slots=st.sampled_from([2, 3]),
    together=st.booleans(),
    granularity=st.sampled_from(["block", "phase"]),
    stay=st.sampled_from([(), ("text",), ("text", "image")]),
    on_gpu=st.booleans(),
)
few = settings(deadline=None, max_examples=20)


def values(found: Footprint) -> list[int]:
    return [getattr(found, name) for name in Footprint.__slots__]


@few
@given(films, places)
def test_nothing_is_below_0_and_the_job_s_peak_is_a_stage_s(job: Job, where: Where) -> None:
    each = [of_stage(job, where, stage) for stage in stages(job)]
    assert all(value >= 0 for found in each for value in values(found))
    assert footprint(job, where).total == max(found.total for found in each)
    assert where.on_gpu or footprint(job, where).outside == 0


@few
@given(films, places)
def test_more_never_needs_less(job: Job, where: Where) -> None:
    least = footprint(job, where).total
    assert least <= footprint(replace(job, frames=job.frames + 4), where).total
    wider, taller = (job.size[0] + 16, job.size[1]), (job.size[0], job.size[1] + 16)
    assert least <= footprint(replace(job, size=wider), where).total
    assert least <= footprint(replace(job, size=taller), where).total
    chunk = job.chunk_tokens or 0
    assert least <= footprint(replace(job, chunk_tokens=2 * chunk), where).total
    assert footprint(replace(job, guided=False), where).total <= least


@few
@given(films, places, st.integers(0, 45))
def test_more_resident_blocks_never_need_less(job: Job, where: Where, more: int) -> None:
    where = replace(where, on_gpu=True)
    larger = replace(where, resident_blocks=where.resident_blocks + more)
    assert footprint(job, where).total <= footprint(job, larger).total
    fewer = replace(where, host_blocks=where.host_blocks + more)
    assert footprint(job, where).outside <= footprint(job, fewer).outside


@few
@given(films, st.sampled_from([2, 3]))
def test_a_ring_of_resident_blocks_is_the_parts_in_turns(job: Job, slots: int) -> None:
    """But for bytes between tensors: a ring begins each block at a page."""
    ring = Where(offload="ring", resident_blocks=40, slots=slots)
    swap = Where(offload="swap")
    for stage in stages(job):
        a, b = of_stage(job, ring, stage), of_stage(job, swap, stage)
        assert (a.state, a.activations) == (b.state, b.activations)
        assert 0 <= a.weights - b.weights <= 41 * 4096
        assert a.total <= of_stage(job, Where(), stage).total + 41 * 4096


def test_a_footprint_needs_no_torch() -> None:
    code = (
        "import sys; from longtake.generators import _wan_memory, _wan_time;"
        "from longtake.generators._wan_job import Job, Where; from longtake.nets.wan import sizes;"
        "job = Job(config=sizes.T2V_14B, frames=81, size=(1280, 720));"
        "_wan_time.time_of(job, Where(offload='ring'), _wan_time.cpu_rates(2));"
        "print(_wan_memory.footprint(job, Where()).total, 'torch' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    total, loaded = said.stdout.split()
    assert int(total) == footprint(Job(config=T2V_14B, frames=81, size=(1280, 720)), Where()).total
    assert loaded == "False"
