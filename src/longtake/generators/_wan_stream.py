"""From noise to the latents of a film, step by step; it may be put down between any two steps.

    conditions = prepare(parts, sampling, text, unwanted, image, device)
    for checkpoint in denoise(parts, conditions, sampling, start, device): ...

A step is a pure function of (latents, what the sampler remembers, conditions), so that a film taken
up from any checkpoint is the film made in one go, bit for bit.

Source: https://github.com/Wan-Video/Wan2.1, wan/text2video.py and wan/image2video.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from longtake.core import faults
from longtake.core.errors import BadInput, NotANumber
from longtake.engines._noise import noise
from longtake.engines._parts import Parts
from longtake.generators import _wan_store as store
from longtake.generators._wan_grid import CHANNELS
from longtake.generators._wan_image import Seen
from longtake.nets import schedules
from longtake.nets.samplers import SAMPLERS, State
from longtake.nets.schedules import Schedule
from longtake.nets.wan.block import Given, Moment, Settings
from longtake.nets.wan.dit import DiT, Sample

SCHEDULES: Final[dict[str, Callable[[int, float], Schedule]]] = {
    "unipc": schedules.official,
    "euler": schedules.even,
    "ddim": schedules.even,
    "sa_ode_stable": schedules.cosine,
}
"""By sampler: the noise levels that it is published with, from steps and shift. Four steps of
`even` are the levels of `schedules.distilled`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How noise becomes latents. All but `together` decides the film."""

    sampler: str
    schedule: Schedule
    guidance: float = 1.0
    """How far to go from what is unwanted beyond what is asked for; 1: what is unwanted is not
    evaluated at all."""
    settings: Settings = field(default_factory=Settings)
    together: bool = True
    """Both branches of guidance go through a block while it is there, so that a block is brought
    once per step and not twice; else one after the other, in less memory. Bits are equal."""

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise ValueError(f"no sampler {self.sampler!r}; there are {', '.join(SAMPLERS)}")
        if not self.guidance >= 1:
            raise ValueError(f"guidance must be at least 1, not {self.guidance}")

    @property
    def guided(self) -> bool:
        return self.guidance > 1


def sampling(
    sampler: str, steps: int, shift: float, guidance: float, settings: Settings, together: bool
) -> Sampling:
    """By the names and numbers of knobs. Raises ValueError."""
    if sampler not in SCHEDULES:
        raise ValueError(f"no sampler {sampler!r}; there are {', '.join(SCHEDULES)}")
    return Sampling(
        sampler=sampler,
        schedule=SCHEDULES[sampler](steps, shift),
        guidance=guidance,
        settings=settings,
        together=together,
    )


# --- what is carried -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """All that a film is between two steps, on the host."""

    latents: Tensor
    """[16, F, H / 8, W / 8], float32."""
    state: State
    """What the sampler remembers, of the same shape."""

    @property
    def step(self) -> int:
        """The next one."""
        return self.state.step


def begin(seed: int, frames: range, size: tuple[int, int], device: torch.device) -> Checkpoint:
    """Noise of the latents with these numbers in the film; `size` is (width, height) in latent px.
    It belongs to its place: see `_noise`."""
    width, height = size
    drawn = noise(seed, frames, CHANNELS, range(height), range(width), device)
    return Checkpoint(latents=drawn[0].float().cpu(), state=State())


def save(path: Path, checkpoint: Checkpoint, identity: str) -> None:
    """Put it in the place of an earlier one, whole or not at all."""
    tensors = {_LATENTS: checkpoint.latents, **checkpoint.state.kept}
    store.write(path, tensors, {"identity": identity, "step": str(checkpoint.step)})


def saved(path: Path, identity: str) -> Checkpoint | None:
    """The one that is there; None where there is none. Raises BadInput for one that is damaged or
    belongs to another recipe."""
    try:
        tensors, facts = store.read(path)
    except FileNotFoundError:
        return None
    if facts.get("identity") != identity:
        raise BadInput(
            f"{path} belongs to another job ({facts.get('identity')} instead of {identity}); "
            f"remove it to begin anew."
        )
    latents = tensors.pop(_LATENTS)
    return Checkpoint(latents=latents, state=State(int(facts["step"]), tensors))


_LATENTS: Final = "x"


# --- once ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What all steps are told, on the device."""

    given: tuple[Given, ...]
    """Of the prompt and, with guidance, of what is unwanted."""
    moments: tuple[Moment, ...]
    """One for each step."""
    beside: Tensor | None = None
    """[20, F, H / 8, W / 8], of an image: see `_wan_image`."""


