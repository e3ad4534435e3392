"""Through which noise levels a sampler goes.

Noise level sigma: x = (1 - sigma) * clean + sigma * noise; a film begins at 1 or just below and
ends at 0. The transformer is told the level as a time, 1000 * sigma. A shift s above 1 spends more
steps on high levels: s * sigma / (1 + (s - 1) * sigma). Wan takes 3 for 480p, 5 for 720p.

Levels are float32 values, as in the libraries from which they come.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import torch

TIMES: Final = 1000
"""Levels in training."""
DISTILLED: Final = (1000, 750, 500, 250)
"""Times, before the shift, at which the 4-step models were distilled."""


@dataclass(frozen=True, slots=True)
class Schedule:
    sigmas: tuple[float, ...]
    """Falling; one more than steps, the last is 0."""
    times: tuple[float, ...]
    """What the transformer is told, one for each step."""

    def __post_init__(self) -> None:
        if len(self.sigmas) != len(self.times) + 1 or self.sigmas[-1] != 0 or not self.times:
            raise ValueError(
                f"{len(self.times)} steps need {len(self.times) + 1} levels that end with 0: "
                f"{self.sigmas}"
            )
        if any(a <= b for a, b in zip(self.sigmas, self.sigmas[1:], strict=False)):
            raise ValueError(f"noise levels must fall from step to step: {self.sigmas}")

    @property
    def steps(self) -> int:
        return len(self.times)


def official(steps: int, shift: float) -> Schedule:
    """Wan's own for UniPC: evenly from 0.999, times cut to whole numbers.

    Source: https://github.com/Wan-Video/Wan2.1, wan/utils/fm_solvers_unipc.py, as text2video.py
    calls it.
    """
    highest = _single([1 - 1 / TIMES])[0]
    return _whole_times(shifted(_even(highest, 0, steps), shift))


def diffusers(steps: int, shift: float) -> Schedule:
    """UniPCMultistepScheduler's with use_flow_sigmas: evenly from 1 to 1 / 1000 and then to 0.

    Source: https://github.com/huggingface/diffusers, scheduling_unipc_multistep.py (0.42).
    """
    sigmas = shifted(_even(1, 1 / TIMES, steps), shift)
    return _whole_times([min(sigma, 1 - 1e-6) for sigma in sigmas])


def even(steps: int, shift: float) -> Schedule:
    """Evenly from 1. Source: `get_sampling_sigmas` of Wan2.1's wan/utils/fm_solvers.py."""
    return _exact_times(shifted(_even(1, 0, steps), shift))


def cosine(steps: int, shift: float) -> Schedule:
    """Short first and last steps: (1 + cos(pi t)) / 2. As `sa_ode_stable` is published, which goes
    evenly up to ten steps."""
    if steps <= 10:
        return even(steps, shift)
    return _exact_times(
        shifted([(1 + math.cos(math.pi * i / steps)) / 2 for i in range(steps)], shift)
    )


def distilled(shift: float = 5.0, times: Sequence[int] = DISTILLED) -> Schedule:
    """Of models distilled to few steps; to be run without guidance.

    Source: https://github.com/ModelTC/LightX2V, schedulers/wan/step_distill/scheduler.py and
    configs/distill/wan21.
    """
    return _exact_times(shifted([time / TIMES for time in times], shift))


def shifted(sigmas: Iterable[float], shift: float) -> list[float]:
    """Raises ValueError for a shift that is not above 0."""
    if not shift > 0:
        raise ValueError(f"the shift of a schedule must be above 0, not {shift}")
    return [shift * sigma / (1 + (shift - 1) * sigma) for sigma in sigmas]


def _even(start: float, stop: float, steps: int) -> list[float]:
    """`steps` levels from `start`; one more would be `stop`. In the arithmetic of numpy.linspace,
    since times are cut to whole numbers."""
    if steps < 1:
        raise ValueError(f"a schedule needs at least 1 step, not {steps}")
    width = (stop - start) / steps
    return [i * width + start for i in range(steps)]


def _whole_times(sigmas: Sequence[float]) -> Schedule:
    return Schedule(_single(sigmas), tuple(float(int(sigma * TIMES)) for sigma in sigmas))


def _exact_times(sigmas: Sequence[float]) -> Schedule:
    return Schedule(_single(sigmas), tuple(sigma * TIMES for sigma in sigmas))


def _single(sigmas: Sequence[float]) -> tuple[float, ...]:
    """Rounded to float32, and the 0 behind them."""
    return (*torch.tensor(sigmas, dtype=torch.float64).float().tolist(), 0.0)
