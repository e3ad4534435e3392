"""Noise levels: the libraries' own tables, and what holds for any of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.nets.schedules import Schedule, cosine, diffusers, distilled, even, official
from tests.nets.oracles import library

KINDS = {"official": official, "diffusers": diffusers, "even": even, "cosine": cosine}


@pytest.mark.parametrize("shift", [1.0, 3.0, 5.0, 8.0])
def test_diffusers_levels_and_times(shift) -> None:
    other = library("diffusers").UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift
    )
    for steps in range(1, 101):
        other.set_timesteps(steps)
        made = diffusers(steps, shift)
        assert list(made.sigmas) == other.sigmas.tolist()
        assert list(made.times) == other.timesteps.tolist()


@pytest.mark.parametrize("shift", [1, 3.0, 5.0, 12])
def test_official_levels_and_times(shift) -> None:
    """As in fm_solvers_unipc.py: levels of training in float32, numpy.linspace, shift, cut."""
    trained = (1 - np.linspace(1, 1 / 1000, 1000)[::-1]).astype(np.float32)
    for steps in range(1, 101):
        levels = np.linspace(trained[0].item(), trained[-1].item(), steps + 1)[:-1]
        levels = shift * levels / (1 + (shift - 1) * levels)
        made = official(steps, shift)
        assert list(made.sigmas) == [*levels.astype(np.float32).tolist(), 0]
        assert list(made.times) == (levels * 1000).astype(np.int64).tolist()


def test_distilled_levels() -> None:
    made = distilled()
    assert made.sigmas == pytest.approx((1, 0.9375, 5 / 6, 0.625, 0), abs=1e-7)
    assert made.times == pytest.approx((1000, 937.5, 2500 / 3, 625))
    assert distilled(shift=1, times=(1000, 500)).sigmas == (1, 0.5, 0)


def test_other_levels_by_hand() -> None:
    assert even(4, 1).sigmas == (1, 0.75, 0.5, 0.25, 0)
    assert even(2, 3).sigmas == (1, 0.75, 0)
    assert even(2, 3).times == (1000, 750)
    assert cosine(4, 1) == even(4, 1)
    assert cosine(12, 1).sigmas[4:9:4] == pytest.approx((0.75, 0.25))


@given(
    kind=st.sampled_from(sorted(KINDS)),
    steps=st.integers(1, 200),
    shift=st.floats(0.5, 20, allow_subnormal=False),
)
def test_levels_fall_from_nearly_1_to_0(kind, steps, shift) -> None:
    made = KINDS[kind](steps, shift)
    assert made.steps == steps
    assert 0.99 < made.sigmas[0] <= 1
    assert made.sigmas[-1] == 0
    assert all(0 <= time <= 1000 for time in made.times)
    assert all(abs(1000 * s - t) <= 1.001 for s, t in zip(made.sigmas, made.times, strict=False))


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 step, not 0"):
        official(0, 5)
    with pytest.raises(ValueError, match="above 0, not -1"):
        even(4, -1)
    with pytest.raises(ValueError, match="must fall"):
        distilled(times=(500, 750))
    with pytest.raises(ValueError, match="2 steps need 3 levels"):
        Schedule((1, 0.5, 0.1), (1000, 500))
