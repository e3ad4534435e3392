"""Sampling: taken up anywhere it is the same film; branches, chunks and turns change no bit."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from longtake.core.errors import BadInput, NotANumber
from longtake.engines._parts import Parts
from longtake.generators import _wan_stream as stream
from longtake.generators._wan_decode import Decoding, decode
from longtake.generators._wan_image import Seen
from longtake.generators._wan_load import load
from longtake.generators._wan_stream import Checkpoint, Sampling, begin, denoise, prepare, sampling
from longtake.nets.samplers import SAMPLERS
from longtake.nets.wan.block import Settings
from longtake.nets.wan.sizes import DiTConfig
from longtake.offload import ring, swap
from tests.generators.wan_models import CPU, EXACT, I2V, T2V, nets, official, opened, words
from tests.nets.formula import formula
from tests.nets.wan.dits import Asked

STEPS = {"unipc": 5, "euler": 3, "ddim": 3, "sa_ode_stable": 11}
"""Enough for every rule of a sampler."""
SIZE = (10, 6)
FRAMES = range(3)
CHUNKED = Settings(chunk_tokens=32)


@pytest.fixture(scope="module")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return opened(tmp_path_factory.mktemp("t2v"), T2V)


@pytest.fixture(scope="module")
def image_model(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return opened(tmp_path_factory.mktemp("i2v"), I2V)


def seen(config: DiTConfig) -> Seen | None:
    if config.image_dim is None:
        return None
    width, height = SIZE
    return Seen(
        tokens=formula((17, config.image_dim), 7),
        beside=formula((20, len(FRAMES), height, width), 8),
    )


def how(sampler: str, guidance: float = 5.0, settings: Settings = CHUNKED) -> Sampling:
    return sampling(sampler, STEPS[sampler], 5.0, guidance, settings, True)


def film(
    parts: Parts, how: Sampling, start: Checkpoint | None = None, config: DiTConfig = T2V
) -> list[Checkpoint]:
    conditions = prepare(parts, how, (words(7), words(2, 9)), seen(config), CPU)
    return list(denoise(parts, conditions, how, start or begin(3, FRAMES, SIZE, CPU), CPU))


def equal(a: Checkpoint, b: Checkpoint) -> bool:
    kept, other = a.state.kept, b.state.kept
    return (
        a.step == b.step
        and torch.equal(a.latents, b.latents)
        and kept.keys() == other.keys()
        and all(torch.equal(kept[name], other[name]) for name in kept)
    )


# --- resume --------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_taken_up_at_any_step_it_is_the_same_film(
    text_model: Parts, tmp_path: Path, sampler: str
) -> None:
    """Through a file, in every bit, at every step."""
    assert set(SAMPLERS) == set(STEPS) == set(stream.SCHEDULES)
    plan = how(sampler)
    conditions = prepare(text_model, plan, (words(7), words(2, 9)), None, CPU)
    start = begin(3, FRAMES, SIZE, CPU)
    straight = list(denoise(text_model, conditions, plan, start, CPU))
    assert [c.step for c in straight] == list(range(1, STEPS[sampler] + 1))
    path = tmp_path / "checkpoint.safetensors"
    for number, checkpoint in enumerate([start, *straight]):
        stream.save(path, checkpoint, "recipe")
        again = stream.saved(path, "recipe")
        assert again is not None
        assert equal(again, checkpoint)
        if number < 4 or number >= len(straight) - 2:
            rest = list(denoise(text_model, conditions, plan, again, CPU))
            assert len(rest) == len(straight) - number
            assert all(map(equal, rest, straight[number:]))
    assert not any(torch.equal(a.latents, b.latents) for a, b in pairwise([start, *straight]))


def test_a_film_taken_up_without_its_memory_is_another(text_model: Parts) -> None:
    """The test above can tell."""
    straight = film(text_model, how("unipc"))
    state = straight[2].state
    swapped = dict(zip(state.kept, reversed(state.kept.values()), strict=True))
    other = replace(straight[2], state=replace(state, kept=swapped))
    assert not torch.equal(film(text_model, how("unipc"), other)[-1].latents, straight[-1].latents)


def test_an_earlier_checkpoint_is_not_changed_by_later_steps(text_model: Parts) -> None:
    plan = how("unipc")
    conditions = prepare(text_model, plan, (words(7), words(2, 9)), None, CPU)
    start = begin(3, FRAMES, SIZE, CPU)
    kept, copies = [start], [start.latents.clone()]
    for checkpoint in denoise(text_model, conditions, plan, start, CPU):
        kept.append(checkpoint)
        copies.append(checkpoint.latents.clone())
    assert all(torch.equal(c.latents, copy) for c, copy in zip(kept, copies, strict=True))


def test_checkpoints_of_other_jobs_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    assert stream.saved(path, "recipe") is None
    stream.save(path, begin(3, FRAMES, SIZE, CPU), "recipe")
    with pytest.raises(BadInput, match="recipe instead of other"):
        stream.saved(path, "other")
    payload = bytearray(path.read_bytes())
    payload[-5] ^= 4
    path.write_bytes(payload)
    with pytest.raises(BadInput, match="damaged"):
        stream.saved(path, "recipe")


def test_a_checkpoint_beyond_the_schedule_is_refused(text_model: Parts) -> None:
    last = film(text_model, how("unipc"))[-1]
    assert film(text_model, how("unipc"), last) == []
    with pytest.raises(ValueError, match="at step 5, the schedule has 3"):
        film(text_model, how("euler"), last)


# --- noise ---------------------------------------------------------------------------------------


def test_noise_belongs_to_its_place() -> None:
    whole = begin(3, range(9), (10, 6), CPU)
    part = begin(3, range(4, 6), (10, 6), CPU)
    assert part.latents.dtype == torch.float32
    assert part.latents.shape == (16, 2, 6, 10)
    assert torch.equal(part.latents, whole.latents[:, 4:6])
    assert not torch.equal(begin(4, range(9), (10, 6), CPU).latents, whole.latents)
    assert whole.step == 0


# --- branches, chunks, turns ---------------------------------------------------------------------


@pytest.mark.parametrize("config", [T2V, I2V], ids=["t2v", "i2v"])
def test_branches_together_or_apart_are_equal(
    text_model: Parts, image_model: Parts, config: DiTConfig
) -> None:
    parts = text_model if config is T2V else image_model
    order: list[int] = []
    for number, block in enumerate(parts["transformer"].blocks):
        block.ffn.register_forward_pre_hook(lambda *_, number=number: order.append(number))
    made = {}
    for together in (True, False):
        order.clear()
        made[together] = film(parts, replace(how("euler"), together=together), config=config)
        assert order == ([0, 0, 1, 1] if together else [0, 1, 0, 1]) * 3
    for block in parts["transformer"].blocks:
        block.ffn._forward_pre_hooks.clear()
    assert all(map(equal, made[True], made[False]))


def test_guidance_is_the_difference_of_both(text_model: Parts) -> None:
    """One step of euler from the nets' own predictions."""
    plan = how("euler")
    net = nets(T2V).dit
    start = begin(3, FRAMES, SIZE, CPU)
    with torch.inference_mode():
        asked = [
            Asked(start.latents, plan.schedule.times[0], text, None).of(net)
            for text in (words(7), words(2, 9))
        ]
        wanted, unwanted = net(asked, CHUNKED)
        velocity = unwanted + 5.0 * (wanted - unwanted)
        to, now = plan.schedule.sigmas[1], plan.schedule.sigmas[0]
        made = film(text_model, plan)
        assert torch.equal(made[0].latents, start.latents + (to - now) * velocity)
        last = Asked(made[1].latents, plan.schedule.times[2], words(7), None).of(net)
        other = Asked(made[1].latents, plan.schedule.times[2], words(2, 9), None).of(net)
        wanted, unwanted = net([last, other], CHUNKED)
        velocity = unwanted + 5.0 * (wanted - unwanted)
        assert torch.equal(made[2].latents, made[1].latents - plan.schedule.sigmas[2] * velocity)


