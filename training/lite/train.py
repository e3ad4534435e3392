"""Train `lite` on pictures that a program draws. No data set, no download. See README.md beside
this file.

python -m training.lite.train --folder run --minutes 9 --schedule-minutes 9
python -m training.lite.train --folder run --minutes 9 --schedule-minutes 27 --resume
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # of the workers, which are many
    os.environ.setdefault(_variable, "1")

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from longtake.nets.lite import LiteConfig  # noqa: E402
from training.lite import evaluate  # noqa: E402
from training.lite.checkpoint import (  # noqa: E402
    export,
    load_plain,
    read_checkpoint,
    write_checkpoint,
)
from training.lite.crisp import Adversary, CrispRecipe, bands, grey  # noqa: E402
from training.lite.network import LIVELY, liveliness, split, trainable  # noqa: E402
from training.lite.samples import Pool, SampleRecipe, Workers, make_sample  # noqa: E402


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRecipe:
    """What decides the weights, but for the order in which workers finish."""

    net: LiteConfig = field(default_factory=LiteConfig)
    samples: SampleRecipe = field(default_factory=SampleRecipe)
    crisp: CrispRecipe = field(default_factory=CrispRecipe)
    batch: int = 128
    patch: int = 64
    """Side of a patch of a small frame, px, even."""
    clean: float = 0.4
    """Share of patches without a codec."""
    rate: float = 1e-3
    last_rate: float = 2e-5
    warm_up: int = 200
    """Steps in which the rate rises."""
    spectrum: float = 0.02
    """Weight of the error of the Fourier coefficients."""
    ratio: float = 0.0
    """Weight of the logarithm of each patch's mean squared error, which is its PSNR (NAFNet,
    https://arxiv.org/abs/2204.04676). It counts soft and flat patches as much as busy ones."""
    average: float = 0.999
    """Decay of the running average of the weights, which is what ships."""
    pool: int = 24000
    """Samples kept on the device."""
    first: int = 400
    """Samples of each scale before the first step."""
    refresh: int = 4
    """Steps per new sample if there are no workers."""