def prepare(
    parts: Parts,
    sampling: Sampling,
    texts: tuple[Tensor, Tensor | None],
    seen: Seen | None,
    device: torch.device,
) -> Conditions:
    """From the embeddings [length, 4096] of the prompt and of what is unwanted (needed with
    guidance only), and what is seen of an image. This is the conditioner's only turn. Raises
    ValueError for an image where the model takes none, or the other way round."""
    wanted, unwanted = texts
    if sampling.guided and unwanted is None:
        raise ValueError(f"guidance {sampling.guidance} needs a second text, even an empty one")
    both = (wanted, unwanted) if sampling.guided and unwanted is not None else (wanted,)
    conditioner = parts.turn("conditioner")
    assert isinstance(conditioner, DiT)
    config = conditioner.config
    if (config.enter > config.leave) != (seen is not None):
        raise ValueError("this model takes " + ("no image" if seen is not None else "an image"))
    with torch.inference_mode():
        tokens = None if seen is None or seen.tokens is None else seen.tokens.to(device)
        return Conditions(
            given=tuple(conditioner.give(text.to(device), tokens) for text in both),
            moments=tuple(conditioner.moment(time) for time in sampling.schedule.times),
            beside=None if seen is None else seen.beside.to(device),
        )


# --- every step ----------------------------------------------------------------------------------


def denoise(
    parts: Parts,
    conditions: Conditions,
    sampling: Sampling,
    start: Checkpoint,
    device: torch.device,
) -> Iterator[Checkpoint]:
    """A checkpoint behind each step that is left; the last one's latents are the film. Raises
    NotANumber, ValueError for a start beyond the schedule."""
    steps = sampling.schedule.steps
    if not 0 <= start.step <= steps:
        raise ValueError(f"the checkpoint is at step {start.step}, the schedule has {steps}")
    x = start.latents.to(device)
    state = State(start.step, {name: kept.to(device) for name, kept in start.state.kept.items()})
    while state.step < steps:
        faults.strike("compute")
        x, state = _stepped(parts, conditions, sampling, x, state)
        _checked(x, state.step, steps)
        kept = {name: tensor.cpu() for name, tensor in state.kept.items()}
        yield Checkpoint(latents=x.cpu(), state=State(state.step, kept))


def _stepped(
    parts: Parts, conditions: Conditions, sampling: Sampling, x: Tensor, state: State
) -> tuple[Tensor, State]:
    transformer = parts.turn("transformer")
    assert isinstance(transformer, DiT)
    with torch.inference_mode():
        velocity = _velocity(transformer, conditions, sampling, x, state.step)
        if faults.strike("values") == "nan":
            velocity = velocity * float("nan")
        return SAMPLERS[sampling.sampler](sampling.schedule.sigmas, x, velocity, state)


def _velocity(
    transformer: DiT, conditions: Conditions, sampling: Sampling, x: Tensor, step: int
) -> Tensor:
    """[16, F, H / 8, W / 8], float32."""
    entering = x if conditions.beside is None else torch.cat((x, conditions.beside))
    moment = conditions.moments[step]
    samples = [Sample(entering, moment, given) for given in conditions.given]
    if sampling.together:
        made = transformer(samples, sampling.settings)
    else:
        made = [transformer([sample], sampling.settings)[0] for sample in samples]
    if len(made) == 1:
        found: Tensor = made[0]
        return found
    wanted, unwanted = made
    guided: Tensor = unwanted + sampling.guidance * (wanted - unwanted)
    return guided


def _checked(x: Tensor, step: int, steps: int) -> None:
    wrong = int((~x.isfinite()).sum())
    if wrong:
        raise NotANumber(
            f"{wrong} of {x.numel()} latents after step {step} of {steps}. float16 is too narrow "
            f"for Wan's transformers: take dtype=bfloat16 or float32."
        )
