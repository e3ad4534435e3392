"""What went by of a film's other tracks, counted, and held against the source."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction

import av

from longtake.core.plan import Plan
from longtake.core.ports import Film
from longtake.media import carry
from longtake.media.carry import AnyPacket
from longtake.media.tracks import Container

_MS = Fraction(1, 1000)
_REFRAMED = ("mpegts", "mpeg", "flv")  # sources whose sound packets begin with headers of theirs


@dataclass(slots=True)
class Tally:
    """What went by of one track."""

    packets: int = 0
    bytes: int = 0
    crc: int = 0
    start: Fraction | None = None  # s
    last: Fraction = Fraction(0)  # s: where the last packet begins; lengths are seldom stated
    tick: Fraction = Fraction(0)  # s

    def take(self, packet: AnyPacket) -> None:
        raw = bytes(packet)
        if not raw or raw == b"\0\0":  # the second: mov_text that shows nothing
            return
        self.packets += 1
        self.bytes += len(raw)
        self.crc = zlib.crc32(raw, self.crc)
        if packet.pts is None:
            return
        self.tick = max(self.tick, packet.time_base)
        at = packet.pts * packet.time_base
        self.start = at if self.start is None else min(self.start, at)
        self.last = at if self.packets == 1 else max(self.last, at)


def end_of(film: Film, plan: Plan, frames: int) -> int:
    """Where the last of the first `frames` frames ends, ticks of the output's time base."""
    whole = frames == plan.geometry.frames
    return film.end() if whole else film.pts(frames, frames + 1)[0]


def track_faults(
    film: Film,
    plan: Plan,
    frames: int,
    container: Container,
    found: Sequence[tuple[str, Tally]],
) -> Iterator[str]:
    """What is wrong with the target's other tracks: `found` by type, in the target's order.

    The source is read once more by packet, through what carried its tracks into the target.
    """
    base = plan.recipe.output.time_base
    end = None if frames == plan.geometry.frames else end_of(film, plan, frames) * base
    with ExitStack() as stack:
        others = stack.enter_context(carry.opened(film, container, plan.task.drop, end))
        nowhere = stack.enter_context(av.open(io.BytesIO(), "w", format=container))
        others.before(nowhere)
        others.after(nowhere)
        tallies = {lane.target.index: Tally() for lane in others.lanes}
        for _, packet in others.packets():
            tallies[packet.stream_index].take(packet)
        for kind in ("audio", "subtitle", "video"):
            held = [tally for type_, tally in found if type_ == kind]
            lanes = [lane for lane in others.lanes if lane.way.track.kind == kind]
            if len(held) < len(lanes):
                yield f"{len(held)} {kind} tracks instead of {len(lanes)}"
                continue
            for lane, made in zip(lanes, held, strict=False):
                for fault in _compare(lane, tallies[lane.target.index], made, film):
                    yield f"{kind} track {lane.way.track.index}: {fault}"
        fonts = len([s for s in nowhere.streams if s.type == "attachment"])
        kept = len([type_ for type_, _ in found if type_ == "attachment"])
        covers = len([1 for type_, _ in found if type_ == "video"]) if container != "mp4" else 0
        if kept + covers < fonts:
            yield f"{kept + covers} attachments instead of {fonts}"


def _compare(lane: carry.Lane, planned: Tally, made: Tally, film: Film) -> Iterator[str]:
    chopped = lane.way.track.codec.startswith("pcm_")  # containers cut it as they like
    reframed = film.info.container.split(",")[0] in _REFRAMED
    same = (made.bytes, made.crc) == (planned.bytes, planned.crc)
    if made.packets != planned.packets and not chopped:
        yield f"{made.packets} packets instead of {planned.packets}"
    elif lane.way.track.kind == "audio" and not reframed and not same:
        yield f"other bytes than in the source ({made.bytes}, {planned.bytes} in the source)"
    if lane.way.how == "picture" or not planned.packets or not made.packets:
        return
    tick = max(_MS, made.tick, planned.tick)
    for what, ours, theirs in (
        ("begins", made.start, planned.start),
        ("ends with a packet", made.last, planned.last),
    ):
        if ours is not None and theirs is not None and abs(ours - theirs) > tick:
            yield f"{what} at {float(ours):.6f} s, not at {float(theirs):.6f} s"
