"""Predicted operations are those of the nets; seconds are those of the table they stand in."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from longtake.core.machine import Gpu, Machine
from longtake.generators._wan_job import Job, Where
from longtake.generators._wan_time import (
    GPUS,
    Rates,
    block_work,
    cpu_rates,
    forward_work,
    image_work,
    pace,
    rates_of,
    taehv_work,
    text_work,
    time_of,
    vae_work,
)
from longtake.nets import clip_vision_needs, taehv_needs, umt5_needs
from longtake.nets.clip_vision import ClipVision
from longtake.nets.clip_vision_needs import ClipConfig
from longtake.nets.taehv import Taehv
from longtake.nets.taehv_needs import TaehvConfig
from longtake.nets.umt5 import UmT5
from longtake.nets.umt5_needs import UmT5Config
from longtake.nets.wan import sizes, vae_needs
from longtake.nets.wan.block import Given, Moment, Settings
from longtake.nets.wan.dit import DiT, Sample
from longtake.nets.wan.sizes import I2V_14B, T2V_1_3B, T2V_14B, DiTConfig
from longtake.nets.wan.vae import VaeConfig, WanVae
from longtake.nets.wan.vae_needs import Tiles
from longtake.offload._partition import simulate
from longtake.planner import machines
from tests.generators.test_wan_memory import films
from tests.nets.on_meta import attending, efficient, flash

META = torch.device("meta")
RTX_4060, RTX_4090, H200 = (
    GPUS[name] for name in ("NVIDIA GeForce RTX 4060", "NVIDIA GeForce RTX 4090", "NVIDIA H200")
)
ESTIMATED_H200 = replace(
    H200, gemm=0.70 * 989e12, attention=0.55 * 989e12, eight=1.7 * 0.70 * 989e12, h2d=52e9
)
"""As it was before it was measured, and as it stands in the table."""


# --- operations ----------------------------------------------------------------------------------


def counted(work) -> int:
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        work()
    return int(counter.get_total_flops())


@pytest.mark.parametrize("config", [T2V_1_3B, I2V_14B], ids=["text", "image"])
def test_a_forward_is_what_the_net_computes(config: DiTConfig) -> None:
    config, size = replace(config, layers=1), (3, 30, 52)
    with META:
        net = DiT(config).bfloat16()
        image = None if config.image_dim is None else torch.empty(257, config.dim).bfloat16()
        told = Given(torch.empty(config.text_length, config.dim).bfloat16(), image)
        moment = Moment(torch.empty(config.dim), torch.empty(6, config.dim))
        sample = Sample(torch.empty(config.enter, *size), moment, told)
    tokens = prod(size) // 4
    turns = (tokens, config.head_dim // 2)
    net.turns = lambda *_: torch.empty(turns, dtype=torch.complex64, device=META)  # type: ignore[method-assign]
    real = counted(lambda: net([sample], Settings(chunk_tokens=512)))
    assert forward_work(config, tokens).total == real


def test_a_prompt_and_an_image_are_what_the_nets_compute() -> None:
    with META:
        text = UmT5(UmT5Config(layers=1, vocabulary=9)).bfloat16()
        clip = ClipVision(ClipConfig(layers=2)).bfloat16()
        sight, x = torch.empty(77, 77, dtype=torch.int64), torch.empty(1, 77, 4096).bfloat16()
        image = torch.empty(1, 3, 224, 224)
    from longtake.nets.umt5 import Sight

    with attending(efficient):
        real = counted(lambda: text.blocks[0](x, Sight(sight, None)))
    assert text_work(umt5_needs.XXL, 77).total == real
    patches = 2 * 256 * 3 * 14 * 14 * 1280
    with attending(flash):
        real = counted(lambda: clip(image))
    assert image_work(clip_vision_needs.ClipConfig(layers=2)).total == real - patches


@pytest.mark.parametrize("frames", [1, 4])
@pytest.mark.parametrize("half", ["encode", "decode"])
def test_a_vae_computes_no_more_than_was_said(half: vae_needs.Half, frames: int) -> None:
    """Where a clip begins there are fewer frames to look back at."""
    with META:
        net = WanVae(VaeConfig())
        latent, frame = torch.empty(1, 16, 6, 10), torch.empty(1, 3, 48, 80)

    def stream() -> None:
        history: dict = {}
        many = frames if half == "decode" else 4 * frames - 3
        for _ in range(many):
            step = net.decode(latent, history) if half == "decode" else net.encode(frame, history)
            for _made in step:
                pass

    with attending(efficient):
        real = counted(stream)
    said = vae_work(vae_needs.WAN_2_1, half, (frames, 6, 10)).total
    assert real <= said <= (1.15 * real if frames > 1 else 3.1 * real)


def test_taehv_computes_what_was_said() -> None:
    with META:
        net, latent = Taehv(TaehvConfig()), torch.empty(1, 16, 6, 10)

    def stream() -> None:
        memory: dict = {}
        for _ in range(3):
            for _frame in net.decode(latent, memory):
                pass

    assert taehv_work(taehv_needs.TAEW2_1, (3, 6, 10)).total == counted(stream)


# --- the table -----------------------------------------------------------------------------------

DF_1_3B = T2V_1_3B
TI2V_5B = DiTConfig(dim=3072, heads=24, ffn_dim=14336, enter=48, leave=48)
TABLE = [
    # net, size, frames; 10^15 operations; for each GPU a step's s and what covers copies and reads,
    # in bfloat16 and in 8 bits
    (T2V_1_3B, (832, 480), 81, 0.283,
     (29, 26, 66, 118, 16, 28), (5.1, 4.5, 23, 40, 2.7, 4.8), (1.0, 0.9, 9, 16, 0.5, 1.0)),
    (T2V_14B, (832, 480), 81, 1.678,
     (168, 137, 37, 61, 9, 15), (29, 24, 13, 21, 1.6, 2.5), (5.6, 4.6, 5.1, 8.5, 0.3, 0.5)),
    (T2V_14B, (1280, 720), 81, 6.523,
     (680, 609, 151, 271, 36, 65), (117, 104, 52, 93, 6.2, 11), (22.6, 20.4, 21, 38, 1.2, 2.2)),
    (I2V_14B, (832, 480), 81, 1.686,
     (169, 138, 33, 53, 8, 13), (29, 24, 11, 18, 1.4, 2.2), (5.6, 4.6, 4.5, 7.5, 0.3, 0.4)),
    (I2V_14B, (1280, 720), 81, 6.540,
     (682, 611, 132, 236, 32, 57), (117, 104, 45, 81, 5.5, 9.7), (22.6, 20.5, 18, 33, 1.1, 1.9)),
    (DF_1_3B, (960, 544), 97, 0.612,
     (65, 60, 145, 268, 35, 64), (11, 10, 50, 91, 6, 11), (2.1, 2.0, 20, 37, 1.2, 2.2)),
    (T2V_14B, (960, 544), 97, 3.374,
     (345, 298, 77, 132, 18, 32), (60, 51, 27, 45, 3.2, 5.5), (11.4, 10.0, 11, 19, 0.6, 1.1)),
    (T2V_14B, (960, 544), 57, 1.514,
     (151, 122, 34, 54, 8, 13), (26, 21, 12, 19, 1.4, 2.3), (5.0, 4.1, 4.6, 7.6, 0.3, 0.4)),
    (T2V_14B, (1280, 720), 121, 12.92,
     (1367, 1262, 304, 561, 73, 135), (234, 215, 104, 191, 12, 23), (45, 42, 42, 78, 2.4, 4.5)),
]  # fmt: skip


def near(said: float, shown: float) -> bool:
    """Within 2 % of a number that the table shows so when it is rounded."""
    digit = 0.1 if shown != int(shown) or shown < 10 else 1
    return abs(said - shown) <= 0.5 * digit + 0.02 * shown


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row[0].dim}-{row[1][1]}p{row[2]}")
def test_the_table_of_steps(row) -> None:
    config, size, frames, operations, *columns = row
    job = Job(config=config, size=size, frames=frames)
    assert forward_work(config, job.tokens).total / 1e15 == pytest.approx(operations, rel=0.01)
    for rates, shown in zip((RTX_4060, RTX_4090, ESTIMATED_H200), columns, strict=True):
        said: list[float] = []
        both = [replace(job, matrices=kind) for kind in (None, "int8")]
        said += [time_of(x, Where(), rates, eight_bit=True).step for x in both]
        paces = [pace(x, Where(together=False), rates, eight_bit=True) for x in both]
        said += [x.compute / x.copy for x in paces] + [x.compute / x.read for x in paces]
        assert all(map(near, said, shown)), (said, shown)


def test_a_net_that_is_not_ours_fits_the_table_too() -> None:
    """Wan 2.2's 5B at 704p, 121 frames."""
    work = forward_work(TI2V_5B, 27280)
    assert work.total / 1e15 == pytest.approx(0.517, rel=0.01)
    step = 2 * (work.linear / RTX_4060.gemm + work.attention / RTX_4060.attention)
    assert step == pytest.approx(52, abs=0.5)


