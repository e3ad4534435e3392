"""From a placement to the strategy that carries it out."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

from longtake.core.plan import Placement
from longtake.core.plugins import find
from longtake.core.ports import Offload


def placed(placement: Placement) -> Offload:
    """The strategy of that name, with those of the placement's numbers that it has fields for.

    Nets that stay on the device when their turn is over are its field `stay`. Raises Usage for a
    name that there is not, or numbers that the strategy refuses.
    """
    strategy: Any = find("offload", placement.offload)
    if not dataclasses.is_dataclass(strategy) or isinstance(strategy, type):
        return cast(Offload, strategy)
    leave = {"text": placement.offload_text, "image": placement.offload_image}
    stay = tuple(name for name, leaves in leave.items() if not leaves)
    told = {f.name: getattr(placement, f.name) for f in dataclasses.fields(placement)}
    told["stay"] = stay
    named = {f.name for f in dataclasses.fields(strategy) if f.init}
    return cast(Offload, dataclasses.replace(strategy, **{k: told[k] for k in named & set(told)}))
