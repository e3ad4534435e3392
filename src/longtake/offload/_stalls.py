"""How long a net's blocks were not there when the device had nothing else to compute.

Measured on the device itself, by marks between what it computes and copies (`Copies.mark`); they
are looked at when it has long passed them, so that nobody waits for a measure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

Mark = Any
"""A point in what a device does; those of a copy engine are its own."""
Between = Callable[[Mark, Mark, bool], float | None]
"""Seconds from one mark to another; None where the device has not come there, unless it is waited
for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stalls:
    """In passes through the blocks that came to their end."""

    seconds: float = 0.0
    """Of those passes, on the device."""
    on_reads: float = 0.0
    """Of these, nothing was computed and the next copy had not begun: its block was still read."""
    on_copies: float = 0.0
    """Of these, nothing was computed and the copy was under way, or behind others."""
    copying: float = 0.0
    """Seconds in which what was computed there was copied, mostly beside it."""
    copied: int = 0
    """Bytes of it."""

    def __add__(self, other: Stalls) -> Stalls:
        return Stalls(**{key: getattr(self, key) + getattr(other, key) for key in _FIELDS})

    def __str__(self) -> str:
        seconds = self.seconds or 1.0
        rate = f", {self.copied / self.copying / 1e9:.1f} GB/s" if self.copying else ""
        return (
            f"stalled on disk {self.on_reads / seconds:.1%}, on copies "
            f"{self.on_copies / seconds:.1%} of {self.seconds:.3g} s{rate}"
        )


_FIELDS = tuple(Stalls.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class Copied:
    """One copy: when it began and came."""

    began: Mark
    came: Mark
    bytes: int
    read: bool
    """Whether it came from the disk."""


@dataclass(slots=True)
class _Pass:
    began: Mark
    ended: Mark = None
    waits: list[tuple[Mark, Mark, Copied]] = field(default_factory=list)


class Meter:
    """Of one net; what it keeps does not grow."""

    def __init__(self, between: Between) -> None:
        self._between = between
        self._now: _Pass | None = None
        self._ended: deque[_Pass] = deque()
        self._total = Stalls()

    def begin(self, mark: Mark) -> None:
        """A pass; one that goes on does not count."""
        self._fold(wait=False)
        self._now = _Pass(mark)

    def waited(self, asked: Mark, resumed: Mark, copied: Copied) -> None:
        """All before `asked` was computed without this copy, all behind `resumed` needs it."""
        if self._now is not None:
            self._now.waits.append((asked, resumed, copied))

    def end(self, mark: Mark) -> None:
        if self._now is not None:
            self._now.ended = mark
            self._ended.append(self._now)
            self._now = None

    def stalls(self) -> Stalls:
        """Until now; waits for the device."""
        self._fold(wait=True)
        return self._total

    def _fold(self, wait: bool) -> None:
        while self._ended:
            seconds = self._between(self._ended[0].began, self._ended[0].ended, wait)
            if seconds is None:
                return
            self._total += self._counted(self._ended.popleft(), seconds)

    def _counted(self, done: _Pass, seconds: float) -> Stalls:
        reads = copies = copying = 0.0
        for asked, resumed, copied in done.waits:
            stalled = max(self._seconds(asked, resumed), 0.0)
            late = min(max(self._seconds(asked, copied.began), 0.0), stalled)
            reads += late if copied.read else 0.0
            copies += stalled - late if copied.read else stalled
            copying += self._seconds(copied.began, copied.came)
        sent = sum(copied.bytes for _, _, copied in done.waits)
        return Stalls(
            seconds=seconds, on_reads=reads, on_copies=copies, copying=copying, copied=sent
        )

    def _seconds(self, first: Mark, second: Mark) -> float:
        """Of a pass that the device has ended."""
        return self._between(first, second, False) or 0.0


def stalls(model: nn.Module) -> Stalls:
    """Of all nets of a model to which a ring or a disk is attached; waits for the device."""
    total = Stalls()
    for net in (model, *model.children()):
        measured = getattr(getattr(net, "blocks", None), "stalls", None)
        if callable(measured):
            total += measured()
    return total