def test_measured_on_an_h200() -> None:
    """A forward at 832x480, from benchmarks/generation: within 15 %."""
    for config, frames, seconds in (
        (T2V_14B, 81, 3.155), (T2V_14B, 17, 0.485), (T2V_1_3B, 81, 0.606),
    ):  # fmt: skip
        job = Job(config=config, size=(832, 480), frames=frames, guided=False)
        assert time_of(job, Where(), H200).step == pytest.approx(seconds, rel=0.15)


# --- hidden or not -------------------------------------------------------------------------------


def test_what_is_hidden() -> None:
    long = Job(config=T2V_14B, size=(1280, 720), frames=81)
    short = replace(long, size=(256, 256), frames=1, guided=False)
    ring, disk = Where(offload="ring"), Where(offload="disk")
    assert time_of(long, ring, RTX_4060).hidden
    assert time_of(long, disk, RTX_4060).hidden
    for where in (ring, disk):
        found = time_of(short, where, RTX_4060)
        assert not found.copies_hidden
        assert found.step > time_of(short, Where(), RTX_4060).step
    assert not time_of(short, disk, RTX_4060).reads_hidden
    assert time_of(short, ring, RTX_4060).reads_hidden  # nothing is read
    assert time_of(short, replace(ring, resident_blocks=40), RTX_4060).hidden
    at_480 = replace(long, size=(832, 480))
    assert not time_of(at_480, disk, H200).reads_hidden
    assert time_of(at_480, disk, H200).copies_hidden


