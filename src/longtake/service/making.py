"""A job whose engine is open, and the making of its segments: of films that are read, and of films
that are generated. The functions are the command line's (`runtime.segment`).

What a generator has reached lies in a folder of the claim that reached it, so that whoever is late
writes nobody else's. The next claim begins with a link to the last one's file; files of checkpoints
are replaced whole and never changed.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from collections.abc import Generator as Steps
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from longtake.core.errors import BadInput
from longtake.core.plan import Plan, Script
from longtake.core.ports import CHECKPOINT, Film, Generator, Offload
from longtake.planner.choices import Crafts
from longtake.runtime import offloads
from longtake.runtime.recover import Recovery
from longtake.runtime.segment import Desk, Line, Order, Progress, generated, render
from longtake.runtime.stages import Meter
from longtake.runtime.watchdog import Watch, Watched
from longtake.service.lease import Beating, Ticking
from longtake.service.transitions import Claim

if TYPE_CHECKING:
    from torch import nn

_READ: Final = 50e6  # bytes of weights that a slow disk reads in a second
_log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Opened:
    """A job's engine, kept from one segment to the next."""

    job: str
    recovery: Recovery
    crafts: Crafts
    film: Film
    device: str
    watched: Watched
    _stack: ExitStack = field(default_factory=ExitStack)
    _watch: Watch | None = None
    _line: Line | None = None
    _author: tuple[Desk, Generator] | None = None
    _tick: Callable[[], None] = lambda: None

    @property
    def plan(self) -> Plan:
        """Under the placement that is in use."""
        return self.recovery.plan

    @property
    def generates(self) -> bool:
        return isinstance(self.plan.recipe.reading, Script)

    def load(self, beating: Beating) -> None:
        """Open the engine, unless it is open. Large weights may take longer than a step may stand
        still; whether it shall stop is asked before and behind them. Raises as `Beating.tick`."""
        if self._line is not None or self._author is not None:
            return
        beating.tick()
        offload: Offload = offloads.placed(self.plan.placement)
        sink, meter = self.crafts.sink, Meter()
        watch = self._watch = self._watch or self.watched.over(self.recovery, self.device)
        with beating.patient(self.plan.memory.engine.weights / _READ):
            if self.generates:
                ticking = _Ticking(offload, lambda: self._tick())
                author = self._stack.enter_context(
                    self.crafts.author.open(self.plan, self.device, ticking)
                )
                watch.opened(meter.busy["compute"], getattr(author, "parts", None))
                self._author = Desk(film=self.film, sink=sink, meter=meter, watch=watch), author
            else:
                upscaler = self._stack.enter_context(
                    self.crafts.engine.open(self.plan, self.device, offload)
                )
                watch.opened(meter.busy["compute"])
                self._line = Line(
                    film=self.film, sink=sink, meter=meter, upscaler=upscaler, watch=watch
                )
        beating.tick()

    def parts(self, order: Order, folder: Path, beating: Beating) -> Steps[Progress]:
        """Make a segment. In `folder` a generator keeps how far it is; what is damaged of that, it
        does without."""
        self._tick = beating.tick
        if self._line is not None:
            line = replace(self._line, upscaler=Ticking(self._line.upscaler, beating))
            yield from render(self.plan, line, [order])
            return
        assert self._author is not None
        beating.stalled = max(beating.stalled, _patience(self.plan))
        begun = False
        try:
            for event in generated(self.plan, *self._author, [order], folder):
                begun = True
                yield event
        except BadInput as error:
            if begun or not (folder / CHECKPOINT).exists():
                raise
            _log.warning("%s It begins anew.", error)
            (folder / CHECKPOINT).unlink()
            yield from generated(self.plan, *self._author, [order], folder)

    def close(self) -> None:
        """Its memory is free then; it may be loaded again."""
        self._line = self._author = None
        self._stack.close()


def _patience(plan: Plan) -> float:
    """Seconds that a generator may be at work without a tick: a block, ten times as long as it
    should take, or twice a stage in which no net of blocks is at work."""
    look = plan.outlook
    if look is None:
        return 0.0
    stages = [2 * (each.seconds or 0.0) for each in look.stages if each.name != "denoise"]
    return max([0.0, *stages, 10 * ((look.blocks and look.blocks.compute) or 0.0)])


def workplace(root: Path, held: Claim) -> Path:
    """The folder of this claim, with the checkpoint that the last claim before it left there."""
    steps = root / "jobs" / held.job / "steps"
    mine = steps / f"{held.number}.{held.fence}"
    mine.mkdir(parents=True, exist_ok=True)
    earlier = sorted(
        (int(fence), steps / f"{held.number}.{fence}")
        for number, _, fence in (path.name.partition(".") for path in steps.iterdir())
        if number == str(held.number) and fence.isdecimal() and int(fence) < held.fence
    )
    for _, folder in reversed(earlier):
        if not (mine / CHECKPOINT).exists() and (folder / CHECKPOINT).exists():
            _linked(folder / CHECKPOINT, mine / CHECKPOINT)
        shutil.rmtree(folder, ignore_errors=True)
    return mine


def _linked(there: Path, here: Path) -> None:
    """The same file under another name; a copy where a disk has no links."""
    try:
        os.link(there, here)
    except FileNotFoundError:  # gone meanwhile: it begins anew
        return
    except OSError:
        shutil.copyfile(there, here)


@dataclass(frozen=True, slots=True)
class _Ticking:
    """A strategy under which every block of a net that computes is a tick."""

    inner: Offload
    tick: Callable[[], None]

    def home(self, device: str) -> str:
        return self.inner.home(device)

    @contextmanager
    def attach(self, model: nn.Module, device: str) -> Iterator[nn.Module]:
        with self.inner.attach(model, device) as attached, ExitStack() as undo:
            for net in (attached, *attached.children()):
                blocks: Any = getattr(net, "blocks", None)
                if blocks is not None:
                    net.blocks = _told(blocks, self.tick)
                    undo.callback(setattr, net, "blocks", blocks)
            yield attached


def _told(blocks: nn.Module, tick: Callable[[], None]) -> nn.Module:
    """The same blocks, each told before it computes."""
    from torch import nn

    class Told(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = blocks
            self.stalls = getattr(blocks, "stalls", None)

        def __len__(self) -> int:
            return len(blocks)  # type: ignore[arg-type]

        def __iter__(self) -> Iterator[nn.Module]:
            for block in blocks:  # type: ignore[attr-defined]
                tick()
                yield block

    return Told()
