"""Plans: sizes, limits, the ladder, and errors that say what fits."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.core.errors import DoesNotFit, Usage
from longtake.core.plugins import find
from longtake.core.task import Limits, Upscale
from longtake.planner import ladder
from longtake.planner.fit import rungs
from longtake.planner.geometry import geometry_of
from tests.plans import a_gpu, a_machine, a_plan, an_info

TASK = Upscale(source=Path("in.mp4"), target=Path("out.mp4"))


@given(
    st.integers(2, 4000), st.integers(2, 2000),
    st.sampled_from(["1", "3/2", "2", "3", "4"]), st.sampled_from(["420", "422", "444", "rgb"]),
)  # fmt: skip
def test_the_size_is_scale_times_source_rounded_half_to_even(w, h, scale, chroma) -> None:
    wish = replace(TASK, scale=Fraction(scale))
    made = geometry_of(wish, an_info(width=w, height=h), chroma).target
    for got, given_, halved in zip(
        made, (w, h), (chroma in ("420", "422"), chroma == "420"), strict=True
    ):
        exact = given_ * Fraction(scale)
        assert abs(got - exact) <= (1 if halved else Fraction(1, 2))
        assert got % 2 == 0 or not halved


def test_odd_sizes_of_the_needs() -> None:
    wish = replace(TASK, scale=Fraction(3, 2))
    assert geometry_of(wish, an_info(width=853, height=479), "420").target == (1280, 718)
    assert geometry_of(wish, an_info(width=853, height=479), "444").target == (1280, 718)
    assert geometry_of(
        replace(TASK, height=2160), an_info(width=960, height=540), "420"
    ).target == (3840, 2160)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scale": Fraction(2), "height": 720}, "exclude each other"),
        ({"height": 90}, "must lie between 1 and 8"),
        ({"height": 361}, "even number of lines"),
        ({"crf": 52}, "outside 0 .. 51"),
        ({"codec": "ffv1"}, "does not go into out.mp4"),
        ({"bits": 16}, "x264 is written with 8 or 10"),
        ({"set": {"sharpness": "1"}}, "no knob 'sharpness'; there are: kernel"),
        ({"set": {"kernel": "cubic"}}, "kernel=cubic: choose from lanczos | bicubic"),
        ({"set": {"segment_frames": "4"}}, "outside 8 .. 100000"),
        ({"frames": (1000, None)}, "the source has frames 0:1000"),
        ({"frames": (5, 5)}, "there is nothing in it"),
        ({"engine": "magic"}, "engines/magic; there are: flashvsr, lite, resize"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_words(change, words) -> None:
    with pytest.raises(Usage) as refused:
        a_plan(change)
    assert words in str(refused.value)
    assert refused.value.exit_code == 2


def test_a_limit_chooses_a_lower_rung_and_the_same_recipe() -> None:
    roomy = a_plan()
    tight = a_plan(limits=Limits(ram=roomy.memory.ram - 1))
    assert tight.recipe == roomy.recipe
    assert tight.identity == roomy.identity
    assert tight.placement != roomy.placement
    assert tight.memory.ram < roomy.memory.ram


def test_what_does_not_fit_names_the_limit_and_what_fits() -> None:
    big = an_info(width=1920, height=1080)
    lowest = rungs(a_plan(info=big), find("engines", "resize"))[-1]
    assert (lowest.step, lowest.queue) == (1, 1)
    at_two = a_plan({"scale": Fraction(2)}, info=big)
    with pytest.raises(DoesNotFit) as refused:
        a_plan({"scale": Fraction(4)}, info=big, limits=Limits(ram=at_two.memory.ram))
    assert refused.value.exit_code == 4
    assert "are allowed (--ram)" in str(refused.value)
    assert "It fits with --scale 2" in str(refused.value)


def test_what_never_fits_says_the_least_that_does() -> None:
    with pytest.raises(DoesNotFit, match=r"--ram 0\.\d\dG"):
        a_plan(limits=Limits(ram=1 << 20))


def test_every_rung_needs_no_more_than_the_one_before() -> None:
    plan = a_plan(info=an_info(width=640, height=360))
    engine = find("engines", "resize")
    steps = rungs(plan, engine)
    needs = [a.step * (a.queue + 2) for a in steps]
    assert needs == sorted(needs, reverse=True)
    walked = [steps[0]]
    while (lower := ladder.below(steps, walked[-1])) is not None:
        walked.append(lower)
    assert walked == steps


@pytest.mark.parametrize(
    ("asked", "devices"),
    [("auto", ("cuda:0",)), ("all", ("cuda:0", "cuda:1")), ("cpu", ("cpu",)),
     ("cuda:0-1", ("cuda:0", "cuda:1")), ("cpu:1-3", ("cpu:1", "cpu:2", "cpu:3")),
     ("cuda:1", ("cuda:1",)), ("cpu:0,1", ("cpu:0", "cpu:1"))],
)  # fmt: skip
def test_devices(asked, devices) -> None:
    machine = a_machine(gpus=(a_gpu(), a_gpu(index=1)), torch="2.13.0")
    plan = a_plan({"engine": "lite"}, machine=machine, limits=Limits(devices=asked))
    assert plan.placement.devices == devices
    assert plan.memory.on_gpu == devices[0].startswith("cuda")


@pytest.mark.parametrize(
    "asked", ["gpu", "cuda:x", "cuda:0,0", "cuda:7", "cuda:1-0", "cuda:0-", "cuda:-1", "cpu:0,"]
)
def test_devices_that_are_not_there(asked) -> None:
    machine = a_machine(gpus=(a_gpu(),), torch="2.13.0")
    with pytest.raises(Usage, match="--devices"):
        a_plan({"engine": "lite"}, machine=machine, limits=Limits(devices=asked))


def test_a_gpu_that_torch_cannot_use_is_named() -> None:
    plan = a_plan({"engine": "lite"}, machine=a_machine(gpus=(a_gpu(),)))
    assert plan.placement.devices == ("cpu",)
    assert any("has no CUDA" in note for note in plan.notes)


@pytest.mark.parametrize(
    ("devices", "threads"), [("cpu", 6), ("cpu:0,1", 3), ("cpu:0,1,2,3", 1), ("cuda:0", 1)]
)
def test_cores_are_shared_out_and_the_encoder_s_threads_are_the_recipe_s(devices, threads) -> None:
    machine = a_machine(cores=6, gpus=(a_gpu(),), torch="2.13.0+cu130")
    plan = a_plan({"engine": "lite"}, machine=machine, limits=Limits(devices=devices))
    assert plan.placement.threads == threads
    assert plan.recipe.encoder.threads == a_plan().recipe.encoder.threads


def test_numerics_follow_flags_and_knobs() -> None:
    fast = a_machine(flags=("avx2", "avx512_bf16"))
    assert a_plan({"engine": "lite"}, machine=fast).recipe.numerics.dtype == "bfloat16"
    assert a_plan({"engine": "lite"}).recipe.numerics.dtype == "float32"
    told = {"engine": "lite", "set": {"dtype": "float32"}}
    assert a_plan(told, machine=fast).recipe.numerics.dtype == "float32"
    assert a_plan().recipe.numerics.torch is None


def test_deep_sources_keep_their_bits_where_the_codec_can() -> None:
    assert a_plan(info=an_info(bits=10)).recipe.output.bits == 10
    deep = a_plan(info=an_info(bits=12))
    assert deep.recipe.output.bits == 10
    assert any("12 bits" in note for note in deep.notes)
    archive = {"target": Path("out.mkv"), "codec": "ffv1"}
    assert a_plan(archive, info=an_info(bits=12)).recipe.output.bits == 12
