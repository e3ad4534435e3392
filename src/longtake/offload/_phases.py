"""The phases of a block: steps of its forward, each of which needs only some of its tensors.

A block says so by its class:

    phases = {"self_attention": ("modulation", "self_attn"), "feed_forward": ("ffn",), ...}

These are methods of it, in the order in which its forward calls them, and what each reads: names of
tensors, or what they begin with up to a dot. A tensor that several phases read comes with each of
them, so it should be small. The block can be iterated, which gives the methods, bound; its forward
does no more than that. See docs/add-an-offload.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from longtake.core.blocks import ALIGNED, Slab, up
from longtake.core.errors import Usage

Declared = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Phase:
    """What comes to the device at a time."""

    name: str
    """Of the method; empty: the whole block."""
    slab: Slab
    """How its tensors lie there."""
    runs: tuple[slice, ...]
    """Bytes of the block that are copied there, one run behind the other."""


def whole(slab: Slab) -> tuple[Phase, ...]:
    """The block in one."""
    return (Phase("", slab, (slice(0, slab.bytes),)),)


def phases(slab: Slab, declared: Declared) -> tuple[Phase, ...]:
    """The phases of a block that lies like this. Raises Usage where some tensor is in none, or a
    phase has none."""
    _complete([field.name for field in slab.fields], declared)
    found = []
    for name, beginnings in declared.items():
        fields, runs, offset = [], list[slice](), 0
        for field in slab.fields:
            if not in_phase(field.name, beginnings):
                continue
            fields.append(replace(field, offset=offset))
            stop = field.offset + up(field.bytes, ALIGNED)
            if runs and runs[-1].stop == field.offset:
                runs[-1] = slice(runs[-1].start, stop)
            else:
                runs.append(slice(field.offset, stop))
            offset += stop - field.offset
        found.append(Phase(name, Slab(fields=tuple(fields), bytes=offset), tuple(runs)))
    return tuple(found)


def in_phase(name: str, beginnings: Sequence[str]) -> bool:
    """Whether a phase reads the tensor of that name."""
    return any(name == x or name.startswith(f"{x}.") for x in beginnings)


def _complete(names: Sequence[str], declared: Declared) -> None:
    for name in names:
        if not any(in_phase(name, beginnings) for beginnings in declared.values()):
            raise Usage(f"No phase of the model's blocks has {name}. Take granularity=block.")
    for phase, beginnings in declared.items():
        if not any(in_phase(name, beginnings) for name in names):
            raise Usage(f"The phase {phase} of the model's blocks has no tensor at all.")