def test_without_guidance_one_branch_is_evaluated(text_model: Parts) -> None:
    plan = how("euler", guidance=1.0)
    count: list[int] = []
    block = text_model["transformer"].blocks[0]
    block.ffn.register_forward_pre_hook(lambda *_: count.append(1))
    alone = prepare(text_model, plan, (words(7), None), None, CPU)
    made = list(denoise(text_model, alone, plan, begin(3, FRAMES, SIZE, CPU), CPU))
    block.ffn._forward_pre_hooks.clear()
    assert len(count) == 3
    assert all(map(equal, made, film(text_model, plan)))  # an unwanted text changes nothing
    near = film(text_model, how("euler", guidance=1 + 1e-6))
    assert torch.allclose(near[-1].latents, made[-1].latents, atol=1e-3)
    assert not torch.equal(film(text_model, how("euler"))[-1].latents, made[-1].latents)


def test_chunks_change_no_bit(text_model: Parts, image_model: Parts) -> None:
    """Chunks that divide the 45 tokens and others, and queries that come in parts."""
    for parts, config in ((text_model, T2V), (image_model, I2V)):
        whole = film(parts, how("euler", settings=Settings()), config=config)
        for settings in (CHUNKED, Settings(chunk_tokens=44), Settings(query_tokens=32)):
            assert all(
                map(equal, film(parts, how("euler", settings=settings), config=config), whole)
            )


