"""Plans survive JSON; what is not a plan is refused with the field at fault."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.core.media import Color, VideoInfo
from longtake.core.plain import differences, from_plain, to_plain
from longtake.core.plan import Plan
from longtake.core.task import Upscale
from tests.plans import a_plan


@given(
    st.builds(
        Upscale,
        source=st.builds(Path, st.text("abc/ä .", min_size=1)),
        target=st.just(Path("out.mkv")),
        scale=st.none() | st.sampled_from([Fraction(3, 2), Fraction(4)]),
        height=st.none() | st.integers(),
        set=st.dictionaries(st.text(max_size=5), st.integers() | st.booleans() | st.text()),
        frames=st.tuples(st.integers(), st.none() | st.integers()),
        rate=st.none() | st.fractions(),
        drop=st.lists(st.sampled_from(["audio", "tail"])).map(tuple),
    )
)
def test_a_task_survives_json(task: Upscale) -> None:
    assert from_plain(Upscale, json.loads(json.dumps(to_plain(task)))) == task


def test_a_plan_survives_json_and_keeps_its_identity() -> None:
    plan = a_plan()
    again = Plan.from_json(plan.to_json())
    assert again == plan
    assert again.identity == plan.identity


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("geometry", "frames"), "many", "geometry.frames: 'many' is not int"),
        (("recipe", "output", "rate"), "1/0", "recipe.output.rate"),
        (("segments",), {}, "segments: {} is not tuple"),
        (("recipe", "encoder", "codec"), "mpeg1", "recipe.encoder.codec"),
        (("recipe", "colour"), 1, "Recipe has no field colour"),
        (("version",), 99, "not a plan of version"),
    ],
)
def test_what_is_not_a_plan_is_refused_by_field(path, value, words) -> None:
    stored = json.loads(a_plan().to_json())
    at = stored
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = value
    with pytest.raises(ValueError) as refused:
        Plan.from_json(json.dumps(stored))
    assert words in str(refused.value)


def test_a_missing_field_is_named() -> None:
    stored = json.loads(a_plan().to_json())
    del stored["recipe"]["seed"]
    with pytest.raises(ValueError, match="seed"):
        Plan.from_json(json.dumps(stored))


def test_differences_name_every_leaf() -> None:
    a = VideoInfo(
        path=Path("a"), container="mp4", codec="h264", width=2, height=2, frames=1,
        rate=Fraction(24), time_base=Fraction(1, 24), color=Color(matrix=1),
    )  # fmt: skip
    b = replace(a, width=4, color=Color(matrix=6))
    assert differences(to_plain(a), to_plain(b)) == ["width: 2 -> 4", "color.matrix: 1 -> 6"]


def test_placement_is_no_part_of_the_identity_but_the_recipe_is() -> None:
    plan = a_plan()
    moved = replace(plan, placement=replace(plan.placement, step=1, devices=("cuda:3",)))
    assert moved.identity == plan.identity
    other = replace(plan, recipe=replace(plan.recipe, seed=plan.recipe.seed + 1))
    assert other.identity != plan.identity