def test_branches_together_bring_a_block_once() -> None:
    job = Job(config=T2V_14B, size=(256, 256), frames=1)
    together, apart = (
        time_of(job, Where(offload="ring", together=x), RTX_4060).step for x in (True, False)
    )
    assert apart == pytest.approx(2 * together)
    guided, alone = (time_of(replace(job, guided=x), Where(), RTX_4060).step for x in (True, False))
    assert guided == pytest.approx(2 * alone)


@pytest.mark.parametrize(("size", "frames"), [((256, 256), 1), ((832, 480), 17)])
@pytest.mark.parametrize("offload", ["ring", "disk"])
def test_seconds_are_those_of_a_ring_event_by_event(offload, size, frames) -> None:
    job = Job(config=T2V_14B, size=size, frames=frames, steps=5)
    where = Where(offload=offload, slots=3, resident_blocks=5, host_blocks=9)
    at = pace(job, where, RTX_4090)
    ends = simulate(where.partition(40), at, 5)
    said = time_of(job, where, RTX_4090).denoise
    assert abs(said - ends[-1]) <= 3 * max(at.compute, at.copy, at.read)


# --- rates ---------------------------------------------------------------------------------------


def test_rates_of_machines() -> None:
    for name in machines.names():
        machine = machines.described(name)
        assert rates_of(machine, "cuda:0") == GPUS[machine.gpus[0].name]
    unknown = Gpu(index=0, uuid="", name="Other", vram=1, free=1, capability=(8, 0))
    machine = Machine(cores=4, ram=1, free_ram=1, gpus=(unknown,))
    assert rates_of(machine, "cuda:0") is None
    assert rates_of(machine, "cuda:1") is None
    assert rates_of(machine, "cpu") == cpu_rates(4)
    assert cpu_rates(8).single == 2 * cpu_rates(4).single