def test_swapped_it_is_the_same_film(text_model: Parts, tmp_path: Path) -> None:
    straight = film(text_model, how("unipc"))
    parts = load(official(tmp_path, nets(T2V)), EXACT, "cpu")
    with swap.plugin.attach(parts, "cpu"):
        brought, bring = [], parts.bring
        parts.bring = lambda name: (brought.append(name), bring(name))[0]
        assert all(map(equal, film(parts, how("unipc")), straight))
    assert brought == ["conditioner", *["transformer"] * STEPS["unipc"]]


def test_blocks_in_turn_give_the_same_film(text_model: Parts, tmp_path: Path) -> None:
    """Parts work under a ring as they are, and afterwards without it."""
    straight = film(text_model, how("euler"))
    parts = load(official(tmp_path, nets(T2V)), EXACT, ring.plugin.home("cpu"))
    with ring.plugin.attach(parts, "cpu"):
        assert all(map(equal, film(parts, how("euler")), straight))
    assert all(map(equal, film(parts, how("euler")), straight))


def test_prompt_and_image_count(text_model: Parts, image_model: Parts) -> None:
    plan = how("euler")
    start = begin(3, FRAMES, SIZE, CPU)

    def last(parts: Parts, text: torch.Tensor, image: Seen | None) -> torch.Tensor:
        conditions = prepare(parts, plan, (text, words(2, 9)), image, CPU)
        return list(denoise(parts, conditions, plan, start, CPU))[-1].latents

    assert not torch.equal(last(text_model, words(7), None), last(text_model, words(7, 1), None))
    image = seen(I2V)
    assert image is not None
    whole = last(image_model, words(7), image)
    for other in (replace(image, beside=-image.beside), replace(image, tokens=-image.tokens)):
        assert not torch.equal(last(image_model, words(7), other), whole)


def test_a_film_of_one_frame(text_model: Parts) -> None:
    plan = how("unipc")
    conditions = prepare(text_model, plan, (words(7), words(2, 9)), None, CPU)
    made = list(denoise(text_model, conditions, plan, begin(3, range(1), (2, 2), CPU), CPU))
    assert [c.latents.shape for c in made] == [(16, 1, 2, 2)] * STEPS["unipc"]
    clips = list(decode(text_model, made[-1].latents, Decoding(), CPU))
    assert [(c.start, c.pixels.shape) for c in clips] == [(0, (1, 16, 16, 3))]


# --- what is refused -----------------------------------------------------------------------------


def test_what_is_no_number_ends_the_film(tmp_path: Path) -> None:
    parts = load(official(tmp_path, nets(T2V)), EXACT, "cpu")
    parts["transformer"].head.head.bias.data[0] = float("inf")
    with pytest.raises(NotANumber, match=r"\d+ of 2880 latents after step 1 of 3"):
        film(parts, how("euler"))


def test_what_cannot_be_carried_out_is_refused(text_model: Parts, image_model: Parts) -> None:
    plan = how("euler")
    with pytest.raises(ValueError, match="no sampler 'dpm'"):
        sampling("dpm", 3, 5.0, 1.0, CHUNKED, True)
    with pytest.raises(ValueError, match=r"guidance must be at least 1, not 0\.5"):
        replace(plan, guidance=0.5)
    with pytest.raises(ValueError, match="at least 1, not nan"):
        replace(plan, guidance=float("nan"))
    with pytest.raises(ValueError, match="needs a second text"):
        prepare(text_model, plan, (words(3), None), None, CPU)
    with pytest.raises(ValueError, match="takes no image"):
        prepare(text_model, plan, (words(3), words(1)), seen(I2V), CPU)
    with pytest.raises(ValueError, match="takes an image"):
        prepare(image_model, plan, (words(3), words(1)), None, CPU)
    with pytest.raises(ValueError, match="512 tokens at most"):
        prepare(text_model, plan, (words(513), words(1)), None, CPU)
