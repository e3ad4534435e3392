"""Samplers: the diffusers library's numbers, orders on a known flow, state kept and taken up."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from longtake.nets import schedules
from longtake.nets.samplers import SAMPLERS, State, _adams, ddim, sa_ode_stable
from tests.nets.flashvsr.goldens import difference
from tests.nets.formula import formula
from tests.nets.oracles import library, stored

SHAPE = (1, 4, 3, 5, 6)
STORED = ((4, 5.0), (14, 3.0), (30, 5.0), (50, 8.0))
"""Steps and shift of the stored trajectories."""


def velocity(x: torch.Tensor, time: float) -> torch.Tensor:
    """Something like a transformer: bent, of mixed channels, another one at every time."""
    mixed = x.roll(1, 1) + 0.5 * x.roll(1, -1)
    return torch.sin(mixed * 1.3 + time / 300) + 0.4 * x


def travelled(name, schedule, x, state=None, stop=None):
    """x and state before step `stop`; at the end, by default."""
    state = state or State()
    for step in range(state.step, schedule.steps if stop is None else stop):
        x, state = SAMPLERS[name](schedule.sigmas, x, velocity(x, schedule.times[step]), state)
    return x, state


# --- the library's numbers -----------------------------------------------------------------------


def unipc_there(steps: int, shift: float, sigmas=None) -> torch.Tensor:
    other = library("diffusers").UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift
    )
    other.set_timesteps(steps) if sigmas is None else other.set_timesteps(sigmas=np.array(sigmas))
    x = formula(SHAPE, 7) * 2
    for time in other.timesteps:
        x = other.step(velocity(x, float(time)), time, x, return_dict=False)[0]
    return x


@pytest.mark.parametrize("shift", [1.0, 3.0, 5.0, 8.0])
def test_unipc_is_the_library_s(shift) -> None:
    for steps in (1, 2, 3, 4, 5, 8, 14, 15, 20, 30, 40, 50):
        made, _ = travelled("unipc", schedules.diffusers(steps, shift), formula(SHAPE, 7) * 2)
        assert difference(made, unipc_there(steps, shift)) <= 1e-5, steps


@pytest.mark.parametrize("steps", [4, 20, 30, 40, 50])
def test_unipc_is_the_library_s_on_wan_s_own_levels(steps) -> None:
    schedule = schedules.official(steps, 5.0)
    made, _ = travelled("unipc", schedule, formula(SHAPE, 7) * 2)
    there = unipc_there(steps, 1.0, [float(sigma) for sigma in schedule.sigmas[:-1]])
    assert difference(made, there) <= 1e-5


def test_unipc_is_what_the_library_said() -> None:
    tensors, _ = stored("unipc")
    for steps, shift in STORED:
        made, _ = travelled("unipc", schedules.diffusers(steps, shift), formula(SHAPE, 7) * 2)
        assert difference(made, tensors[f"{steps}.{shift}"]) <= 1e-5


def test_euler_is_the_library_s() -> None:
    schedule = schedules.even(12, 5.0)
    other = library("diffusers").FlowMatchEulerDiscreteScheduler(shift=1.0)
    other.set_timesteps(sigmas=list(schedule.sigmas[:-1]))
    x = formula(SHAPE, 7)
    for time in other.timesteps:
        x = other.step(velocity(x, float(time)), time, x, return_dict=False)[0]
    assert difference(travelled("euler", schedule, formula(SHAPE, 7))[0], x) <= 1e-5


# --- a flow whose solution is known --------------------------------------------------------------

CENTRE, WIDTH = 0.7, 0.3  # of the clean values, which are normal


def gauss_velocity(x, sigma: float):
    spread = (1 - sigma) ** 2 * WIDTH**2 + sigma**2
    away = x - (1 - sigma) * CENTRE
    return (sigma - (1 - sigma) * WIDTH**2) / spread * away - CENTRE


def gauss_end(x, start: float, stop: float = 0.0):
    def spread(sigma):
        return math.sqrt((1 - sigma) ** 2 * WIDTH**2 + sigma**2)

    return (1 - stop) * CENTRE + spread(stop) / spread(start) * (x - (1 - start) * CENTRE)


def gauss_error(name: str, sigmas) -> float:
    """Of the place where a sampler ends, for values over the whole range of noise."""
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)
    wanted, state = gauss_end(x, sigmas[0], sigmas[-1]), State()
    for sigma in sigmas[:-1]:
        x, state = SAMPLERS[name](sigmas, x, gauss_velocity(x, sigma), state)
    return float((x - wanted).abs().max())


def slope(name: str, table) -> float:
    """By how many powers of two the error falls when steps are halved."""
    errors = [gauss_error(name, table(steps)) for steps in (80, 160, 320, 640)]
    return math.log2(errors[0] / errors[-1]) / 3


def part(start: float, stop: float):
    """Even levels from `start` to `stop`."""
    return lambda steps: [start + (stop - start) * i / steps for i in range(steps + 1)]


@pytest.mark.parametrize(
    ("name", "start", "stop", "order"),
    [
        ("euler", 0.999, 0, 1.0),
        ("ddim", 0.999, 0, 1.0),
        ("unipc", 0.999, 0, 2.0),  # the last step is of order 1
        ("unipc", 0.9, 0.2, 2.9),
        ("sa_ode_stable", 0.999, 0.2, 2.2),
        ("sa_ode_stable", 0.65, 0.2, 2.1),  # starts with a step of Euler's
        ("sa_ode_stable", 0.999, 0, 0.85),  # smoothed velocities are late
    ],
)
def test_order_on_a_known_flow(name, start, stop, order) -> None:
    assert slope(name, part(start, stop)) == pytest.approx(order, abs=0.12)


def test_higher_orders_are_nearer() -> None:
    table = schedules.even(30, 3.0).sigmas
    errors = {name: gauss_error(name, table) for name in SAMPLERS}
    assert errors["unipc"] < errors["euler"] / 3
    assert errors["ddim"] == pytest.approx(errors["euler"])
    assert errors["sa_ode_stable"] < errors["euler"]


def test_pure_noise_is_a_start_like_any_other() -> None:
    for name in SAMPLERS:
        at_one, below = (gauss_error(name, [s, 0.9, 0.6, 0.3, 0]) for s in (1.0, 1 - 1e-9))
        assert at_one == pytest.approx(below, rel=1e-3), name
        assert math.isfinite(gauss_error(name, schedules.distilled().sigmas))


# --- rules of each -------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(steps=st.integers(1, 30), shift=st.floats(0.5, 12), seed=st.integers(0, 99))
def test_ddim_without_noise_is_euler(steps, shift, seed) -> None:
    schedule, x = schedules.even(steps, shift), formula(SHAPE, seed)
    assert difference(travelled("ddim", schedule, x)[0], travelled("euler", schedule, x)[0]) <= 1e-5


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_ddim_keeps_the_spread(eta) -> None:
    """A clean latent that is known: whatever eta, the next one has noise of just its level."""
    generator = torch.Generator().manual_seed(0)
    old, fresh = torch.randn(2, 400_000, generator=generator, dtype=torch.float64)
    clean, (now, to) = 0.4, (0.8, 0.5)
    x = (1 - now) * clean + now * old
    made, _ = ddim((now, to, 0), x, old - clean, State(), eta, fresh)
    left = made - (1 - to) * clean
    assert left.mean().abs() < 2e-3
    assert left.std() == pytest.approx(to, rel=3e-3)
    share = float((left * fresh).mean() / to)
    gone = math.sqrt(1 - ((1 - now) * to / ((1 - to) * now)) ** 2)
    assert share == pytest.approx(eta * gone, abs=5e-3)


def test_ddim_wants_noise_for_its_eta() -> None:
    x = torch.zeros(3)
    for eta, noise in ((0.5, None), (-1, x), (1.1, x)):
        with pytest.raises(ValueError, match=f"eta must be 0 to 1, .* not {eta}"):
            ddim((1, 0), x, x, State(), eta, noise)


def test_weights_of_equal_steps_are_the_known_ones() -> None:
    assert _adams([0.5], 0.4) == pytest.approx([1])
    assert _adams([0.6, 0.5], 0.4) == pytest.approx([-1 / 2, 3 / 2])
    assert _adams([0.7, 0.6, 0.5], 0.4) == pytest.approx([5 / 12, -16 / 12, 23 / 12])


@given(steps=st.lists(st.floats(0.01, 0.3), min_size=4, max_size=4))
def test_weights_of_any_steps_are_exact_for_parabolas(steps) -> None:
    *levels, to = [1 - sum(steps[: i + 1]) for i in range(4)]
    weights = _adams(levels, to)
    for power in range(3):
        made = sum(w * s**power for w, s in zip(weights, levels, strict=True))
        start = levels[-1]
        mean = (to ** (power + 1) - start ** (power + 1)) / (power + 1) / (to - start)
        assert made == pytest.approx(mean, abs=1e-6)


def test_sa_ode_stable_by_hand() -> None:
    """On equal steps, where the published weights are right, by the published rules."""
    steps = 40
    sigmas = [1 - i / steps for i in range(steps + 1)]
    x = y = torch.linspace(-2, 2, 5, dtype=torch.float64)
    state, past, calm = State(), [], None
    for i, sigma in enumerate(sigmas[:-1]):
        x, state = sa_ode_stable(sigmas, x, gauss_velocity(x, sigma), state)
        past.append(gauss_velocity(y, sigma))
        order = min(2 if sigma > 0.7 else 3 if sigma > 0.15 else 2, len(past))
        known = {1: [1], 2: [1.5, -0.5], 3: [23 / 12, -16 / 12, 5 / 12]}[order]
        v = sum(w * past[-1 - k] for k, w in enumerate(known))
        if sigma < 0.15:
            v = 0.8 * calm + 0.2 * v
        calm = v
        y = y - v / steps
        torch.testing.assert_close(x, y, atol=1e-9, rtol=0, msg=lambda m, i=i: f"step {i}: {m}")
    assert len(state.kept) == 3


def test_few_steps_are_not_smoothed() -> None:
    sigmas = [1 - i / 8 for i in range(9)]
    x = y = torch.linspace(-2, 2, 5, dtype=torch.float64)
    state, past = State(), []
    for sigma in sigmas[:-1]:
        x, state = sa_ode_stable(sigmas, x, gauss_velocity(x, sigma), state)
        past.append(gauss_velocity(y, sigma))
        y = y - (1.5 * past[-1] - 0.5 * past[-2] if len(past) > 1 else past[-1]) / 8
    torch.testing.assert_close(x, y, atol=1e-9, rtol=0)


def test_a_step_too_many_is_refused() -> None:
    for name in SAMPLERS:
        x, state = travelled(name, schedules.even(3, 3.0), formula(SHAPE, 1))
        with pytest.raises(ValueError, match="no step 3: the schedule has 3"):
            SAMPLERS[name](schedules.even(3, 3.0).sigmas, x, x, state)


# --- state ---------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(sorted(SAMPLERS)),
    steps=st.integers(1, 24),
    cut=st.integers(0, 24),
    shift=st.sampled_from([1.0, 5.0]),
)
def test_put_down_and_taken_up_is_straight_through(name, steps, cut, shift) -> None:
    schedule, x = schedules.official(steps, shift), formula(SHAPE, steps)
    straight, last = travelled(name, schedule, x)
    half, state = travelled(name, schedule, x, stop=min(cut, steps))
    written = save({"x": half, **state.kept}, {"step": str(state.step)})
    read = load(written)
    again, end = travelled(name, schedule, read.pop("x"), State(min(cut, steps), read))
    assert torch.equal(again, straight)
    assert end.step == last.step == steps
    assert all(torch.equal(v, last.kept[k]) for k, v in end.kept.items())


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_it_computes_in_the_dtype_of_x(name) -> None:
    """A transformer in bfloat16 does not make latents of bfloat16."""
    schedule, x, state = schedules.official(6, 3.0), formula(SHAPE, 2), State()
    given = x.clone()
    for step in range(6):
        before = x.clone()
        said = velocity(x, schedule.times[step]).to(torch.bfloat16)
        made, state = SAMPLERS[name](schedule.sigmas, x, said, state)
        assert torch.equal(x, before)  # nothing given is changed
        x = made
        assert x.dtype == torch.float32
        assert all(v.dtype == torch.float32 and v.shape == SHAPE for v in state.kept.values())
    assert difference(x, given) > 0.1
    assert len(state.kept) == {"unipc": 3, "sa_ode_stable": 3}.get(name, 0)