def test_float32_and_8_bits() -> None:
    job = Job(config=T2V_1_3B, size=(832, 480), frames=81)
    half, single, eight, kernels = (
        time_of(replace(job, **how), Where(), RTX_4090, eight_bit=fast).step
        for how, fast in (
            ({}, False), ({"dtype": "float32"}, False), ({"matrices": "int8"}, False),
            ({"matrices": "int8"}, True),
        )
    )  # fmt: skip
    assert single > 1.5 * half
    assert half < eight < half / 0.7  # made wider first
    assert kernels < half


# --- properties ----------------------------------------------------------------------------------

few = settings(deadline=None, max_examples=20)
each_rates = st.sampled_from([*GPUS.values(), cpu_rates(2)])
rings = st.builds(
    Where,
    offload=st.sampled_from(["ring", "disk"]),
    resident_blocks=st.integers(0, 45),
    host_blocks=st.integers(0, 45),
    slots=st.sampled_from([2, 3]),
    together=st.booleans(),
)


@few
@given(films, rings, each_rates)
def test_more_never_takes_less(job: Job, where: Where, rates: Rates) -> None:
    least = time_of(job, where, rates)
    assert min(least.text, least.denoise, least.decode) > 0
    assert min(least.image, least.encode) >= 0
    assert (least.encode > 0) == job.seen
    width, height = job.size
    for more in (
        replace(job, frames=job.frames + 4),
        replace(job, size=(width + 16, height)),
        replace(job, size=(width, height + 16)),
        replace(job, steps=job.steps + 1),
    ):
        assert least.total < time_of(more, where, rates).total
    alone = time_of(replace(job, guided=False), where, rates)
    assert alone.total <= time_of(replace(job, guided=True), where, rates).total


@few
@given(films, rings, each_rates, st.integers(0, 45))
def test_more_resident_blocks_never_take_longer(job, where, rates, more) -> None:
    """Nor do more on the host; and a ring whose blocks are all resident is no slower than a net
    that is."""
    found = [
        time_of(job, replace(where, resident_blocks=n), rates).denoise
        for n in (where.resident_blocks, where.resident_blocks + more, 45)
    ]
    assert all(a >= b for a, b in pairwise(found))
    larger = replace(where, host_blocks=where.host_blocks + more)
    assert time_of(job, larger, rates).denoise <= found[0]
    assert found[-1] == time_of(job, Where(together=where.together), rates).denoise


def test_tiles_take_what_they_share() -> None:
    job = Job(config=T2V_1_3B, size=(1280, 720), frames=81)
    whole = time_of(job, Where(), RTX_4060).decode
    tiled = replace(job, tiles=Tiles(size=(32, 32), stride=(24, 24)))
    shared = sum(map(prod, vae_needs.tile_sizes((90, 160), Tiles(size=(32, 32), stride=(24, 24)))))
    assert time_of(tiled, Where(), RTX_4060).decode == pytest.approx(
        whole * shared / (90 * 160), rel=0.1
    )
    parked = replace(job, tiles=Tiles(size=(32, 32), stride=(24, 24), parked=True))
    assert time_of(parked, Where(), RTX_4060).decode > time_of(tiled, Where(), RTX_4060).decode
    assert time_of(replace(job, decoder="taehv"), Where(), RTX_4060).decode < whole / 3


def test_a_block_s_operations_by_hand() -> None:
    config = sizes.DiTConfig(dim=12, heads=1, ffn_dim=7, text_length=5, layers=1)
    work = block_work(config, 10)
    assert work.linear == 2 * 10 * (6 * 144 + 2 * 12 * 7) + 2 * 2 * 5 * 144
    assert work.attention == 4 * 10 * 10 * 12 + 4 * 10 * 5 * 12
