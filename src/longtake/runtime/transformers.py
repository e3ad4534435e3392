"""What the tensors of a checkpoint are, by family and role: nets know names and sizes, weights know
files, and this is where they meet. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Final

from longtake.nets import umt5_keys, umt5_needs
from longtake.nets.wan import keys, sizes
from longtake.nets.wan.keys_diffusers import DIFFUSERS
from longtake.nets.wan.keys_official import OFFICIAL
from longtake.weights.recognise import Recognise, Transformer


def wan(shapes: Mapping[str, sizes.Shape]) -> Transformer:
    """A checkpoint of Wan 2.1 in official or diffusers names. Raises ValueError."""
    found = keys.read(shapes, (OFFICIAL, DIFFUSERS))
    config = asdict(found.config)
    return Transformer(
        config={k: list(v) if isinstance(v, tuple) else v for k, v in config.items()},
        names={ours: theirs for ours, (theirs,) in found.names.items()},
        exact=sizes.exact,
        matrix=sizes.matrix,
    )


def umt5(shapes: Mapping[str, sizes.Shape]) -> Transformer:
    """One of umT5's encoder in official names or those of transformers. Raises ValueError."""
    found = umt5_keys.read(shapes)
    return Transformer(
        config=asdict(found.config),
        names={ours: theirs for ours, (theirs,) in found.names.items()},
        exact=lambda key: False,  # noqa: ARG005 -- none is
        matrix=umt5_needs.matrix,
    )


RECOGNISE: Final[Mapping[str, Mapping[str, Recognise]]] = {
    "wan": {"transformer": wan, "text": umt5},
}
