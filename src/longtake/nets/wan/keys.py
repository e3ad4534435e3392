"""What the tensors of a file of Wan 2.1's transformer are called, and what they are in our net.

Our names are the official ones; no tensor has another shape in another layout, so names are all
that differs. Nothing here needs torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from math import prod
from typing import Final

from longtake.nets.wan.sizes import HEAD_DIM, DiTConfig, Shape, tensors


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One way to name the tensors."""

    name: str
    mark: str
    """A key by which a file of this layout is known, without prefix."""
    prefixes: tuple[str, ...] = ("",)
    """That all keys of a file may have in common."""
    ours: Callable[[str], str | None]
    """The key in our net; None for one that is unknown."""
    theirs: Callable[[str], str]
    useless: Callable[[str], bool]
    """Whether a key is in some files and nobody needs it."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a file holds."""

    layout: str
    config: DiTConfig
    names: dict[str, tuple[str]]
    """Our key -> the file's, as `longtake.nets.names` takes it."""


def read(
    shapes: Mapping[str, Shape], layouts: Collection[Layout], heads: int | None = None
) -> Found:
    """The net that a file's tensors are for, and their names. Heads cannot be told from shapes: all
    published models have one per 128 channels. Raises ValueError with the keys that are missing,
    unknown or of another shape, in the file's own names."""
    layout, prefix = _layout(shapes, layouts)
    names, unknown = _renamed(shapes, layout, prefix)
    config = _config({key: shapes[name] for key, name in names.items()}, heads)
    wanted = tensors(config)
    wrong = [
        *(f"{prefix}{layout.theirs(key)} is missing" for key in wanted if key not in names),
        *(f"{name} is unknown" for name in unknown),
        *(f"{names[key]} is unknown" for key in names if key not in wanted),
        *(
            f"{names[key]} is {list(shapes[names[key]])} instead of {list(shape)}"
            for key, shape in wanted.items()
            if key in names and tuple(shapes[names[key]]) != shape
        ),
    ]
    if wrong:
        raise ValueError(f"{layout.name} names: {_listed(wrong)}")
    return Found(layout.name, config, {key: (names[key],) for key in wanted})


def named(config: DiTConfig, layout: Layout) -> dict[str, tuple[str]]:
    """Our key -> the layout's, of all tensors, as `longtake.nets.names` takes it."""
    return {key: (layout.theirs(key),) for key in tensors(config)}


def _layout(shapes: Collection[str], layouts: Collection[Layout]) -> tuple[Layout, str]:
    for layout in layouts:
        for prefix in layout.prefixes:
            if prefix + layout.mark in shapes:
                return layout, prefix
    known = " or ".join(f"{layout.mark} ({layout.name})" for layout in layouts)
    raise ValueError(
        f"among {len(shapes)} tensors there is none of the name {known}: this is no transformer of "
        f"Wan 2.1, or one whose names are in no layout that we know"
    )


def _renamed(
    shapes: Collection[str], layout: Layout, prefix: str
) -> tuple[dict[str, str], list[str]]:
    """Our key -> the file's; and the file's that are unknown."""
    names: dict[str, str] = {}
    unknown = []
    for name in shapes:
        bare = name.removeprefix(prefix)
        key = layout.ours(bare) if name.startswith(prefix) else None
        if key is not None:
            names[key] = name
        elif not layout.useless(bare):
            unknown.append(name)
    return names, unknown


_SIZES: Final = (
    "patch_embedding.weight",
    "text_embedding.0.weight",
    "time_embedding.0.weight",
    "head.head.weight",
    "blocks.0.ffn.0.weight",
)


def _config(table: Mapping[str, Shape], heads: int | None) -> DiTConfig:
    """The sizes, as those tensors tell that have them. Raises ValueError."""
    absent = [key for key in _SIZES if key not in table]
    if absent:
        raise ValueError(f"{_listed(absent)} missing: the sizes of the net cannot be told")
    dim, enter, *patch = table["patch_embedding.weight"]
    if len(patch) != 3 or (heads is None and dim % HEAD_DIM):
        raise ValueError(
            f"the patch embedding is {[dim, enter, *patch]}: it must have five axes and a multiple "
            f"of {HEAD_DIM} channels"
        )
    image = table.get("img_emb.proj.0.weight")
    numbers = (re.match(r"blocks\.(\d+)\.", key) for key in table)
    return DiTConfig(
        dim=dim,
        heads=heads or dim // HEAD_DIM,
        layers=1 + max(int(number[1]) for number in numbers if number),
        ffn_dim=table["blocks.0.ffn.0.weight"][0],
        enter=enter,
        leave=table["head.head.weight"][0] // prod(patch),
        patch=(patch[0], patch[1], patch[2]),
        text_dim=table["text_embedding.0.weight"][-1],
        freq_dim=table["time_embedding.0.weight"][-1],
        image_dim=None if image is None else image[0],
    )


def _listed(lines: list[str], most: int = 6) -> str:
    more = f"; and {len(lines) - most} more" if len(lines) > most else ""
    return "; ".join(lines[:most]) + more
