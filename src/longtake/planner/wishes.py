"""What a user fixes by `--place`: names, ranges, and the strategies that they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from longtake.core.errors import Usage
from longtake.core.knobs import knob, ranges, settle
from longtake.core.media import Knobs
from longtake.core.plan import Placement
from longtake.core.ports import Grid

QUEUES: Final = (2, 1)  # clips waiting between two stages
STREAMED: Final = ("ring", "disk")
_TURNS: Final = ("swap", *STREAMED)
_ANY: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Numbers:
    """Fields of a `Placement`; how many blocks there are is the model's word."""

    resident_blocks: int = knob(0, "of each net on the device for good", least=0, most=_ANY)
    host_blocks: int = knob(0, "of the others in host memory", least=0, most=_ANY)
    slots: int = knob(2, "on the device, through which blocks come", least=2, most=3)
    granularity: str = knob("block", "what comes at a time", choices=("block", "phase"))
    read_ahead: int = knob(3, "blocks read before they are used", least=2, most=64)
    disk_workers: int = knob(2, "threads that read", least=1, most=64)
    copy_streams: int = knob(1, "one is used", least=1, most=16)
    bandwidth: float = knob(1.0, "of bus and disk that are used", least=0.1, most=1)
    offload_text: bool = knob(True, "the text encoder leaves the device")
    offload_image: bool = knob(True, "the image encoder leaves the device")
    vace_blocks_to_swap: int = knob(0, "of a net that is not here", least=0, most=15)
    vram_threshold_percent: float = knob(100.0, "of a GPU's memory, at most", least=1, most=100)


_WAYS: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(
        ("resident_blocks", "slots", "granularity", "copy_streams", "bandwidth"), STREAMED
    ),
    **dict.fromkeys(("host_blocks", "read_ahead", "disk_workers"), ("disk",)),
    **dict.fromkeys(("offload_text", "offload_image"), _TURNS),
}
_OF_BLOCKS: Final = ("resident_blocks", "host_blocks")
_SHARE: Final = "vram_threshold_percent"  # a limit, and no field of a placement
_ENCODERS: Final = {"offload_text": "text", "offload_image": "image"}


def held(ladder: list[Placement], grid: Grid, wishes: Mapping[str, Any]) -> list[Placement]:
    """The ladder with what the user fixes. Raises Usage for what there is not."""
    offered: dict[str, tuple[Any, ...]] = {
        "offload": tuple(dict.fromkeys(offload for offload, _ in grid.placements)),
        "state": tuple(dict.fromkeys(state for _, state in grid.placements)),
        "step": grid.steps,
        "queue": QUEUES,
    }
    numbers: Knobs = {}
    fixed: dict[str, Any] = {}
    for name, given in wishes.items():
        if name in ranges(_Numbers):
            numbers[name] = given
            continue
        if name not in offered:
            raise Usage(f"--place {name}: there is {', '.join([*offered, *ranges(_Numbers)])}.")
        values = {str(value): value for value in offered[name]}
        if str(given) not in values:
            raise Usage(f"--place {name}={given}: this engine has {', '.join(values)}.")
        fixed[name] = values[str(given)]
    ways = _ways(numbers, grid, offered["offload"], fixed.get("offload"))
    fixed |= _settled(numbers, grid)
    placed = [replace(rung, **fixed) for rung in ladder]
    if ways is not None and "offload" not in fixed:
        placed = [replace(rung, offload=way) for way in ways for rung in placed]
    possible = [p for p in dict.fromkeys(placed) if (p.offload, p.state) in grid.placements]
    if not possible:
        raise Usage(f"--place {words(wishes)}: this engine cannot do both at once.")
    return possible


def _settled(numbers: Knobs, grid: Grid) -> Knobs:
    """The values of those that are given. Raises Usage for one that is out of range."""
    try:
        found = settle(_Numbers, numbers)
    except Usage as wrong:
        raise Usage(f"--place {wrong.detail}") from None
    for name in _OF_BLOCKS:
        if name in numbers and int(found[name]) > grid.blocks:
            raise Usage(f"--place {name}={numbers[name]}: this model has {grid.blocks} blocks.")
    if found["granularity"] == "phase" and not grid.phases:
        raise Usage("--place granularity=phase: blocks of this model come as a whole.")
    return {name: found[name] for name in numbers if name != _SHARE}


def share(wishes: Mapping[str, Any]) -> float | None:
    """How much of a GPU's memory may be used, above 0, at most 1; None: not said. Raises Usage."""
    if _SHARE not in wishes:
        return None
    return float(settle(_Numbers, {_SHARE: wishes[_SHARE]})[_SHARE]) / 100


def _ways(
    numbers: Knobs, grid: Grid, offered: tuple[str, ...], asked: str | None
) -> tuple[str, ...] | None:
    """The strategies under which all that is given means something; None: any. Raises Usage."""
    ways: tuple[str, ...] | None = None
    for name, given in numbers.items():
        mean = _WAYS.get(name)
        if mean is None:
            continue
        if name in _ENCODERS and _ENCODERS[name] not in grid.encoders:
            raise Usage(
                f"--place {name}={given}: this engine has no {_ENCODERS[name]} encoder that takes "
                f"turns with other nets."
            )
        mean = tuple(way for way in offered if way in mean)
        ways = mean if ways is None else tuple(way for way in ways if way in mean)
        if not ways:
            lacks = "its weights lie in no block files" if "ring" in offered else "none of its way"
            raise Usage(
                f"--place {name}={given}: this engine has offload={', '.join(offered)}; {lacks}."
            )
        if asked is not None and asked not in ways:
            raise Usage(
                f"--place {name}={given}: offload={asked} has no such thing; take "
                f"offload={' or '.join(ways)}."
            )
    return ways


def words(wishes: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in wishes.items())


def notes(placement: Placement) -> tuple[str, ...]:
    """What a user should know of what was fixed."""
    found = []
    if placement.copy_streams > 1:
        found.append(
            f"--place copy_streams={placement.copy_streams}: one is used. Bus and copy engine are "
            f"one link, and one stream fills it."
        )
    if placement.vace_blocks_to_swap:
        found.append(
            f"--place vace_blocks_to_swap={placement.vace_blocks_to_swap}: no model here has a "
            f"VACE net; it changes nothing."
        )
    return tuple(found)