class Training:
    """A run: net, optimiser, average and pool, and how far it has come."""

    def __init__(self, recipe: TrainingRecipe, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        torch.manual_seed(recipe.samples.seed)
        self.net = trainable(recipe.net).to(device)
        self.parameters: list[Tensor] = list(self.net.parameters())
        self.averaged = [p.detach().clone() for p in self.parameters]
        fused = device.type == "cuda"
        self.optimiser = torch.optim.Adam(
            self.parameters, lr=recipe.rate, betas=(0.9, 0.99), fused=fused
        )
        self.pool = Pool(recipe.samples, recipe.pool, device)
        self.draws = torch.Generator().manual_seed(recipe.samples.seed)
        self.enlarge = self.net.enlarge
        self.step, self.seconds, self.next_sample = 0, 0.0, 0
        self.adversary: Adversary | None = None
        if recipe.crisp.adversary:
            self.adversary = Adversary(recipe.crisp, device, recipe.samples.seed)

    def state(self) -> dict[str, Any]:
        return {
            "config": asdict(self.recipe.net),
            "net": self.net.state_dict(),
            "average": dict(zip(self._names(), self.averaged, strict=True)),
            "optimiser": self.optimiser.state_dict(),
            "draws": self.draws.get_state(),
            "pool": self.pool.state(),
            "progress": (self.step, self.seconds, self.next_sample),
        }

    def resume(self, path: Path, pool: bool) -> None:
        """Go on from a checkpoint; with `pool` also with the very samples it had."""
        state = read_checkpoint(path)
        if self.adversary is not None:
            self.adversary.restore(read_checkpoint(path.with_name("critic.pt")))
        self.net.load_state_dict(state["net"])
        self._restore_average(state)
        self.optimiser.load_state_dict(state["optimiser"])
        self.draws.set_state(state["draws"])
        self.step, self.seconds, self.next_sample = state["progress"]
        if pool:
            self.pool.restore(state["pool"])

    def start_from(self, state: dict[str, Any]) -> None:
        """Begin a new run with the averaged weights of another."""
        self.net.load_state_dict(state["average"])  # a Lite has parameters only, no buffers
        self._restore_average(state)

    def _restore_average(self, state: dict[str, Any]) -> None:
        for name, average in zip(self._names(), self.averaged, strict=True):
            average.copy_(state["average"][name])

    def _names(self) -> list[str]:
        return [name for name, _ in self.net.named_parameters()]

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Inside, the net holds the running average."""
        trained = [p.detach().clone() for p in self.parameters]
        with torch.no_grad():
            torch._foreach_copy_(self.parameters, self.averaged)
            yield
            torch._foreach_copy_(self.parameters, trained)

    def advance(self, progress: float) -> Tensor:
        """One step. `progress` in [0, 1] is how much of the schedule is over. Gives the loss, on
        the device."""
        recipe = self.recipe
        rise = min(1.0, (self.step + 1) / recipe.warm_up)
        fall = 0.5 * (1 + math.cos(math.pi * progress))
        for group in self.optimiser.param_groups:
            group["lr"] = rise * (recipe.last_rate + (recipe.rate - recipe.last_rate) * fall)
        shares = torch.tensor(recipe.samples.shares)
        scale = recipe.samples.scales[int(torch.multinomial(shares, 1, generator=self.draws))]
        small, large = self.pool.draw(scale, recipe.batch, recipe.patch, recipe.clean, self.draws)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            enlarged = self.enlarge(small, scale).float()
        loss = self._plain(enlarged, large)
        if self.adversary is not None:
            loss = self.adversary.loss(enlarged, large, small, loss)
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.parameters, 0.5)
        self.optimiser.step()
        self.step += 1
        decay = min(recipe.average, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self.averaged, [p.detach() for p in self.parameters], 1 - decay)
        told: Tensor = loss.detach()
        return told

    def _plain(self, enlarged: Tensor, large: Tensor) -> Tensor:
        """How far an output is from the original: the loss of the first stage."""
        recipe, error = self.recipe, enlarged - large
        loss: Tensor = torch.sqrt(error.square() + 1e-6).mean()
        loss = loss + recipe.spectrum * torch.fft.rfft2(error, norm="ortho").abs().mean()
        if recipe.ratio:
            squared = error.square().mean(dim=(1, 2, 3))
            loss = loss + recipe.ratio * torch.log(squared + 1e-5).mean()
        return loss

    def assert_alive(self) -> float:
        small, _ = self.pool.draw(
            self.recipe.samples.scales[-1], 8, self.recipe.patch, 1.0, torch.Generator()
        )
        alive = liveliness(self.net, small)
        if not alive > LIVELY:
            raise RuntimeError(
                f"the trunk is dead: its last block gives {alive:.4f} rms, less than {LIVELY}"
            )
        return alive


@dataclass(slots=True)
class Clock:
    """When a call stops and how much of the schedule is over, by steps or by minutes."""

    training: Training
    steps: int
    stop_at: int
    minutes: float
    schedule_minutes: float
    before: float = field(init=False)
    started: float = field(init=False)

    def start(self) -> None:
        self.before, self.started = self.training.seconds, time.monotonic()

    def tick(self) -> float | None:
        """Progress in [0, 1], or None when this call is to end."""
        here = time.monotonic() - self.started
        self.training.seconds = self.before + here
        if self.steps:
            stop = self.stop_at or self.steps
            return self.training.step / self.steps if self.training.step < stop else None
        progress = self.training.seconds / 60 / self.schedule_minutes
        return progress if here < self.minutes * 60 and progress < 1 else None


def run(training: Training, clock: Clock, folder: Path, workers: int, every: int) -> None:
    """Train until the clock says stop; leave checkpoint.pt and lite.safetensors in the folder."""
    recipe, pool = training.recipe, training.pool
    if workers:
        with Workers(recipe.samples, workers, training.next_sample) as made:
            while not pool.ready(min(recipe.first, recipe.pool // 8)):
                made.feed(pool, 64, wait=60)
            print(f"{len(pool)} samples ready", flush=True)
            _loop(training, clock, folder, made, every)
            training.next_sample = made.next
    else:
        while not pool.ready(recipe.first):
            _make_one(training)
        _loop(training, clock, folder, None, every)
    save(training, folder)


def _make_one(training: Training) -> None:
    index = training.next_sample
    training.pool.add(index, *make_sample(training.recipe.samples, index))
    training.next_sample += 1


def _loop(training: Training, clock: Clock, folder: Path, made: Workers | None, every: int) -> None:
    clock.start()
    since, lately, fed = time.monotonic(), [], 0
    while (progress := clock.tick()) is not None:
        if made is not None:
            if training.step % 8 == 0:
                fed += made.feed(training.pool, 24, wait=0)
        elif training.step % training.recipe.refresh == 0:
            _make_one(training)
        lately.append(training.advance(progress))
        if training.step % every == 0:
            alive = training.assert_alive() if training.step >= 200 else math.nan
            loss, pace = float(torch.stack(lately).mean()), len(lately) / (time.monotonic() - since)
            rate = training.optimiser.param_groups[0]["lr"]
            print(
                f"step {training.step} {progress:.1%} rate {rate:.1e} loss {loss:.5f} "
                f"last block {alive:.3f} rms {pace:.1f} steps/s pool {len(training.pool)} "
                f"{_judged(training)}fed {fed} in {clock.training.seconds:.0f} s",
                flush=True,
            )
            since, lately = time.monotonic(), []
        if training.step % (every * 10) == 0:
            save(training, folder)
            report(training)


@torch.no_grad()
def _judged(training: Training) -> str:
    """Of the second stage: how much the critic counts, and how sharp compressed patches become."""
    adversary = training.adversary
    if adversary is None:
        return ""
    recipe = training.recipe
    small, large = training.pool.draw(
        recipe.samples.scales[-1], 64, recipe.patch, 0.0, torch.Generator()
    )
    made = training.net.enlarge(small, recipe.samples.scales[-1])
    detail, wanted = (float(bands(grey(p)).abs().mean()) for p in (made, large))
    return f"critic counts {adversary.weight:.4f} sharpness {detail / wanted:.2f} "


def report(training: Training) -> None:
    with training.averaged_weights():
        for scale in training.recipe.net.scales:
            print(
                f"  stills x{scale}: {evaluate.described(evaluate.gains(training.net, scale))}",
                flush=True,
            )


def save(training: Training, folder: Path) -> None:
    write_checkpoint(folder / "checkpoint.pt", training.state())
    if training.adversary is not None:
        write_checkpoint(folder / "critic.pt", training.adversary.state())
    with training.averaged_weights():
        export(training.net, folder / "lite.safetensors", training.step)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add(
        "--folder",
        type=Path,
        required=True,
        help="where checkpoint.pt and lite.safetensors are kept",
    )
    add(
        "--resume",
        type=Path,
        nargs="?",
        const=Path("checkpoint.pt"),
        help="go on; default: the folder's own",
    )
    add(
        "--start-from",
        type=Path,
        help="a checkpoint or *.safetensors to begin from",
    )
    add("--minutes", type=float, default=9, help="of this call")
    add(
        "--schedule-minutes",
        type=float,
        default=9,
        help="of the whole run, over which the rate falls",
    )
    add("--steps", type=int, default=0, help="length of the schedule in steps instead of minutes")
    add("--stop-at", type=int, default=0, help="with --steps: end this call at this step")
    add(
        "--workers",
        type=int,
        default=max(1, (os.cpu_count() or 2) - 1),
        help="0: repeatable to the bit",
    )
    add("--every", type=int, default=500, help="steps between two lines of the log")
    add("--compile", action="store_true", help="with torch.compile")
    add(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a value of the recipe: rate=5e-4, net.depth=8",
    )
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


def recipe_from(settings: list[str]) -> TrainingRecipe:
    """The recipe with some numbers replaced; those of the parts are named net.* and samples.*"""
    recipe = TrainingRecipe()
    parts: dict[str, dict[str, Any]] = {"": {}, "net": {}, "samples": {}, "crisp": {}}
    for setting in settings:
        name, _, text = setting.partition("=")
        part, _, leaf = name.rpartition(".")
        old = getattr(getattr(recipe, part) if part else recipe, leaf)
        if isinstance(old, tuple):
            parts[part][leaf] = tuple(type(old[0])(value) for value in text.split(","))
        else:
            parts[part][leaf] = type(old)(text)
    return TrainingRecipe(
        net=LiteConfig(**parts["net"]),
        samples=SampleRecipe(**parts["samples"]),
        crisp=CrispRecipe(**parts["crisp"]),
        **parts[""],
    )


def beginning(path: Path) -> dict[str, Any]:
    """What `start_from` wants, out of a checkpoint or of weights that ship."""
    if path.suffix == ".safetensors":
        net = split(load_plain(path))
        return {"average": {name: p.detach() for name, p in net.named_parameters()}}
    return read_checkpoint(path)


def main() -> None:
    asked = arguments()
    device = torch.device(asked.device)
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    asked.folder.mkdir(parents=True, exist_ok=True)
    training = Training(recipe_from(asked.set), device)
    if asked.resume:
        path = (
            asked.folder / asked.resume if asked.resume == Path("checkpoint.pt") else asked.resume
        )
        training.resume(path, pool=not asked.workers)
    elif asked.start_from:
        training.start_from(beginning(asked.start_from))
    if asked.compile:
        training.enlarge = torch.compile(training.enlarge, dynamic=False)
    print(training.recipe, f"{sum(p.numel() for p in training.parameters)} parameters", flush=True)
    clock = Clock(training, asked.steps, asked.stop_at, asked.minutes, asked.schedule_minutes)
    run(training, clock, asked.folder, asked.workers, asked.every)
    report(training)


if __name__ == "__main__":
    main()
