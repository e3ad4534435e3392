"""The ledger of a segment whose truth is the queue; the command line's is a file, see `journal`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from longtake.core.events import Event, Replanned, Slowed, Warned
from longtake.core.plain import to_plain
from longtake.core.plan import Segment
from longtake.journal import sync, weigh
from longtake.service import queue
from longtake.service.database import SECOND, Database
from longtake.service.job_log import JobLog
from longtake.service.queue import Part
from longtake.service.transitions import Claim, LeaseLost
from longtake.weights.files import digest


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLedger:
    """The ledger of one claimed segment: what is done says the queue."""

    database: Database
    held: Claim
    root: Path
    numerics: str
    suffix: str
    log: JobLog
    steps: int | None = None
    """Of the sampler that makes the segment; the seconds of a commit are those behind the last."""

    def part(self, segment: Segment) -> Path:
        """Of this claim alone: a worker that was given up cannot touch another's."""
        folder = self.root / "jobs" / self.held.job / "parts"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{segment.index:06d}.{self.held.fence}{self.suffix}"

    def committed(self) -> Mapping[int, Path]:
        found = queue.parts(self.database, self.held.job)
        return {number: self.root / key for number, key in found}

    def commit(self, segment: Segment, part: Path, seconds: float) -> Path:
        """The bytes are made durable, then counted. Raises LeaseLost; the part is gone then."""
        frames = segment.stop - segment.start
        sync(part)
        sync(part.parent)
        key = str(part.relative_to(self.root))
        try:
            queue.commit_segment(
                self.database, self.held,
                Part(
                    key=key, bytes=weigh(part), sha256=digest(part), fps=frames / seconds,
                    steps=self.steps,
                    decode_time=None if self.steps is None else int(seconds * SECOND),
                ),
                self.numerics,
            )  # fmt: skip
        except LeaseLost:
            part.unlink(missing_ok=True)
            raise
        return part

    def record(self, event: Event) -> None:
        """What a person should know of the segment."""
        if isinstance(event, Warned | Slowed):
            self.log.say(self.held, "warning", event.message)
        elif isinstance(event, Replanned):
            placement = json.dumps(to_plain(event.placement))
            words = f"{event.reason} It goes on under another placement: {placement}."
            self.log.say(self.held, "warning", words)
