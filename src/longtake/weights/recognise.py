"""What the tensors of a checkpoint are, as the craft that knows the net says. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from longtake.weights.tables import Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Transformer:
    """The tensors of one net with blocks."""

    config: Mapping[str, Any]  # sizes of the net, plain values
    names: Mapping[str, str]  # key in our net -> key in the checkpoint
    exact: Callable[[str], bool]  # whether a key keeps float32, whatever the others are cast to
    matrix: Callable[[str, Shape], bool]  # whether a key of a block may be kept in 8 bits


Recognise = Callable[[Mapping[str, Shape]], Transformer]
"""From the shapes of all tensors of a checkpoint. Raises ValueError."""
