"""What a film is once it is analysed: the header's word, corrected by what was counted and seen."""

from __future__ import annotations

from dataclasses import replace

from longtake.core.media import Telecine, VideoInfo
from longtake.media import _restore
from longtake.media.index import Facts, FilmIndex, Timing, counted


def exact_info(info: VideoInfo, index: FilmIndex) -> VideoInfo:
    """The film's description with everything that only decoding tells."""
    facts = index.facts
    timing = index.source_timing(info)
    first = index.pts(0, 1)[0]
    fields = index.fields()
    if fields == "progressive" and info.fields in ("tff", "bff"):
        fields = info.fields  # a codec whose frames carry no flag
    elif fields == "progressive" and facts.looks in ("tff", "bff"):
        fields = "tff" if facts.looks == "tff" else "bff"
    return replace(
        info,
        exact=True,
        frames=len(index),
        rate=timing.rate,
        start=first,
        duration=(index.end(len(index), info.time_base, timing.rate) - first) * info.time_base,
        variable=timing.variable,
        fields=fields,
        telecine=_telecine(facts),
        notes=tuple(dict.fromkeys(_notes(info, facts, timing))),
    )


def _notes(info: VideoInfo, facts: Facts, timing: Timing) -> list[str]:
    notes = [*info.notes]
    if facts.broken:
        notes.append(f"The file broke off: {counted(facts)} frames are there.")
    if facts.errors:
        notes.append(
            f"{facts.errors} packets could not be decoded and were left out, the first before "
            f"frame {facts.first_error}."
        )
    elif facts.faulty:
        notes.append("The stream has faults: what they spoil is concealed as a player does it.")
    if facts.early:
        notes.append(f"{facts.early} packets before the first whole frame were left out.")
    if facts.repaired:
        notes.append(
            f"{facts.repaired} frames had no timestamp, or one not later than the frame before: "
            "they were given the next one possible."
        )
    telecine = _telecine(facts)
    known = info.telecine is not None and info.telecine.found  # and told
    if telecine is not None and telecine.found and (facts.ivtc or not known):
        notes.extend(_restore.told(telecine, facts.combed))
    elif facts.looks and info.fields in ("progressive", "unknown"):
        notes.append(
            f"It is not marked as interlaced, but looks so ({facts.looks}): see --deinterlace."
        )
    if timing.variable and not facts.ivtc:
        notes.append(f"Variable frame rate, {float(timing.rate):.3f} frames/s on average: kept.")
    return notes


def _telecine(facts: Facts) -> Telecine | None:
    if facts.pulldown is None:
        return None
    return Telecine(
        pattern=facts.pulldown, share=facts.share, cycles=facts.cycles, frames=facts.restored
    )
