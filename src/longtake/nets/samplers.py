"""Samplers: from noise to a latent along the velocity that the transformer predicts.

    state = State()
    for time in schedule.times:
        velocity = transformer(x, time)
        x, state = sampler(schedule.sigmas, x, velocity, state)

Velocity v = noise - clean, where x = (1 - sigma) * clean + sigma * noise, so dx / dsigma = v and
x - sigma * v is the clean latent that it believes in. All that a sampler remembers is its `State`:
a film may be put down between any two steps and taken up again. They compute in the dtype of x
(float32, whatever the transformer's); coefficients in float64 on the host.

| name          | order | remembers (latents) |
|---------------|-------|---------------------|
| euler, ddim   | 1     | 0                   |
| unipc         | 2     | 3                   |
| sa_ode_stable | 1     | 3                   |

Orders are measured in tests/nets/test_samplers.py on a flow whose solution is known, from noise to
0. Away from 0, where unipc makes its last, plain step and sa_ode_stable smooths, they are 3 and 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor

Sigmas = Sequence[float]


@dataclass(frozen=True, slots=True)
class State:
    """What a sampler remembers between two steps; the default begins a film."""

    step: int = 0
    """The next one."""
    kept: Mapping[str, Tensor] = field(default_factory=dict)
    """Latents by name, each of the shape and dtype of x; none is called "x"."""


Sampler = Callable[[Sigmas, Tensor, Tensor, State], tuple[Tensor, State]]
"""(sigmas, x, velocity, state) -> x of the next level, and the state behind it."""


def euler(sigmas: Sigmas, x: Tensor, velocity: Tensor, state: State) -> tuple[Tensor, State]:
    """Straight on."""
    now, to = _levels(sigmas, state)
    return x + (to - now) * velocity.to(x.dtype), State(state.step + 1)


def ddim(
    sigmas: Sigmas,
    x: Tensor,
    velocity: Tensor,
    state: State,
    eta: float = 0.0,
    noise: Tensor | None = None,
) -> tuple[Tensor, State]:
    """DDIM for a flow: the clean latent and the noise that the velocity implies, mixed anew for the
    next level. With eta 0 it is Euler's method, but for rounding. With eta up to 1, part of the
    noise is replaced by `noise`, standard normal, of x's shape.

    Source: https://arxiv.org/abs/2010.02502, eq. 12 and 16, with alpha = 1 - sigma. Raises
    ValueError if eta is not in [0, 1] or `noise` is missing.
    """
    if not 0 <= eta <= 1 or (eta > 0 and noise is None):
        raise ValueError(f"eta must be 0 to 1, and needs noise above 0, not {eta}")
    now, to = _levels(sigmas, state)
    velocity = velocity.to(x.dtype)
    clean, old = x - now * velocity, x + (1 - now) * velocity
    if noise is None or eta == 0:
        return (1 - to) * clean + to * old, State(state.step + 1)
    nearer = (1 - now) * to / ((1 - to) * now)  # signal to noise, here over there
    fresh = eta * to * math.sqrt(1 - nearer**2)
    made = (1 - to) * clean + math.sqrt(to**2 - fresh**2) * old + fresh * noise.to(x.dtype)
    return made, State(state.step + 1)


# --- UniPC ---------------------------------------------------------------------------------------


def unipc(sigmas: Sigmas, x: Tensor, velocity: Tensor, state: State) -> tuple[Tensor, State]:
    """UniPC of order 2 in the variant B2 ("bh2"), predicting clean latents: Wan's default.

    Each step first corrects the x it is given by what the transformer has just said of it, then
    predicts. The first step and the last are of order 1.

    With g = 1 - sigma' / sigma a step is x' = (1 - g) x + g (clean + sum of rho * D), where the
    D are differences of clean latents over ratios of steps in lambda = log((1 - sigma) / sigma).
    Source: https://arxiv.org/abs/2302.04867, section 3 and appendix; numbers equal those of
    UniPCMultistepScheduler in https://github.com/huggingface/diffusers.
    """
    now, to = _levels(sigmas, state)
    step, kept = state.step, state.kept
    clean = x - now * velocity.to(x.dtype)
    if step > 0:
        x = _corrected(sigmas, step, kept, clean)
    mixed = clean
    if step > 0 and to > 0:
        ratio = _ratio(sigmas[step - 1], now, to)
        mixed = clean + (0.5 / ratio) * (kept["clean"] - clean)
    gain = 1 - to / now
    earlier = {"earlier": kept["clean"]} if step > 0 else {}
    state = State(step + 1, {"start": x, "clean": clean, **earlier})
    return (1 - gain) * x + gain * mixed, state


def _corrected(sigmas: Sigmas, step: int, kept: Mapping[str, Tensor], clean: Tensor) -> Tensor:
    """The latent of this step, again, now that its own clean latent is known."""
    start, now = sigmas[step - 1], sigmas[step]
    before = kept["clean"]
    if step == 1:
        mixed = before + 0.5 * (clean - before)
    else:
        ratio = _ratio(sigmas[step - 2], start, now)
        older, newer = _corrector_weights(_log_ratio(now) - _log_ratio(start), ratio)
        mixed = before + (older / ratio) * (kept["earlier"] - before) + newer * (clean - before)
    gain = 1 - now / start
    return (1 - gain) * kept["start"] + gain * mixed


def _corrector_weights(h: float, ratio: float) -> tuple[float, float]:
    """rho of the older and of the newer difference: R rho = b of the paper, for B2."""
    grown = math.expm1(-h)
    first = -grown / h - 1
    second = -first / h - 0.5
    b1, b2 = first / grown, 2 * second / grown
    older = (b1 - b2) / (1 - ratio)
    return older, b1 - older


def _ratio(before: float, start: float, to: float) -> float:
    """The step that led to `start` over the one to be made, in lambda; below 0."""
    here = _log_ratio(start)
    return (_log_ratio(before) - here) / (_log_ratio(to) - here)


def _log_ratio(sigma: float) -> float:
    """lambda; from pure noise it is as far as can be, and what was known there counts nothing."""
    return math.log((1 - sigma) / sigma) if sigma < 1 else -math.inf


# --- sa_ode_stable -------------------------------------------------------------------------------

SETTLING: Final = 0.15
"""The noise level from which on velocities are smoothed."""
EARLY: Final = 0.7
"""The noise level down to which order 2 is enough."""
SMOOTHING: Final = 0.8
"""Of the smoothed velocity, what is kept from step to step."""
FEW_STEPS: Final = 8
"""Up to so many, order 2 and no smoothing."""


def sa_ode_stable(
    sigmas: Sigmas, x: Tensor, velocity: Tensor, state: State
) -> tuple[Tensor, State]:
    """A multistep method (Adams-Bashforth) of order 2 at high noise, 3 below it and 2 at the end,
    where a moving average calms the velocity: steady pictures for less accuracy.

    Rules and numbers are those of `FlowMatchSAODEStableScheduler` of
    https://github.com/eddyhhlure1Eddy/ode-ComfyUI-WanVideoWrapper. Two things are different: the
    weights follow the true lengths of steps (there they are those of equal steps), and every step
    goes the whole way to its noise level (there the last ones stop short of it and leave noise).
    """
    now, to = _levels(sigmas, state)
    kept, velocity = state.kept, velocity.to(x.dtype)
    names = [name for name in ("earlier", "velocity") if name in kept]
    past = [kept[name] for name in names] + [velocity]
    count = min(_order(now, len(sigmas) - 1), len(past))
    weights = _adams(sigmas[state.step - count + 1 : state.step + 1], to)
    moved = sum((w * v for w, v in zip(weights, past[-count:], strict=True)), torch.zeros_like(x))
    if len(sigmas) - 1 > FEW_STEPS and now < SETTLING and "smoothed" in kept:
        moved = SMOOTHING * kept["smoothed"] + (1 - SMOOTHING) * moved
    remembered = dict(zip(("velocity", "earlier"), reversed(past), strict=False))
    return x + (to - now) * moved, State(state.step + 1, {**remembered, "smoothed": moved})


def _order(sigma: float, steps: int) -> int:
    return 3 if steps > FEW_STEPS and SETTLING < sigma <= EARLY else 2


def _adams(levels: Sigmas, to: float) -> list[float]:
    """Weights of the velocities at `levels`, which end where the step starts: their sum is the mean
    velocity on the way to `to`, exact for polynomials."""
    start, length = levels[-1], to - levels[-1]
    places = torch.tensor([(level - start) / length for level in levels], dtype=torch.float64)
    powers = torch.arange(len(levels))
    means = 1 / (powers.double() + 1)
    weights: list[float] = torch.linalg.solve(places ** powers[:, None], means).tolist()
    return weights


# -------------------------------------------------------------------------------------------------

SAMPLERS: Final[dict[str, Sampler]] = {
    "unipc": unipc,
    "euler": euler,
    "ddim": ddim,
    "sa_ode_stable": sa_ode_stable,
}


def _levels(sigmas: Sigmas, state: State) -> tuple[float, float]:
    """Where the step starts and where it goes."""
    if not 0 <= state.step < len(sigmas) - 1:
        raise ValueError(f"there is no step {state.step}: the schedule has {len(sigmas) - 1}")
    return sigmas[state.step], sigmas[state.step + 1]
